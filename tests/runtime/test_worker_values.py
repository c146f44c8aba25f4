"""What a context may hold besides plain data: the same warm and after a restore, for both majors."""

import json
from typing import Any

import pytest

from statebacked.model.tagged import shown
from statebacked.model.values import Json
from tests.runtime.driver import WorkerProcess
from tests.runtime.host import Instance, Step

pytestmark = pytest.mark.worker

HEAD = """
import { assign as assign_, createMachine, %s } from "xstate";
export const allowRead = ({ context }) => seen.push(describe(context)) > 0;
export const allowWrite = ({ context, event }) => seen.push(describe(context ?? event)) > 0;
const seen = [];
%s
const describe = (value) => {
  if (value instanceof Error) {
    const { name, message, code, cause } = value;
    return `${value.constructor.name} ${name}: ${message} ${code ?? ""} ${describe(cause)}`;
  }
  if (value instanceof Date) return `Date ${+value}`;
  if (value instanceof URL) return `URL ${value.href}`;
  if (value instanceof RegExp) return `RegExp ${value}`;
  if (value instanceof Map) return `Map ${describe([...value])}`;
  if (value instanceof Set) return `Set ${describe([...value])}`;
  if (ArrayBuffer.isView(value)) return `${value.constructor.name} [${new Uint8Array(value.buffer)}]`;
  if (value instanceof ArrayBuffer) return `ArrayBuffer ${new Uint8Array(value)}`;
  if (Array.isArray(value)) return `[${value.map(describe)}]`;
  if (typeof value === "object" && value !== null) {
    return `{${Object.entries(value).map(([key, part]) => `${key}:${describe(part)}`)}}`;
  }
  return String(value);
};
export default createMachine(%s"""

# Each major, with its words for what the machines below need.
IMPORTS = {4: "actions", 5: "fromPromise, raise, sendTo"}
WORDS = {
    4: """
const { send, raise: raiseNow } = actions;
const assign = (change) => assign_((context, event) => change({ context, event }));
const toSelf = (make) => send((context, event) => make({ context, event }));
const later = (make) => send((context, event) => make({ context, event }), { delay: 1000, id: "later" });
const service = (run) => () => run();
const failure = (event) => event.data;
const fromPromise = 0;""",
    5: """
const assign = assign_;
const toSelf = (make) => sendTo(({ self }) => self, make);
const later = (make) => raise(make, { delay: 1000, id: "later" });
const service = (run) => fromPromise(run);
const failure = (event) => event.error;""",
}
MACHINE = """{
  predictableActionArguments: true,
  initial: "idle",
  context: ({ input } = {}) => ({ held: input?.held ?? null, said: "", public: {} }),
  states: {
    idle: { on: {
      HOLD: { actions: assign(() => ({ held: make(), public: { at: make().date } })) },
      LOOK: { actions: assign(({ context }) => ({ said: describe(context.held) })) },
      TAKE: { actions: assign(({ event }) => ({ held: event.what, said: describe(event.what) })) },
      CHANGE: { actions: assign(({ context }) => {
        const map = new Map(context.held.map);
        return { held: { ...context.held, map: map.set("more", new Date(1)) } };
      }) },
      SELF: { actions: toSelf(() => ({ type: "TAKE", what: make() })) },
      LATER: { actions: later(() => ({ type: "TAKE", what: make() })) },
      FAIL: "failing",
      SEEN: { actions: assign(() => ({ said: seen.splice(0) })) },
    } },
    failing: { invoke: { id: "s", src: service(async () => { throw problem(); }), onError: {
      target: "idle", actions: assign(({ event }) => ({ held: failure(event) })) } } },
  },
});
function problem() {
  return Object.assign(new TypeError("boom", { cause: new Date(7) }), { code: "E_BOOM" });
}
function make() {
  return {
    date: new Date(5), map: new Map([[new Date(6), new Set([problem()])]]), url: new URL("http://a/b"),
    pattern: /x/g, floats: new Float64Array([1, NaN]), buffer: new Uint8Array([1, 2]).buffer,
    error: problem(),
  };
}"""
PROBLEM = "TypeError TypeError: boom E_BOOM Date 7"
BYTES = "0,0,0,0,0,0,240,63,0,0,0,0,0,0,248,127"
HELD = (
    f"{{date:Date 5,map:Map [[Date 6,Set [{PROBLEM}]]],url:URL http://a/b,pattern:RegExp /x/g,"
    f"floats:Float64Array [{BYTES}],buffer:ArrayBuffer 1,2,error:{PROBLEM}}}"
)


@pytest.fixture(params=[4, 5])
def worker(request: pytest.FixtureRequest) -> Any:  # Any: a generator of workers
    with WorkerProcess(request.param) as running:
        yield running


@pytest.fixture(params=["warm", "cold"])
def is_cold(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "cold")


def born(worker: WorkerProcess, machine: str = MACHINE) -> Instance:
    words, imports = WORDS[worker.major], IMPORTS[worker.major]
    answer = worker.load(HEAD % (imports, words, machine))
    assert answer["t"] == "loaded", answer
    instance = Instance(worker)
    taken(instance.create())
    return instance


def taken(answer: object) -> Step:
    assert isinstance(answer, Step), answer
    assert answer.changed
    return answer


def said(instance: Instance, *, is_cold: bool) -> str:
    """What the machine finds in its context at the next event."""
    if is_cold:
        instance.drop()
    taken(instance.send("LOOK"))
    return str(instance.context["said"])


def test_a_context_keeps_what_it_holds(worker: WorkerProcess, is_cold: bool) -> None:
    instance = born(worker)
    taken(instance.send("HOLD"))
    assert said(instance, is_cold=is_cold) == HELD
    taken(instance.send("CHANGE"))
    assert "Map [[Date 6,Set" in said(instance, is_cold=is_cold)
    assert said(instance, is_cold=is_cold).count("[more,Date 1]") == 1


def test_the_context_is_not_written_again_when_a_restored_one_stays(worker: WorkerProcess) -> None:
    instance = born(worker)
    taken(instance.send("HOLD"))
    said(instance, is_cold=True)
    instance.drop()
    assert taken(instance.send("LOOK")).context is None


def test_the_error_of_a_service_keeps_its_words(worker: WorkerProcess, is_cold: bool) -> None:
    instance = born(worker)
    taken(instance.send("FAIL"))
    instance.settle()
    assert said(instance, is_cold=is_cold) == PROBLEM


def test_an_event_to_itself_brings_what_was_sent(worker: WorkerProcess, is_cold: bool) -> None:
    instance = born(worker)
    taken(instance.send("SELF"))
    if is_cold:
        waiting = [*instance.waiting]
        instance.drop()
        instance.waiting.extend(waiting)
    taken(instance.deliver())
    assert instance.context["said"] == HELD


def test_a_delayed_event_brings_what_was_sent(worker: WorkerProcess, is_cold: bool) -> None:
    instance = born(worker)
    taken(instance.send("LATER"))
    if is_cold:
        instance.drop()
    taken(instance.fire(instance.timers[0][0]))
    assert instance.context["said"] == HELD


def test_a_message_of_another_instance_brings_what_was_sent(worker: WorkerProcess) -> None:
    instance = born(worker)
    date = {"$$statebacked": "Date", "value": "1970-01-01T00:00:00.005Z"}
    taken(instance.message({"type": "TAKE", "what": date}, "m", "other"))
    assert instance.context["said"] == "Date 5"


def test_a_client_cannot_forge_what_a_machine_keeps(worker: WorkerProcess, is_cold: bool) -> None:
    instance = born(worker)
    forged = {"$$statebacked": "Date", "value": "1970-01-01T00:00:00.005Z", "$$statebacked$": [1]}
    taken(instance.send({"type": "TAKE", "what": forged}))
    words = "{$$statebacked:Date,value:1970-01-01T00:00:00.005Z,$$statebacked$:[1]}"
    assert instance.context["said"] == words
    assert said(instance, is_cold=is_cold) == words
    other = Instance(worker, 2, "other")
    taken(other.create({"held": forged}))
    assert said(other, is_cold=is_cold) == words


def test_authorizers_see_what_guards_see(worker: WorkerProcess, is_cold: bool) -> None:
    instance = born(worker)
    taken(instance.send("HOLD"))
    taken(instance.send("SEEN"))
    if is_cold:
        instance.drop()
        base = [instance.snapshot, instance.context_text]
    else:
        base = []
    header = {"t": "read", "n": 7, "a": 0 if is_cold else instance.a, "seq": instance.seq, "name": "i"}
    worker.send({**header, "base": is_cold, "auths": 1}, [*base, "{}"])
    assert worker.receive("readable")[0]["ok"] == [True]
    item = {"k": "event", "source": "client", "auth": True}
    answer = instance._one(item, ['{"type":"SEEN"}', "{}"])
    taken(answer)
    assert len(instance.context["said"]) == 2
    assert all(f"held:{HELD}" in words for words in instance.context["said"])


def test_readers_get_plain_json(worker: WorkerProcess) -> None:
    instance = born(worker)
    step = taken(instance.send("HOLD"))
    assert step.public == {"at": "1970-01-01T00:00:00.005Z"}
    taken(instance.send("FAIL"))
    event = instance.hear()
    problem = {"name": "TypeError", "message": "boom", "code": "E_BOOM", "cause": "1970-01-01T00:00:00.007Z"}
    plain = json.loads(shown(Json(json.dumps(event).encode())))
    assert plain["data" if worker.major == 4 else "error"] == problem


def test_indexes_find_what_readers_see(worker: WorkerProcess) -> None:
    machine = (
        """{ context: { at: new Date(5), tags: new Map([["a", new Set(["x", "y"])]]) }, on: { GO: {} } });"""
    )
    words, imports = WORDS[worker.major], IMPORTS[worker.major]
    selectors = [["at", "$.at"], ["tags", "$.tags[*][1]"], ["names", "$.tags[*][0]"]]
    assert worker.load(HEAD % (imports, words, machine), selectors)["t"] == "loaded"
    step = taken(Instance(worker).create())
    assert step.header["idx"] == [
        ["at", ["1970-01-01T00:00:00.005Z"]],
        ["tags", ["x", "y"]],
        ["names", ["a"]],
    ]


def test_a_context_of_the_configuration_is_one_for_each_instance(worker: WorkerProcess) -> None:
    """Even where the machine changes a Map in place."""
    machine = """{ initial: "a", context: { map: new Map() }, states: { a: { entry: assign(({ context }) => {
      context.map.set("n", (context.map.get("n") ?? 0) + 1);
      return { size: context.map.get("n") };
    }) } } });"""
    instance = born(worker, machine)
    other = Instance(worker, 2, "other")
    taken(other.create())
    assert [instance.context["size"], other.context["size"]] == [1, 1]


LOSSY = """{ context: () => ({ limits: { max: Infinity, list: [NaN, () => 1] }, user: undefined,
      basket: new (class Basket extends Map {})(), at: new (class Money { amount = 1; })(), text: "a\\ud800",
      fine: new Date(0) }),
  on: { GO: { actions: assign(() => ({ n: Math.random() })) } } });"""


def test_what_is_lost_is_told_once(worker: WorkerProcess) -> None:
    instance = born(worker, LOSSY)
    other = Instance(worker, 2, "other")
    taken(other.create())
    taken(instance.send("GO"))
    lines = [line.split(" (see ")[0] for line in worker.log_lines(1)]
    assert sorted(lines) == [
        "context.at is an instance of Money and is stored as a plain object",
        "context.basket is an instance of Basket and is stored as Map",
        "context.limits.list[] is NaN and is stored as null",
        "context.limits.list[] is a function and is stored as null",
        "context.limits.max is Infinity and is stored as null",
        "context.text holds half of a character, which is stored as U+FFFD",
        "context.user is undefined and is left out when stored",
    ]
    assert worker.log_lines(2) == []


def test_what_has_no_end_is_refused_with_its_reason(worker: WorkerProcess) -> None:
    machine = """{ context: { a: 1 }, on: {
      CYCLE: { actions: assign(() => { const m = new Map(); m.set("m", m); return { m }; }) },
      BIG: { actions: assign(() => ({ m: new Map([["n", 1n]]) })) },
      LONG: { actions: assign(() => ({ m: new Uint8Array(400_000) })) },
      DEEP: { actions: assign(() => {
        let d = 1;
        for (let n = 0; n < 50; n++) d = new Map([["d", d]]);
        return { d };
      }) },
    } });"""
    instance = born(worker, machine)
    answers = [instance.send(type) for type in ("CYCLE", "BIG", "LONG", "DEEP")]
    assert not any(isinstance(answer, Step) for answer in answers)
    reasons = [(answer.code, answer.message) for answer in answers if not isinstance(answer, Step)]
    assert reasons == [
        ("machine-error", "a value is nested deeper than 128, or holds itself"),
        ("machine-error", "Do not know how to serialize a BigInt"),
        ("context-too-large", "the context would take 533389 bytes of JSON; 400000 may be"),
        ("machine-error", "a value is nested deeper than 128, or holds itself"),
    ]
    assert json.loads(instance.context_text) == {"a": 1}


def test_references_inside_of_maps_sets_and_errors_are_made_again(worker5: WorkerProcess) -> None:
    machine = """{ context: ({ self }) => ({ said: "", map: new Map([["self", self]]), set: new Set([self]),
        error: new Error("x", { cause: self }) }), on: { LOOK: { actions: assign(({ context, self }) =>
      ({ said: [context.map.get("self"), [...context.set][0], context.error.cause]
        .map((one) => one === self).join() })) } } });"""
    instance = born(worker5, machine)
    for is_cold in (False, True):
        if is_cold:
            instance.drop()
        instance.send("LOOK")
        assert instance.context["said"] == "true,true,true"


def test_built_ins_that_machine_code_replaces_are_not_asked(worker: WorkerProcess) -> None:
    machine = """{ context: { map: new Map([["a", new Date(5)]]), error: new Error("x") }, on: {
      BREAK: { actions: assign(() => {
        for (const [of, keys] of [[Map, ["forEach", "entries"]], [Date, ["getTime", "toISOString"]]]) {
          for (const key of keys) of.prototype[key] = () => "broken";
        }
        JSON.stringify = JSON.parse = Error.isError = () => "broken";
        return { n: 1 };
      }) },
      NEXT: { actions: assign(({ context }) => ({ n: context.n + 1 })) },
    } });"""
    instance = born(worker, machine)
    before = instance.context
    taken(instance.send("BREAK"))
    taken(instance.send("NEXT"))
    assert instance.context == {**before, "n": 2}
