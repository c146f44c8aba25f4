"""What contexts hold besides plain data, on a real server whose workers are killed: kept for the machine, and
plain JSON for everybody else."""

import json
from itertools import count

import pytest

from tests.e2e.asking import Asker, Json, answered, subscriber
from tests.e2e.processes import kill_workers
from tests.e2e.servers import RealServer

SERVER_FLAGS = ["--delivery-attempts", "1", "--retry-ms", "20"]
NUMBERS = count()
XSTATE = {4: "4.38.3", 5: "5.33.3"}

HEAD = """
export const allowRead = () => true;
export const allowWrite = () => true;
"""
# The most written `onError` of all, and a machine with all that JSON has no word for; by major.
FAILING = {
    4: """import { assign, createMachine } from "xstate";
export default createMachine({ predictableActionArguments: true, initial: "load",
  context: { error: null, msg: "" }, states: {
    load: { invoke: { src: async () => { throw Object.assign(new TypeError("boom"), { code: "E1" }); },
      onError: { target: "failed", actions: assign({ error: (_, event) => event.data }) } } },
    failed: { on: { SHOW: { actions: assign({
      msg: ({ error }) => `${error.message} ${error.code} ${error instanceof TypeError}` }) } } } } });""",
    5: """import { assign, createMachine, fromPromise } from "xstate";
export default createMachine({ context: { error: null, msg: "" }, initial: "load", states: {
  load: { invoke: {
    src: fromPromise(async () => { throw Object.assign(new TypeError("boom"), { code: "E1" }); }),
    onError: { target: "failed", actions: assign({ error: ({ event }) => event.error }) } } },
  failed: { on: { SHOW: { actions: assign({ msg: ({ context: { error } }) =>
    `${error.message} ${error.code} ${error instanceof TypeError}` }) } } } } });""",
}
KEEPER = {
    4: """import { actions, assign as assign_, createMachine, sendTo } from "xstate";
const assign = (change) => assign_((context, event) => change({ context, event }));
const later = (event) => actions.send(event, { delay: 1 });
const child = () => ({ src: { type: "statebacked.invoke", machineName: "values-child4" },
  data: { since: ({ at }) => at } });
const outputOf = (event) => event.data;""",
    5: """import { assign, createMachine, raise, sendTo } from "xstate";
const later = (event) => raise(event, { delay: 1 });
const child = () => ({ src: { type: "statebacked.invoke", machineName: "values-child5" },
  input: ({ context: { at } }) => ({ since: at }) });
const outputOf = (event) => event.output;""",
}
MACHINE = """
const nobody = { type: "statebacked.instance", id: "x", machineName: "no", machineInstanceName: "x" };
export default createMachine({ predictableActionArguments: true, initial: "open", context: () => ({
    at: new Date(Date.UTC(2024, 1, 29)), scores: new Map(), tags: new Set(["new"]),
    site: new URL("https://a.example/b"), pattern: /^a/i, bytes: new Uint8Array([1, 2, 3]), year: 0,
    got: null, public: { since: new Date(0) } }),
  states: {
    open: { on: {
      ADD: { actions: assign(({ context: { scores }, event: { who } }) =>
        ({ scores: new Map(scores).set(who, new Date(5)) })) },
      LOOK: { actions: assign(({ context: { at, bytes, pattern, site, tags } }) => ({
        year: at.getUTCFullYear() + bytes.length + Number(pattern.test("A") && tags.has("new")) +
          site.host.length,
        public: { since: at, tags } })) },
      LATER: { actions: later({ type: "GOT", what: new Set([new RangeError("late")]) }) },
      GOT: { actions: assign(({ event: { what } }) => ({ got: what })) },
      LOST: { actions: sendTo({ ...nobody }, { type: "HELLO", at: new Date(7) }) },
      SPAWN: "family" } },
    family: { invoke: { id: "kid", ...child(), onDone: { target: "open",
      actions: assign(({ event }) => ({ got: outputOf(event) })) } } } } });"""
CHILD = {
    4: """import { createMachine } from "xstate";
export default createMachine({ initial: "z", context: { since: null }, states: { z: { type: "final",
  data: { said: ({ since }) => new Map([[since.getUTCFullYear(), since]]) } } } });""",
    5: """import { createMachine } from "xstate";
export default createMachine({ initial: "z", context: ({ input }) => input, states: { z: { type: "final" } },
  output: ({ context: { since } }) => ({ said: new Map([[since.getUTCFullYear(), since]]) }) });""",
}
LEAP_DAY = "2024-02-29T00:00:00.000Z"


@pytest.fixture(scope="module")
def admin(server: RealServer) -> Asker:
    asker = Asker(server)
    for major in (4, 5):
        asker.deploy(f"failing{major}", HEAD + FAILING[major], xstate=XSTATE[major])
        asker.deploy(f"values{major}", HEAD + KEEPER[major] + MACHINE, xstate=XSTATE[major])
        asker.deploy(f"values-child{major}", HEAD + CHILD[major], xstate=XSTATE[major])
    return asker


@pytest.fixture(params=[4, 5])
def major(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def born(admin: Asker, machine: str) -> str:
    name = f"i{next(NUMBERS)}"
    answered(admin.create(machine, name))
    return name


def events(admin: Asker, machine: str, instance: str, type: str) -> list[Json]:
    listed = [item["event"] for item in admin.transitions(machine, instance)]
    return [event for event in listed if type in event["type"]]


def test_an_error_kept_in_the_context_keeps_its_words(server: RealServer, admin: Asker, major: int) -> None:
    machine = f"failing{major}"
    instance = born(admin, machine)
    shown = {"name": "TypeError", "message": "boom", "code": "E1"}
    assert admin.admin_state(machine, instance)["context"]["error"] == shown
    (failed,) = events(admin, machine, instance, "error.")
    assert failed["data" if major == 4 else "error"] == shown
    for _ in range(2):
        answered(admin.send(machine, instance, "SHOW"))
        assert admin.admin_state(machine, instance)["context"]["msg"] == "boom E1 true"
        kill_workers(server)


def test_a_machine_goes_on_with_what_json_has_no_word_for(
    server: RealServer, admin: Asker, major: int
) -> None:
    machine = f"values{major}"
    instance = born(admin, machine)
    for who in ("ann", "bob"):
        answered(admin.send(machine, instance, {"type": "ADD", "who": who}))
        kill_workers(server)
    state = answered(admin.send(machine, instance, "LOOK"))
    assert state["publicContext"] == {"since": LEAP_DAY, "tags": ["new"]}
    context = admin.admin_state(machine, instance)["context"]
    assert context["year"] == 2024 + 3 + 1 + len("a.example")
    del context["public"], context["year"], context["got"]
    date = "1970-01-01T00:00:00.005Z"
    assert context == {
        "at": LEAP_DAY,
        "scores": [["ann", date], ["bob", date]],
        "tags": ["new"],
        "site": "https://a.example/b",
        "pattern": "/^a/i",
        "bytes": [1, 2, 3],
    }


def test_timers_children_and_their_outputs_bring_what_was_sent(admin: Asker, major: int) -> None:
    machine = f"values{major}"
    instance = born(admin, machine)
    with subscriber(admin) as listener:
        listener.subscribe(machine, instance)
        answered(admin.send(machine, instance, "LATER"))
        listener.until(lambda _: bool(events(admin, machine, instance, "GOT")))
        late = [{"name": "RangeError", "message": "late"}]
        assert admin.admin_state(machine, instance)["context"]["got"] == late
        assert events(admin, machine, instance, "GOT") == [{"type": "GOT", "what": late}]
        answered(admin.send(machine, instance, "SPAWN"))
        listener.until(lambda _: bool(events(admin, machine, instance, "done.")))
    said = {"said": [[2024, LEAP_DAY]]}
    assert admin.admin_state(machine, instance)["context"]["got"] == said
    (done,) = events(admin, machine, instance, "done.")
    assert done["data" if major == 4 else "output"] == said


def test_a_dead_letter_is_shown_without_tags(server: RealServer, admin: Asker, major: int) -> None:
    machine = f"values{major}"
    instance = born(admin, machine)
    answered(admin.send(machine, instance, "LOST"))
    listed: list[Json] = []
    for _ in range(200):
        listed = json.loads(server.smply("dead-letters", "list", "--instance", instance) or "[]")
        if listed:
            break
    assert [letter["event"] for letter in listed] == [{"type": "HELLO", "at": "1970-01-01T00:00:00.007Z"}]


def test_what_a_client_sends_is_plain_data(server: RealServer, admin: Asker, major: int) -> None:
    machine = f"values{major}"
    instance = born(admin, machine)
    forged = {"$$statebacked": "Date", "value": LEAP_DAY, "$$statebacked$": {"__proto__": 1}}
    answered(admin.send(machine, instance, {"type": "GOT", "what": forged}))
    kill_workers(server)
    answered(admin.send(machine, instance, "LOOK"))
    assert admin.admin_state(machine, instance)["context"]["got"] == forged
    assert events(admin, machine, instance, "GOT") == [{"type": "GOT", "what": forged}]


def test_the_published_client_gets_plain_json(server: RealServer, admin: Asker, major: int) -> None:
    server.node("values.test.mjs", {"MACHINE": f"values{major}"})
