"""Machines of XState 4 in a real worker: the linked copy and an inlined one, services, spawn, refusals."""

import subprocess
from pathlib import Path

import pytest

from tests.runtime.driver import DIST, WorkerProcess, find_deno
from tests.runtime.host import Instance, Refusal, Step

pytestmark = pytest.mark.worker

HEAD = """
import { actions, assign, createMachine, send, sendParent, sendTo, spawn } from "xstate";
export const allowRead = () => true;
export const allowWrite = () => true;
const say = (word) => () => console.log(word);
export default """


def created(worker: WorkerProcess, machine: str, context: object = None) -> Instance:
    assert worker.load(HEAD + machine) == {"t": "loaded", "major": 4, "inlined": False}
    instance = Instance(worker)
    step(instance.create(context))
    return instance


def step(answer: Step | Refusal) -> Step:
    assert isinstance(answer, Step), answer
    return answer


TOGGLER = """createMachine({ predictableActionArguments: %s, id: "t", initial: "off",
  context: () => ({ public: { toggled: 0 }, secret: [1] }), states: {
    off: { tags: "dark", on: { toggle: { target: "on", actions: [say("toggled"),
      assign({ public: ({ public: { toggled } }) => ({ toggled: toggled + 1 }) })] } } },
    on: { after: { 5000: "off" }, on: { toggle: "off" } } } });"""


@pytest.mark.parametrize("predictable", ["true", "false"])
def test_a_toggler_toggles(worker4: WorkerProcess, predictable: str) -> None:
    instance = created(worker4, TOGGLER % predictable, {"secret": [2]})
    assert instance.context == {"public": {"toggled": 0}, "secret": [2]}
    on = step(instance.send("toggle"))
    assert (on.value, on.public, on.header["effects"]) == ("on", {"toggled": 1}, True)
    after = "xstate.after(5000)#t.on"
    assert on.timers == [("set", after, 5000, {"type": after})]
    assert not step(instance.send("nobody")).changed
    off = step(instance.fire(after))
    assert (off.value, off.tags, off.timers) == ("off", ["dark"], [("cancel", after)])
    assert worker4.log_lines(1) == ["toggled"]


@pytest.mark.parametrize(("own", "context"), [("", {}), ("context: [1, 2],", [1, 2])])
def test_an_empty_initial_context_leaves_that_of_the_machine_as_it_is_and_none_is_empty(
    worker4: WorkerProcess, own: str, context: object
) -> None:
    machine = "createMachine({ OWN initial: 'a', states: { a: {} } });".replace("OWN", own)
    assert created(worker4, machine, {}).context == context


SERVICES = """createMachine({ predictableActionArguments: %s, id: "m", initial: "idle",
  context: { got: [], ref: null },
  on: { HEARD: { actions: assign({ got: ({ got }, event) => [...got, event.n] }) },
    spawn: { actions: assign({ ref: () => spawn((reply, receive) => {
      console.log("spawned"); reply({ type: "HEARD", n: 1 });
      receive(() => reply({ type: "HEARD", n: 2 })); return () => console.log("gone") }, "kid") }) },
    ask: { actions: sendTo(({ ref }) => ref, { type: "ASK" }) },
    halt: { actions: actions.stop("kid") } },
  states: {
    idle: { on: { load: "loading" } },
    loading: { invoke: { id: "p", src: async () => { console.log("asked"); return 21 },
      onDone: { target: "idle", actions: assign({ got: ({ got }, event) => [...got, event.data] }) },
      onError: { target: "failed", actions: assign({ got: (_, event) => [event.data.message] }) } } },
    failed: {} } });"""


@pytest.mark.parametrize("predictable", ["true", "false"])
def test_services_are_started_heard_and_over(worker4: WorkerProcess, predictable: str) -> None:
    instance = created(worker4, SERVICES % predictable)
    assert step(instance.send("load")).header["starts"] == ["p"]
    instance.settle()
    assert (instance.value, instance.context["got"]) == ("idle", [21])
    assert step(instance.send("spawn")).header["starts"] == ["kid"]
    assert instance.context["ref"] == {"id": "kid"}
    step(instance.deliver())
    step(instance.send("ask"))
    step(instance.deliver())
    assert instance.context["got"] == [21, 1, 2]
    assert step(instance.send("halt")).header["stops"] == ["kid"]
    assert worker4.log_lines(1) == ["asked", "spawned", "gone"]


def test_a_lost_service_is_its_error(worker4: WorkerProcess) -> None:
    instance = created(worker4, SERVICES % "true")
    step(instance.send("load"))
    instance.drop()
    failed = step(instance.fail(("p", 2), "it was lost"))
    assert (failed.value, failed.event["type"]) == ("failed", "error.platform.p")
    assert instance.context["got"] == ["it was lost"]


def test_an_error_that_no_state_handles_is_consumed_and_logged(worker4: WorkerProcess) -> None:
    machine = 'createMachine({ invoke: { id: "p", src: () => Promise.reject(new Error("unheard")) } });'
    instance = created(worker4, machine)
    instance.hear()
    assert not step(instance.deliver()).changed
    assert worker4.log_lines(1) == ["no state handles error.platform.p: unheard"]


def test_a_refused_event_changes_nothing_and_keeps_services(worker4: WorkerProcess) -> None:
    machine = """createMachine({ context: { list: [] }, on: {
      spawn: { actions: assign({
        ref: () => spawn((reply, receive) => receive(() => reply("PONG")), "kid") }) },
      bad: { actions: assign(({ list }) => { list.push(1); throw new Error("no") }) },
      ask: { actions: sendTo(({ ref }) => ref, { type: "ASK" }) } } });"""
    instance = created(worker4, machine)
    step(instance.send("spawn"))
    assert instance.send("bad") == Refusal("machine-error", "no")
    step(instance.send("ask"))
    assert not step(instance.deliver()).changed
    assert instance.context == {"list": [], "ref": {"id": "kid"}}


def test_an_event_is_authorised_on_the_step_before_it_in_one_compute(worker4: WorkerProcess) -> None:
    machine = """createMachine({ context: { at: null },
      on: { go: { actions: assign({ at: () => new Date(0) }) } } });"""
    bundle = (HEAD + machine).replace(
        "allowWrite = () => true", "allowWrite = (a) => (console.log(a.context), true)"
    )
    worker4.load(bundle)
    init = {"k": "init", "source": "client", "auth": True, "context": False}
    event = {"k": "event", "source": "client", "auth": True}
    header, _ = worker4.compute(
        1, 0, [init, event, event], ["{}", '{"type":"go"}', "{}", '{"type":"go"}', "{}"]
    )
    assert [each["changed"] for each in header["steps"]] == [True, True, True]
    assert worker4.log_lines(1)[-1] == "{ at: 1970-01-01T00:00:00.000Z }"


def test_a_bundle_finds_the_subpaths_of_the_linked_copy(worker4: WorkerProcess) -> None:
    bundle = """
      import { createMachine } from "npm:xstate@4";
      import { assign } from "xstate/lib/actions";
      import { spawn } from "xstate";
      export const allowRead = () => true, allowWrite = () => true;
      export default createMachine({ context: {},
        on: { go: { actions: assign({ ref: () => spawn(() => {}, "kid") }) } } });
    """
    assert worker4.load(bundle)["t"] == "loaded"
    instance = Instance(worker4)
    instance.create()
    assert step(instance.send("go")).header["starts"] == ["kid"]


INLINED = """
import { assign, createMachine, send, sendTo } from "%s";
export const allowRead = () => true, allowWrite = () => true;
export default createMachine({ predictableActionArguments: true, id: "m", initial: "a", context: { n: 0 },
 states: {
  a: { entry: () => console.log("in a"), after: { 1000: "b" }, on: {
    bad: { actions: assign(() => { throw new Error("no") }) },
    go: { target: "b", actions: [assign({ n: ({ n }) => n + 1 }), send("own")] } } },
  b: { invoke: [
      { id: "p", src: async () => 5, onDone: {
        target: "c", actions: assign({ n: ({ n }, { data }) => n + data }) } },
      { id: "kid", src: createMachine({ id: "kid", on: { PING: { actions: () => console.log("ping") } } }) }],
    on: { own: { actions: sendTo("kid", { type: "PING" }) } } },
  c: { type: "final" } } });
"""


@pytest.fixture(scope="module")
def inlined(tmp_path_factory: pytest.TempPathFactory) -> str:
    source: Path = tmp_path_factory.mktemp("inlined") / "machine.js"
    source.write_text(INLINED % (DIST / "4" / "index.js").as_uri())
    flags = ["--quiet", "--minify", "--platform", "browser", "--no-config", "--no-lock"]
    command = [find_deno(), "bundle", *flags, str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_machine_of_an_inlined_copy_runs(worker4: WorkerProcess, inlined: str) -> None:
    assert worker4.load(inlined) == {"t": "loaded", "major": 4, "inlined": True}
    instance = Instance(worker4)
    first = step(instance.create())
    assert first.timers == [("set", "xstate.after(1000)#m.a", 1000, {"type": "xstate.after(1000)#m.a"})]
    assert isinstance(instance.send("bad"), Refusal)
    instance.drop()
    go = step(instance.send("go"))
    assert (go.value, go.sends, go.header["starts"]) == ("b", [{"type": "own"}], ["p", "kid"])
    instance.settle()
    assert (instance.value, instance.done, instance.context) == ("c", True, {"n": 6})
    assert worker4.said(1) == ["in a"]
    assert worker4.log_lines(instance.a) == ["ping"]
