"""What guards and assigns of XState 4 see of how their state came to be, live and restored."""

import json

import pytest

from tests.runtime.driver import WorkerProcess
from tests.runtime.host import Instance, Refusal
from tests.runtime.test_worker_xstate4 import created, step

pytestmark = pytest.mark.worker

GATE = """createMachine({ predictableActionArguments: %s, context: {}, initial: "a", states: {
  a: { on: { N: "b" } },
  b: { on: { P: [{ target: "c", cond: (c, e, m) => %s }, { target: "lost" }] } }, c: {}, lost: {} } });"""


@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize("predictable", ["true", "false"])
@pytest.mark.parametrize(
    "condition",
    [
        'm.state.event.type === "N" && m.state.event.n === 5',
        'm.state._event.name === "N" && m.state._event.data.n === 5',
        'm.state.history.value === "a" && m.state.history.matches("a")',
        "m.state.changed === true",
        "m.state.actions.length === 0 && m.state.transitions.length === 0",
        "Object.keys(m.state.children).length === 0",
        'm.state.nextEvents.includes("P")',
    ],
)
def test_a_guard_sees_the_same_of_a_live_state_and_a_restored_one(
    worker4: WorkerProcess, condition: str, predictable: str, drops: bool
) -> None:
    instance = created(worker4, GATE % (predictable, condition))
    step(instance.send({"type": "N", "n": 5}))
    if drops:
        instance.drop()
    assert step(instance.send("P")).value == "c"


SHOWN = """createMachine({ context: { seen: [] }, initial: "a", id: "m",
  invoke: { id: "p", src: () => Promise.resolve({ n: 1 }), onDone: { actions: "see" } },
  on: { SEE: { actions: "see" }, TWICE: { actions: ["see", "see"] } },
  states: { a: { on: { N: "b" } },
    b: { type: "parallel", states: { r: {}, q: { tags: "t" } }, on: { B: "a" } } } },
  { actions: { see: assign({ seen: (context, event, { state }) => [...context.seen, state && [
    event.type, JSON.stringify(state.event), state._event.name, state.history?.value ?? null,
    state.changed ?? null,
    state.toStrings(), Object.keys(state.meta), [...state.tags], state.nextEvents,
    Object.keys(state.children),
    state.configuration.map(({ id }) => id), state.actions.length, state.transitions.length,
    Object.keys(state.activities).filter((id) => state.activities[id]), state.matches("b")]] }) } });"""


def test_all_that_a_state_shows_is_the_same_live_and_restored_after_every_event(
    worker4: WorkerProcess,
) -> None:
    seen = []
    for number, drops in enumerate((False, True)):
        instance = created(worker4, SHOWN) if number == 0 else Instance(worker4, a=100)
        if number:
            step(instance.create())
        instance.settle()
        for event in (
            "SEE",
            "N",
            "SEE",
            "nobody",
            "SEE",
            "B",
            "TWICE",
            {"type": "N", "deep": {"x": [1]}},
            "SEE",
        ):
            if drops:
                instance.drop()
            instance.send(event)
        seen.append(instance.context["seen"])
    assert seen[0] == seen[1]
    assert len(seen[0]) == 7


def test_a_refused_event_leaves_what_the_state_shows(worker4: WorkerProcess) -> None:
    machine = """createMachine({ context: { told: null }, initial: "a", states: {
      a: { on: { N: "b" } }, b: { on: {
      BAD: { target: "a", actions: assign(() => { throw new Error("no") }) },
      Q: { actions: assign({
        told: (c, e, { state }) => [state.event.type, state.history.value] }) } } } } });"""
    instance = created(worker4, machine)
    step(instance.send("N"))
    assert isinstance(instance.send("BAD"), Refusal)
    step(instance.send("Q"))
    assert instance.context["told"] == ["N", "a"]


def test_a_state_stored_without_its_event_is_restored_as_before(worker4: WorkerProcess) -> None:
    instance = created(worker4, GATE % ("true", "m.state.event.type === 'xstate.init'"))
    step(instance.send("N"))
    snapshot = json.loads(instance.snapshot)
    assert snapshot.pop("told") == {"event": {"type": "N"}, "from": "a", "changed": True}
    instance.drop()
    instance.snapshot = json.dumps(snapshot)
    assert step(instance.send("P")).value == "c"


def test_the_output_of_a_service_without_json_keeps_only_the_type_of_its_event(
    worker4: WorkerProcess,
) -> None:
    instance = created(
        worker4,
        """createMachine({ context: {}, initial: "a", states: { a: { invoke: { id: "p",
          src: () => Promise.resolve(1n), onDone: "b" } }, b: {} } });""",
    )
    instance.settle()
    assert instance.value == "b"
    assert json.loads(instance.snapshot)["told"]["event"] == {"type": "done.invoke.p"}


SEED = """
import { assign, createMachine } from "xstate";
export const allowRead = ({ machineInstanceName, authContext }) => machineInstanceName === authContext.sid;
export const allowWrite = ({ machineInstanceName, authContext }) => machineInstanceName === authContext.sid;
const count = assign({
  public: (context) => ({ ...context.public, toggleCount: (context.public?.toggleCount ?? 0) + 1 }),
});
export default createMachine({ predictableActionArguments: true, initial: "on", states: {
  on: { on: { toggle: { target: "off", actions: count } } },
  off: { on: { toggle: { target: "on", actions: count } } } } });
"""


@pytest.mark.parametrize("context", [None, {}])
def test_a_machine_without_a_context_counts_from_its_first_event_on(
    worker4: WorkerProcess, context: object
) -> None:
    assert worker4.load(SEED)["t"] == "loaded"
    instance = Instance(worker4)
    step(instance.create(context))
    assert step(instance.send("toggle")).public == {"toggleCount": 1}
    instance.drop()
    assert step(instance.send("toggle")).public == {"toggleCount": 2}


def test_steps_without_end_are_an_error_of_the_machine_with_what_to_look_for(worker4: WorkerProcess) -> None:
    instance = created(
        worker4,
        """createMachine({ initial: "a", context: {}, states: { a: { on: { go: "b" } },
          b: { always: "c" }, c: { always: "b" } } });""",
    )
    refused = instance.send("go")
    assert isinstance(refused, Refusal)
    assert (refused.code, "always" in refused.message) == ("machine-error", True)


def test_strict_refuses_unknown_events_and_ends_no_instance(worker4: WorkerProcess) -> None:
    """Plain xstate stops the interpreter when an error of a promise is not handled."""
    instance = created(
        worker4,
        """createMachine({ strict: true, context: {}, initial: "a", states: { a: { invoke: { id: "p",
          src: () => Promise.reject(new Error("no")) }, on: { go: "b" } }, b: {} } });""",
    )
    instance.settle()
    refused = instance.send("unknown")
    assert isinstance(refused, Refusal)
    assert "does not accept event 'unknown'" in refused.message
    assert step(instance.send("go")).value == "b"


def test_a_reference_to_an_actor_that_is_over_has_only_its_id(worker4: WorkerProcess) -> None:
    instance = created(
        worker4,
        """createMachine({ context: { ref: null, told: null },
          on: { GO: { actions: assign({ ref: () => spawn(Promise.resolve(1), "kid") }) },
            Q: { actions: assign({ told: ({ ref }) => [ref.id, typeof ref.send] }) } } });""",
    )
    step(instance.send("GO"))
    instance.settle()
    step(instance.send("Q"))
    assert instance.context["told"] == ["kid", "undefined"]


def test_a_client_may_not_send_the_route_of_xstate_5(worker4: WorkerProcess) -> None:
    instance = created(worker4, "createMachine({ initial: 'a', states: { a: {} } });")
    refused = instance.send({"type": "xstate.route", "to": "#b"})
    assert isinstance(refused, Refusal)
    assert refused.code == "reserved-event"
