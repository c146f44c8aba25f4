"""Persistent children and messages of XState 5 machines in a real worker: all of it is data of the step."""

import json
import re
import uuid

import pytest

from tests.runtime.driver import WorkerProcess
from tests.runtime.host import Instance, Refusal, Step
from tests.runtime.test_worker_xstate5 import created, load, step

pytestmark = pytest.mark.worker

PERSISTENT = """
function persistent(descriptor) {
  return { type: "statebacked.invoke", ...descriptor,
    getInitialSnapshot: (_scope, input) => ({ status: "active", output: undefined, error: undefined, input }),
    transition: (snapshot) => snapshot, getPersistedSnapshot: (snapshot) => snapshot,
    start: () => console.log("started natively") };
}
"""

ORDER = (
    """setup({ actors: { parcel: persistent({ machineName: "parcel",
    machineInstanceName: (input) => `parcel-of-${input.order}` }) } })
  .createMachine({ id: "m", initial: "idle", context: { got: null, seen: [] },
  on: {
    note: { actions: assign({ seen: ({ context, event }) => [...context.seen, event.text] }) },
    hurry: { actions: sendTo("parcel", { type: "faster" }) },
    later: { actions: sendTo("parcel", { type: "remind" }, { delay: 5000, id: "r" }) },
    never: { actions: cancel("r") },
    up: { actions: [sendParent({ type: "up" }), sendParent({ type: "up later" }, { delay: 10 })] },
  },
  states: {
    idle: { on: { go: "shipping" } },
    shipping: {
      entry: [sendTo("parcel", { type: "from entry" }),
        sendTo("parcel", { type: "slow entry" }, { delay: 7, id: "e" })],
      invoke: { id: "parcel", src: "parcel", input: { order: "o1" },
        onDone: { target: "home", actions: assign({ got: ({ event }) => event.output }) },
        onError: { target: "lost", actions: assign({ got: ({ event }) => event.error.message }) } },
      on: { stop: "idle", again: { target: "shipping", reenter: true } },
    },
    home: { type: "final" }, lost: {},
  },
  output: ({ context }) => ({ parcel: context.got }) });"""
    + PERSISTENT
)

CHILD = ["parcel", "parcel-of-o1"]
SPAWN = ("spawn", "parcel", CHILD, None, {"order": "o1"})


def shipping(worker: WorkerProcess) -> Instance:
    instance = created(worker, ORDER)
    step(instance.send("go"))
    return instance


@pytest.fixture(params=["kept", "restored"])
def rest(request: pytest.FixtureRequest) -> str:
    """Whether the live copy is dropped before the event that matters."""
    how: str = request.param
    return how


def at_rest(instance: Instance, rest: str) -> Instance:
    if rest == "restored":
        instance.drop()
    return instance


def test_an_invoked_child_is_data_of_the_step_and_never_starts_here(worker5: WorkerProcess) -> None:
    instance = created(worker5, ORDER)
    go = step(instance.send("go"))
    assert go.out == [SPAWN, ("send", CHILD, {"type": "from entry"})]
    assert go.timers == [("set", "e", 7, CHILD, {"type": "slow entry"})]
    assert (go.header["starts"], go.header["stops"], go.header["effects"]) == ([], [], False)
    step(instance.send({"type": "note", "text": "hi"}))
    assert worker5.log_lines(1) == []


def test_a_child_is_sent_to_by_its_id(worker5: WorkerProcess, rest: str) -> None:
    instance = at_rest(shipping(worker5), rest)
    assert step(instance.send("hurry")).out == [("send", CHILD, {"type": "faster"})]
    later = step(instance.send("later"))
    assert (later.out, later.timers) == ([], [("set", "r", 5000, CHILD, {"type": "remind"})])
    assert step(instance.send("never")).timers == [("cancel", "r")]


def test_the_done_event_of_a_child_carries_its_output(worker5: WorkerProcess, rest: str) -> None:
    instance = at_rest(shipping(worker5), rest)
    done = step(instance.child_done(("parcel", 2), {"at": "door"}))
    assert done.event == {
        "type": "xstate.done.actor.parcel",
        "output": {"at": "door"},
        "actorId": "parcel",
    }
    assert (done.value, done.header["done"]) == ("home", True)
    assert done.output == {"parcel": {"at": "door"}}


def test_the_error_event_of_a_child_that_could_not_be_made(worker5: WorkerProcess, rest: str) -> None:
    instance = at_rest(shipping(worker5), rest)
    lost = step(instance.fail(("parcel", 2), "the name is taken"))
    assert (lost.value, instance.context["got"]) == ("lost", "the name is taken")
    assert lost.out == [], "who knows that it is over does not say so"


def test_leaving_the_invoking_state_unlinks(worker5: WorkerProcess, rest: str) -> None:
    instance = at_rest(shipping(worker5), rest)
    assert step(instance.send("stop")).out == [("unlink", "parcel")]
    assert isinstance(instance.send("hurry"), Refusal), "as for any actor that is not there"


def test_entering_it_again_links_again(worker5: WorkerProcess, rest: str) -> None:
    instance = at_rest(shipping(worker5), rest)
    again = step(instance.send("again"))
    assert again.out == [("unlink", "parcel"), SPAWN, ("send", CHILD, {"type": "from entry"})]


def test_sends_to_the_parent_are_for_the_host_to_deliver(worker5: WorkerProcess, rest: str) -> None:
    instance = at_rest(shipping(worker5), rest)
    up = step(instance.send("up"))
    assert up.out == [("send", None, {"type": "up"})]
    assert up.timers == [("set", "statebacked.unnamed", 10, None, {"type": "up later"})]


def test_an_entry_action_of_the_initial_state_reaches_the_parent(worker5: WorkerProcess) -> None:
    instance = load(worker5, 'createMachine({ entry: sendParent({ type: "born" }), type: "final" });')
    born = step(instance.create())
    assert (born.out, born.output) == ([("send", None, {"type": "born"})], None)


def test_a_child_that_is_done_is_sent_nothing_more(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ context: {}, on: { hurry: { actions: sendTo("kid", { type: "faster" }) } },
          invoke: { id: "kid", src: persistent({ machineName: "k", machineInstanceName: "k1" }),
            onDone: { actions: () => {} } } });"""
        + PERSISTENT,
    )
    step(instance.child_done(("kid", 1)))
    assert step(instance.send("hurry")).out == []
    instance.drop()
    assert step(instance.send("hurry")).out == []


RENEWED = (
    """createMachine({ context: { kid: null }, on: {
  spawn: { actions: spawnChild(persistent({ machineName: "k" }), { id: "k", systemId: "boss" }) },
  "xstate.done.actor.k": { guard: ({ event }) => event.output !== "unheard",
    actions: spawnChild(persistent({ machineName: "k" }), { id: "k2", systemId: "boss" }) },
  who: { actions: sendTo(({ system }) => system.get("boss"), { type: "x" }) } } });
"""
    + PERSISTENT
)


def test_a_child_that_is_over_gives_its_system_id_away(worker5: WorkerProcess, rest: str) -> None:
    instance = created(worker5, RENEWED)
    first = step(instance.send("spawn")).out[0][2]
    at_rest(instance, rest)
    assert not step(instance.child_done(("k", 2), "unheard")).changed
    assert step(instance.send("who")).out == [("send", first, {"type": "x"})]
    at_rest(instance, rest)
    second = step(instance.child_done(("k", 2), 1)).out[0][2]
    at_rest(instance, rest)
    assert step(instance.send("who")).out == [("send", second, {"type": "x"})]


def test_an_actor_of_this_process_is_not_given_to_another_instance(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ context: {}, on: {
          input: { actions: spawnChild(persistent({ machineName: "k" }),
            { id: "k", input: ({ self }) => ({ parent: self }) }) },
          send: { actions: sendTo(
            { type: "statebacked.instance", machineName: "m", machineInstanceName: "i" },
            ({ self }) => ({ type: "x", from: self })) } } });"""
        + PERSISTENT,
    )
    for type in ("input", "send"):
        refusal = instance.send(type)
        assert isinstance(refusal, Refusal)
        assert "cannot be given to another one" in refusal.message


SPAWNING = (
    """setup({ actors: { kid: persistent({ machineName: "kid" }) } }).createMachine({
  id: "m", context: { kid: null, other: null },
  on: {
    spawn: { actions: assign({ kid: ({ spawn, event }) =>
      spawn("kid", { id: event.id, input: { n: 1 }, systemId: "boss" }) }) },
    child: { actions: spawnChild("kid", { id: "c" }) },
    both: { actions: [spawnChild("kid", { id: "c" }), sendTo("c", { type: "x" }), stopChild("c")] },
    end: { target: ".end", actions: spawnChild("kid", { id: "c" }) },
    ref: { actions: sendTo(({ context }) => context.kid, { type: "by ref" }) },
    system: { actions: sendTo(({ system }) => system.get("boss"), { type: "by system id" }) },
    stop: { actions: stopChild(({ context }) => context.kid) },
    literal: { actions: sendTo(({ event }) => event.to, { type: "by literal" }) },
    later: { actions: sendTo(({ event }) => event.to, { type: "late" }, { delay: 3, id: "l" }) },
    keep: { actions: assign({ other: ({ event }) => event.to }) },
    kept: { actions: sendTo(({ context }) => context.other, { type: "kept" }) },
    imperative: { actions: ({ context }) => context.kid.send({ type: "lost" }) },
    name: { actions: ({ context }) => console.log(context.kid.machineInstanceName) },
    bad: { actions: [stopChild(({ context }) => context.kid),
      spawnChild("kid", { id: "c", systemId: "boss" }),
      assign({ other: () => { throw new Error("no") } })] },
    escalate: { actions: sendParent({ type: "xstate.error", data: 1 }) },
  },
  initial: "on", states: { on: {}, end: { type: "final" } } });"""
    + PERSISTENT
)


def spawning(worker: WorkerProcess, id: str | None = "kid") -> tuple[Instance, Step]:
    instance = created(worker, SPAWNING)
    return instance, step(instance.send({"type": "spawn", **({} if id is None else {"id": id})}))


def test_a_spawn_without_a_name_makes_one(worker5: WorkerProcess) -> None:
    instance, spawn = spawning(worker5)
    [(_, id, (machine, name), version, context)] = spawn.out
    assert (id, machine, version, context) == ("kid", "kid", None, {"n": 1})
    assert str(uuid.UUID(name)) == name
    assert instance.context["kid"] == {
        "type": "statebacked.instance",
        "id": "kid",
        "machineName": "kid",
        "machineInstanceName": name,
    }
    assert not spawn.header["effects"], "nothing is left to perform"


def test_a_reference_in_the_context_reaches_the_child(worker5: WorkerProcess, rest: str) -> None:
    instance, spawn = spawning(worker5)
    child = spawn.out[0][2]
    at_rest(instance, rest)
    assert step(instance.send("ref")).out == [("send", child, {"type": "by ref"})]
    assert step(instance.send("system")).out == [("send", child, {"type": "by system id"})]
    step(instance.send("name"))
    assert worker5.log_lines(instance.a) == [child[1]]
    assert step(instance.send("stop")).out == [("unlink", "kid")]


def test_a_spawn_without_an_id_gets_one_that_no_other_has(worker5: WorkerProcess) -> None:
    instance, spawn = spawning(worker5, None)
    id = spawn.out[0][1]
    assert str(uuid.UUID(id)) == id
    assert instance.context["kid"]["id"] == id


def test_a_literal_reference_needs_no_link(worker5: WorkerProcess, rest: str) -> None:
    instance, _ = spawning(worker5)
    to = {"type": "statebacked.instance", "machineName": "other", "machineInstanceName": "o|1"}
    at_rest(instance, rest)
    assert step(instance.send({"type": "literal", "to": to})).out == [
        ("send", ["other", "o|1"], {"type": "by literal"})
    ]
    later = step(instance.send({"type": "later", "to": to}))
    assert later.timers == [("set", "l", 3, ["other", "o|1"], {"type": "late"})]
    step(instance.send({"type": "keep", "to": to}))
    assert instance.context["other"] == to
    at_rest(instance, rest)
    assert step(instance.send("kept")).out == [("send", ["other", "o|1"], {"type": "kept"})]


@pytest.mark.parametrize(
    ("machine", "name"), [("a b", "x"), ("", "x"), ("m", ".."), ("m", "a/b"), ("m", "x" * 129), ("m", 7)]
)
def test_an_address_that_cannot_be_is_refused(worker5: WorkerProcess, machine: str, name: object) -> None:
    instance, _ = spawning(worker5)
    to = {"type": "statebacked.instance", "machineName": machine, "machineInstanceName": name}
    refusal = instance.send({"type": "literal", "to": to})
    assert isinstance(refusal, Refusal)
    assert refusal.code == "machine-error"
    assert re.search("is not an? (machine|instance) name", refusal.message)


def test_a_child_that_its_step_stops_again_is_not_made(worker5: WorkerProcess) -> None:
    instance, _ = spawning(worker5)
    assert step(instance.send("both")).out == []


def test_a_last_step_still_makes_its_child(worker5: WorkerProcess) -> None:
    instance, _ = spawning(worker5)
    end = step(instance.send("end"))
    assert (end.header["done"], [item[:2] for item in end.out]) == (True, [("spawn", "c")])


def test_a_refused_step_leaves_the_children_as_they_were(worker5: WorkerProcess) -> None:
    instance, spawn = spawning(worker5)
    assert isinstance(instance.send("bad"), Refusal)
    assert step(instance.send("system")).out == [("send", spawn.out[0][2], {"type": "by system id"})]
    assert step(instance.send("stop")).out == [("unlink", "kid")]


def test_what_is_sent_by_a_reference_itself_is_told_and_dropped(worker5: WorkerProcess, rest: str) -> None:
    instance, _ = spawning(worker5)
    at_rest(instance, rest)
    assert step(instance.send("imperative")).out == []
    [line] = worker5.log_lines(instance.a)
    assert "lost was sent to kid/" in line
    assert "use the action sendTo" in line
    assert not instance.waiting


def test_an_escalated_error_is_told_and_dropped(worker5: WorkerProcess) -> None:
    instance, _ = spawning(worker5)
    assert step(instance.send("escalate")).out == []
    assert "reaches no persistent parent" in worker5.log_lines(1)[0]


MIXED = (
    """createMachine({ id: "m", initial: "a", context: {}, states: {
  a: { entry: sendTo("w", { type: "one" }), on: { go: "b" },
    invoke: { id: "w", src: fromCallback(({ receive }) => receive((e) => console.log("got", e.type))) } },
  b: { entry: sendTo("w", { type: "two" }), on: { go: "a" },
    invoke: { id: "w", src: persistent({ machineName: "k", machineInstanceName: "w" }) } } } });"""
    + PERSISTENT
)


def test_one_id_may_be_of_a_service_and_of_a_persistent_child_in_turn(worker5: WorkerProcess) -> None:
    instance = load(worker5, MIXED)
    first = step(instance.create())
    assert (first.header["starts"], first.out) == (["w"], [])
    second = step(instance.send("go"))
    assert second.header["stops"] == ["w"]
    assert second.out == [("spawn", "w", ["k", "w"], None, None), ("send", ["k", "w"], {"type": "two"})]
    assert not instance.services
    third = step(instance.send("go"))
    assert (third.header["starts"], third.out) == (["w"], [("unlink", "w")])
    assert worker5.log_lines(1) == ["got one", "got one"]


def test_a_persistent_child_takes_the_place_of_a_service_under_its_id(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ context: {}, on: {
          service: { actions: assign({ w: ({ spawn }) =>
            spawn(fromCallback(() => () => console.log("gone")), { id: "w" }) }) },
          child: { actions: assign({ w: ({ spawn }) =>
            spawn(persistent({ machineName: "k", machineInstanceName: "w" }), { id: "w" }) }) } } });"""
        + PERSISTENT,
    )
    step(instance.send("service"))
    child = step(instance.send("child"))
    assert (child.header["stops"], [item[:2] for item in child.out]) == (["w"], [("spawn", "w")])
    assert worker5.log_lines(1) == ["gone"]
    service = step(instance.send("service"))
    assert (service.header["starts"], service.out) == (["w"], [("unlink", "w")])


def test_only_the_machine_itself_has_persistent_children(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ context: {}, invoke: { src: createMachine({ id: "inner", invoke: { id: "k",
          src: { type: "statebacked.invoke", machineName: "k", machineInstanceName: "k" } } }) } });""",
    )
    instance.stop(*instance.services)
    assert any('"k" was not made' in line for line in worker5.log_lines(1))


@pytest.mark.parametrize(
    ("machine", "what"),
    [
        ('{ machineName: "no name" }', "is not a machine name"),
        ('{ machineName: "k", machineInstanceName: "a/b" }', "is not an instance name"),
        ('{ machineName: "k", machineInstanceName: () => 7 }', "is not an instance name"),
        ('{ machineName: "k", machineVersionId: "latest" }', "is not a version"),
    ],
)
def test_a_descriptor_that_cannot_be_refuses_the_event(
    worker5: WorkerProcess, machine: str, what: str
) -> None:
    instance = created(
        worker5,
        f"""createMachine({{ context: {{}}, on: {{ go: {{ actions: spawnChild(
          {{ type: "statebacked.invoke", ...{machine} }}, {{ id: "k" }}) }} }} }});""",
    )
    refusal = instance.send("go")
    assert isinstance(refusal, Refusal)
    assert what in refusal.message


@pytest.mark.parametrize("value", ["7", "[1]", "new Date(0)"])
def test_a_child_is_created_with_an_object(worker5: WorkerProcess, value: str) -> None:
    instance = created(
        worker5,
        f"""createMachine({{ context: {{}}, on: {{ go: {{ actions: spawnChild(
          {{ type: "statebacked.invoke", machineName: "k" }}, {{ id: "k", input: {value} }}) }} }} }});""",
    )
    refusal = instance.send("go")
    assert isinstance(refusal, Refusal)
    assert "with an object only" in refusal.message


# --- the published helper


HELPER = """
const spawnPersistentInstance = (...args) => globalThis.__statebaked_rt.spawn(...args);
const persistentInvocableSource = ({ machineName, machineInstanceName, machineVersionId }) => ({
  type: "statebacked.invoke", machineName, machineInstanceName: machineInstanceName ?? crypto.randomUUID(),
  machineVersionId });
"""


def helped(worker: WorkerProcess, machine: str) -> Instance:
    head, _, tail = machine.partition("createMachine")
    bundle = f"""import * as X from "xstate"; const {{ assign, createMachine, sendTo, stopChild }} = X;
      export const allowRead = () => true; export const allowWrite = () => true;
      {HELPER} {head} export default createMachine{tail}"""
    assert worker.load(bundle)["t"] == "loaded"
    return Instance(worker)


HELPED = """createMachine({ context: { kid: null }, on: {
  spawn: { actions: [assign({ kid: () => spawnPersistentInstance(
    { machineName: "k", machineInstanceName: "k1", machineVersionId: "ver_0123456789abcdefghijAB" },
    { name: "kid", context: { n: 1 } }) }), sendTo(({ context }) => context.kid, { type: "now" })] },
  id: { actions: sendTo("kid", { type: "by id" }) },
  stop: { actions: stopChild("kid") },
  ephemeral: { actions: assign({ kid: () => spawnPersistentInstance(X.fromCallback(() => {})) }) },
  late: { actions: () => { try { spawnPersistentInstance({ machineName: "k" }) }
    catch (error) { console.log(error.message) } } } } });"""


def test_the_published_helper_spawns_too(worker5: WorkerProcess, rest: str) -> None:
    instance = helped(worker5, HELPED)
    step(instance.create())
    spawn = step(instance.send("spawn"))
    child = ["k", "k1"]
    assert spawn.out == [
        ("spawn", "kid", child, "ver_0123456789abcdefghijAB", {"n": 1}),
        ("send", child, {"type": "now"}),
    ]
    at_rest(instance, rest)
    assert step(instance.send("id")).out == [("send", child, {"type": "by id"})]
    assert step(instance.send("stop")).out == [("unlink", "kid")]


def test_the_published_helper_belongs_in_an_assign(worker5: WorkerProcess) -> None:
    instance = helped(worker5, HELPED)
    step(instance.create())
    step(instance.send("late"))
    [line] = worker5.log_lines(1)
    assert "only in an assign" in line
    refusal = instance.send("ephemeral")
    assert isinstance(refusal, Refusal)
    assert "`spawn` that assign gets" in refusal.message


def test_a_name_that_was_made_up_while_loading_is_not_shared(worker5: WorkerProcess) -> None:
    machine = """createMachine({ context: {}, initial: "a", states: { a: { on: { go: { target: "a",
      reenter: true } }, invoke: { id: "k", src: persistentInvocableSource({ machineName: "k" }) } } } });"""
    one = helped(worker5, machine)
    two = Instance(worker5, a=2, name="j")
    names = [step(instance.create()).out[0][2][1] for instance in (one, two)]
    names.append(step(one.send("go")).out[1][2][1])
    assert len({str(uuid.UUID(name)) for name in names}) == 3


@pytest.mark.parametrize(
    ("prelude", "made"),
    [
        ('Crypto.prototype.randomUUID = () => "mine";', "mine"),
        ("Object.freeze(Crypto.prototype);", None),
        ("", None),
    ],
)
def test_what_a_module_does_to_random_names_is_left_alone(
    worker5: WorkerProcess, prelude: str, made: str | None
) -> None:
    instance = helped(
        worker5,
        prelude
        + """const NAME = crypto.randomUUID();
        createMachine({ context: { own: null }, on: { go: { actions: [
          assign({ own: () => crypto.randomUUID() }),
          assign({ kid: () => spawnPersistentInstance({ machineName: "k", machineInstanceName: NAME }) }),
          assign({ name: () => NAME })] } } });""",
    )
    step(instance.create())
    go = step(instance.send("go"))
    assert go.out[0][2] == ["k", instance.context["name"]], "a name that the module gave itself is kept"
    own = instance.context["own"]
    assert own == made if made is not None else str(uuid.UUID(own)) == own


# --- bounds, and events of others


def test_a_step_has_at_most_so_many_children_and_messages() -> None:
    machine = """createMachine({ context: {}, on: {
      spawn: { actions: enqueueActions(({ enqueue, event }) => { for (let i = 0; i < event.n; i++)
        enqueue.spawnChild({ type: "statebacked.invoke", machineName: "k" }, { id: `k${i}` }) }) },
      send: { actions: enqueueActions(({ enqueue, event, self }) => { for (let i = 0; i < event.n; i++)
        enqueue.sendTo(i % 2 ? self : event.to, { type: "x" }) }) } } });"""
    to = {"type": "statebacked.instance", "machineName": "m", "machineInstanceName": "i"}
    with WorkerProcess(5, spawns_max=3, sends_max=4) as worker:
        instance = created(worker, machine)
        for event, most in (({"type": "spawn"}, 3), ({"type": "send", "to": to}, 4)):
            refusal = instance.send({**event, "n": most + 1})
            assert isinstance(refusal, Refusal)
            assert refusal.code == "too-many-effects"
            assert step(instance.send({**event, "n": most})).changed


def test_a_reserved_event_of_another_instance_is_refused(worker5: WorkerProcess) -> None:
    instance = shipping(worker5)
    refusal = instance.message("xstate.done.actor.parcel", "m", "i")
    assert isinstance(refusal, Refusal)
    assert refusal.code == "reserved-event"
    assert step(instance.message({"type": "note", "text": "hello"}, "m", "i")).changed


def test_a_step_that_sends_ends_its_chain(worker5: WorkerProcess) -> None:
    instance = shipping(worker5)
    client = {"k": "event", "source": "client", "auth": False}
    header, _ = worker5.compute(
        instance.a, instance.seq, [client] * 2, ['{"type":"hurry"}', '{"type":"hurry"}']
    )
    assert [s["out"] for s in header["steps"]] == [[["send", CHILD]]]


def test_a_refusal_while_a_service_runs_leaves_the_children_as_they_were(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ context: { kid: null }, on: {
          spawn: { actions: [assign({ kid: ({ spawn }) => spawn(
            persistent({ machineName: "k", machineInstanceName: "k1" }), { id: "kid", systemId: "boss" }) }),
            spawnChild(fromCallback(() => {}), { id: "run" })] },
          ref: { actions: [sendTo(({ context }) => context.kid, { type: "x" }), sendTo("kid", { type: "y" }),
            sendTo(({ system }) => system.get("boss"), { type: "z" })] },
          bad: { actions: [stopChild("kid"),
            spawnChild(persistent({ machineName: "k" }), { id: "kid", systemId: "boss" }),
            assign({ kid: () => { throw new Error("no") } })] } } });"""
        + PERSISTENT,
    )
    step(instance.send("spawn"))
    for _ in range(2):
        assert isinstance(instance.send("bad"), Refusal)
        assert step(instance.send("ref")).out == [("send", ["k", "k1"], {"type": type}) for type in "xyz"]
    assert instance.services == {("run", 2)}
    assert json.loads(instance.snapshot)["instances"] == {"kid": ["k", "k1"]}
