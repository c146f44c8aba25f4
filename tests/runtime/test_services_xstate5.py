"""Ephemeral services of XState 5 machines: started after the commit, heard by name and run, stopped, lost."""

import pytest

from tests.runtime.driver import WorkerProcess
from tests.runtime.host import Instance, Refusal, Step
from tests.runtime.test_worker_xstate5 import created, load, step

pytestmark = pytest.mark.worker

PROMISES = """createMachine({ id: "m", initial: "idle", context: { got: null },
  states: {
    idle: { on: { go: "work", fail: "broken", dull: "deaf" } },
    work: { invoke: { id: "p", src: fromPromise(async ({ input }) => { console.log("asked", input.n);
      return { n: input.n, twice: new Date(0) } }), input: { n: 21 },
      onDone: { target: "idle", actions: assign({ got: ({ event }) => event.output.n }) } } },
    broken: { invoke: { id: "p", src: fromPromise(async () => { throw new RangeError("no luck") }),
      onError: { target: "idle", actions: assign({ got: ({ event }) => event.error.message }) } } },
    deaf: { invoke: { id: "p", src: fromPromise(() => Promise.reject(new Error("unheard"))) },
      on: { go: "idle" } },
  } });"""


def test_a_promise_starts_after_the_commit_and_ends_its_service(worker5: WorkerProcess) -> None:
    instance = created(worker5, PROMISES)
    item = {"k": "event", "source": "client", "auth": False}
    header, _ = worker5.compute(1, 1, [item], ['{"type":"go"}'])
    assert header["steps"][0]["starts"] == ["p"]
    assert worker5.log_lines(1) == []
    instance.seq, instance.services = 2, {("p", 2)}
    worker5.send({"t": "perform", "a": 1, "seq": 2})
    assert worker5.receive("performed")[0]["sent"] == []
    event = instance.hear()
    assert event["type"] == "xstate.done.actor.p"
    assert event["output"]["n"] == 21
    done = step(instance.deliver())
    assert (done.value, instance.context) == ("idle", {"got": 21})
    assert done.header["stops"] == [], "a service that has ended is not stopped"
    assert worker5.log_lines(1) == ["asked 21"]


def test_a_rejected_promise_becomes_its_error_event(worker5: WorkerProcess) -> None:
    instance = created(worker5, PROMISES)
    step(instance.send("fail"))
    instance.settle()
    assert (instance.value, instance.context) == ("idle", {"got": "no luck"})


def test_an_error_that_no_state_handles_is_consumed_and_logged(worker5: WorkerProcess) -> None:
    instance = created(worker5, PROMISES)
    step(instance.send("dull"))
    instance.hear()
    assert step(instance.deliver()).value == "deaf"
    assert step(instance.send("go")).value == "idle"
    assert any("xstate.error.actor.p" in line and "unheard" in line for line in worker5.log_lines(1))


CALLBACK = """createMachine({ id: "m", initial: "on", context: { seen: [] },
  on: { "*": { actions: assign({ seen: ({ context, event }) => [...context.seen, event.type] }) },
    bad: { actions: assign(() => { throw new Error("refused") }) } },
  states: { off: { on: { on: "on" } }, on: { invoke: { id: "cb",
    src: fromCallback(({ sendBack, receive, input }) => {
      sendBack({ type: "at once" });
      receive((event) => { if (event.type === "echo") sendBack({ type: "echoed" });
        if (event.type === "later") setTimeout(() => sendBack({ type: "late" }), 5);
        if (event.type === "end") throw new Error("ended") });
      return () => { console.log("cleaned up"); sendBack({ type: "too late" }); };
    }) },
    on: { off: "off",
      echo: { actions: [sendTo("cb", { type: "echo" }), sendTo(({ self }) => self, { type: "own" })] },
      again: { target: "on", reenter: true }, later: { actions: sendTo("cb", { type: "later" }) } } } } });"""


def test_a_callback_speaks_at_once_and_later(worker5: WorkerProcess) -> None:
    instance = load(worker5, CALLBACK)
    first = step(instance.create())
    assert first.header["starts"] == ["cb"]
    assert [waiting.item["service"] for waiting in instance.waiting] == [["cb", 1]]
    step(instance.deliver())
    step(instance.send("echo"))
    assert [w.item.get("service") for w in instance.waiting] == [["cb", 1], None]
    step(instance.deliver())
    step(instance.deliver())
    step(instance.send("later"))
    assert instance.hear() == {"type": "late"}
    step(instance.deliver())
    assert instance.context["seen"] == ["at once", "echoed", "own", "late"]


def test_a_service_that_leaves_its_state_is_stopped_and_not_heard(worker5: WorkerProcess) -> None:
    instance = created(worker5, CALLBACK)
    instance.deliver()
    off = step(instance.send("off"))
    assert off.header["stops"] == ["cb"]
    assert not instance.waiting
    assert worker5.log_lines(1) == ["cleaned up"]


def test_a_restarted_service_is_another_run(worker5: WorkerProcess) -> None:
    instance = created(worker5, CALLBACK)
    instance.deliver()
    again = step(instance.send("again"))
    assert (again.header["stops"], again.header["starts"]) == (["cb"], ["cb"])
    assert instance.services == {("cb", instance.seq)}
    assert [waiting.item["service"] for waiting in instance.waiting] == [["cb", instance.seq]]
    assert worker5.log_lines(1) == ["cleaned up"]


def test_a_stopped_service_is_over_and_its_error_can_follow(worker5: WorkerProcess) -> None:
    instance = created(worker5, CALLBACK)
    instance.deliver()
    instance.stop(("cb", 7))
    assert worker5.log_lines(1) == [], "another run is not stopped"
    instance.stop(("cb", 1))
    assert worker5.log_lines(1) == ["cleaned up"]
    failed = step(instance.fail(("cb", 1), "too slow"))
    assert failed.event["type"] == "xstate.error.actor.cb"
    error = {"message": "too slow", "own": {"code": "service-lost"}}
    assert failed.event["error"] == {"$$statebacked": "Error", "value": error}
    assert step(instance.send("echo")).changed, "sends to it go nowhere"


def test_a_refusal_leaves_services_running(worker5: WorkerProcess) -> None:
    instance = created(worker5, CALLBACK)
    instance.deliver()
    assert isinstance(instance.send("bad"), Refusal)
    step(instance.send("later"))
    assert instance.hear() == {"type": "late"}
    step(instance.deliver())
    off = step(instance.send("off"))
    assert off.header["stops"] == ["cb"]
    assert worker5.said(1) == ["cleaned up"]


def test_a_refused_result_can_be_reported_as_an_error(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ initial: "a", context: { big: "", why: null }, states: { b: {}, a: { invoke: {
          id: "p", src: fromPromise(async () => "x".repeat(400_001)),
          onDone: { actions: assign({ big: ({ event }) => event.output }) },
          onError: { target: "b", actions: assign({ why: ({ event }) => event.error }) } } } } });""",
    )
    instance.hear()
    refusal = instance.deliver()
    assert isinstance(refusal, Refusal)
    assert refusal.code == "context-too-large"
    step(instance.fail(("p", 1), refusal.message))
    assert (instance.value, instance.context["why"]["value"]["message"]) == ("b", refusal.message)


def test_a_service_that_fails_to_start_is_over_at_once(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ initial: "a", context: {}, states: { b: {}, a: { invoke: [
          { id: "one", src: fromCallback(() => { throw new Error("broken") }), onError: "b" },
          { id: "two", src: fromCallback(() => {}) } ] } } });""",
    )
    assert [(w.item["service"], w.ends) for w in instance.waiting] == [(["one", 1], True)]
    after = step(instance.deliver())
    assert (after.value, after.header["stops"]) == ("b", ["two"])


KID = """const kid = createMachine({ id: "kid", initial: "a", states: {
  a: { entry: [say("kid in a"), sendParent({ type: "up" })],
    after: { 15: { actions: sendParent({ type: "tick" }) } },
    on: { ping: { actions: [say("pinged"), sendParent({ type: "pong" })] }, end: "z",
      never: { actions: raise({ type: "x" }, { delay: 3e9 }) }, x: { actions: sendParent({ type: "x" }) } } },
  z: { type: "final" } },
  output: () => ({ bye: 1 }) });
export default """

PARENT = """createMachine({ id: "m", initial: "on", context: { seen: [], bye: null },
  on: { "*": { actions: assign({ seen: ({ context, event }) => [...context.seen, event.type] }) } },
  states: { off: {}, on: { invoke: { id: "kid", src: kid, systemId: "boss",
      onDone: { target: "off", actions: assign({ bye: ({ event }) => event.output.bye }) } },
    on: { ask: { actions: sendTo("kid", { type: "ping" }) }, end: { actions: sendTo("kid", { type: "end" }) },
      never: { actions: sendTo("kid", { type: "never" }) },
      slow: { actions: sendTo("kid", { type: "ping" }, { delay: 5, id: "s" }) },
      quick: { actions: [sendTo("kid", { type: "ping" }, { delay: 5, id: "s" }), cancel("s")] },
      again: { target: "on", reenter: true },
      bad: { target: "on", reenter: true, actions: assign(() => { throw new Error("no") }) },
      by: { actions: sendTo(({ system }) => system.get("boss"), { type: "ping" }) } } } } });"""


def child(worker: WorkerProcess) -> Instance:
    assert worker.load(HEAD_KID + KID + PARENT)["t"] == "loaded"
    instance = Instance(worker)
    assert step(instance.create()).header["starts"] == ["kid"]
    step(instance.deliver())
    return instance


HEAD_KID = """
import { assign, cancel, createMachine, raise, sendParent, sendTo } from "xstate";
export const allowRead = () => true;
export const allowWrite = () => true;
const say = (...words) => () => console.log(...words);
"""


def test_a_child_machine_speaks_with_its_parent(worker5: WorkerProcess) -> None:
    instance = child(worker5)
    assert instance.hear() == {"type": "tick"}, "its own delay is native"
    step(instance.deliver())
    step(instance.send("ask"))
    step(instance.deliver())
    end = step(instance.send("end"))
    assert end.header["effects"]
    assert instance.waiting[0].ends
    done = step(instance.deliver())
    assert (done.value, instance.context["bye"]) == ("off", 1)
    assert instance.context["seen"] == ["up", "tick", "pong"]
    assert worker5.log_lines(1) == ["kid in a", "pinged"]


def test_a_delayed_send_to_a_child_stays_in_the_worker(worker5: WorkerProcess) -> None:
    instance = child(worker5)
    assert step(instance.send("quick")).timers == []
    slow = step(instance.send("slow"))
    assert slow.timers == []
    heard = [instance.hear()["type"] for _ in range(2)]
    assert sorted(heard) == ["pong", "tick"]
    assert worker5.log_lines(1) == ["kid in a", "pinged"]


def test_a_delay_of_weeks_in_a_child_does_not_fire_at_once(worker5: WorkerProcess) -> None:
    instance = child(worker5)
    step(instance.send("never"))
    assert instance.hear() == {"type": "tick"}


def test_a_system_id_moves_to_the_successor_and_back_when_refused(worker5: WorkerProcess) -> None:
    instance = child(worker5)
    step(instance.send("again"))
    step(instance.deliver())
    assert isinstance(instance.send("bad"), Refusal)
    step(instance.send("by"))
    assert [w.item["service"] for w in instance.waiting] == [["kid", 3]]
    assert worker5.said(1) == ["kid in a", "kid in a", "pinged"]


SPAWN = """setup({ actors: { named: fromCallback(({ receive, sendBack }) => {
    console.log("up");
    receive((event) => sendBack({ type: "got " + event.type }));
    return () => console.log("down");
  }) },
}).createMachine({ context: { ref: null, seen: [] },
  on: {
    assigned: { actions: assign({ ref: ({ spawn }) => spawn("named", { id: "s" }) }) },
    action: { actions: spawnChild("named", { id: "s" }) },
    inline: { actions: spawnChild(fromCallback(() => { console.log("inline up") }), { id: "in" }) },
    enqueued: { actions: enqueueActions(({ enqueue }) => { enqueue.spawnChild("named", { id: "s" }) }) },
    ref: { actions: sendTo(({ context }) => context.ref, { type: "hi" }) },
    name: { actions: sendTo("s", { type: "hi" }) },
    stop: { actions: stopChild("s") },
    both: { actions: [spawnChild("named", { id: "s" }), stopChild("s")] },
    "got *": { actions: () => {} },
    "*": { actions: assign({ seen: ({ context, event }) => [...context.seen, event.type] }) } } });"""


@pytest.mark.parametrize("how", ["assigned", "action", "enqueued"])
def test_spawned_children_are_services(worker5: WorkerProcess, how: str) -> None:
    instance = created(worker5, SPAWN)
    assert step(instance.send(how)).header["starts"] == ["s"]
    step(instance.send("name"))
    step(instance.deliver())
    assert instance.context["seen"] == ["got hi"]
    stop = step(instance.send("stop"))
    assert stop.header["stops"] == ["s"]
    assert worker5.log_lines(1) == ["up", "down"]


def test_a_reference_in_the_context_reaches_the_child_while_it_lives(worker5: WorkerProcess) -> None:
    instance = created(worker5, SPAWN)
    step(instance.send("assigned"))
    assert instance.context["ref"] == {"xstate$$type": 1, "id": "s"}
    step(instance.send("ref"))
    step(instance.deliver())
    assert instance.context["seen"] == ["got hi"]
    instance.stop(("s", 2))
    step(instance.send("ref"))
    assert not instance.waiting
    instance.drop()
    step(instance.send("ref"))
    assert not instance.waiting, (
        "a reference to a child that is over leads nowhere, not to the machine itself"
    )
    assert instance.context["ref"] == {"xstate$$type": 1, "id": "s"}


def test_a_child_that_starts_and_stops_in_one_step_never_runs(worker5: WorkerProcess) -> None:
    instance = created(worker5, SPAWN)
    both = step(instance.send("both"))
    assert (both.header["starts"], both.header["stops"]) == ([], [])
    assert worker5.log_lines(1) == []


def test_inline_logic_works(worker5: WorkerProcess) -> None:
    instance = created(worker5, SPAWN)
    assert step(instance.send("inline")).header["starts"] == ["in"]
    assert worker5.log_lines(1) == ["inline up"]


def test_children_without_an_id_are_services_of_their_own(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ context: { n: 0 }, on: { bad: { actions: assign(() => { throw new Error("no") }) },
          go: { actions: [1, 2].map((i) => spawnChild(fromCallback(({ sendBack }) => {
            console.log("up", i); setTimeout(() => sendBack({ type: "hi" }), 1);
            return () => console.log("down", i) }))) },
          hi: { actions: assign({ n: ({ context }) => context.n + 1 }) } } });""",
    )
    starts = step(instance.send("go")).header["starts"]
    assert len(set(starts)) == 2
    assert isinstance(instance.send("bad"), Refusal)
    for _ in range(2):
        assert instance.hear() == {"type": "hi"}
        step(instance.deliver())
    assert instance.context == {"n": 2}
    instance.stop(*sorted(instance.services))
    assert worker5.said(1) == ["up 1", "up 2", "down 1", "down 2"]


def test_a_send_to_a_lost_child_is_the_same_from_cache_and_store(worker5: WorkerProcess) -> None:
    instance = created(worker5, SPAWN)
    step(instance.send("action"))
    instance.drop()
    assert step(instance.send("name")).header["effects"]
    assert not instance.waiting


def test_a_service_that_sends_through_the_parents_reference_is_heard_as_itself(
    worker5: WorkerProcess,
) -> None:
    instance = created(
        worker5,
        """createMachine({ context: {}, invoke: { id: "p", input: ({ self }) => ({ parent: self }),
          src: fromPromise(async ({ input }) => { await 0; input.parent.send({ type: "hello" });
            setTimeout(() => input.parent.send({ type: "after the end" }), 1); }) },
          on: { hello: { actions: ({ self }) => setTimeout(() => self.send({ type: "lost" }), 1) } } });""",
    )
    assert instance.hear() == {"type": "hello"}
    assert instance.waiting[0].item["service"] == ["p", 1]
    assert instance.hear()["type"] == "xstate.done.actor.p"
    step(instance.deliver())
    while not any("lost was sent after" in line for line in worker5.log_lines(1)):
        pass
    assert not any("after the end" in line for line in worker5.log_lines(1))


def test_a_snapshot_subscription_reports_its_child(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ context: { n: null }, invoke: { id: "t", src: X.fromTransition((n, event) =>
          event.type === "add" ? n + 1 : n, 5),
          onSnapshot: { actions: assign({ n: ({ event }) => event.snapshot.context }) } },
          on: { add: { actions: sendTo("t", { type: "add" }) } } });""",
    )
    step(instance.deliver())
    assert instance.context["n"] == 5
    step(instance.send("add"))
    step(instance.deliver())
    assert instance.context["n"] == 6


def test_an_observable_is_heard(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ initial: "a", context: { n: [] }, states: { z: {}, a: { on: { n: { actions: assign(
          { n: ({ context, event }) => [...context.n, event.n] }) } }, invoke: { id: "o", onDone: "z",
          src: X.fromEventObservable(() => ({ subscribe(observer) { observer.next({ type: "n", n: 1 });
            setTimeout(() => { observer.next({ type: "n", n: 2 }); observer.complete() }, 1);
            return { unsubscribe() {} } } })) } } } });""",
    )
    instance.settle()
    assert (instance.value, instance.context) == ("z", {"n": [1, 2]})


def test_closing_an_activation_stops_its_services_silently(worker5: WorkerProcess) -> None:
    instance = created(worker5, CALLBACK)
    worker5.send({"t": "close", "a": 1})
    worker5.send({"t": "stop", "a": 1, "services": [("cb", 1)]})
    assert worker5.log_lines(1) == ["cleaned up"]
    assert isinstance(instance.create(), Step)


def test_a_result_that_was_not_taken_before_its_state_is_left_ends_with_it(worker5: WorkerProcess) -> None:
    instance = created(
        worker5,
        """createMachine({ initial: "a", on: { "*": { actions: say("heard") } }, states: {
          a: { on: { go: "b" } },
          b: { invoke: { id: "p", src: fromPromise(async () => 1) }, on: { leave: "a" } } } });""",
    )
    step(instance.send("go"))
    instance.hear()
    assert step(instance.send("leave")).header["stops"] == ["p"]
    assert isinstance(instance.deliver(), Refusal)
    assert worker5.said(1) == []
