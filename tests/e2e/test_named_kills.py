"""kill -9 of the server or of a worker at a named point of an event: what is lost, and what never is.

| point | the frame that never arrives | then |
|---|---|---|
| computing | `compute` to the worker | the event has not happened |
| computed | `step` from the worker | the event has not happened |
| committed | `perform` to the worker | it has happened; its service never ran: its error comes first |
| performed | `performed` from the worker | it has happened; its service is lost: its error comes first |
| answered | `inside` from the worker | it has happened; its service's answer is lost: its error comes first |
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from deno import find_deno_bin  # type: ignore[import-untyped]

from tests.e2e.asking import Asker, answered
from tests.e2e.servers import E2E, real_server

PATIENT = "patient"


@dataclass(frozen=True, slots=True)
class Point:
    name: str
    direction: str
    frame: str
    has_happened: bool


POINTS = (
    Point("computing", "in", "compute", has_happened=False),
    Point("computed", "out", "step", has_happened=False),
    Point("committed", "in", "perform", has_happened=True),
    Point("performed", "out", "performed", has_happened=True),
    Point("answered", "out", "inside", has_happened=True),
)
WORK = {"type": "work", "ms": 20}


def wrapper(folder: Path, victim: str, point: Point) -> dict[str, str]:
    """The environment of a server whose workers start behind tests/e2e/frame_killer.py."""
    folder.mkdir()
    killer = [sys.executable, str(E2E / "frame_killer.py"), str(find_deno_bin()), victim]
    command = shlex.join([*killer, point.direction, point.frame, str(folder / "fuse")])
    script = folder / "deno"
    script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    script.chmod(0o755)
    return {"STATEBACKED_DENO": str(script)}


def types(asker: Asker) -> list[str]:
    return [transition["event"]["type"] for transition in asker.transitions(PATIENT, "a")][1:]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_a_server_killed_at_a_named_point_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, point: Point
) -> None:
    environment = wrapper(tmp_path / "wrapper", "server", point)
    with real_server(tmp_path / "data", ["--no-supervisor"], environment) as server:
        asker = Asker(server)
        asker.deploy(PATIENT, E2E / "machines" / "patient.js")
        answered(asker.create(PATIENT, "a"))
        (tmp_path / "wrapper" / "fuse").touch()
        with pytest.raises(httpx.TransportError):
            asker.send(PATIENT, "a", WORK)
        assert not (tmp_path / "wrapper" / "fuse").exists()
    with real_server(tmp_path / "data") as server:
        asker = Asker(server)
        before = ["work"] if point.has_happened else []
        assert types(asker) == before
        answered(asker.send(PATIENT, "a", "see"))
        assert types(asker) == [*before, *(["xstate.error.actor.work"] if before else []), "see"]
        seen = asker.admin_state(PATIENT, "a")["context"]["seen"]
        assert seen == [*(["service-lost"] if before else []), "see"]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
def test_a_worker_killed_at_a_named_point_costs_its_service_at_most(tmp_path: Path, point: Point) -> None:
    environment = wrapper(tmp_path / "wrapper", "worker", point)
    with real_server(tmp_path / "data", environment=environment) as server:
        asker = Asker(server)
        asker.deploy(PATIENT, E2E / "machines" / "patient.js")
        answered(asker.create(PATIENT, "a"))
        (tmp_path / "wrapper" / "fuse").touch()
        state = answered(asker.send(PATIENT, "a", WORK))
        assert not (tmp_path / "wrapper" / "fuse").exists()
        if point.has_happened:
            # Its effects are never performed again: who waits is told the durable state.
            assert state["state"] == "working"
            assert types(asker) == ["work"]
            answered(asker.send(PATIENT, "a", "see"))
            assert types(asker) == ["work", "xstate.error.actor.work", "see"]
        else:
            # It is computed once more, in another worker.
            assert state["state"] == "idle"
            assert types(asker) == ["work", "xstate.done.actor.work"]
