"""Services on a real server that settles for a second: several at once, events while they run, the deadline,
workers and servers that die. After every step a machine is where the oracle is, and so is what its code did.

settling/oracle.ts plays settling/scripts.json on plain xstate in virtual time. Here time is real: a run for
which the host was too slow proves nothing and is done again, with all times, the deadline too, three times as
long.
"""

import json
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import httpx
import pytest
from deno import find_deno_bin  # type: ignore[import-untyped]

from tests.e2e.asking import Asker, Json, answered
from tests.e2e.processes import kill_workers
from tests.e2e.servers import E2E, ROOT, RealServer, start_server

FOLDER: Final = E2E / "settling"
SCRIPTS: Final[list[str]] = list(json.loads((FOLDER / "scripts.json").read_text()))
XSTATE: Final = {4: "4.38.3", 5: "5.33.3"}
CASES: Final = [(major, script) for major in XSTATE for script in SCRIPTS]
STRETCHES: Final = (1, 3)
LANES_PER_MAJOR: Final = 2
MACHINE: Final = "stage"
ROOM_S: Final = 0.05  # at least so much lies between what time does and the step before or after it
PATIENCE_S: Final = 8.0


class Late(Exception):
    """The host was too late for the run to say anything."""


def play_in_plain_xstate(major: int, stretch: int) -> dict[str, Json]:
    """Of each script its steps and what is shown before the first and after each."""
    config = ROOT / "tests" / "runtime" / "fidelity" / f"deno{major}.json"
    allowed = ["--allow-read", "--allow-env=NODE_ENV"]
    done = subprocess.run(
        [find_deno_bin(), "run", "--quiet", *allowed, "--config", config, FOLDER / "oracle.ts", str(stretch)],
        env={"DENO_DIR": str(ROOT / ".deno-dir"), **os.environ, "NODE_ENV": "production"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    played: dict[str, Json] = json.loads(done.stdout)
    return played


class Stage:
    """A server with the machine of one major, that may be killed and comes back."""

    def __init__(self, folder: Path, major: int, stretch: int) -> None:
        self.data = folder / "data"
        self.played = play_in_plain_xstate(major, stretch)
        self._settings = ["--settle-ms", str(1_000 * stretch), "--prewarmed", "0", "--log-level", "debug"]
        self._said: list[str] = []
        self._read_to = 0
        self._start()
        self.admin.deploy(MACHINE, FOLDER / f"stage{major}.js", xstate=XSTATE[major])

    def _start(self) -> None:
        self.server: RealServer = start_server(self.data, self._settings)
        self.admin = Asker(self.server)

    def kill(self) -> None:
        self.server.stop(signal.SIGKILL)
        self._start()

    def close(self) -> None:
        self.server.stop(signal.SIGKILL)

    def said(self) -> list[str]:
        """What machine code has written to its console."""
        with self.server.log.open("rb") as log:
            log.seek(self._read_to)
            for line in log:
                if not line.endswith(b"\n"):
                    break
                self._read_to += len(line)
                told = json.loads(line)
                if (told["event"], told.get("stream")) == ("machine", "stdout"):
                    self._said.append(told["line"])
        return self._said


class Scene:
    """One script on one stage."""

    def __init__(self, stage: Stage, script: str, stretch: int) -> None:
        self._stage = stage
        self._instance = f"i{SCRIPTS.index(script)}"
        self._steps: Sequence[Json] = stage.played[script]["steps"]
        self._shown: Sequence[Json] = stage.played[script]["shown"]
        self._script = script
        self._room_s = ROOM_S * stretch
        self._replies: list[Future[httpx.Response]] = []
        self._begun_s = 0.0  # when the time of the oracle was 0
        self._late_s = 0.0
        self._said_before = len(stage.said())
        self._notes: list[str] = []

    def play(self) -> None:
        """Raises AssertionError and Late."""
        answered(self._stage.admin.create(MACHINE, self._instance))
        self._expect(self._shown[0], "creation")
        self._begun_s = time.monotonic()
        with ThreadPoolExecutor(len(self._steps)) as pool:
            for step, shown in zip(self._steps, self._shown[1:], strict=True):
                if not self._wait_for(step, shown):
                    self._do(step, pool)
                self._expect(shown, str(step))
                self._note_time(step, shown)
                if not shown["runs"]:
                    self._answer_all()
                    kill_workers(self._stage.server)

    def _wait_for(self, step: Json, shown: Json) -> bool:
        if "advance" in step:
            due_s = self._begun_s + shown["now"] / 1000
            threading.Event().wait(max(0.0, due_s - time.monotonic()))
        return "advance" in step

    def _do(self, step: Json, pool: ThreadPoolExecutor) -> None:
        match step:
            case {"send": event}:
                asker = Asker(self._stage.server)
                self._replies.append(pool.submit(asker.send, MACHINE, self._instance, event))
            case {"settle": True}:
                self._answer_all()
            case {"crash": "worker"}:
                assert kill_workers(self._stage.server) == 1
            case {"crash": "server"}:
                self._stage.kill()
                self._replies.clear()  # nobody answers them any more
            case _:
                raise AssertionError(step)

    def _answer_all(self) -> None:
        for reply in self._replies:
            answered(reply.result(PATIENCE_S))
        self._replies.clear()

    def _note_time(self, step: Json, shown: Json) -> None:
        """While nothing runs and no timer waits, time does not matter; nor how late all has settled."""
        late_s = time.monotonic() - self._begun_s - shown["now"] / 1000
        if "settle" in step or not (shown["runs"] or shown["waits"]):
            self._begun_s += late_s
        else:
            self._late_s = max(self._late_s, late_s)

    def _expect(self, shown: Json, what: str) -> None:
        """Wait until the instance is there, and its code has done what it did there."""
        self._notes += shown["notes"]
        wanted = {key: shown[key] for key in ("value", "context", "tags", "done")}
        until = time.monotonic() + PATIENCE_S
        while self._view() != wanted or self._stage.said()[self._said_before :] != self._notes:
            if time.monotonic() > until:
                said = self._stage.said()[self._said_before :]
                text = f"{self._script}, after {what}:\n{self._view()}\nnot\n{wanted}\n{said}"
                if self._late_s > self._room_s:
                    raise Late(f"{self._late_s * 1000:.0f} ms too late: {text}")
                raise AssertionError(text)
            threading.Event().wait(0.01)

    def _view(self) -> Json:
        state = self._stage.admin.admin_state(MACHINE, self._instance)
        return {
            "value": state["state"],
            "context": state["context"],
            "tags": sorted(state["tags"]),
            "done": state["done"],
        }


class Lane:
    """One script after the other on one stage, each stretch in its turn."""

    def __init__(self, folder: Path, major: int) -> None:
        self._folder = folder
        self._major = major
        self.outcomes: dict[str, Exception | None] = {}

    def play(self, waiting: "deque[str]") -> None:
        for stretch in STRETCHES:
            stage = Stage(self._folder / f"x{stretch}", self._major, stretch)
            late: deque[str] = deque()
            try:
                while waiting:
                    script = waiting.popleft()
                    try:
                        Scene(stage, script, stretch).play()
                        self.outcomes[script] = None
                    except Late as failure:
                        late.append(script)
                        self.outcomes[script] = failure
                    except Exception as failure:  # of this script: the others go on
                        self.outcomes[script] = failure
            finally:
                stage.close()
            waiting = late
            if not waiting:
                return


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], Exception | None]:
    """Some at once, since they wait for time to pass rather than for the processor."""
    folder = tmp_path_factory.mktemp("settling")
    found: dict[tuple[int, str], Exception | None] = {}
    with ThreadPoolExecutor(LANES_PER_MAJOR * len(XSTATE)) as pool:
        lanes = []
        for major in XSTATE:
            waiting = deque(SCRIPTS)
            for n in range(LANES_PER_MAJOR):
                lane = Lane(folder / f"{major}-{n}", major)
                lanes.append((major, lane, pool.submit(lane.play, waiting)))
        for major, lane, done in lanes:
            done.result()
            found |= {(major, script): outcome for script, outcome in lane.outcomes.items()}
    return found


@pytest.mark.parametrize(("major", "script"), CASES)
def test_a_machine_is_where_the_oracle_is(
    outcomes: dict[tuple[int, str], Exception | None], major: int, script: str
) -> None:
    outcome = outcomes[major, script]
    if outcome is not None:
        raise outcome
