"""The machines of tests/fidelity_machines on a real server, the worker killed whenever nothing of them runs:
after every step of their scripts they are where plain xstate is.

Time is real here, so their delays are stretched, and a step is taken when its time has come: what lies
between two steps of a script has room. A run in which the host was later than that proves nothing and is
done again, stretched further.
"""

import json
import os
import re
import sqlite3
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from deno import find_deno_bin  # type: ignore[import-untyped]

from tests.e2e.asking import Asker, Json, answered
from tests.e2e.processes import kill_workers
from tests.e2e.servers import E2E, ROOT, RealServer, real_server

MACHINES = ROOT / "tests" / "fidelity_machines"
SCRIPTS: dict[str, Json] = json.loads((MACHINES / "scripts.json").read_text())
XSTATE = {4: "4.38.3", 5: "5.33.3"}
CASES = [(major, name) for major in XSTATE for name in SCRIPTS]
STRETCHES = (35, 105)
ROOM_MS = 8  # at least so many milliseconds of a script lie between a timer and the step before or after it
PATIENCE_S = 5.0

DELAY = re.compile(r"(\bafter: \{ |\bdelay: |\bpause\(|\bsetTimeout\(.*, )(\d+)\b")
NAMED_DELAY = re.compile(r"(=> (?:context\.)?grace\b)(?= \})")


class Late(Exception):
    """The host was too late for the run to say anything."""


def stretched(code: str, stretch: int) -> str:
    """The machine with every delay that much longer."""
    code = DELAY.sub(lambda m: f"{m[1]}{int(m[2]) * stretch}", code)
    return NAMED_DELAY.sub(rf"\1 * {stretch}", code)


def shown_by_plain_xstate(major: int, name: str) -> list[Json]:
    """What plain xstate shows before the first step and after each, and if it `waits` for a timer then."""
    config = ROOT / "tests" / "runtime" / "fidelity" / f"deno{major}.json"
    allowed = ["--allow-read", "--allow-env=NODE_ENV"]
    done = subprocess.run(
        [find_deno_bin(), "run", "--quiet", *allowed, "--config", config, E2E / "oracle.ts", name],
        env={"DENO_DIR": str(ROOT / ".deno-dir"), **os.environ, "NODE_ENV": "production"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    shown: list[Json] = json.loads(done.stdout)
    return shown


class Run:
    """One script on one server."""

    def __init__(self, server: RealServer, name: str, stretch: int) -> None:
        self._admin = Asker(server)
        self._name = name
        self._stretch_s = stretch / 1000
        self._replies: list[Future[httpx.Response]] = []
        self._due_s = self._late_s = 0.0
        self.drops = 0
        self._database = server.data / "statebacked.sqlite3"

    def compare(self, expected: Sequence[Json]) -> None:
        """`expected`: what plain xstate shows before the first step and after each."""
        script = SCRIPTS[self._name]
        answered(self._admin.create(self._name, "one", script.get("context")))
        self._expect(expected[0], "creation")
        self._due_s = time.monotonic()
        with ThreadPoolExecutor(len(script["steps"])) as pool:
            for step, before, after in zip(script["steps"], expected, expected[1:], strict=False):
                if "send" in step:
                    self._replies.append(pool.submit(self._send, step["send"], self._due_s))
                elif before["waits"]:
                    self._due_s += step["advance"] * self._stretch_s
                    threading.Event().wait(max(0.0, self._due_s - time.monotonic()))
                self._expect(after, str(step))
                self._drop()
                if not after["waits"]:
                    self._due_s, self._late_s = time.monotonic(), 0.0
                self._note_late(self._due_s)
        for reply in self._replies:
            answered(reply.result())

    def _send(self, event: Json, due_s: float) -> httpx.Response:
        """An event that the host took long over may have been overtaken by a timer."""
        response = Asker(self._admin.server).send(self._name, "one", event)
        self._note_late(due_s)
        return response

    def _note_late(self, due_s: float) -> None:
        self._late_s = max(self._late_s, time.monotonic() - due_s)

    def _expect(self, expected: Json, what: str) -> None:
        """Wait until the instance is there."""
        wanted = {key: expected[key] for key in ("value", "context", "tags", "done")}
        until = time.monotonic() + PATIENCE_S
        while (view := self._view()) != wanted:
            if time.monotonic() > until:
                if self._late_s > ROOM_MS * self._stretch_s:
                    raise Late
                history = [t["event"]["type"] for t in self._admin.transitions(self._name, "one")]
                raise AssertionError(f"{self._name} after {what}:\n{view}, not\n{wanted}\n{history}")
            threading.Event().wait(0.005)

    def _view(self) -> Json:
        state = self._admin.admin_state(self._name, "one")
        return {
            "value": state["state"],
            "context": state["context"],
            "tags": sorted(state["tags"]),
            "done": state["done"],
        }

    def _drop(self) -> None:
        """Kill the worker, unless a service of the instance runs in it."""
        if self._services() != "[]":
            return
        for reply in self._replies:
            answered(reply.result(PATIENCE_S))
        self.drops += bool(kill_workers(self._admin.server))

    def _services(self) -> str:
        """As the record has them: nobody else sees them from outside."""
        with sqlite3.connect(f"file:{self._database}?mode=ro", uri=True) as database:
            (services,) = database.execute("SELECT services FROM instances WHERE name = 'one'").fetchone()
        database.close()
        return bytes(services).decode()


def compare(folder: Path, major: int, name: str, stretch: int) -> int:
    """How often the worker was dropped. Raises AssertionError and Late."""
    code = folder / "code" / f"{name}.ts"
    code.parent.mkdir(parents=True)
    code.write_text(stretched((MACHINES / str(major) / f"{name}.ts").read_text(), stretch))
    (code.parent / "package.json").write_text(json.dumps({"dependencies": {"xstate": XSTATE[major]}}))
    with real_server(folder / "data", ["--prewarmed", "0"]) as server:
        server.smply("machines", "create", "--machine", name, "--node", str(code), "--skip-validation")
        run = Run(server, name, stretch)
        run.compare(shown_by_plain_xstate(major, name))
        return run.drops


def compared(folder: Path, major: int, name: str) -> int:
    for stretch in STRETCHES:
        try:
            return compare(folder / f"x{stretch}", major, name, stretch)
        except Late:
            print(f"XState {major}, {name}: too late at {stretch} times")
    raise AssertionError(f"this host is too slow to run {name} even {STRETCHES[-1]} times as slowly")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], "Future[int]"]:
    """Some at once, since they wait for time to pass rather than for the processor; the longest first."""
    folder = tmp_path_factory.mktemp("fidelity")
    cases = sorted(CASES, key=lambda case: -len(SCRIPTS[case[1]]["steps"]))
    with ThreadPoolExecutor(4) as pool:
        return {
            (major, name): pool.submit(compared, folder / f"{major}-{name}", major, name)
            for major, name in cases
        }


@pytest.mark.parametrize(("major", "name"), CASES)
def test_a_machine_is_where_plain_xstate_is(
    runs: dict[tuple[int, str], "Future[int]"], major: int, name: str
) -> None:
    assert runs[major, name].result() >= 5


def test_every_delay_of_the_machines_is_stretched() -> None:
    """One that is missed would be over long before its time."""
    for major, name in CASES:
        code = (MACHINES / str(major) / f"{name}.ts").read_text()
        delays = re.findall(r"after: \{ \d|delay: |pause\(\d|setTimeout\(.*\d\)[,;]|delays: ", code)
        longer = re.findall(r"\d000\b|grace \* 1000\b", stretched(code, 1_000))
        assert len(longer) == len(delays), (major, name)
