"""The frames themselves: what the worker holds and lacks, whom it admits, what is too much."""

import json

import pytest

from tests.runtime.driver import Header, WorkerProcess, encode
from tests.runtime.host import Instance, Refusal, Step, steps_of
from tests.runtime.test_worker_xstate5 import TOGGLER, created, load, step

pytestmark = pytest.mark.worker

CLIENT = {"k": "event", "source": "client", "auth": False}
TOGGLE = '{"type":"toggle"}'
BASE = ('{"value":"off","status":"active","historyValue":{},"children":[]}', '{"public":{"toggled":7}}')

AUTHORIZERS = """
import { createMachine, assign } from "xstate";
const answers = {
  yes: () => true, no: () => false, one: () => 1, nothing: () => {}, later: async () => true,
  throws: () => { throw new Error("not you") }, rejects: () => Promise.reject(new Error("never you")),
  hangs: () => new Promise(() => {}), slow: () => new Promise((resolve) => setTimeout(resolve, 1, true)),
};
export const allowRead = (request) => {
  console.log(JSON.stringify(request));
  return answers[request.authContext.say]();
};
export const allowWrite = (request) => {
  if (request.authContext.show) console.log(JSON.stringify(request));
  if (request.authContext.spoil) request.context.n = 99;
  return answers[request.authContext.say]();
};
export default createMachine({ initial: "a", context: { n: 0 }, states: { a: { on: { go: {
  actions: assign({ n: ({ context }) => context.n + 1 }) } } } } });
"""


def say(what: str, **more: object) -> str:
    return json.dumps({"say": what, **more})


def ask(worker: WorkerProcess, seq: int, auth: str, a: int = 1) -> Header:
    return worker.compute(a, seq, [{**CLIENT, "auth": True}], ['{"type":"go"}', auth])[0]


# --- holding and lacking


def test_a_state_is_held_by_its_seq_and_confirmed_by_naming_it(worker5: WorkerProcess) -> None:
    created(worker5, TOGGLER)
    assert worker5.compute(1, 2, [CLIENT], [TOGGLE])[0]["t"] == "lacks"
    assert worker5.compute(1, 1, [CLIENT], [TOGGLE])[0]["t"] == "step"
    assert worker5.compute(1, 2, [CLIENT], [TOGGLE])[0]["t"] == "step"
    assert worker5.compute(1, 1, [CLIENT], [TOGGLE])[0]["t"] == "lacks", "seq 2 was confirmed"
    assert worker5.compute(2, 1, [CLIENT], [TOGGLE])[0]["t"] == "lacks"


def test_naming_the_durable_state_drops_the_step_above(worker5: WorkerProcess) -> None:
    created(worker5, TOGGLER)
    first = worker5.compute(1, 1, [CLIENT], [TOGGLE])
    again = worker5.compute(1, 1, [CLIENT], [TOGGLE])
    assert steps_of(first) == steps_of(again)


def test_a_base_is_resumed(worker5: WorkerProcess) -> None:
    load(worker5, TOGGLER)
    (resumed,) = steps_of(worker5.compute(9, 41, [CLIENT], [TOGGLE], BASE))
    assert (resumed.value, resumed.public) == ("on", {"toggled": 8})
    (after,) = steps_of(worker5.compute(9, 42, [CLIENT], [TOGGLE]))
    assert after.context is None


def test_a_closed_activation_is_forgotten(worker5: WorkerProcess) -> None:
    created(worker5, TOGGLER)
    worker5.send({"t": "close", "a": 1})
    assert worker5.compute(1, 1, [CLIENT], [TOGGLE])[0]["t"] == "lacks"


def test_a_chain_stops_at_the_first_step_that_holds_effects(worker5: WorkerProcess) -> None:
    created(
        worker5,
        'createMachine({ initial: "a", states: { a: { on: { go: "b" } }, b: { on: { go: "c" } }, c: {'
        ' entry: say("c"), on: { go: "d" } }, d: {} } });',
    )
    steps = steps_of(worker5.compute(1, 1, [CLIENT] * 4, ['{"type":"nobody"}', *['{"type":"go"}'] * 3]))
    assert [s.value for s in steps] == [None, "b", "c"]
    worker5.send({"t": "perform", "a": 1, "seq": 3})
    assert worker5.receive("performed")[0]["seq"] == 3
    assert worker5.log_lines(1) == ["c"]
    assert steps_of(worker5.compute(1, 3, [CLIENT], ['{"type":"go"}']))[0].value == "d"


def test_a_chain_ends_before_an_item_that_is_refused(worker5: WorkerProcess) -> None:
    created(
        worker5,
        """createMachine({ context: { n: 0, list: [] }, on: { add: { actions: assign({
      n: ({ context }) => context.n + 1 }) }, bad: { actions: assign(({ context }) => { context.list.push(1);
      throw new Error("bad") }) } } });""",
    )
    events = ['{"type":"add"}', '{"type":"add"}', '{"type":"bad"}', '{"type":"add"}']
    steps = steps_of(worker5.compute(1, 1, [CLIENT] * 4, events))
    assert [json.loads(s.context or "")["n"] for s in steps] == [1, 2]
    refused, _ = worker5.compute(1, 3, [CLIENT] * 2, events[2:])
    assert refused["code"] == "machine-error"
    (last,) = steps_of(worker5.compute(1, 3, [CLIENT], events[3:]))
    assert last.context == '{"n":3,"list":[]}'


def test_a_context_that_is_changed_back_within_a_chain_is_sent(worker5: WorkerProcess) -> None:
    created(
        worker5,
        """createMachine({ context: { n: 0 }, on: { set: { actions: assign({
          n: ({ event }) => event.n }) } } });""",
    )
    steps = steps_of(worker5.compute(1, 1, [CLIENT] * 3, [f'{{"type":"set","n":{n}}}' for n in (1, 1, 0)]))
    assert [s.context for s in steps] == ['{"n":1}', '{"n":1}', '{"n":0}']


def test_the_worker_ends_with_its_input(worker5: WorkerProcess) -> None:
    created(worker5, TOGGLER)
    assert worker5.wait_exit() == 0


# --- authorizers


@pytest.mark.parametrize("answer", ["yes", "later", "slow"])
def test_only_true_admits(worker5: WorkerProcess, answer: str) -> None:
    worker5.load(AUTHORIZERS)
    Instance(worker5).create()
    assert ask(worker5, 1, say(answer))["t"] == "step"


@pytest.mark.parametrize("answer", ["no", "one", "nothing", "throws", "rejects", "hangs", "unknown"])
def test_anything_else_refuses_and_changes_nothing(answer: str) -> None:
    with WorkerProcess(5, authorize_ms=50) as worker:
        worker.load(AUTHORIZERS)
        instance = Instance(worker)
        instance.create()
        refused = ask(worker, 1, say(answer, spoil=True))
        assert (refused["t"], refused["code"]) == ("refused", "rejected-by-machine-authorizer")
        logged = worker.log_lines(1)
        assert logged == [] if answer == "no" else "allowWrite" in logged[0]
        step(instance.send("go"))
        assert instance.context == {"n": 1}


def test_a_slow_authorizer_holds_up_nobody_else(worker5: WorkerProcess) -> None:
    worker5.load(AUTHORIZERS)
    for a in (1, 2):
        Instance(worker5, a).create()
    item = {**CLIENT, "auth": True}
    frames = []
    for n, (a, answer) in enumerate(((1, "slow"), (2, "yes"))):
        header = {"t": "compute", "n": n, "a": a, "seq": 1, "name": "i", "base": False, "items": [item]}
        frames.append(encode(header, ['{"type":"go"}', say(answer)]))
    worker5.write(b"".join(frames))
    assert [worker5.receive("step")[0]["a"] for _ in range(2)] == [2, 1]


def test_a_compute_that_was_given_up_is_not_answered(worker5: WorkerProcess) -> None:
    worker5.load(AUTHORIZERS)
    Instance(worker5).create()
    header = {
        "t": "compute",
        "a": 1,
        "seq": 1,
        "name": "i",
        "base": False,
        "items": [{**CLIENT, "auth": True}],
    }
    given_up, counts = ({**header, "n": n} for n in (70, 71))
    payloads = ['{"type":"go"}', say("slow")]
    worker5.write(encode(given_up, payloads) + encode(counts, payloads))
    assert worker5.receive("step")[0]["n"] == 71
    worker5.send({**header, "n": 72, "seq": 2}, ['{"type":"go"}', say("hangs")])
    worker5.send({"t": "close", "a": 1})
    assert worker5.compute(1, 2, [CLIENT], ['{"type":"go"}'])[0]["t"] == "lacks"


def test_authorizers_are_asked_as_the_published_types_say(worker5: WorkerProcess) -> None:
    worker5.load(AUTHORIZERS)
    auth = say("yes", show=True)
    init = {"k": "init", "source": "client", "auth": True, "context": True}
    worker5.compute(1, 0, [init], ['{"x":1}', auth], name="me")
    worker5.compute(1, 1, [{**CLIENT, "auth": True}], ['{"type":"go","y":2}', auth], name="me")
    worker5.send({"t": "read", "n": 5, "a": 1, "seq": 2, "name": "me", "base": False, "auths": 1}, [auth])
    assert worker5.receive("readable")[0] == {"t": "readable", "n": 5, "ok": [True]}
    about = {"machineInstanceName": "me", "authContext": json.loads(auth)}
    assert [json.loads(line) for line in worker5.log_lines(1)] == [
        {**about, "type": "initialization", "context": {"x": 1}},
        {
            **about,
            "type": "event",
            "state": "a",
            "context": {"n": 0, "x": 1},
            "event": {"type": "go", "y": 2},
        },
        {**about, "state": "a", "context": {"n": 1, "x": 1}},
    ]


def test_reads_are_judged_one_by_one_on_the_state_that_they_name(worker5: WorkerProcess) -> None:
    worker5.load(AUTHORIZERS)
    instance = Instance(worker5)
    instance.create()
    answers = ["yes", "no", "throws", "later", "one"]
    assert instance.may_read(*({"say": answer} for answer in answers)) == [True, False, False, True, False]
    assert instance.may_read() == []
    instance.seq = 2
    assert instance.may_read({"say": "yes"}) is None


def test_a_stored_state_is_read_and_not_kept(worker5: WorkerProcess) -> None:
    worker5.load(AUTHORIZERS)
    base = ('{"value":"a","status":"active","historyValue":{},"children":[]}', '{"n":5}')
    header = {"t": "read", "n": 6, "a": 0, "seq": 9, "name": "x", "base": True, "auths": 2}
    worker5.send(header, [*base, say("yes"), say("no")])
    assert worker5.receive("readable")[0]["ok"] == [True, False]
    assert json.loads(worker5.log_lines(-6)[0])["context"] == {"n": 5}


def test_many_stored_states_are_read_for_one_caller_each_by_its_own(worker5: WorkerProcess) -> None:
    worker5.load(
        """import { createMachine } from "xstate";
        export const allowWrite = () => true;
        export const allowRead = ({ machineInstanceName, state, context, authContext }) => {
          authContext.calls = (authContext.calls ?? 0) + 1;
          if (context.n === 2) throw new Error("boom");
          if (context.n === 3) return Promise.resolve(true);
          console.log(state, authContext.calls);
          return machineInstanceName === authContext.sid;
        };
        export default createMachine({ initial: "a", states: { a: {} } });"""
    )
    snapshot = '{"value":"a","status":"active","historyValue":{},"children":[]}'
    names = ["s1", "s2", "s1", "s1", "s1"]
    states = [
        (snapshot, '{"n":0}'),
        (snapshot, '{"n":1}'),
        (snapshot, '{"n":2}'),
        (snapshot, '{"n":3}'),
        ("{", ""),
    ]
    sections = [text for state in states for text in state]
    worker5.send({"t": "read-each", "n": 6, "names": names}, [*sections, '{"sid":"s1"}'])
    assert worker5.receive("readable")[0] == {
        "t": "readable",
        "n": 6,
        "ok": [True, False, False, True, False],
    }
    assert worker5.log_lines(-6) == ["a 1"]
    assert worker5.log_lines(-7) == ["a 1"]
    assert "threw: boom" in worker5.log_lines(-8)[0]
    assert "was not asked" in worker5.log_lines(-10)[0]


def test_a_read_confirms_the_step_that_it_names(worker5: WorkerProcess) -> None:
    worker5.load(AUTHORIZERS)
    instance = Instance(worker5)
    instance.create()
    ask(worker5, 1, say("yes"))
    instance.seq = 2
    assert instance.may_read({"say": "yes"}) == [True]
    assert ask(worker5, 1, say("yes"))["t"] == "lacks"


# --- refusals


@pytest.mark.parametrize(
    "name", ["xstate.init", "done.invoke.x", "error.platform", "statebacked.upgrade", "xstate."]
)
def test_reserved_events_are_the_machines_own(worker5: WorkerProcess, name: str) -> None:
    instance = created(worker5, 'createMachine({ on: { "*": { actions: say("x") } } });')
    refusal = instance.send(name)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "reserved-event"
    assert step(instance.send(name.replace(".", "-", 1))).changed
    if name != "xstate.init":
        assert step(instance.send(name, "timer")).changed


def test_a_context_over_the_limit_is_refused(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        'createMachine({ context: { t: "" }, on: { set: { actions: assign({'
        " t: ({ event }) => event.c.repeat(event.n) }) } } });",
    )
    room = 400_000 - len('{"t":""}')
    assert isinstance(instance.send({"type": "set", "c": "x", "n": room}), Step)
    assert isinstance(instance.send({"type": "set", "c": "é", "n": room // 2}), Step)
    for c, n in (("x", room + 1), ("é", room // 2 + 1), ("🐢", room // 4 + 1)):
        refusal = instance.send({"type": "set", "c": c, "n": n})
        assert isinstance(refusal, Refusal)
        assert refusal.code == "context-too-large"
    assert instance.context["t"].startswith("é")


@pytest.mark.parametrize(
    "context",
    [
        "{ n: 1n }",
        "(() => { const c = {}; c.c = c; return c })()",
        "JSON.parse('['.repeat(200) + ']'.repeat(200))",
    ],
)
def test_a_context_that_has_no_json_is_refused(worker5: WorkerProcess, context: str) -> None:
    instance = created(
        worker5, f"createMachine({{ on: {{ go: {{ actions: assign(() => ({{ bad: {context} }})) }} }} }});"
    )
    refusal = instance.send("go")
    assert isinstance(refusal, Refusal)
    assert refusal.code == "machine-error"
    assert instance.context == {}


def test_too_many_effects_are_refused() -> None:
    with WorkerProcess(5, timer_operations_max=2, sends_max=2, services_max=2) as worker:
        instance = created(
            worker,
            """createMachine({ on: {
          timers: { actions: enqueueActions(({ enqueue, event }) => { for (let i = 0; i < event.n; i++)
            enqueue.raise({ type: "t" }, { delay: 1 }) }) },
          sends: { actions: enqueueActions(({ enqueue, event, self }) => { for (let i = 0; i < event.n; i++)
            enqueue.sendTo(self, { type: "s" }) }) },
          services: { actions: enqueueActions(({ enqueue, event }) => { for (let i = 0; i < event.n; i++)
            enqueue.spawnChild(fromCallback(() => {})) }) } } });""",
        )
        for kind in ("timers", "sends", "services"):
            refusal = instance.send({"type": kind, "n": 3})
            assert isinstance(refusal, Refusal), kind
            assert refusal.code == "too-many-effects"
            step(instance.send({"type": kind, "n": 2}))
            instance.waiting.clear()


def test_a_step_too_large_is_refused(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ on: { go: { actions: enqueueActions(({ enqueue, event, self }) => {
          const pad = "x".repeat(10_000);
          for (let i = 0; i < event.n; i++) enqueue.sendTo(self, { type: "s", pad }) }) } } });""",
    )
    refusal = instance.send({"type": "go", "n": 401})
    assert isinstance(refusal, Refusal)
    assert refusal.code == "step-too-large"
    step(instance.send({"type": "go", "n": 300}))


def test_what_is_sent_to_itself_must_be_an_event(worker5: WorkerProcess) -> None:
    instance = created(
        worker5, "createMachine({ on: { go: { actions: sendTo(({ self }) => self, { no: 1 }) } } });"
    )
    assert isinstance(instance.send("go"), Refusal)


def test_an_event_too_large_for_a_frame_becomes_an_error(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ initial: "a", context: {}, states: { b: {}, a: { invoke: { id: "p",
      src: fromPromise(async () => "x".repeat(2_000_000)), onError: "b" } } } });""",
    )
    assert instance.hear()["type"] == "xstate.error.actor.p"
    assert step(instance.deliver()).value == "b"


# --- indexes


def test_indexes_are_read_from_the_context(worker5: WorkerProcess) -> None:
    bundle = """import { createMachine, assign } from "xstate";
      export const allowRead = () => true; export const allowWrite = () => true;
      export default createMachine({ context: { user: "u1", tags: ["x", "y", 3] }, on: { set: {
        actions: assign({ user: ({ event }) => event.user }) } } });"""
    assert worker5.load(bundle, [["by-user", "$.user"], ["by-tag", "$.tags[*]"]])["t"] == "loaded"
    instance = Instance(worker5)
    assert step(instance.create()).header["idx"] == [["by-user", ["u1"]], ["by-tag", ["x", "y"]]]
    assert isinstance(instance.send({"type": "set", "user": "u" * 2_000}), Refusal)
    assert "idx" not in step(instance.send({"type": "set", "user": "u1"})).header
    assert step(instance.send({"type": "set", "user": None})).header["idx"][0] == ["by-user", []]


def test_a_state_that_was_restored_says_its_indexes_when_its_context_changes(worker5: WorkerProcess) -> None:
    bundle = """import { createMachine, assign } from "xstate";
      export const allowRead = () => true; export const allowWrite = () => true;
      export default createMachine({ context: { user: "u1", n: 0 }, on: {
        touch: { actions: () => {} },
        count: { actions: assign({ n: ({ context }) => context.n + 1 }) },
        set: { actions: assign({ user: ({ event }) => event.user }) } } });"""
    worker5.load(bundle, [["by-user", "$.user"]])
    snapshot = '{"value":{},"status":"active","historyValue":{},"children":[]}'

    def said(a: int, *events: Header, base: tuple[str, str] | None = None) -> list[object]:
        items = [{"k": "event", "source": "client", "auth": False} for _ in events]
        header, _ = worker5.compute(a, 4, items, [json.dumps(event) for event in events], base)
        return [one.get("idx") for one in header["steps"]]

    u1, u2 = [["by-user", ["u1"]]], [["by-user", ["u2"]]]
    base = (snapshot, '{"user":"u1","n":0}')
    count, to_u2, to_u1 = {"type": "count"}, {"type": "set", "user": "u2"}, {"type": "set", "user": "u1"}
    assert said(1, count, base=base) == [u1]
    assert said(2, count, count, to_u2, count, to_u1, base=base) == [u1, None, u2, None, u1]
    assert said(3, to_u1, to_u2, base=base) == [None, u2]
    # What the host gave up is not what it knows: the next compute stands on the same state.
    assert said(3, to_u2) == [u2]
    assert said(3, {"type": "touch"}) == [None]


@pytest.mark.parametrize("major", [4, 5])
def test_a_worker_that_nobody_hears_ends(major: int) -> None:
    """Its server is gone, and so is whatever stood between them: it neither hangs nor spins."""
    with WorkerProcess(major) as worker:
        assert worker.hang_up() == 70
