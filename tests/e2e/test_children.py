"""Persistent children and messages on a real server, for both majors, as the examples have them."""

import re
import time
from collections.abc import Callable
from itertools import count

import pytest

from tests.e2e.asking import Asker, Json, answered, subscriber
from tests.e2e.processes import kill_workers
from tests.e2e.servers import ROOT, RealServer

XSTATE4 = "4.38.3"
NUMBERS = count()


@pytest.mark.parametrize(("folder", "suffix"), [("children", ""), ("children-xstate4", "4")])
def test_the_example_works_through_the_published_client(server: RealServer, folder: str, suffix: str) -> None:
    for machine in ("parcel", "shipment"):
        file = ROOT / "examples" / folder / f"{machine}.ts"
        server.smply("machines", "create", "--machine", machine + suffix, "--node", str(file))
    server.node("children.test.mjs", {"SHIPMENT": f"shipment{suffix}", "PARCEL": f"parcel{suffix}"})


# --- what the examples leave out -------------------------------------------------------------------

HEAD = """
export const allowRead = () => true;
export const allowWrite = ({ type, authContext, event }) => {
  if (event?.type === "secret") return authContext.stateBackedSender?.machineName === "family-parent";
  return true;
};
"""
# By major: a parent that invokes its child, and that child.
MACHINES = {
    4: (
        """import { actions, assign, createMachine, sendParent, sendTo } from "xstate";
const persistentInvocableSource = (descriptor) => ({ type: "statebacked.invoke", ...descriptor });
export default createMachine({ predictableActionArguments: true, id: "p", initial: "idle",
  context: { public: { log: [] } },
  on: { heard: { actions: assign({ public: ({ public: { log } }, { n }) => ({ log: [...log, n] }) }) },
    ask: { actions: sendTo("kid", { type: "ask" }) },
    tell: { actions: sendTo("kid", { type: "secret" }) } },
  states: { idle: { on: { go: "busy" } },
    busy: { on: { leave: "idle" }, invoke: { id: "kid", data: { n: (_, { n }) => n ?? 1 },
      src: persistentInvocableSource({ machineName: "family-child" }),
      onDone: { target: "over", actions: assign({ public: ({ public: { log } }, { data }) =>
        ({ log: [...log, data] }) }) },
      onError: { target: "failed", actions: assign({ public: ({ public: { log } }, { data }) =>
        ({ log: [...log, data.message] }) }) } } },
    over: {}, failed: {} } });""",
        """import { assign, createMachine, sendParent } from "xstate";
export default createMachine({ predictableActionArguments: true, id: "k", initial: "a",
  context: { n: 0 }, states: { a: {
    entry: sendParent(({ n }) => ({ type: "heard", n })),
    on: { ask: { actions: [assign({ n: ({ n }) => n + 1 }), sendParent(({ n }) => ({ type: "heard", n }))] },
      secret: { actions: sendParent({ type: "heard", n: "secret" }) }, end: "z" } },
    z: { type: "final", data: ({ n }) => ({ last: n }) } } });""",
    ),
    5: (
        """import { assign, createMachine, sendTo } from "xstate";
const add = (what) => assign({ public: ({ context, event }) =>
  ({ log: [...context.public.log, what(event)] }) });
export default createMachine({ id: "p", initial: "idle", context: { public: { log: [] } },
  on: { heard: { actions: add((event) => event.n) }, ask: { actions: sendTo("kid", { type: "ask" }) },
    tell: { actions: sendTo("kid", { type: "secret" }) } },
  states: { idle: { on: { go: "busy" } },
    busy: { on: { leave: "idle" }, invoke: { id: "kid", input: ({ event }) => ({ n: event.n ?? 1 }),
      src: { type: "statebacked.invoke", machineName: "family-child" },
      onDone: { target: "over", actions: add((event) => event.output) },
      onError: { target: "failed", actions: add((event) => event.error.message) } } },
    over: {}, failed: {} } });""",
        """import { assign, createMachine, sendParent } from "xstate";
export default createMachine({ id: "k", initial: "a", context: ({ input }) => ({ n: input.n }), states: { a: {
    entry: sendParent(({ context }) => ({ type: "heard", n: context.n })),
    on: { ask: { actions: [assign({ n: ({ context }) => context.n + 1 }),
        sendParent(({ context }) => ({ type: "heard", n: context.n }))] },
      secret: { actions: sendParent({ type: "heard", n: "secret" }) }, end: "z" } },
    z: { type: "final" } }, output: ({ context }) => ({ last: context.n }) });""",
    ),
}
VERSIONS = {4: XSTATE4, 5: "5.33.3"}


@pytest.fixture(scope="module", params=[4, 5])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> "Family":
    return Family(request.getfixturevalue("server"), request.param)


class Family:
    """Parents of one major, each with the child that it invokes."""

    def __init__(self, server: RealServer, major: int) -> None:
        self.admin = Asker(server)
        self.parent, self.child = (f"family{major}-{who}" for who in ("parent", "child"))
        for name, code in zip((self.parent, self.child), MACHINES[major], strict=True):
            text = HEAD.replace("family-parent", self.parent) + code.replace("family-child", self.child)
            self.admin.deploy(name, text, xstate=VERSIONS[major])

    def create(self) -> str:
        name = f"f{next(NUMBERS)}"
        answered(self.admin.create(self.parent, name))
        return name

    def send(self, name: str, event: str | Json) -> Json:
        return answered(self.admin.send(self.parent, name, event))

    def log(self, name: str) -> list[object]:
        log: list[object] = self.admin.admin_state(self.parent, name)["context"]["public"]["log"]
        return log

    def until(self, name: str, claim: Callable[[], bool]) -> None:
        """Looks whenever a subscriber hears of a new state of the parent."""
        with subscriber(self.admin) as listener:
            listener.subscribe(self.parent, name)
            listener.until(lambda _: claim())

    def child_of(self, name: str) -> str:
        """The child that spoke last, by the history of its parent."""
        actors = [t.get("actor") or {} for t in self.admin.transitions(self.parent, name)]
        senders = [actor["stateBackedSender"] for actor in actors if "stateBackedSender" in actor]
        assert senders[-1]["machineName"] == self.child
        child: str = senders[-1]["machineInstanceName"]
        return child


def test_an_invoked_child_speaks_is_spoken_to_and_ends(family: Family) -> None:
    name = family.create()
    family.send(name, {"type": "go", "n": 7})
    family.until(name, lambda: family.log(name) == [7])
    for n in range(8, 12):
        family.send(name, "ask")
        family.until(name, lambda n=n: family.log(name) == [*range(7, n + 1)])  # type: ignore[misc]
    child = family.child_of(name)
    answered(family.admin.send(family.child, child, "end"))
    family.until(name, lambda: family.log(name)[-1] == {"last": 11})
    assert family.admin.admin_state(family.parent, name)["state"] == "over"


def test_only_the_parent_may_say_what_allow_write_keeps_for_it(family: Family) -> None:
    name = family.create()
    family.send(name, "go")
    family.until(name, lambda: family.log(name) == [1])
    child = family.child_of(name)
    assert family.admin.send(family.child, child, "secret").status_code == 403
    forged = {"stateBackedSender": {"machineName": family.parent, "machineInstanceName": name}}
    forger = Asker(family.admin.server, act=forged)
    assert forger.send(family.child, child, "secret").status_code != 200
    family.send(name, "tell")
    family.until(name, lambda: family.log(name) == [1, "secret"])


def test_a_child_that_was_left_lives_on_unheard(family: Family) -> None:
    name = family.create()
    family.send(name, "go")
    family.until(name, lambda: family.log(name) == [1])
    left = family.child_of(name)
    family.send(name, "leave")
    answered(family.admin.send(family.child, left, "ask"))
    family.send(name, {"type": "go", "n": 5})
    family.until(name, lambda: family.log(name) == [1, 5])
    assert family.child_of(name) != left
    answered(family.admin.send(family.child, left, "end"))
    family.send(name, "ask")
    family.until(name, lambda: family.log(name) == [1, 5, 6])
    assert family.admin.admin_state(family.parent, name)["state"] == "busy"
    assert family.admin.admin_state(family.child, left)["done"] is True


def test_workers_that_die_between_lose_nothing(family: Family) -> None:
    name = family.create()
    family.send(name, "go")
    for n in range(1, 5):
        family.until(name, lambda n=n: family.log(name) == [*range(1, n + 1)])  # type: ignore[misc]
        kill_workers(family.admin.server)
        family.send(name, "ask")
    family.until(name, lambda: family.log(name) == [1, 2, 3, 4, 5])


def test_a_child_of_a_machine_that_is_not_there_is_an_error(server: RealServer) -> None:
    admin = Asker(server)
    for major, (parent, _) in MACHINES.items():
        machine = f"childless{major}"
        admin.deploy(
            machine, HEAD + parent.replace("family-child", "no-such-machine"), xstate=VERSIONS[major]
        )
        answered(admin.create(machine, "one"))
        answered(admin.send(machine, "one", "go"))
        with subscriber(admin) as listener:
            listener.subscribe(machine, "one")
            listener.until(lambda _, m=machine: admin.admin_state(m, "one")["state"] == "failed", 60)  # type: ignore[misc]


SPAWNS = {
    4: """import { assign, createMachine } from "xstate";
const spawn = (context, event) => ({ public: { ...context.public, kid: event.named === undefined
  ? globalThis.__statebacked_rt.spawn({ machineName: "MACHINE" })
  : globalThis.__statebacked_rt.spawn(
    { machineName: "MACHINE", machineInstanceName: event.named, machineVersionId: event.version },
    { name: "kid", context: { given: 7 } }) } });
export default createMachine({ predictableActionArguments: true, context: { public: {} },
  on: { spawn: { actions: assign(spawn) } } });""",
    5: """import { assign, createMachine } from "xstate";
const spawn = ({ context, event }) => ({ public: { ...context.public, kid: event.named === undefined
  ? globalThis.__statebacked_rt.spawn({ machineName: "MACHINE" })
  : globalThis.__statebacked_rt.spawn(
    { machineName: "MACHINE", machineInstanceName: event.named, machineVersionId: event.version },
    { name: "kid", context: { given: 7 } }) } });
export default createMachine({ context: { public: {} }, on: { spawn: { actions: assign(spawn) } } });""",
}
SPAWNED = """import { createMachine } from "xstate";
export default createMachine({ predictableActionArguments: true, initial: "STATE", context: { own: 1 },
  states: { STATE: {} } });"""
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.mark.parametrize("major", [4, 5])
def test_a_child_is_spawned_in_an_assign_under_its_name_and_version_or_a_uuid_and_the_current_one(
    server: RealServer, major: int
) -> None:
    admin, parent, child = Asker(server), f"spawns{major}", f"spawned{major}"
    xstate = VERSIONS[major]
    first = admin.deploy(child, HEAD + SPAWNED.replace("STATE", "first"), xstate=xstate)
    answered(admin.add_version(child, HEAD + SPAWNED.replace("STATE", "second"), xstate=xstate))
    admin.deploy(parent, HEAD + SPAWNS[major].replace("MACHINE", child), xstate=xstate)
    answered(admin.create(parent, "one"))

    event = {"type": "spawn", "named": "its-name", "version": first}
    made = answered(admin.send(parent, "one", event))["publicContext"]["kid"]
    assert (made["machineName"], made["machineInstanceName"]) == (child, "its-name")
    state = born(admin, child, "its-name")
    assert (state["state"], state["context"]) == ("first", {"own": 1, "given": 7})
    assert state["machineVersion"]["id"] == first

    name = answered(admin.send(parent, "one", "spawn"))["publicContext"]["kid"]["machineInstanceName"]
    assert UUID.fullmatch(name)
    state = born(admin, child, name)
    assert (state["state"], state["context"]) == ("second", {"own": 1})


def born(admin: Asker, machine: str, name: str) -> Json:
    """The administrator's view of an instance that comes into being soon."""
    until = time.monotonic() + 20
    while admin.get(machine, name).status_code == 404:
        assert time.monotonic() < until, f"{name} was never made"
        time.sleep(0.02)
    return admin.admin_state(machine, name)
