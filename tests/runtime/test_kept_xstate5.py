"""What a machine of XState 5 finds again after its worker is gone: ids, children, actors in events."""

import json

import pytest

from tests.runtime.driver import WorkerProcess
from tests.runtime.host import Instance, Refusal
from tests.runtime.test_worker_xstate5 import HEAD, created, step

pytestmark = pytest.mark.worker

TODOS = """createMachine({ context: { todos: [] }, on: {
  ADD: { actions: assign({ todos: ({ context, spawn, event }) =>
    [...context.todos, { t: event.t, ref: spawn(fromPromise(async () => 1)) }] }) },
  DEL: { actions: [stopChild(({ context, event }) => context.todos.find((x) => x.t === event.t).ref),
    assign({ todos: ({ context, event }) => {
      const x = context.todos.find((y) => y.t === event.t);
      return context.todos.filter((y) => y.ref !== x.ref);
    } })] } } });"""
STORY = [
    ("ADD", "a"),
    ("ADD", "b"),
    ("ADD", "c"),
    ("DEL", "a"),
    ("DEL", "b"),
    ("ADD", "d"),
    ("ADD", "e"),
    ("DEL", "e"),
]


def play(instance: Instance, *, drops: bool) -> list[str]:
    """The ids of the references after each event."""
    ids = []
    for kind, name in STORY:
        if drops:
            instance.drop()
        step(instance.send({"type": kind, "t": name}))
        instance.settle()
        ids.append(" ".join(todo["ref"]["id"] for todo in instance.context["todos"]))
    return ids


def test_an_actor_without_an_id_never_gets_one_that_was_given_before(worker5: WorkerProcess) -> None:
    cold = created(worker5, TODOS)
    ids = play(cold, drops=True)
    assert [todo["t"] for todo in cold.context["todos"]] == ["c", "d"]
    assert ids == ["x:1", "x:1 x:2", "x:1 x:2 x:3", "x:2 x:3", "x:3", "x:3 x:4", "x:3 x:4 x:5", "x:3 x:4"]
    warm = Instance(worker5, a=50)
    step(warm.create())
    assert play(warm, drops=False) == ids


def test_ids_of_an_instance_do_not_depend_on_its_neighbours(worker5: WorkerProcess) -> None:
    one = created(worker5, TODOS)
    other = Instance(worker5, a=2)
    step(other.create())
    for instance in (one, other, one, other):
        step(instance.send({"type": "ADD", "t": "t"}))
        instance.settle()
    assert one.context == other.context


def test_a_state_stored_without_a_count_goes_on_after_its_highest_id(worker5: WorkerProcess) -> None:
    instance = created(worker5, TODOS)
    play(instance, drops=False)
    snapshot = json.loads(instance.snapshot)
    assert snapshot.pop("made") == 6
    instance.drop()
    instance.snapshot = json.dumps(snapshot)
    step(instance.send({"type": "ADD", "t": "f"}))
    assert instance.context["todos"][-1]["ref"]["id"] == "x:5"


def test_a_refused_event_takes_no_id(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ context: { ref: null }, on: {
          bad: { actions: assign(({ spawn }) => {
            spawn(fromPromise(async () => 1)); throw new Error("no") }) },
          add: { actions: assign({ ref: ({ spawn }) => spawn(fromPromise(async () => 1)) }) } } });""",
    )
    for _ in range(2):
        assert isinstance(instance.send("bad"), Refusal)
    step(instance.send("add"))
    assert instance.context["ref"]["id"] == "x:1"


ENDED = """createMachine({ context: { told: null, ref: null },
  entry: [spawnChild(fromPromise(async () => ({ n: 5 })), { id: "good" }),
    spawnChild(fromPromise(async () => { throw new Error("boom") }), { id: "bad" }),
    assign({ ref: ({ spawn }) => spawn(fromCallback(() => {}), { id: "left" }) })],
  on: { "xstate.error.actor.bad": {}, STOP: { actions: stopChild("left") },
    Q: { actions: assign({ told: ({ context, self }) => {
      const { good, bad, left } = self.getSnapshot().children;
      const [a, b] = [good, bad].map((kid) => kid.getSnapshot());
      return [a.status, a.output, b.status, String(b.error?.message), left === undefined,
        context.ref.getSnapshot().status];
    } }) } } });"""


@pytest.mark.parametrize("drops", [False, True])
def test_a_child_that_is_over_tells_how_it_ended(worker5: WorkerProcess, drops: bool) -> None:
    instance = created(worker5, ENDED)
    for _ in range(2):
        instance.hear()
        instance.deliver()
    step(instance.send("STOP"))
    if drops:
        instance.drop()
    step(instance.send("Q"))
    assert instance.context["told"] == ["done", {"n": 5}, "error", "boom", True, "stopped"]


def test_a_long_output_of_a_child_is_not_kept_with_its_status(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ context: { told: null },
          entry: spawnChild(fromPromise(async () => "x".repeat(100_001)), { id: "p" }),
          on: { Q: { actions: assign({ told: ({ self }) => {
            const { status, output } = self.getSnapshot().children.p.getSnapshot();
            return [status, output ?? null] } }) } } });""",
    )
    instance.settle()
    step(instance.send("Q"))
    assert instance.context["told"] == ["done", None]


FROM = """createMachine({ context: { same: [], kid: null },
  entry: assign({ kid: ({ spawn }) => spawn(fromPromise(async () => 1), { id: "kid" }) }),
  on: { ASK: { actions: [
      sendTo(({ self }) => self, ({ self, context }) => ({ type: "X", from: self, kid: context.kid })),
      raise(({ self, context }) => ({ type: "X", from: self, kid: context.kid }), { delay: 10, id: "t" })] },
    X: { actions: assign({ same: ({ context, event, self }) =>
      [...context.same, event.from === self && event.kid === context.kid] }) } } });"""


@pytest.mark.parametrize("drops", [False, True])
def test_actors_in_events_that_a_machine_sends_itself_are_actors_again(
    worker5: WorkerProcess, drops: bool
) -> None:
    instance = created(worker5, FROM)
    instance.settle()
    step(instance.send("ASK"))
    own = instance.waiting.popleft()
    if drops:
        instance.drop()
    instance.waiting.append(own)
    instance.deliver()
    if drops:
        instance.drop()
    step(instance.fire("t"))
    assert instance.context["same"] == [True, True]


def test_a_client_cannot_name_an_actor_in_an_event(worker5: WorkerProcess) -> None:
    instance = created(worker5, FROM)
    instance.settle()
    mark = {"xstate$$type": 1, "id": "i"}
    step(instance.send({"type": "X", "from": mark, "kid": {"xstate$$type": 1, "id": "kid"}}))
    assert instance.context["same"] == [False]


def test_a_client_may_send_the_route_of_xstate_5(worker5: WorkerProcess) -> None:
    machine = """createMachine({ id: "app", initial: "a", states: {
      a: { id: "a", route: {} }, b: { id: "b", route: { guard: ({ event }) => event.may } } } });"""
    instance = created(worker5, machine)
    assert not step(instance.send({"type": "xstate.route", "to": "#b"})).changed
    assert step(instance.send({"type": "xstate.route", "to": "#b", "may": True})).value == "b"
    refused = instance.send("xstate.stop")
    assert isinstance(refused, Refusal)
    assert refused.code == "reserved-event"
    told = instance.message({"type": "xstate.route", "to": "#a"}, "m", "other")
    assert isinstance(told, Refusal)


def test_steps_without_end_are_an_error_of_the_machine(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ initial: "a", context: {}, states: { a: { on: { go: "b" } },
          b: { always: "c" }, c: { always: "b" } } });""",
    )
    refused = instance.send("go")
    assert isinstance(refused, Refusal)
    assert refused.code == "machine-error"
    assert "1000 microsteps" in refused.message


def test_a_copy_of_a_machine_is_told_from_an_old_one(worker5: WorkerProcess) -> None:
    wrapped = "const machine = createMachine({ initial: 'a', states: { a: {} } });\n"
    head, _, _ = HEAD.rpartition("export default")
    answer = worker5.load(f"{head}{wrapped}export default {{ ...machine, transition: machine.transition }};")
    assert answer["t"] == "unloadable"
    assert "without a wrapper" in answer["message"]


def test_what_is_sent_to_a_child_that_is_over_is_told_in_the_log(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ entry: spawnChild(fromPromise(async () => 5), { id: "kid" }),
          on: { ask: { actions: sendTo("kid", { type: "please" }) } } });""",
    )
    instance.settle()
    step(instance.send("ask"))
    assert any("please was sent to kid, which is over" in line for line in worker5.log_lines(1))


def test_in_an_action_self_has_the_state_after_the_step(worker5: WorkerProcess) -> None:
    """Plain xstate has the state before it: here actions run when the new one is durable."""
    instance = created(
        worker5,
        """createMachine({ initial: "a", states: { b: {}, a: { on: { GO: { target: "b",
          actions: ({ self }) => console.log(self.getSnapshot().value) } } } } });""",
    )
    step(instance.send("GO"))
    assert worker5.said(1) == ["b"]


def test_an_event_that_an_action_sends_after_it_has_returned_is_dropped_and_told(
    worker5: WorkerProcess,
) -> None:
    instance = created(
        worker5,
        """createMachine({ initial: "a", states: { a: { on: { GO: { actions: async ({ self }) => {
          await null; self.send({ type: "LATE" }) } }, LATE: "b" } }, b: {} } });""",
    )
    step(instance.send("GO"))
    assert any("LATE was sent after its action had ended" in line for line in worker5.log_lines(1))
    assert instance.value == "a"


def test_an_actor_made_outside_the_machine_is_over_after_the_step(worker5: WorkerProcess) -> None:
    machine = """createMachine({ context: { ref: null, told: null },
      on: { KEEP: { actions: assign({ ref: () => outside }) },
        Q: { actions: assign({ told: ({ context }) => context.ref.getSnapshot().status }) } } });"""
    head, _, _ = HEAD.rpartition("export default")
    outside = "const outside = X.createActor(createMachine({})).start();\n"
    answer = worker5.load(f"{head}{outside}export default {machine}")
    assert answer["t"] == "loaded"
    instance = Instance(worker5)
    step(instance.create())
    step(instance.send("KEEP"))
    step(instance.send("Q"))
    assert instance.context["told"] == "stopped"


def test_self_is_known_by_the_name_of_the_instance_and_has_a_parent(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ context: { told: null }, on: { Q: { actions: assign({ told: ({ self }) =>
          [self.id, self._parent !== undefined] }) } } });""",
    )
    step(instance.send("Q"))
    assert instance.context["told"] == ["i", True]


def test_what_a_guard_or_an_action_changes_in_place_is_not_kept(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ context: { n: 0 }, on: {
          GO: { actions: ({ context }) => { context.n = 7 } },
          NO: { guard: ({ context }) => { context.n = 8; return false }, actions: () => {} },
          Q: { actions: assign({ n: ({ context }) => context.n + 1 }) } } });""",
    )
    step(instance.send("GO"))
    step(instance.send("NO"))
    step(instance.send("Q"))
    assert instance.context == {"n": 1}
