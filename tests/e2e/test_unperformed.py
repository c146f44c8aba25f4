"""kill -9 between the commit of a step and its performance: what was to be performed never is, each service
that was to start is told as lost, and what the machine had sent itself comes behind that.
"""

import os
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from deno import find_deno_bin  # type: ignore[import-untyped]

from tests.e2e.asking import Asker, Json, answered
from tests.e2e.servers import E2E, RealServer, real_server

FOLDER = E2E / "settling"
XSTATE = {4: "4.38.3", 5: "5.33.3"}
SERVICES = ["first", "second", "bell", "stream", "child"]
ALL = {"type": "ALL", "ms": 60_000, "every": 60_000}
ERRORS = {
    4: [f"error.platform.{name}" for name in SERVICES],
    5: [f"xstate.error.actor.{name}" for name in SERVICES],
}
DONE = {4: "done.invoke.first", 5: "xstate.done.actor.first"}
LOST = [f"{name} failed: service-lost" for name in SERVICES]
PATIENCE_S = 20.0


class Gate:
    """Lets a step be the last thing that a server or a worker does."""

    def __init__(self, folder: Path) -> None:
        self._trigger = folder / "trigger"
        self.deno = folder / "deno"
        command = f'"{sys.executable}" -I -S "{FOLDER / "gate.py"}" "{self._trigger}" "{find_deno_bin()}"'
        self.deno.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        self.deno.chmod(0o755)

    def shut(self, victim: str) -> None:
        """The next step that is to be performed kills the victim, "server" or "worker", instead."""
        self._trigger.with_suffix(".new").write_text(victim)
        os.replace(self._trigger.with_suffix(".new"), self._trigger)


def started(folder: Path, gate: Gate) -> AbstractContextManager[RealServer]:
    environment = {"STATEBACKED_DENO": str(gate.deno)}
    settings = ["--no-supervisor", "--settle-ms", "1000", "--log-level", "debug"]
    return real_server(folder / "data", settings, environment)


def wait_for(admin: Asker, log: list[str]) -> Json:
    until = time.monotonic() + PATIENCE_S
    while (state := admin.admin_state("stage", "one"))["context"]["log"] != log:
        assert time.monotonic() < until, f"{state['context']['log']}, not {log}"
        threading.Event().wait(0.02)
    return state


def said(server: RealServer) -> list[str]:
    """What the machine has written of what it performed."""
    words = (*(f"{name}: begins" for name in SERVICES), "all", "noted")
    return [word for line in server.log.read_text().splitlines() for word in words if f'"{word}"' in line]


def types_of(admin: Asker) -> list[str]:
    return [transition["event"]["type"] for transition in admin.transitions("stage", "one")]


@pytest.mark.parametrize("major", XSTATE)
def test_a_server_killed_before_it_performs_a_step_performs_it_never(tmp_path: Path, major: int) -> None:
    gate = Gate(tmp_path)
    with started(tmp_path, gate) as server:
        admin = Asker(server)
        admin.deploy("stage", FOLDER / f"stage{major}.js", xstate=XSTATE[major])
        answered(admin.create("stage", "one"))
        gate.shut("server")
        with pytest.raises(httpx.TransportError):
            admin.send("stage", "one", ALL)
        server.process.wait()
        assert said(server) == []

    with started(tmp_path, gate) as server:
        admin = Asker(server)
        state = wait_for(admin, [*LOST, "SAID"])  # nobody asks for it: what it sent itself is due
        assert state["tags"] == []
        assert types_of(admin)[1:] == ["ALL", *ERRORS[major], "SAID"]
        assert said(server) == []
        go_on(admin, major)


@pytest.mark.parametrize("major", XSTATE)
def test_a_worker_killed_before_it_performs_a_step_performs_it_never(tmp_path: Path, major: int) -> None:
    gate = Gate(tmp_path)
    with started(tmp_path, gate) as server:
        admin = Asker(server)
        admin.deploy("stage", FOLDER / f"stage{major}.js", xstate=XSTATE[major])
        answered(admin.create("stage", "one"))
        gate.shut("worker")
        assert answered(admin.send("stage", "one", ALL))["tags"] == ["busy"]  # as it was when they were lost
        wait_for(admin, [*LOST, "SAID"])
        assert types_of(admin)[1:] == ["ALL", *ERRORS[major], "SAID"]
        assert said(server) == []
        go_on(admin, major)


@pytest.mark.parametrize("major", XSTATE)
def test_a_timer_comes_behind_the_error_of_a_service_that_never_began(tmp_path: Path, major: int) -> None:
    gate = Gate(tmp_path)
    with started(tmp_path, gate) as server:
        admin = Asker(server)
        admin.deploy("stage", FOLDER / f"stage{major}.js", xstate=XSTATE[major])
        answered(admin.create("stage", "one"))
        answered(admin.send("stage", "one", {"type": "LATER", "ms": 1_000}))
        gate.shut("server")
        with pytest.raises(httpx.TransportError):
            admin.send("stage", "one", {"type": "SECOND", "ms": 60_000})
        server.process.wait()

    with started(tmp_path, gate) as server:
        admin = Asker(server)
        wait_for(admin, ["LATER", "second failed: service-lost", "RANG"])
        assert types_of(admin)[1:] == ["LATER", "SECOND", ERRORS[major][1], "RANG"]
        assert said(server) == []


def go_on(admin: Asker, major: int) -> None:
    """All is as if nothing had happened."""
    state = answered(admin.send("stage", "one", {"type": "FIRST", "ms": 50}))
    assert state["tags"] == []
    assert types_of(admin)[-2:] == ["FIRST", DONE[major]]
    wait_for(admin, [*LOST, "SAID", "first is over: 50"])
    assert said(admin.server) == ["first: begins"]
