"""The public SCXML tests on a real server, the worker killed after every settled event: each machine is where
plain xstate is, in its value, its context and whether it is done.

scxml/plain.mjs converts and plays them in plain xstate. What plain xstate itself fails is listed in
scxml/plain_fails.json and not counted; where it can be run at all it is compared all the same.
"""

import json
import re
import subprocess
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.e2e.asking import Asker, Json
from tests.e2e.processes import kill_workers
from tests.e2e.servers import E2E, ROOT, real_server

XSTATE: Final = "4.38.3"
LANES: Final = 4  # servers at once, each with one test at a time, since a drop takes all workers of a server
PATIENCE_S: Final = 10.0
FAILS: Final[dict[str, str]] = json.loads((E2E / "scxml" / "plain_fails.json").read_text())
# A variable without a value: JSON has no `undefined`, so it is gone when a service has run (ADR 0006).
DIFFERENT: Final = {"w3c-ecma/test223", "w3c-ecma/test224", "w3c-ecma/test225"}
PAGE: Final = ROOT / "docs" / "reference" / "statecharts.md"


def play_in_plain_xstate() -> list[Json]:
    done = subprocess.run(
        ["node", "scxml/plain.mjs"], cwd=E2E, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    played: list[Json] = json.loads(done.stdout)
    return played


def name_of(test: Json) -> str:
    return f"{test['group']}/{test['name']}"


def is_comparable(test: Json) -> bool:
    """It runs in plain xstate, and needs no event that comes before a timer fires: it could be late here."""
    steps = test["steps"]
    return test["code"] is not None and all(step["waited"]["waits"] is None for step in steps)


class Run:
    """One test on one server."""

    def __init__(self, test: Json, number: int) -> None:
        self.test = test
        self.waits_ms: float = sum(step["waited"]["ms"] for step in test["steps"])
        self.drops = 0
        self.difference: str | None = None
        self._machine = f"scxml{number}"

    def compare(self, admin: Asker) -> None:
        admin.deploy(self._machine, self.test["code"], xstate=XSTATE)
        shown = self.test["start"]
        self._expect(admin, shown, "its creation", admin.create(self._machine, "one"))
        for number, step in enumerate(self.test["steps"], 1):
            self.drops += bool(kill_workers(admin.server))
            if shown["waits"] is not None:
                self._wait(admin, step["waited"], number)
            shown = step["shown"]
            self._expect(admin, shown, f"event {number}", admin.send(self._machine, "one", step["send"]))

    def _wait(self, admin: Asker, waited: Json, number: int) -> None:
        """An event comes neither before its time nor before what time does."""
        threading.Event().wait(waited["ms"] / 1000)
        until = time.monotonic() + PATIENCE_S
        while (view := self._view(admin)) != seen_of(waited) and time.monotonic() < until:
            threading.Event().wait(0.01)
        self._compare(view, seen_of(waited), f"the time before event {number}")

    def _expect(self, admin: Asker, shown: Json, what: str, response: httpx.Response) -> None:
        if response.status_code != 200:
            self.difference = self.difference or f"after {what}: {response.text}"
            return
        reply, wanted = response.json(), seen_of(shown)
        if shown["waits"] is None:
            self._compare(self._view(admin), wanted, what)
        else:  # time goes on: only the reply is of this moment
            wanted["context"] = None
        view = {"value": reply["state"], "context": wanted["context"], "done": reply["done"]}
        self._compare(view, wanted, what)

    def _view(self, admin: Asker) -> Json:
        state = admin.admin_state(self._machine, "one")
        return {"value": state["state"], "context": state["context"], "done": state["done"]}

    def _compare(self, view: Json, wanted: Json, what: str) -> None:
        if view != wanted:
            self.difference = self.difference or f"after {what}: {view}, not {wanted}"


def seen_of(shown: Json) -> Json:
    return {key: shown[key] for key in ("value", "context", "done")}


@pytest.fixture(scope="module")
def played() -> list[Json]:
    """Every test of the package."""
    return play_in_plain_xstate()


@pytest.fixture(scope="module")
def runs(played: list[Json], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """The tests that can be compared, done."""
    runs = [Run(test, number) for number, test in enumerate(played) if is_comparable(test)]
    waiting = deque(sorted(runs, key=lambda run: -run.waits_ms))  # the longest first
    with ThreadPoolExecutor(LANES) as pool:
        folder = tmp_path_factory.mktemp("scxml")
        lanes = [pool.submit(run_all, folder / str(lane), waiting) for lane in range(LANES)]
        for lane in lanes:
            lane.result()
    return {name_of(run.test): run for run in runs}


def run_all(data: Path, waiting: "deque[Run]") -> None:
    with real_server(data, ["--prewarmed", "0"]) as server:
        while waiting:
            waiting.popleft().compare(Asker(server))


def test_each_machine_is_where_plain_xstate_is(runs: dict[str, Run]) -> None:
    differences = {name: run.difference for name, run in runs.items() if run.difference is not None}
    assert {name: text for name, text in differences.items() if name not in DIFFERENT} == {}
    assert differences.keys() >= DIFFERENT
    assert all(run.drops == len(run.test["steps"]) for run in runs.values())


def test_what_plain_xstate_fails_itself_is_listed(played: list[Json]) -> None:
    fails = {name_of(test): test["fails"] for test in played if test["fails"] is not None}
    assert fails.keys() == FAILS.keys()
    assert fails.keys() >= DIFFERENT
    for name, reason in fails.items():
        if ":" in reason:  # what follows is of the JavaScript engine
            assert reason.split(":")[0] == FAILS[name].split(":")[0], name
        else:
            assert reason == FAILS[name], name


def test_everything_that_plain_xstate_passes_is_counted(played: list[Json], runs: dict[str, Run]) -> None:
    passed = {name_of(test) for test in played if test["fails"] is None}
    assert passed <= runs.keys()


def test_the_page_has_the_counts(played: list[Json], runs: dict[str, Run]) -> None:
    counts: dict[str, list[int]] = {}
    for test in played:
        name = name_of(test)
        row = counts.setdefault(test["group"], [0, 0, 0, 0])
        compared = name in runs and name not in DIFFERENT
        column = 1 if test["fails"] is None else 2 if compared else 3
        row[0] += 1
        row[column] += 1
    counts["all"] = [sum(column) for column in zip(*counts.values(), strict=True)]
    lines = [line for line in PAGE.read_text().splitlines() if re.match(r"\| [\w+-]+( \| \d+){4} \|$", line)]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert {group: [int(count) for count in row] for group, *row in rows} == counts
