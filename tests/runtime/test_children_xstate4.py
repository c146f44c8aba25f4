"""Persistent children and messages of XState 4 machines in a real worker: all of it is data of the step."""

import json
import uuid

import pytest

from tests.runtime.driver import WorkerProcess
from tests.runtime.host import Instance, Refusal, Step
from tests.runtime.test_worker_xstate4 import step

pytestmark = pytest.mark.worker

# What the published @statebacked/machine does, under both spellings of the runtime global.
HEAD = """
import * as X from "xstate";
const { actions, assign, createMachine, forwardTo, send, sendParent, sendTo: xstateSendTo } = X;
const { cancel, escalate, respond, stop } = actions;
export const allowRead = () => true;
export const allowWrite = () => true;
const spawnPersistentInstance = (...args) => globalThis.%s.spawn(...args);
const spawnEphemeralInstance = spawnPersistentInstance;
const persistentInvocableSource = ({ machineName, machineInstanceName, machineVersionId }) => ({
  type: "statebacked.invoke", machineName, machineInstanceName: machineInstanceName ?? crypto.randomUUID(),
  machineVersionId });
const sendTo = (actor, event, opts) => ({ type: "xstate.send", to: actor,
  event: typeof event === "function" ? event : () => event, delay: opts?.delay, id: opts?.id });
export default """


def created(
    worker: WorkerProcess, machine: str, *, predictable: str = "true", spelling: str = "__statebaked_rt"
) -> Instance:
    assert (
        worker.load(
            HEAD % spelling + machine.replace("{", f"{{ predictableActionArguments: {predictable},", 1)
        )["t"]
        == "loaded"
    )
    instance = Instance(worker)
    step(instance.create())
    return instance


@pytest.fixture(params=["kept", "restored"])
def rest(request: pytest.FixtureRequest) -> str:
    """Whether the live copy is dropped before the event that matters."""
    how: str = request.param
    return how


@pytest.fixture(params=["true", "false"])
def predictable(request: pytest.FixtureRequest) -> str:
    mode: str = request.param
    return mode


def at_rest(instance: Instance, rest: str) -> Instance:
    if rest == "restored":
        instance.drop()
    return instance


ORDER = """createMachine({ id: "m", initial: "idle", context: { got: null, n: 7 },
  on: {
    hurry: { actions: xstateSendTo("parcel", { type: "faster" }) },
    helper: { actions: sendTo("parcel", ({ n }) => ({ type: "faster", n })) },
    sendTo: { actions: send({ type: "faster" }, { to: "parcel" }) },
    forward: { actions: forwardTo("parcel") },
    later: { actions: sendTo("parcel", { type: "remind" }, { delay: 5000, id: "r" }) },
    never: { actions: cancel("r") },
    up: { actions: [sendParent("up"), sendParent({ type: "up later" }, { delay: 10, id: "u" })] },
    escalate: { actions: escalate({ why: 1 }) },
  },
  states: {
    idle: { on: { go: "shipping" } },
    shipping: {
      entry: sendTo("parcel", { type: "from entry" }),
      invoke: { id: "parcel", data: { order: ({ n }) => `o${n}`, fixed: 1 },
        src: persistentInvocableSource({ machineName: "parcel", machineInstanceName: "p|1",
          machineVersionId: "ver_0123456789abcdefghijAB" }),
        onDone: { target: "home", actions: assign({ got: (_, { data }) => data }) },
        onError: { target: "lost", actions: assign({ got: (_, { data }) => data.message }) } },
      on: { stop: "idle", again: "shipping", through: "passing" },
    },
    passing: { always: "idle", invoke: { id: "passing",
      src: persistentInvocableSource({ machineName: "parcel" }) } },
    home: { type: "final", data: { parcel: ({ got }) => got, by: (_, { type }) => type } }, lost: {},
  } });"""

CHILD = ["parcel", "p|1"]
SPAWN = ("spawn", "parcel", CHILD, "ver_0123456789abcdefghijAB", {"order": "o7", "fixed": 1})


def shipping(worker: WorkerProcess, predictable: str = "true") -> Instance:
    instance = created(worker, ORDER, predictable=predictable)
    step(instance.send("go"))
    return instance


def test_an_invoked_child_is_data_of_the_step(worker4: WorkerProcess, predictable: str) -> None:
    instance = created(worker4, ORDER, predictable=predictable)
    go = step(instance.send("go"))
    assert go.out == [SPAWN, ("send", CHILD, {"type": "from entry"})]
    assert (go.header["starts"], go.header["stops"], go.header["effects"]) == ([], [], False)
    assert not instance.services


def test_a_child_is_sent_to_by_its_id(worker4: WorkerProcess, predictable: str, rest: str) -> None:
    instance = at_rest(shipping(worker4, predictable), rest)
    assert step(instance.send("hurry")).out == [("send", CHILD, {"type": "faster"})]
    assert step(instance.send("helper")).out == [("send", CHILD, {"type": "faster", "n": 7})]
    assert step(instance.send("sendTo")).out == [("send", CHILD, {"type": "faster"})]
    forwarded = step(instance.send({"type": "forward", "n": 1})).out
    assert forwarded == [("send", CHILD, {"type": "forward", "n": 1})]
    later = step(instance.send("later"))
    assert (later.out, later.timers) == ([], [("set", "r", 5000, CHILD, {"type": "remind"})])
    assert step(instance.send("never")).timers == [("cancel", "r")]


def test_the_done_event_of_a_child_carries_its_data(worker4: WorkerProcess, rest: str) -> None:
    instance = at_rest(shipping(worker4), rest)
    done = step(instance.child_done(("parcel", 2), {"at": "door"}))
    assert done.event == {"type": "done.invoke.parcel", "data": {"at": "door"}}
    assert (done.value, done.header["done"], instance.context["got"]) == ("home", True, {"at": "door"})
    assert done.output == {"parcel": {"at": "door"}, "by": "done.invoke.parcel"}


def test_the_error_event_of_a_child_that_could_not_be_made(worker4: WorkerProcess, rest: str) -> None:
    instance = at_rest(shipping(worker4), rest)
    lost = step(instance.fail(("parcel", 2), "the name is taken"))
    assert (lost.value, instance.context["got"]) == ("lost", "the name is taken")
    assert lost.out == []
    assert step(instance.send("hurry")).out == [], "it is not there any more"


def test_leaving_the_invoking_state_unlinks(worker4: WorkerProcess, predictable: str, rest: str) -> None:
    instance = at_rest(shipping(worker4, predictable), rest)
    assert step(instance.send("stop")).out == [("unlink", "parcel")]
    step(instance.send("hurry"))
    assert any("parcel" in line for line in worker4.log_lines(instance.a)), (
        "as for any actor that is not there"
    )


def test_entering_it_again_links_again(worker4: WorkerProcess, predictable: str, rest: str) -> None:
    instance = at_rest(shipping(worker4, predictable), rest)
    again = step(instance.send("again"))
    assert again.out == [("unlink", "parcel"), SPAWN, ("send", CHILD, {"type": "from entry"})]


def test_a_child_that_its_step_stops_again_is_not_made(worker4: WorkerProcess, predictable: str) -> None:
    instance = shipping(worker4, predictable)
    through = step(instance.send("through"))
    assert (through.value, through.out) == ("idle", [("unlink", "parcel")])


def test_sends_to_the_parent_are_for_the_host_to_deliver(
    worker4: WorkerProcess, predictable: str, rest: str
) -> None:
    instance = at_rest(shipping(worker4, predictable), rest)
    up = step(instance.send("up"))
    assert up.out == [("send", None, {"type": "up"})]
    assert up.timers == [("set", "u", 10, None, {"type": "up later"})]
    assert not up.header["effects"]


def test_an_entry_action_of_the_initial_state_reaches_the_parent(
    worker4: WorkerProcess, predictable: str
) -> None:
    machine = HEAD % "__statebacked_rt" + (
        f"""createMachine({{ predictableActionArguments: {predictable}, initial: "a", states: {{ a: {{
          entry: sendParent("born"), type: "final", data: {{ n: 1 }} }} }} }});"""
    )
    assert worker4.load(machine)["t"] == "loaded"
    born = step(Instance(worker4).create())
    assert (born.out, born.output) == ([("send", None, {"type": "born"})], {"n": 1})


def test_an_escalated_error_is_told_and_dropped(worker4: WorkerProcess, predictable: str) -> None:
    instance = shipping(worker4, predictable)
    assert step(instance.send("escalate")).out == []
    assert worker4.log_lines(1) == ["escalate reaches no persistent parent: send it an event of your own"]


SPAWNING = """createMachine({ id: "m", context: { kid: null, other: null }, on: {
  spawn: { actions: [assign({ kid: (_, { name, more }) => spawnPersistentInstance(
    { machineName: "kid", ...more }, { name, context: { n: 1 } }) }),
    sendTo(({ kid }) => kid, { type: "now" })] },
  xstate: { actions: xstateSendTo(({ kid }) => kid, { type: "by ref" }) },
  helper: { actions: sendTo(({ kid }) => kid, { type: "by ref" }) },
  idFn: { actions: sendTo(() => "kid", { type: "by id" }) },
  literal: { actions: sendTo((_, { to }) => to, { type: "by literal" }, { id: "l" }) },
  fixed: { actions: sendTo({ type: "statebacked.instance", machineName: "o", machineInstanceName: "1" },
    { type: "fixed" }) },
  later: { actions: sendTo((_, { to }) => to, { type: "late" }, { delay: 3, id: "l" }) },
  imperative: { actions: ({ kid }) => kid.send({ type: "lost" }) },
  stop: { actions: stop(({ kid }) => kid) }, stopId: { actions: stop("kid") },
  both: { actions: [assign({ kid: () => spawnPersistentInstance({ machineName: "kid" }, { name: "b" }) }),
    sendTo("b", { type: "x" }), stop("b")] },
  bad: { actions: [assign({ kid: () => spawnPersistentInstance({ machineName: "kid" }, { name: "kid" }) }),
    assign(() => { throw new Error("no") })] },
  late: { actions: () => { try { spawnPersistentInstance({ machineName: "kid" }) }
    catch (error) { console.log(error.message) } } },
  answer: { actions: respond({ type: "answer" }) },
  answerLater: { actions: respond({ type: "answer" }, { delay: 4, id: "a" }) },
  service: { actions: assign({ other: () =>
    spawnEphemeralInstance(() => () => console.log("gone"), "kid") }) },
  serviceNamed: { actions: assign({ other: () => spawnEphemeralInstance(() => () => {}, { name: "s" }) }) },
  end: { target: ".end", actions: assign({ kid: () => spawnPersistentInstance({ machineName: "kid" }) }) },
}, initial: "on", states: { on: {}, end: { type: "final" } } });"""


@pytest.mark.parametrize("spelling", ["__statebacked_rt", "__statebaked_rt"])
def test_a_spawn_without_names_makes_them(worker4: WorkerProcess, predictable: str, spelling: str) -> None:
    instance = created(worker4, SPAWNING, predictable=predictable, spelling=spelling)
    spawn = step(instance.send("spawn"))
    [(_, id, (machine, name), version, context), sent] = spawn.out
    assert (machine, version, context) == ("kid", None, {"n": 1})
    assert len({str(uuid.UUID(made)) for made in (id, name)}) == 2
    assert sent == ("send", ["kid", name], {"type": "now"})
    assert not spawn.header["effects"]
    kid = {"type": "statebacked.instance", "id": id, "machineName": "kid", "machineInstanceName": name}
    assert instance.context["kid"] == kid


def spawning(worker: WorkerProcess, predictable: str) -> tuple[Instance, list[str]]:
    instance = created(worker, SPAWNING, predictable=predictable)
    more = {"machineInstanceName": "k1", "machineVersionId": "ver_0123456789abcdefghijAB"}
    spawn = step(instance.send({"type": "spawn", "name": "kid", "more": more}))
    assert spawn.out[0] == ("spawn", "kid", ["kid", "k1"], "ver_0123456789abcdefghijAB", {"n": 1})
    return instance, ["kid", "k1"]


def test_a_reference_in_the_context_reaches_the_child(
    worker4: WorkerProcess, predictable: str, rest: str
) -> None:
    instance, child = spawning(worker4, predictable)
    at_rest(instance, rest)
    for type in ("xstate", "helper"):
        assert step(instance.send(type)).out == [("send", child, {"type": "by ref"})]
    assert step(instance.send("idFn")).out == [("send", child, {"type": "by id"})]


@pytest.mark.parametrize("how", ["stop", "stopId"])
def test_stopping_a_spawned_child_unlinks(
    worker4: WorkerProcess, predictable: str, rest: str, how: str
) -> None:
    instance, _ = spawning(worker4, predictable)
    at_rest(instance, rest)
    assert step(instance.send(how)).out == [("unlink", "kid")]
    assert not step(instance.send(how)).out
    assert "instances" not in json.loads(instance.snapshot)


def test_a_literal_reference_needs_no_link(worker4: WorkerProcess, predictable: str) -> None:
    instance, _ = spawning(worker4, predictable)
    to = {"type": "statebacked.instance", "machineName": "other", "machineInstanceName": "o|1"}
    literal = step(instance.send({"type": "literal", "to": to}))
    assert literal.out == [("send", ["other", "o|1"], {"type": "by literal"})]
    later = step(instance.send({"type": "later", "to": to}))
    assert later.timers == [("set", "l", 3, ["other", "o|1"], {"type": "late"})]
    assert step(instance.send("fixed")).out == [("send", ["o", "1"], {"type": "fixed"})]
    refusal = instance.send({"type": "literal", "to": {**to, "machineInstanceName": "a/b"}})
    assert isinstance(refusal, Refusal)
    assert "is not an instance name" in refusal.message


def test_a_spawned_child_that_its_step_stops_again_is_not_made(
    worker4: WorkerProcess, predictable: str
) -> None:
    instance, _ = spawning(worker4, predictable)
    assert step(instance.send("both")).out == []


def test_a_last_step_still_makes_its_child(worker4: WorkerProcess, predictable: str) -> None:
    instance, _ = spawning(worker4, predictable)
    end = step(instance.send("end"))
    assert (end.header["done"], [item[0] for item in end.out]) == (True, ["spawn"])


def test_a_refused_step_leaves_the_children_as_they_were(worker4: WorkerProcess, predictable: str) -> None:
    instance, child = spawning(worker4, predictable)
    step(instance.send("serviceNamed"))
    for _ in range(2):
        assert isinstance(instance.send("bad"), Refusal)
        assert step(instance.send("idFn")).out == [("send", child, {"type": "by id"})]
    assert instance.services == {("s", 3)}


def test_a_spawn_belongs_in_an_assign(worker4: WorkerProcess, predictable: str) -> None:
    instance, _ = spawning(worker4, predictable)
    assert step(instance.send("late")).out == []
    [line] = worker4.log_lines(1)
    assert "only in an assign" in line


def test_what_is_sent_by_a_reference_itself_is_told_and_dropped(
    worker4: WorkerProcess, predictable: str, rest: str
) -> None:
    instance, _ = spawning(worker4, predictable)
    at_rest(instance, rest)
    assert step(instance.send("imperative")).out == []
    [line] = worker4.log_lines(instance.a)
    assert line == "lost was sent to kid/k1 by its reference and dropped: use the action sendTo"
    assert not instance.waiting


def test_whoever_sent_an_event_is_answered(worker4: WorkerProcess, predictable: str, rest: str) -> None:
    instance, child = spawning(worker4, predictable)
    at_rest(instance, rest)
    assert step(instance.message("answer", *child)).out == [("send", child, {"type": "answer"})]
    assert step(instance.message("answer", "o", "x@y")).out == [("send", ["o", "x@y"], {"type": "answer"})]
    later = step(instance.message("answerLater", "o", "1"))
    assert later.timers == [("set", "a", 4, ["o", "1"], {"type": "answer"})]
    assert step(instance.send("answer")).sends == [{"type": "answer"}], "a client is nobody to answer"


def test_a_service_and_a_persistent_child_replace_each_other_under_one_id(
    worker4: WorkerProcess, predictable: str
) -> None:
    instance, child = spawning(worker4, predictable)
    service = step(instance.send("service"))
    assert (service.header["starts"], service.out) == (["kid"], [("unlink", "kid")])
    again = step(instance.send({"type": "spawn", "name": "kid", "more": {"machineInstanceName": "k1"}}))
    assert (again.header["stops"], again.header["starts"]) == (["kid"], [])
    assert again.out[0][:3] == ("spawn", "kid", child)
    assert worker4.log_lines(1) == ["gone"]


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"machineName": "no name"}, "is not a machine name"),
        ({"machineInstanceName": ".."}, "is not an instance name"),
        ({"machineVersionId": "latest"}, "is not a version"),
    ],
)
def test_a_descriptor_that_cannot_be_refuses_the_event(
    worker4: WorkerProcess, more: dict[str, str], what: str
) -> None:
    instance = created(worker4, SPAWNING)
    refusal = instance.send({"type": "spawn", "name": "kid", "more": more})
    assert isinstance(refusal, Refusal)
    assert refusal.code == "machine-error"
    assert what in refusal.message


def test_a_source_may_stand_among_the_services(worker4: WorkerProcess) -> None:
    instance = created(
        worker4,
        """createMachine({ initial: "a", states: { a: { on: { go: "b" } }, b: { invoke: { id: "k", src: "kid",
          data: (_, { n }) => ({ n }) } } } }, { services: { kid: { type: "statebacked.invoke",
          machineName: "kid", machineInstanceName: ({ n }) => `kid-${n}` } } });""",
    )
    go = step(instance.send({"type": "go", "n": 3}))
    assert go.out == [("spawn", "k", ["kid", "kid-3"], None, {"n": 3})]


def test_a_child_may_be_forwarded_every_event(worker4: WorkerProcess, predictable: str, rest: str) -> None:
    instance = created(
        worker4,
        """createMachine({ invoke: { id: "k", autoForward: true, src: persistentInvocableSource(
          { machineName: "kid", machineInstanceName: "k1" }) }, on: { mine: { actions: () => {} } } });""",
        predictable=predictable,
    )
    at_rest(instance, rest)
    for event in ({"type": "mine", "n": 1}, {"type": "unknown"}):
        assert step(instance.send(event)).out == [("send", ["kid", "k1"], event)]
    assert step(instance.send("xstate.after(1)#m", "timer")).out == []


def test_only_the_machine_itself_has_persistent_children(worker4: WorkerProcess) -> None:
    instance = created(
        worker4,
        """createMachine({ invoke: { id: "inner", src: createMachine({ context: {},
          predictableActionArguments: true,
          invoke: { id: "k", src: persistentInvocableSource({ machineName: "k" }) },
          on: { spawn: { actions: assign({ k: () => spawnPersistentInstance({ machineName: "k" }) }) } } }) },
          on: { spawn: { actions: forwardTo("inner") } } });""",
    )
    step(instance.send("spawn"))
    lines = worker4.log_lines(1)
    assert any('"k" is not made' in line for line in lines), lines
    assert any("only in an assign of the instance's own machine" in line for line in lines)


def test_a_name_that_was_made_up_while_loading_is_not_shared(worker4: WorkerProcess) -> None:
    one = created(
        worker4,
        """createMachine({ initial: "a", states: { a: { on: { go: "b" } }, b: { on: { go: "b" }, invoke: {
          id: "k", src: persistentInvocableSource({ machineName: "k" }) } } } });""",
    )
    two = Instance(worker4, a=2, name="j")
    step(two.create())
    names = [step(instance.send("go")).out[0][2][1] for instance in (one, two)]
    names.append(step(one.send("go")).out[1][2][1])
    assert len({str(uuid.UUID(name)) for name in names}) == 3


def test_a_reserved_event_of_another_instance_is_refused(worker4: WorkerProcess) -> None:
    instance = shipping(worker4)
    refusal = instance.message("done.invoke.parcel", *CHILD)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "reserved-event"


def test_an_unheard_end_of_a_child_is_consumed(worker4: WorkerProcess) -> None:
    instance, child = spawning(worker4, "true")
    assert not step(instance.child_done(("kid", 2), 1)).changed
    assert not step(instance.fail(("kid", 2), "gone")).changed
    assert "no state handles error.platform.kid: gone" in worker4.log_lines(1)
    assert step(instance.send("idFn")).out == [("send", child, {"type": "by id"})]


def test_a_step_of_a_step_answer_names_nothing_that_it_lacks(worker4: WorkerProcess) -> None:
    instance = created(worker4, 'createMachine({ initial: "a", states: { a: { on: { go: "b" } }, b: {} } });')
    go: Step = step(instance.send("go"))
    assert not {"out", "fin"} & go.header.keys()
