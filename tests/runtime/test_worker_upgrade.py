"""The three parts of an upgrade in real workers: a state is left, mapped, and arrived in, for both majors."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.runtime.driver import WorkerProcess
from tests.runtime.host import Instance, Refusal, Step, steps_of

pytestmark = pytest.mark.worker

HEAD = """import { assign, createMachine } from "xstate";
export const allowRead = () => true;
export const allowWrite = () => true;
const ran = (word) => () => console.log(word);
export default createMachine("""

AFTER = {4: "xstate.after({delay})#{id}", 5: "xstate.after.{delay}.{id}"}


def after(major: int, delay: object, id: str) -> str:
    return AFTER[major].format(delay=delay, id=id)


class Upgrade:
    """Takes an instance from one worker through migrations into another."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.workers: list[WorkerProcess] = []

    def __enter__(self) -> "Upgrade":
        return self

    def __exit__(self, *failure: object) -> None:
        self._stack.close()

    def worker(self, major: int) -> WorkerProcess:
        self.workers.append(self._stack.enter_context(WorkerProcess(major)))
        return self.workers[-1]

    def leave(self, instance: Instance, timers: list[tuple[str, str]] | None = None) -> tuple[str, str]:
        """Its outline and context."""
        found = [(f"row {n}", timer[0]) for n, timer in enumerate(instance.timers)]
        instance.worker.send({"t": "leave", "n": 1}, [instance.snapshot, json.dumps(timers or found)])
        header, sections = instance.worker.receive("outlined", "stuck")
        assert header == {"t": "outlined", "n": 1}
        return sections[0], instance.context_text

    def migrate(self, code: str, state: tuple[str, str]) -> Any:  # Any: the mapped state, or the reason
        worker = self.worker(5)
        worker.send({"t": "load", "migration": True}, [code])
        answer = worker.receive("loaded", "unloadable")[0]
        assert answer["t"] == "loaded", answer
        worker.send({"t": "migrate", "n": 2}, list(state))
        header, sections = worker.receive("outlined", "stuck")
        return header["message"] if header["t"] == "stuck" else tuple(sections)

    def arrive(
        self, worker: WorkerProcess, state: tuple[str, str]
    ) -> Any:  # Any: (header, step), or the reason
        worker.send({"t": "arrive", "n": 3}, list(state))
        header, sections = worker.receive("arrived", "stuck")
        if header["t"] == "stuck":
            return str(header["message"])
        (step,) = steps_of(({"steps": [header["step"]]}, sections))
        return header, step

    def go_on(self, worker: WorkerProcess, step: Step, context: str) -> Instance:
        """The instance on its new version, restored from what was stored."""
        instance = Instance(worker)
        instance.seq, instance.value, instance.snapshot = 7, step.value, step.snapshot
        instance.context_text = context
        instance._has_to_restore = True
        return instance


@pytest.fixture
def upgrade() -> Iterator[Upgrade]:
    with Upgrade() as one:
        yield one


def created(worker: WorkerProcess, machine: str, context: object = None) -> Instance:
    answer = worker.load(HEAD + machine + ");")
    assert answer["t"] == "loaded", answer
    instance = Instance(worker)
    assert not isinstance(instance.create(context), Refusal)
    return instance


def loaded(worker: WorkerProcess, machine: str, selectors: list[list[str]] | None = None) -> WorkerProcess:
    answer = worker.load(HEAD + machine + ");", selectors or [])
    assert answer["t"] == "loaded", answer
    return worker


OLD = """{ predictableActionArguments: true, id: "m", initial: "idle", context: { n: 1 }, states: {
  idle: { after: { 1000: "gone" }, on: { go: "work" } },
  gone: {},
  work: { type: "parallel", on: { pause: "paused" }, after: { LONG: "gone" }, states: {
    left: { initial: "l1", states: { l1: { on: { next: "l2" } }, l2: {}, h: { type: "history" } } },
    right: { initial: "r1", states: { r1: { after: { 50: "r2" } }, r2: {} } },
    back: { type: "history", history: "deep" } } },
  paused: { on: { resume: "work.back" } } } }"""
OLD_OPTIONS = ", { delays: { LONG: 90000 } }"

NEW = """{ predictableActionArguments: true, id: "n", initial: "start", context: { total: 0 }, states: {
  start: { after: { 2000: "end", 60000: "end" }, on: { go: "busy" } },
  end: { type: "final" },
  busy: { type: "parallel", tags: ["busy"], entry: ran("entered"), on: { pause: "rest" }, states: {
    east: { initial: "e1", states: { e1: {}, e2: {}, e3: {} } },
    west: { initial: "w1", states: { w1: { after: { 50: "w2" } }, w2: {} } },
    back: { type: "history", history: "deep" } } },
  rest: { on: { resume: "busy.back" }, after: { LATE: "end" },
    invoke: { id: "s", src: "service" } } } }"""

MAP = """const names = { idle: ["start"], gone: ["end"], paused: ["rest"],
  "work.left.l1": ["busy", "east", "e1"], "work.left.l2": ["busy", "east", "e3"],
  "work.right.r1": ["busy", "west", "w1"], "work.right.r2": ["busy", "west", "w2"] };
export const upgradeState = (path, context) => { console.log(path.join(".")); return names[path.join(".")]; };
export const upgradeContext = (before, after, { n }) => ({ total: n, before, after, public: { n } });
"""


def old(upgrade: Upgrade, major: int) -> Instance:
    worker = upgrade.worker(major)
    if major == 4:
        return created(worker, OLD + OLD_OPTIONS)
    return created(worker, OLD + ").provide({ delays: { LONG: 90000 } }")


def new(upgrade: Upgrade, major: int, late: str = "() => 777") -> WorkerProcess:
    worker = upgrade.worker(major)
    options = f"delays: {{ LATE: {late} }}"
    if major == 4:
        return loaded(worker, NEW + f", {{ {options}, services: {{ service: async () => {{}} }} }}")
    return loaded(worker, NEW + f").provide({{ {options} }}")


MAJORS = [(4, 4), (5, 5), (4, 5), (5, 4)]


@pytest.mark.parametrize(("before", "now"), MAJORS)
def test_a_leaf_state_and_the_context_are_mapped(upgrade: Upgrade, before: int, now: int) -> None:
    instance = old(upgrade, before)
    state = upgrade.migrate(MAP, upgrade.leave(instance))
    header, step = upgrade.arrive(new(upgrade, now), state)
    assert (step.value, step.tags, step.header["done"]) == ("start", [], False)
    assert json.loads(step.context or "") == {
        "total": 1, "before": [["idle"]], "after": [["start"]], "public": {"n": 1}
    }  # fmt: skip
    assert step.public == {"n": 1}
    # One delay of the old state: it goes on as the first of the new state's; the other is set afresh.
    assert header["kept"] == [["row 0", after(now, 2000, "n.start")]]
    event = after(now, 60000, "n.start")
    assert step.timers == [("set", event, 60_000, {"type": event})]
    assert header["gone"] == []
    assert upgrade.workers[1].log_lines(-2) == ["idle"]


@pytest.mark.parametrize(("before", "now"), MAJORS)
def test_parallel_states_history_and_their_delays_are_mapped(upgrade: Upgrade, before: int, now: int) -> None:
    instance = old(upgrade, before)
    for event in ("go", "next"):
        assert not isinstance(instance.send(event), Refusal)
    assert instance.value == {"work": {"left": "l2", "right": "r1"}}
    target = new(upgrade, now)
    header, step = upgrade.arrive(target, upgrade.migrate(MAP, upgrade.leave(instance)))
    assert step.value == {"busy": {"east": "e3", "west": "w1"}}
    assert step.tags == ["busy"]
    # That of w1 goes on; the one of `work` has nothing to go on as.
    assert [send_id for _, send_id in header["kept"]] == [after(now, 50, "n.busy.west.w1")]
    assert len(header["gone"]) == 1
    assert step.timers == []
    assert target.log_lines() == [], "an upgrade performs no action"

    # Paused on the old version: what history remembers comes along.
    assert not isinstance(instance.send("pause"), Refusal)
    state = upgrade.migrate(MAP, upgrade.leave(instance))
    header, step = upgrade.arrive(target, state)
    assert step.value == "rest"
    assert step.timers[0][2] == 777
    again = upgrade.go_on(target, step, state[1])
    resumed = again.send("resume")
    assert isinstance(resumed, Step)
    assert resumed.value == {"busy": {"east": "e3", "west": "w1"}}
    assert resumed.header["stops"] == [], "the service of the new state was never started"


@pytest.mark.parametrize("major", [4, 5])
def test_shallow_history_and_nested_states_come_along(upgrade: Upgrade, major: int) -> None:
    machine = """{ predictableActionArguments: true, id: "m", initial: "a", context: {}, states: {
      a: { initial: "a1", on: { out: "b" }, states: {
        a1: { on: { deep: "a2" } },
        a2: { initial: "x", states: { x: { on: { y: "y" } }, y: {}, h2: { type: "history" } } },
        h: { type: "history" } } },
      b: { on: { back: "a.h", in: "a.a2.h2" } } } }"""
    moved = machine.replace("a2", "c2").replace('initial: "a1"', 'initial: "c2"').replace("a.", "k.")
    moved = moved.replace("  a: {", "  k: {").replace('initial: "a",', 'initial: "b",')
    instance = created(upgrade.worker(major), machine)
    for event in ("deep", "y", "out"):
        instance.send(event)
    code = """export const upgradeState = ([first, ...rest]) =>
      first === "b" ? ["b"] : ["k", ...rest.map((key) => key.replace("a2", "c2"))];"""
    target = loaded(upgrade.worker(major), moved)
    state = upgrade.migrate(code, upgrade.leave(instance))
    arrived = upgrade.arrive(target, state)
    assert not isinstance(arrived, str), arrived
    for event, value in (("back", {"k": {"c2": "x"}}), ("in", {"k": {"c2": "y"}})):
        step = upgrade.go_on(target, arrived[1], state[1]).send(event)
        assert isinstance(step, Step)
        assert step.value == value


def test_two_migrations_map_one_after_the_other(upgrade: Upgrade) -> None:
    instance = old(upgrade, 5)
    state = upgrade.leave(instance)
    state = upgrade.migrate("export const upgradeState = () => ['middle'];", state)
    assert json.loads(state[0])["timers"][0]["state"] == ["middle"]
    state = upgrade.migrate(MAP.replace("idle:", "middle:"), state)
    header, step = upgrade.arrive(new(upgrade, 5), state)
    assert step.value == "start"
    assert header["kept"] == [["row 0", after(5, 2000, "n.start")]]


def test_a_delay_of_the_same_word_is_the_same_delay(upgrade: Upgrade) -> None:
    machine = """{ id: "m", initial: "a", context: {}, states: {
      a: { after: { 10: "b", 20: "b", 30: "b" } }, b: {} } }"""
    wanted = """{ id: "m", initial: "a", context: {}, states: {
      a: { after: { 5: "b", 20: "b", 10: "b" } }, b: {} } }"""
    instance = created(upgrade.worker(5), machine)
    state = upgrade.migrate("export const upgradeState = (path) => path;", upgrade.leave(instance))
    header, step = upgrade.arrive(loaded(upgrade.worker(5), wanted), state)
    kept = dict(header["kept"])
    assert kept == {
        "row 0": after(5, 10, "m.a"), "row 1": after(5, 20, "m.a"), "row 2": after(5, 5, "m.a")
    }  # fmt: skip
    assert (header["gone"], step.timers) == ([], [])


def test_timers_that_are_no_delays_of_states_are_left_alone(upgrade: Upgrade) -> None:
    instance = old(upgrade, 5)
    outline, _ = upgrade.leave(instance, [("1.0", after(5, 1000, "m.idle")), ("1.1", "mine")])
    waiting = {"key": "1.0", "state": ["idle"], "delay": "1000"}
    assert json.loads(outline)["timers"] == [waiting]


def test_a_delay_above_the_leaf_stays_or_moves_with_it(upgrade: Upgrade) -> None:
    machine = """{ id: "m", initial: "a", context: {}, after: { 7: ".b" }, states: {
      a: { initial: "x", after: { 10: "b" }, states: { x: {} } }, b: {} } }"""
    wanted = """{ id: "m", initial: "k", context: {}, after: { 7: ".b" }, states: {
      k: { initial: "l", states: {
        l: { initial: "x", after: { 99: "#m.b" }, states: { x: {} } } } }, b: {} } }"""
    instance = created(upgrade.worker(5), machine)
    code = "export const upgradeState = () => ['k', 'l', 'x'];"
    state = upgrade.migrate(code, upgrade.leave(instance))
    header, step = upgrade.arrive(loaded(upgrade.worker(5), wanted), state)
    assert {send_id for _, send_id in header["kept"]} == {after(5, 7, "m"), after(5, 99, "m.k.l")}
    assert step.timers == []


def test_a_leaf_that_becomes_a_state_with_states_brings_its_delays_to_those(upgrade: Upgrade) -> None:
    machine = """{ id: "m", initial: "a", context: {}, after: { 7: ".b" }, states: {
      a: { after: { 10: "b", 20: "b", 30: "b" } }, b: {} } }"""
    wanted = """{ id: "m", initial: "k", context: {}, states: {
      k: { initial: "l", after: { 55: "b", 20: "b" }, states: { l: { after: { 66: "#m.b", 77: "#m.b" } } } },
      b: {} } }"""
    instance = created(upgrade.worker(5), machine)
    state = upgrade.migrate("export const upgradeState = () => ['k'];", upgrade.leave(instance))
    header, step = upgrade.arrive(loaded(upgrade.worker(5), wanted), state)
    assert dict(header["kept"]) == {
        "row 1": after(5, 55, "m.k"), "row 2": after(5, 20, "m.k"), "row 3": after(5, 66, "m.k.l")
    }  # fmt: skip
    assert header["gone"] == ["row 0"], "the machine's own delay goes nowhere"
    assert [timer[1] for timer in step.timers] == [after(5, 77, "m.k.l")]


def test_index_values_are_those_of_the_new_version(upgrade: Upgrade) -> None:
    instance = created(
        upgrade.worker(5), '{ id: "m", initial: "a", context: { who: "ann" }, states: { a: {} } }'
    )
    worker = loaded(
        upgrade.worker(5), '{ initial: "a", context: {}, states: { a: {} } }', [["by-owner", "$.owner"]]
    )
    code = """export const upgradeState = (path) => path;
    export const upgradeContext = (_1, _2, { who }) => ({ owner: who });"""
    _, step = upgrade.arrive(worker, upgrade.migrate(code, upgrade.leave(instance)))
    assert step.header["idx"] == [["by-owner", ["ann"]]]


SAME = "export const upgradeState = (path) => path;"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("export const upgradeState = () => { throw new Error('no way') };", "threw: no way"),
        ("export const upgradeState = () => 'start';", "gave a string"),
        ("export const upgradeState = () => {};", "gave nothing"),
        ("export const upgradeState = async (path) => path;", "gave a promise"),
        ("export const upgradeState = () => [1];", "gave an array that is not a path"),
        (SAME + "export const upgradeContext = () => { throw 'tired' };", "upgradeContext threw: tired"),
        (SAME + "export const upgradeContext = () => {};", "upgradeContext gave nothing"),
        (SAME + "export const upgradeContext = () => ({ n: 1n });", "is no JSON: "),
        (SAME + "export const upgradeContext = () => ({ s: 'x'.repeat(400_000) });", "would take 400"),
    ],
)  # fmt: skip
def test_a_migration_that_fails_says_why(upgrade: Upgrade, code: str, reason: str) -> None:
    answer = upgrade.migrate(code, upgrade.leave(old(upgrade, 5)))
    assert isinstance(answer, str), answer
    assert reason in answer


@pytest.mark.parametrize("major", [4, 5])
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("export const upgradeState = () => ['nowhere'];", 'no state ["nowhere"]'),
        ("export const upgradeState = () => ['constructor'];", "no state"),
        ("export const upgradeState = () => ['busy', 'back'];", 'no state ["busy","back"]'),
    ],
)
def test_a_state_that_the_new_version_lacks_is_named(
    upgrade: Upgrade, major: int, code: str, reason: str
) -> None:
    state = upgrade.migrate(code, upgrade.leave(old(upgrade, major)))
    answer = upgrade.arrive(new(upgrade, major), state)
    assert isinstance(answer, str)
    assert reason in answer


def test_two_leaves_cannot_become_states_that_exclude_each_other(upgrade: Upgrade) -> None:
    instance = old(upgrade, 5)
    instance.send("go")
    code = "export const upgradeState = (path) => path.includes('left') ? ['start'] : ['rest'];"
    answer = upgrade.arrive(new(upgrade, 5), upgrade.migrate(code, upgrade.leave(instance)))
    assert isinstance(answer, str)
    assert 'cannot be in ["start"] and in ["rest"] at once' in answer


def test_what_upgrade_state_does_to_the_context_nobody_sees(upgrade: Upgrade) -> None:
    code = """export const upgradeState = (path, context) => { context.n = 99; return path };"""
    instance = old(upgrade, 5)
    assert json.loads(upgrade.migrate(code, upgrade.leave(instance))[1]) == {"n": 1}


@pytest.mark.parametrize("major", [4, 5])
def test_a_delay_that_throws_is_the_reason(upgrade: Upgrade, major: int) -> None:
    instance = old(upgrade, major)
    for event in ("go", "pause"):
        instance.send(event)
    worker = new(upgrade, major, late="() => { throw new Error('what time is it') }")
    answer = upgrade.arrive(worker, upgrade.migrate(MAP, upgrade.leave(instance)))
    assert isinstance(answer, str)
    assert "what time is it" in answer


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("export const upgrade = 1;", "does not export a function upgradeState"),
        (SAME + "export const upgradeContext = {};", "upgradeContext that is not a function"),
    ],
)
def test_a_module_that_is_no_migration_is_refused(worker5: WorkerProcess, code: str, message: str) -> None:
    worker5.send({"t": "load", "migration": True}, [code])
    header, _ = worker5.receive("loaded", "unloadable")
    assert header["t"] == "unloadable"
    assert message in header["message"]


HOLDING = """{ predictableActionArguments: true, id: "m", initial: "idle",
  context: { at: new Date(5), scores: new Map([["a", new Set([1])]]) }, states: { idle: {} } }"""
TAKING = (
    """{ predictableActionArguments: true, id: "n", initial: "start", context: {}, states: { start: {} } }"""
)
OF_VALUES = """
export const upgradeState = (path, { at }) => [at.getTime() === 5 ? "start" : "nowhere"];
export const upgradeContext = (before, after, { at, scores }) =>
  ({ year: at.getUTCFullYear(), ids: [...scores.get("a")], public: { at, error: new TypeError("old") } });
"""


@pytest.mark.parametrize(("before", "now"), MAJORS)
def test_a_migration_gets_and_gives_dates_maps_and_errors(upgrade: Upgrade, before: int, now: int) -> None:
    instance = created(upgrade.worker(before), HOLDING)
    state = upgrade.migrate(OF_VALUES, upgrade.leave(instance))
    _, step = upgrade.arrive(loaded(upgrade.worker(now), TAKING, [["at", "$.public.at"]]), state)
    date = "1970-01-01T00:00:00.005Z"
    assert (step.value, step.header["idx"]) == ("start", [["at", [date]]])
    assert step.public == {"at": date, "error": {"name": "TypeError", "message": "old"}}
    stored = json.loads(step.context or "")
    assert (stored["year"], stored["ids"]) == (1970, [1])
    assert stored["public"]["at"] == {"$$statebacked": "Date", "value": date}
