"""Machines of XState 5 in a real worker: what is computed, what is performed, and when."""

import pytest

from tests.runtime.driver import WorkerProcess
from tests.runtime.host import Instance, Refusal, Step

pytestmark = pytest.mark.worker

HEAD = """
import * as X from "xstate";
const { assign, cancel, createMachine, emit, enqueueActions, fromCallback, fromPromise, raise, sendParent,
  sendTo, setup, spawnChild, stopChild } = X;
export const allowRead = () => true;
export const allowWrite = () => true;
const say = (...words) => () => console.log(...words);
export default """


def load(worker: WorkerProcess, machine: str) -> Instance:
    answer = worker.load(HEAD + machine)
    assert answer == {"t": "loaded", "major": worker.major, "inlined": False}
    return Instance(worker)


def created(worker: WorkerProcess, machine: str) -> Instance:
    instance = load(worker, machine)
    assert isinstance(instance.create(), Step)
    return instance


def step(answer: Step | Refusal) -> Step:
    assert isinstance(answer, Step), answer
    return answer


TOGGLER = """createMachine({
  id: "t", initial: "off", context: { public: { toggled: 0 }, secret: [1] },
  states: {
    off: { tags: ["dark"], on: { toggle: { target: "on",
      actions: assign({ public: ({ context }) => ({ toggled: context.public.toggled + 1 }) }) } } },
    on: { on: { toggle: "off" } },
  },
});"""


def test_a_toggler_toggles(worker5: WorkerProcess) -> None:
    instance = load(worker5, TOGGLER)
    first = step(instance.create({"secret": [2]}))
    assert (first.value, first.tags, first.public) == ("off", ["dark"], {"toggled": 0})
    assert instance.context == {"public": {"toggled": 0}, "secret": [2]}
    second = step(instance.send("toggle"))
    assert (second.value, second.tags, second.public) == ("on", [], {"toggled": 1})
    third = step(instance.send("toggle"))
    assert (third.value, third.context, third.header["pub"]) == ("off", None, False)
    assert not third.header["effects"]


def test_instances_share_nothing(worker5: WorkerProcess) -> None:
    machine = """createMachine({ context: { list: [] }, on: {
      push: { actions: [({ context }) => context.list.push(1), assign({ n: 1 })] } } });"""
    one = created(worker5, machine)
    two = Instance(worker5, a=2)
    one.send("push")
    one.send("push")
    step(two.create())
    assert one.context["list"] == [], "what an action did to the context after the commit is not durable"
    assert two.context == {"list": []}


def test_the_creation_context_is_the_input(worker5: WorkerProcess) -> None:
    instance = load(worker5, 'createMachine({ context: ({ input }) => ({ who: input.who, more: "x" }) });')
    step(instance.create({"who": "me", "ignored": True}))
    assert instance.context == {"who": "me", "more": "x"}


def test_a_context_function_that_throws_refuses_the_creation(worker5: WorkerProcess) -> None:
    instance = load(worker5, "createMachine({ context: ({ input }) => ({ who: input.who }) });")
    refusal = instance.create()
    assert isinstance(refusal, Refusal)
    assert refusal.code == "machine-error"
    assert "who" in refusal.message
    assert isinstance(instance.create({"who": 1}), Step)


@pytest.mark.parametrize(
    "transition",
    [
        '{ guard: () => { throw new Error("boom") }, target: ".b" }',
        '{ target: ".b", actions: assign({ n: () => { throw new Error("boom") } }) }',
        '{ actions: assign(({ context }) => { context.inner.n = 7; throw new Error("boom") }) }',
        '{ actions: enqueueActions(({ context }) => { context.inner.n = 7; throw new Error("boom") }) }',
        '{ target: ".b", actions: sendTo("nobody", { type: "hi" }) }',
    ],
)
def test_a_throw_changes_nothing(worker5: WorkerProcess, transition: str) -> None:
    instance = created(
        worker5,
        f"""createMachine({{ initial: "a", context: {{ n: 0, inner: {{ n: 0 }} }}, on: {{ bad: {transition},
          good: {{ actions: assign({{ n: ({{ context }}) => context.n + 1 }}) }} }}, states: {{ a: {{}}, b: {{
          entry: say("entered") }} }} }});""",
    )
    refusal = instance.send("bad")
    assert isinstance(refusal, Refusal)
    assert refusal.code == "machine-error"
    assert "boom" in refusal.message or "actor" in refusal.message
    step(instance.send("good"))
    assert (instance.value, instance.context) == ("a", {"n": 1, "inner": {"n": 0}})
    said = worker5.log_lines(1)
    assert said[0].startswith("an event is refused: ")
    assert "entered" not in said


def test_no_action_runs_before_its_step_is_durable(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ initial: "a", states: { a: { exit: say("left a"), on: { go: { target: "b",
          actions: [say("one"), () => { throw new Error("after the commit") }, say("two")] } } },
          b: { entry: say("entered b") } } });""",
    )
    item = {"k": "event", "source": "client", "auth": False}
    worker5.compute(1, 1, [item], ['{"type":"go"}'])
    assert worker5.log_lines(1) == []
    worker5.send({"t": "perform", "a": 1, "seq": 2})
    worker5.receive("performed")
    lines = worker5.log_lines(1)
    assert [line for line in lines if "after the commit" not in line and "  at " not in line] == [
        "left a",
        "one",
        "two",
        "entered b",
    ]
    assert any("after the commit" in line for line in lines)
    instance.seq = 2
    assert not step(instance.send("go")).changed


def test_an_unknown_event_changes_nothing(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ initial: "a", context: { n: 0 }, on: {
          targetless: { actions: say("x") }, noop: { target: ".a", reenter: false }, forbidden: undefined,
          guarded: { guard: () => false, target: ".b" } },
          states: { b: {}, a: { on: { some: {}, "part.*": "b",
            listed: [{ guard: () => false, target: "b" }] } } } });""",
    )
    for event in ("nobody", "forbidden", "guarded", "listed", "some"):
        assert not step(instance.send(event)).changed, event
    assert instance.seq == 1
    for event in ("targetless", "noop", "part.one"):
        assert step(instance.send(event)).changed, event
    assert instance.value == "b"


def test_a_wildcard_selects_any_event(worker5: WorkerProcess) -> None:
    instance = created(worker5, 'createMachine({ on: { "*": { actions: assign({ n: 1 }) } } });')
    assert step(instance.send("whatever")).changed


def test_always_after_an_unknown_event_is_a_change(worker5: WorkerProcess) -> None:
    machine = """createMachine({ initial: "a", states: { a: { always: {
      guard: ({ event }) => event.type === "x", target: "b" } }, b: {} } });"""
    assert step(created(worker5, machine).send("x")).value == "b"


TIMERS = """setup({ delays: { years: 1e11, nan: NaN } }).createMachine({
  id: "m", initial: "a", context: {},
  states: {
    a: { after: { 1000: "b", years: "b", nan: "b" }, on: { leave: "b", stay: {
      actions: [raise({ type: "late" }, { delay: 10, id: "x" }),
        raise({ type: "later" }, { delay: 20.7, id: "x" }),
        cancel("x"), sendTo(({ self }) => self, { type: "own", n: 1 }, { delay: -5, id: "y" }),
        raise({ type: "unnamed" }, { delay: Infinity })] } } },
    b: {},
  },
});"""


def test_delays_are_the_hosts_timers(worker5: WorkerProcess) -> None:
    instance = load(worker5, TIMERS)
    first = step(instance.create())
    ids = ["xstate.after.1000.m.a", "xstate.after.years.m.a", "xstate.after.nan.m.a"]
    delays = [1_000, 100_000_000_000, 0]
    assert first.timers == [("set", id, delay, {"type": id}) for id, delay in zip(ids, delays, strict=True)]
    assert not first.header["effects"]
    stay = step(instance.send("stay"))
    assert stay.timers == [
        ("set", "x", 10, {"type": "late"}),
        ("set", "x", 20, {"type": "later"}),
        ("cancel", "x"),
        ("set", "y", 0, {"type": "own", "n": 1}),
        ("set", "statebacked.unnamed", 100_000_000_000_000, {"type": "unnamed"}),
    ]
    leave = step(instance.send("leave"))
    assert sorted(leave.timers) == sorted(("cancel", id) for id in ids)


def test_a_timer_fires_its_transition(worker5: WorkerProcess) -> None:
    instance = created(worker5, TIMERS)
    instance.drop()
    assert step(instance.fire("xstate.after.years.m.a")).value == "b"


def test_own_sends_are_data_and_come_in_order(worker5: WorkerProcess) -> None:
    note = "assign({ seen: ({ context, event }) => [...context.seen, event.type] })"
    instance = created(
        worker5,
        f"""createMachine({{ context: {{ seen: [] }}, on: {{
          go: {{ actions: [sendTo(({{ self }}) => self, {{ type: "first" }}), raise({{ type: "raised" }}),
            ({{ self }}) => self.send({{ type: "spoken" }}),
            sendTo(({{ self }}) => self, {{ type: "second", n: 2 }})] }},
          only: {{ actions: sendTo(({{ self }}) => self, {{ type: "first" }}) }},
          "*": {{ actions: {note} }} }} }});""",
    )
    only = step(instance.send("only"))
    assert (only.sends, only.header["effects"]) == ([{"type": "first"}], False)
    instance.settle()
    go = step(instance.send("go"))
    assert go.sends == [{"type": "first"}, {"type": "second", "n": 2}]
    instance.settle()
    # XState runs custom actions while it computes, and its own sends after them.
    assert instance.context["seen"] == ["first", "raised", "spoken", "first", "second"]


def test_a_raise_without_end_is_refused(worker5: WorkerProcess) -> None:
    instance = created(worker5, 'createMachine({ on: { go: { actions: raise({ type: "go" }) } } });')
    refusal = instance.send("go")
    assert isinstance(refusal, Refusal)
    assert "Infinite loop" in refusal.message


def test_a_history_state_survives_a_drop(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ initial: "p", states: { out: { on: { back: "p.x.h", deep: "p.d" } },
          p: { type: "parallel", on: { leave: "out" }, states: {
            d: { type: "history", history: "deep" },
            x: { initial: "x1", states: { h: { type: "history" }, x1: { on: { nx: "x2" } }, x2: {
              initial: "k", states: { k: { on: { nk: "l" } }, l: {} } } } },
            y: { initial: "y1", states: { y1: { on: { ny: "y2" } }, y2: {} } } } } } });""",
    )
    for event in ("nx", "nk", "ny", "leave"):
        step(instance.send(event))
        instance.drop()
    step(instance.send("deep"))
    assert instance.value == {"p": {"x": {"x2": "l"}, "y": "y2"}}
    step(instance.send("leave"))
    instance.drop()
    step(instance.send("back"))
    assert instance.value == {"p": {"x": {"x2": "k"}, "y": "y1"}}


def test_a_final_state_ends_everything(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ initial: "a", output: ({ context }) => context.n, context: { n: 3 },
          invoke: { id: "cb",
            src: fromCallback(() => { console.log("up"); return () => console.log("down") }) },
          states: { a: { after: { 1000: "z" }, on: { end: "z" } },
            z: { type: "final", entry: say("over") } } });""",
    )
    assert instance.services == {("cb", 1)}
    end = step(instance.send("end"))
    assert end.header["done"]
    assert end.header["stops"] == ["cb"]
    assert worker5.log_lines(1) == ["up", "over", "down"]
    assert not step(instance.send("end")).changed
    instance.drop()
    assert not step(instance.send("end")).changed


def test_emit_reaches_those_who_listen(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ on: { go: { actions: emit({ type: "hello", n: 1 }) },
          listen: { actions: ({ self }) => self.on("hello", ({ n }) => console.log("heard", n)) } } });""",
    )
    assert not step(instance.send("go")).header["effects"]
    step(instance.send("listen"))
    step(instance.send("go"))
    assert worker5.log_lines(1) == ["heard 1"]


def test_a_configuration_that_its_value_does_not_have_is_given_up(worker5: WorkerProcess) -> None:
    """XState 5 accepts targets that do not fit together, and is then in more states than it says."""
    machine = """createMachine({ id: "m", initial: "a", states: {
      a: { on: { go: { target: ["#m.b", "#m.c"] } } },
      b: { on: { b: { actions: assign({ by: "b" }) } } },
      c: { tags: ["c"], on: { c: { actions: assign({ by: "c" }) } } } } });"""
    kept = created(worker5, machine)
    go = step(kept.send("go"))
    handled = [step(kept.send(event)).changed for event in ("b", "c")]
    dropped = Instance(worker5, a=2)
    step(dropped.create())
    step(dropped.send("go"))
    dropped.drop()
    assert [step(dropped.send(event)).changed for event in ("b", "c")] == handled
    assert handled.count(True) == 1
    assert go.tags == (["c"] if kept.value == "c" else [])
