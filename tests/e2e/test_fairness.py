"""Instances that never rest, in all ways at once on one server: their neighbours hardly notice, nothing of
theirs is lost, and pausing or deleting them stops them.

How long an event may take is measured at the same time on a server that has no such instances: a machine
that is busy with something else slows both."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from statistics import median
from time import perf_counter

import httpx
import pytest

from statebacked.api.lifecycle import proof_of
from tests.e2e.asking import Asker, Json, answered, refused
from tests.e2e.servers import E2E, RealServer, real_server

RESTLESS, QUIET = "restless", "quiet"
EVENTS = 60  # of a neighbour, each time that it is measured
WINDS_MAX = 100
WIND: Json = {"type": "wind", "ms": 3_000}
WAYS: dict[str, Json] = {
    "spins": {"type": "spin"},
    "breeds": {"type": "beat"},
    "ticks": {"type": "tick"},
    "pings": {"type": "ping"},
    "serves": {"type": "serve"},
}
GUILTY = (*WAYS, "winds", "pongs")


def neighbour(asker: Asker) -> Asker:
    asker.deploy(QUIET, E2E / "machines" / "bells.js")
    answered(asker.create(QUIET, "n"))
    median_ms(asker)
    return asker


def median_ms(asker: Asker) -> float:
    """How long an event takes."""
    taken = []
    for n in range(EVENTS):
        begun = perf_counter()
        answered(asker.send(QUIET, "n", {"type": "say", "text": str(n)}))
        taken.append((perf_counter() - begun) * 1000)
    return median(taken)


def turns(asker: Asker) -> dict[str, int]:
    return {name: asker.admin_state(RESTLESS, name)["context"]["turns"] for name in GUILTY}


def rows(server: RealServer, sql: str, *parameters: object) -> int:
    with closing(sqlite3.connect(f"file:{server.data / 'statebacked.sqlite3'}?mode=ro", uri=True)) as file:
        (count,) = file.execute(sql, parameters).fetchone()
    return int(count)


def begin(server: RealServer, pool: ThreadPoolExecutor) -> dict[str, "Future[httpx.Response]"]:
    """Some are answered only when the instance settles, which is never: they are told when it is paused."""
    return {name: pool.submit(Asker(server).send, RESTLESS, name, WAYS[name]) for name in WAYS}


def wind_up(asker: Asker) -> int:
    """How many timers it has set when no more are let."""
    for wound in range(WINDS_MAX):
        response = asker.send(RESTLESS, "winds", WIND)
        if not response.is_success:
            refused(response, 400, "too-many-effects")
            return 1_000 * wound
    raise AssertionError("it may set as many timers as it likes")


def set_status(asker: Asker, name: str, status: str) -> None:
    path = f"/machines/{RESTLESS}/i/{name}/status"
    assert asker.http.put(path, json={"status": status}).status_code == 204


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Asker]:
    with real_server(tmp_path / "alone") as server:
        yield neighbour(Asker(server))


def test_neighbours_hardly_notice_and_nothing_is_lost_and_it_can_be_stopped(
    server: RealServer, alone: Asker
) -> None:
    admin = Asker(server)
    admin.deploy(RESTLESS, E2E / "machines" / "restless.js")
    other = answered(admin.http.post("/orgs", json={"name": "other"}))["id"]
    near, far = neighbour(Asker(server)), neighbour(Asker(server, org=other))
    for name in GUILTY:
        answered(admin.create(RESTLESS, name))
    for one, another in (("pings", "pongs"), ("pongs", "pings")):
        answered(admin.send(RESTLESS, one, {"type": "meet", "other": another}))
    with ThreadPoolExecutor(len(WAYS)) as pool:
        begun = begin(server, pool)
        wound = wind_up(admin)
        for _ in range(4):
            progress = turns(admin)
            usual_ms, *noticed_ms = [median_ms(one) for one in (alone, near, far)]
            told = f"{noticed_ms} ms, and {usual_ms} ms without such neighbours"
            assert max(noticed_ms) < 10 * usual_ms + 50, told
            assert all(progress[name] < count for name, count in turns(admin).items() if name != "winds")
        for name in GUILTY:
            set_status(admin, name, "paused")
        for name, answer in begun.items():
            assert answer.result(timeout=60).status_code == 200, name

    stopped = turns(admin)
    median_ms(near)
    assert turns(admin) == stopped
    nothing_is_lost(server, stopped, wound)
    deletion_is_final(admin)


def nothing_is_lost(server: RealServer, stopped: dict[str, int], wound: int) -> None:
    """What has not happened yet waits."""
    of = "instance = (SELECT id FROM instances WHERE machine = 'restless' AND name = ?) AND dead_at IS NULL"
    assert rows(server, f"SELECT count(*) FROM messages WHERE kind = 'self' AND {of}", "spins") == 1
    assert stopped["winds"] + rows(server, f"SELECT count(*) FROM timers WHERE {of}", "winds") == wound
    assert rows(server, f"SELECT count(*) FROM timers WHERE {of}", "ticks") == 1
    messages = f"SELECT count(*) FROM messages WHERE {of}"
    on_their_way = rows(server, messages, "pings") + rows(server, messages, "pongs")
    assert (on_their_way, stopped["pings"] - stopped["pongs"]) in ((1, 0), (1, 1))
    made = rows(server, "SELECT count(*) FROM parents")
    assert made + rows(server, messages, "breeds") == stopped["breeds"]
    assert rows(server, "SELECT count(*) FROM messages WHERE dead_at IS NOT NULL") == 0


def deletion_is_final(admin: Asker) -> None:
    """Of one that runs, too."""
    set_status(admin, "spins", "running")
    set_status(admin, "ticks", "running")
    for name in ("spins", "ticks"):
        proofs = {
            "dangerDataWillBeDeletedForever": True,
            "hmacSha256OfMachineInstanceNameWithMachineNameKey": proof_of(RESTLESS, name),
        }
        assert admin.http.request("DELETE", f"/machines/{RESTLESS}/i/{name}", json=proofs).status_code == 204
        refused(admin.get(RESTLESS, name), 404, "not-found")
