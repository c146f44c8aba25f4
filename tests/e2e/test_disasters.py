"""Disks that are full or fail, clocks that are set, backlogs, crowds and sluggards, on a real server."""

import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from deno import find_deno_bin  # type: ignore[import-untyped]  # it has no types
from websockets.asyncio.client import connect

from tests.e2e.asking import Asker, Json, answered, subscriber
from tests.e2e.servers import BIN, E2E, RealServer, real_server

BELLS = "bells"
MB = 1_000_000
DAY_MS = 86_400_000


def deployed(server: RealServer) -> Asker:
    asker = Asker(server)
    asker.deploy(BELLS, E2E / "machines" / "bells.js")
    return asker


def say(asker: Asker, instance: str, text: str) -> httpx.Response:
    return asker.send(BELLS, instance, {"type": "say", "text": text})


def said(asker: Asker, instance: str) -> list[str]:
    """The texts in the instance's history."""
    events = [transition["event"] for transition in asker.transitions(BELLS, instance)]
    return [event["text"] for event in events if event["type"] == "say"]


# --- the disk ------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size_mb: int) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
    assert os.geteuid() == 0, f"this test mounts a small disk and has to be run as root: {' '.join(mount)}"
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_nothing_and_the_server_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 32) as disk, real_server(disk / "data") as server:
        asker = deployed(server)
        answered(asker.create(BELLS, "a"))
        kept, refused = write_until_it_fails(asker, lambda: fill(disk))
        assert refused.json()["code"] == "unavailable"
        assert httpx.get(server.url + "/healthz").status_code == 200
        ready = httpx.get(server.url + "/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "unavailable")
        assert "disk" in ready.json()["error"]
        assert said(asker, "a") == kept
        (disk / "ballast").unlink()
        kept += write_until_it_works(asker, "after")
        assert httpx.get(server.url + "/readyz").status_code in {200, 503}  # as it was seen a second ago
        assert said(asker, "a") == kept


def fill(disk: Path) -> None:
    free = shutil.disk_usage(disk).free
    with (disk / "ballast").open("wb") as ballast:
        ballast.write(bytes(max(0, free - 200_000)))


def test_a_disk_that_fails_loses_nothing_and_the_server_goes_on_when_it_works_again(tmp_path: Path) -> None:
    with real_server(tmp_path / "data") as server:
        asker = deployed(server)
        answered(asker.create(BELLS, "a"))
        # Writes beyond this size fail with an I/O error.
        sizes = [file.stat().st_size for file in (tmp_path / "data").glob("statebacked.sqlite3*")]
        pid, limit = server.pid, max(sizes) + 200_000
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        kept, refused = write_until_it_fails(
            asker, lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, before[1]))
        )
        assert refused.json()["code"] == "unavailable"
        assert said(asker, "a") == kept
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        kept += write_until_it_works(asker, "after")
        assert said(asker, "a") == kept


def write_until_it_fails(asker: Asker, spoil: Callable[[], object]) -> tuple[list[str], httpx.Response]:
    """The texts that were acknowledged, and the first refusal. The disk is spoilt after the first few."""
    kept: list[str] = []
    for n in range(2_000):
        if n == 5:
            spoil()
        text = f"{n} " + "x" * 20_000
        response = say(asker, "a", text)
        if response.status_code != 200:
            assert response.status_code == 503, response.text
            return kept, response
        kept.append(text)
    raise AssertionError("the disk took everything")


def write_until_it_works(asker: Asker, text: str) -> list[str]:
    """What the server has acknowledged: the first that works. It needs a moment to open the file anew."""
    for n in range(50):
        response = say(asker, "a", f"{text} {n}")
        if response.status_code == 200:
            return [f"{text} {n}"]
        assert response.status_code == 503, response.text
    raise AssertionError("the server does not go on")


# --- the clock -----------------------------------------------------------------------------------


@contextmanager
def server_with_a_clock(
    folder: Path, starts: str = "+0", arguments: Sequence[str] = ()
) -> Iterator[tuple[RealServer, Callable[[str], None]]]:
    """A server whose wall clock runs off by what was set last: `+2h`, `-30m`. Its monotonic clock is true."""
    library = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu" / "faketime" / "libfaketime.so.1"
    assert library.exists(), "the clock is set with Debian's faketime: sudo apt-get install faketime"
    offset = folder / "offset"
    offset.write_text(starts + "\n")

    def set_clock(text: str) -> None:
        offset.with_suffix(".new").write_text(text + "\n")
        offset.with_suffix(".new").rename(offset)

    environment = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with real_server(folder / "data", arguments, environment) as server:
        yield server, set_clock


def test_a_clock_that_is_set_forth_and_back_fires_every_timer_once_and_ts_still_rises(tmp_path: Path) -> None:
    with server_with_a_clock(tmp_path) as (server, set_clock):
        asker = deployed(server)
        for name in ("soon", "late", "wake"):
            answered(asker.create(BELLS, name))
        with subscriber(asker) as listener:
            for name in ("soon", "late", "wake"):
                listener.subscribe(BELLS, name, name)
            answered(asker.send(BELLS, "late", {"type": "arm", "count": 1, "ms": 3_600_000}))
            set_clock("-1h")
            answered(asker.send(BELLS, "soon", {"type": "arm", "count": 1, "ms": 100}))
            listener.until(lambda _: rung(asker, "soon") == 1)
            assert rung(asker, "late") == 0
            set_clock("+2h")
            # A clock that was set is noticed within a minute; a timer that is set makes the server look.
            answered(asker.send(BELLS, "wake", {"type": "arm", "count": 1, "ms": 1}))
            listener.until(lambda _: rung(asker, "late") == 1)
            set_clock("+0")
            answered(say(asker, "late", "back"))
            listener.until(lambda heard: heard["publicContext"]["text"] == "back")
        for name in ("soon", "late", "wake"):
            history = asker.transitions(BELLS, name)
            assert [t["seq"] for t in history] == list(range(1, len(history) + 1))
            assert sum(t["event"]["type"] == "rang" for t in history) == 1
            pushed = [heard["ts"] for heard in listener.heard if heard["machineInstanceName"] == name]
            assert all(one < other for one, other in pairwise(pushed))


def test_a_timer_of_years_fires_when_they_have_passed(tmp_path: Path) -> None:
    with server_with_a_clock(tmp_path) as (server, set_clock):
        asker = deployed(server)
        answered(asker.create(BELLS, "a"))
        answered(asker.create(BELLS, "wake"))
        with subscriber(asker) as listener:
            listener.subscribe(BELLS, "a", "a")
            listener.subscribe(BELLS, "wake", "wake")
            answered(asker.send(BELLS, "a", {"type": "arm", "count": 1, "ms": 5 * 365 * DAY_MS}))
            for clock, rings in (("+1824d", 0), ("+1826d", 1)):
                set_clock(clock)
                before = rung(asker, "wake")
                answered(asker.send(BELLS, "wake", {"type": "arm", "count": 1, "ms": 1}))
                listener.until(lambda _, n=before: rung(asker, "wake") > n)  # type: ignore[misc]
                if rings:
                    listener.until(lambda _: rung(asker, "a") == 1)
                assert rung(asker, "a") == rings


def rung(asker: Asker, instance: str) -> int:
    count: int = answered(asker.get(BELLS, instance))["publicContext"]["rung"]
    return count


# --- backlogs and crowds -------------------------------------------------------------------------


def test_ten_thousand_timers_that_came_due_during_downtime_ring_once_in_due_order(tmp_path: Path) -> None:
    instances, each = 200, 50
    with real_server(tmp_path / "data") as server:
        deployed(server)
        asyncio.run(arm_all(server, instances, {"type": "arm", "count": each, "ms": 1_500}))
        server.stop(signal.SIGKILL)
    with real_server(tmp_path / "data") as server:
        asker = Asker(server)
        with subscriber(asker) as listener:
            for n in range(instances):
                listener.subscribe(BELLS, f"b{n}", f"b{n}")
            done: set[str] = set()
            while len(done) < instances:
                heard = listener.until(lambda m: is_done(m, each, done), timeout_s=60)
                done.add(heard["machineInstanceName"])
        for n in range(0, instances, 20):
            assert asker.admin_state(BELLS, f"b{n}")["context"]["order"] == list(range(each))


def is_done(message: Json, each: int, done: set[str]) -> bool:
    assert message["type"] == "instance-update", message
    assert message["publicContext"]["rung"] <= each
    return message["publicContext"]["rung"] == each and message["machineInstanceName"] not in done


async def arm_all(server: RealServer, instances: int, event: Json) -> None:
    headers = {
        "authorization": f"Bearer {server.admin['adminToken']}",
        "x-statebacked-org-id": server.admin["orgId"],
    }
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=60) as http:

        async def arm(n: int) -> None:
            (await http.post(f"/machines/{BELLS}", json={"slug": f"b{n}"})).raise_for_status()
            path = f"/machines/{BELLS}/i/b{n}/events"
            (await http.post(path, json={"event": event})).raise_for_status()

        await asyncio.gather(*(arm(n) for n in range(instances)))


def test_a_thousand_subscribers_all_end_at_the_newest_state(tmp_path: Path) -> None:
    with real_server(tmp_path / "data") as server:
        asker = deployed(server)
        answered(asker.create(BELLS, "a"))
        asyncio.run(crowd(server, asker, 1_000))


async def crowd(server: RealServer, asker: Asker, size: int) -> None:
    sockets = [await connect(address_of(asker), compression=None) for _ in range(size)]
    message = {
        "type": "subscribe-to-instance",
        "requestId": "r",
        "machineName": BELLS,
        "machineInstanceName": "a",
    }
    for socket in sockets:
        await socket.send(json.dumps(message))
    for socket in sockets:
        assert json.loads(await socket.recv())["publicContext"]["text"] == ""
    loop = asyncio.get_running_loop()
    for n in range(20):
        answered(await loop.run_in_executor(None, say, asker, "a", f"news {n}"))

    async def listen(socket: object) -> None:
        last = 0
        async for text in socket:  # type: ignore[attr-defined]
            heard = json.loads(text)
            assert heard["ts"] > last
            last = heard["ts"]
            if heard["publicContext"]["text"] == "news 19":
                return

    async with asyncio.timeout(60):
        await asyncio.gather(*(listen(socket) for socket in sockets))
    await asyncio.gather(*(socket.close() for socket in sockets))


def address_of(asker: Asker) -> str:
    query = urlencode({"token": asker.token, "x-statebacked-org-id": asker.org})
    return asker.server.url.replace("http://", "ws://") + "/rt?" + query


def test_a_reader_that_does_not_read_costs_no_memory_and_sees_the_newest_state_in_the_end(
    tmp_path: Path,
) -> None:
    with real_server(tmp_path / "data") as server:
        asker = deployed(server)
        answered(asker.create(BELLS, "a"))
        with subscriber(asker) as sluggard:
            sluggard.subscribe(BELLS, "a")
            sluggard.until(lambda heard: heard["type"] == "instance-update")
            before = resident_bytes(server)
            for n in range(600):
                answered(say(asker, "a", f"{n} " + "x" * 100_000))
            grown = resident_bytes(server) - before
            assert grown < 40 * MB, f"{grown / MB:.0f} MB for 60 MB of pushes"
            sluggard.until(lambda heard: heard["publicContext"]["text"].startswith("599 "))


def resident_bytes(server: RealServer) -> int:
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


# --- workers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("deno", ["/nowhere/deno", "/bin/false"])
def test_a_server_without_deno_does_not_start_and_says_what_to_do(tmp_path: Path, deno: str) -> None:
    done = subprocess.run(
        [
            str(BIN / "statebacked"),
            "serve",
            "--port",
            "0",
            "--data",
            str(tmp_path / "data"),
            "--no-supervisor",
        ],
        env={**os.environ, "STATEBACKED_DENO": deno},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"Deno cannot be run, and nothing works without it ({deno}: " in done.stderr
    assert "STATEBACKED_DENO" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_whose_workers_do_not_start_is_not_ready_until_they_do(tmp_path: Path) -> None:
    deno, broken = tmp_path / "deno", tmp_path / "broken"
    broken.touch()
    deno.write_text(
        f'#!/bin/sh\n[ -e {broken} ] && [ "$1" != --version ] && exit 3\nexec {find_deno_bin()} "$@"\n'
    )
    deno.chmod(0o755)
    with real_server(tmp_path / "data", environment={"STATEBACKED_DENO": str(deno)}) as server:
        ready = httpx.get(server.url + "/readyz")
        assert (ready.status_code, ready.json()["code"]) == (503, "unavailable")
        assert "no worker can be started" in ready.json()["error"]
        assert httpx.get(server.url + "/healthz").status_code == 200
        assert '"level": "error"' in server.log.read_text()
        broken.unlink()
        deadline = time.monotonic() + 60
        while httpx.get(server.url + "/readyz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)
