"""kill -9 under load, again and again, on the real thing: after each restart the laws must hold.

`python -m tests.e2e.kill --kills 100 [--seed N]` (make kill). 64 clients send events to 64 instances; at a
random moment the server is killed, by chance with its supervisor or alone; one starts again on the same
folder, and the histories are read. The laws:
an acknowledged event is in the history once, and no event twice; a timer rings once; a service ends once; a
message to another instance is heard once, a persistent child made and its end told once; nothing is performed
without its transition; an instance is found by what its newest state says; no worker outlives the server.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from deno import find_deno_bin  # type: ignore[import-untyped]

from tests.e2e.servers import E2E, RealServer, start_server

INSTANCES = 64
MACHINE = "ledger"
INDEX = "by-last"


@dataclass(slots=True)
class Ledger:
    """What one instance was sent, and what its history says so far."""

    name: str
    acknowledged: set[str] = field(default_factory=set)
    unhappened: set[str] = field(default_factory=set)  # the server said that nothing happened
    sent: int = 0
    seq: int = 0
    events: Counter[str] = field(default_factory=Counter)  # "type id" → times in the history
    armed: set[str] = field(default_factory=set)
    told: dict[str, str] = field(default_factory=dict)  # id → the instance that it was for
    spawned: set[str] = field(default_factory=set)
    services: int = 0  # started minus ended, by the history
    last: str = ""  # the id of the last "add", which the instance is found by


class Broken(AssertionError):
    """A law is broken."""


def law(holds: bool, text: str) -> None:
    if not holds:
        raise Broken(text)


# --- load ------------------------------------------------------------------------------------------


async def load(server: RealServer, ledgers: list[Ledger], chance: random.Random) -> None:
    """Until the connections break."""
    await asyncio.gather(*(send(server, ledger, random.Random(chance.random())) for ledger in ledgers))


def client(server: RealServer) -> httpx.AsyncClient:
    admin = server.admin
    headers = {"authorization": f"Bearer {admin['adminToken']}", "x-statebacked-org-id": admin["orgId"]}
    limits = httpx.Limits(max_connections=INSTANCES, max_keepalive_connections=INSTANCES)
    return httpx.AsyncClient(base_url=server.url, headers=headers, timeout=20, limits=limits)


async def send(server: RealServer, ledger: Ledger, chance: random.Random) -> None:
    address = httpx.URL(server.url)
    try:
        reader, writer = await asyncio.open_connection(address.host, address.port)
    except OSError:
        return
    while True:
        ledger.sent += 1
        id = f"{ledger.name}-{ledger.sent}"
        kind = chance.choices(("add", "arm", "work", "tell", "spawn"), (16, 2, 2, 2, 1))[0]
        event = {"type": kind, "id": id, "to": f"l{chance.randrange(INSTANCES)}"}
        if kind == "arm":
            event["ms"] = chance.randrange(0, 2_000)  # type: ignore[assignment]
        writer.write(request(server, ledger.name, event))
        try:
            status = await read_status(reader)
        except (OSError, asyncio.IncompleteReadError):
            writer.close()
            return
        if status == 503:
            ledger.unhappened.add(f"{kind} {id}")
            continue
        law(status == 200, f"{id}: {status}")
        ledger.acknowledged.add(f"{kind} {id}")


def request(server: RealServer, name: str, event: object) -> bytes:
    """By hand: a full client would cost more than the server."""
    admin = server.admin
    body = json.dumps({"event": event})
    head = (
        f"POST /machines/{MACHINE}/i/{name}/events HTTP/1.1",
        f"host: {httpx.URL(server.url).netloc.decode()}",
        f"authorization: Bearer {admin['adminToken']}",
        f"x-statebacked-org-id: {admin['orgId']}",
        "content-type: application/json",
        f"content-length: {len(body)}",
    )
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


async def read_status(reader: asyncio.StreamReader) -> int:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split()[1])


# --- laws ------------------------------------------------------------------------------------------


async def read_histories(server: RealServer, ledgers: list[Ledger]) -> None:
    async with client(server) as http:
        for ledger in ledgers:
            await read_history(http, ledger)
        query = f"/machines/{MACHINE}/indexes/{INDEX}/query"
        page = (await http.get(query, params={"limit": "1000"})).json()
    found = sorted((row["slug"], row["indexValue"]) for row in page["instances"])
    law(found == sorted((ledger.name, ledger.last) for ledger in ledgers), f"the index says {found}")


async def read_history(http: httpx.AsyncClient, ledger: Ledger) -> None:
    """All of it: what was there before must still be there."""
    ledger.events.clear()
    ledger.seq = 0
    ledger.services = 0
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "1000", **({"cursor": cursor} if cursor else {})}
        page = (await http.get(f"/machines/{MACHINE}/i/{ledger.name}/events", params=query)).json()
        for transition in page["transitions"]:
            note_transition(ledger, transition)
        cursor = page.get("cursor")


def note_transition(ledger: Ledger, transition: dict[str, object]) -> None:
    ledger.seq += 1
    law(transition["seq"] == ledger.seq, f"{ledger.name}: the history is no chain at {ledger.seq}")
    event = transition["event"]
    assert isinstance(event, dict)
    kind = event["type"]
    if kind == "add":
        ledger.last = event["id"]
    if kind == "arm":
        ledger.armed.add(event["id"])
    elif kind == "tell":
        ledger.told[event["id"]] = event["to"]
    elif kind == "spawn":
        ledger.spawned.add(event["id"])
    if kind.startswith(("xstate.done.actor.kid-", "xstate.error.actor.kid-")):
        ledger.events[f"{kind.split('.')[1]} {kind.partition('kid-')[2]}"] += 1
    elif kind.startswith(("xstate.done.actor", "xstate.error.actor")):
        ledger.services -= 1
        law(ledger.services == 0, f"{ledger.name}: a service ended twice at {ledger.seq}")
    elif kind != "xstate.init":
        ledger.events[f"{kind} {event['id']}"] += 1
    if kind == "work" and transition["state"] == "working" and ledger.services == 0:
        ledger.services += 1


def check(ledgers: list[Ledger]) -> None:
    for ledger in ledgers:
        lost = ledger.acknowledged - set(ledger.events)
        law(not lost, f"{ledger.name}: acknowledged and not in the history: {sorted(lost)[:3]}")
        law(not ledger.unhappened & set(ledger.events), f"{ledger.name}: answered 503 and in the history")
        twice = [event for event, times in ledger.events.items() if times > 1]
        law(not twice, f"{ledger.name}: twice in the history: {twice[:3]}")


def check_performed(folder: Path, ledgers: list[Ledger]) -> int:
    """Everything that workers said they had performed stands in the history. Empties the folder."""
    heads = {ledger.name: ledger.seq for ledger in ledgers}
    count = 0
    for out in folder.glob("*.out"):
        names = {f["a"]: f["name"] for f in frames(out.with_suffix(".in")) if f["t"] == "compute"}
        for frame in frames(out):
            if frame["t"] == "performed":
                count += 1
                name = names[frame["a"]]
                law(frame["seq"] <= heads[name], f"{name}: performed {frame['seq']} of {heads[name]}")
        out.unlink()
        out.with_suffix(".in").unlink()
    return count


def frames(file: Path) -> Iterator[dict[str, Any]]:  # Any: frame headers
    """The headers of the whole frames in a file; the last may be cut off."""
    data = memoryview(file.read_bytes())
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        header = int.from_bytes(data[at + 4 : at + 8], "big")
        if at + 4 + length > len(data):
            return
        yield json.loads(bytes(data[at + 8 : at + 8 + header]))
        at += 4 + length


def write_wrapper(folder: Path) -> Path:
    """A stand-in for Deno that keeps a copy of every frame to and from the worker in the folder. Workers
    start with an empty environment, so the paths stand in the script; Deno's own tells whose worker it is."""
    deno, wrapper = folder / "deno", folder / "deno-with-copies"
    deno.symlink_to(find_deno_bin())
    wrapper.write_text(
        f"""#!/bin/bash
name="{folder}/$$"
/usr/bin/tee "$name.in" | "{deno}" "$@" | /usr/bin/tee "$name.out"
"""
    )
    wrapper.chmod(0o755)
    return wrapper


def orphans(folder: Path) -> list[str]:
    """Processes that were started for this test's workers and still live."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(folder / "deno") in command:
                found.append(f"{process.name} {command[:80]}")
        except OSError:
            continue
    return found


def wait_for_no_orphan(folder: Path) -> None:
    until = time.monotonic() + 2
    while (left := orphans(folder)) and time.monotonic() < until:
        time.sleep(0.02)
    law(not left, f"workers outlive the server: {left}")


# --- the run ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class Report:
    kills: int = 0
    acknowledged: int = 0
    performed: int = 0
    rang: int = 0
    heard: int = 0
    ended: int = 0


def run(kills: int, seed: int, *, is_talkative: bool = False) -> Report:
    """Raises Broken when a law does not hold."""
    chance = random.Random(seed)
    report = Report()
    with tempfile.TemporaryDirectory() as base:
        data, tee = Path(base) / "data", Path(base) / "tee"
        tee.mkdir()
        environment = {"STATEBACKED_DENO": str(write_wrapper(tee))}
        ledgers = [Ledger(f"l{n}") for n in range(INSTANCES)]
        server = start_server(data, environment=environment)
        try:
            set_up(server, ledgers)
            for kill in range(kills):
                after = chance.uniform(0.05, 1.5)
                is_alone = chance.random() < 0.5
                asyncio.run(load_and_kill(server, ledgers, chance, after, is_alone=is_alone))
                if not is_alone:
                    wait_for_no_orphan(tee)
                    server = start_server(data, environment=environment)
                asyncio.run(read_histories(server, ledgers))
                check(ledgers)
                report.performed += check_performed_of_the_dead(tee, server, ledgers)
                report.kills = kill + 1
                if is_talkative:
                    done = sum(len(x.acknowledged) for x in ledgers)
                    what = "server" if is_alone else "supervisor and server"
                    print(
                        f"kill {kill + 1:3} of the {what} after {after * 1000:5.0f} ms: {done} acknowledged",
                        flush=True,
                    )
            finish(server, ledgers)
        finally:
            server.process.kill()
            server.process.wait()
    report.acknowledged = sum(len(x.acknowledged) for x in ledgers)
    for kind in ("rang", "heard"):
        setattr(report, kind, sum(1 for x in ledgers for event in x.events if event.startswith(f"{kind} ")))
    report.ended = sum(1 for x in ledgers for event in x.events if event.startswith("done "))
    return report


def check_performed_of_the_dead(tee: Path, server: RealServer, ledgers: list[Ledger]) -> int:
    """The running server's own files are left for the next kill."""
    living = {f"{name}" for name in os.listdir("/proc") if name.isdigit()}
    dead = tee / "dead"
    dead.mkdir(exist_ok=True)
    for file in tee.iterdir():
        if file.suffix in {".in", ".out"} and file.stem not in living:
            file.rename(dead / file.name)
    return check_performed(dead, ledgers)


def set_up(server: RealServer, ledgers: list[Ledger]) -> None:
    leaf, code = (str(E2E / "machines" / f"{machine}.ts") for machine in ("leaf", MACHINE))
    server.smply("machines", "create", "--machine", "leaf", "--node", leaf)
    selectors = json.dumps({INDEX: "$.last"})
    server.smply("machines", "create", "--machine", MACHINE, "--node", code, "--index-selectors", selectors)

    async def create() -> None:
        async with client(server) as http:
            for ledger in ledgers:
                (await http.post(f"/machines/{MACHINE}", json={"slug": ledger.name})).raise_for_status()

    asyncio.run(create())


async def load_and_kill(
    server: RealServer, ledgers: list[Ledger], chance: random.Random, after: float, *, is_alone: bool
) -> None:
    """`is_alone`: the supervisor goes on, and starts the next server."""
    loading = asyncio.create_task(load(server, ledgers, chance))
    await asyncio.wait({loading}, timeout=after)
    if is_alone:
        os.kill(server.pid, signal.SIGKILL)
    else:
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    await loading


def unfinished(ledgers: list[Ledger]) -> Iterator[str]:
    """What was promised and has not come yet."""
    by_name = {ledger.name: ledger for ledger in ledgers}
    for ledger in ledgers:
        yield from (f"rang {id}" for id in ledger.armed if not ledger.events[f"rang {id}"])
        yield from (f"heard {id}" for id, to in ledger.told.items() if not by_name[to].events[f"heard {id}"])
        yield from (f"done {id}" for id in ledger.spawned if not ledger.events[f"done {id}"])


def finish(server: RealServer, ledgers: list[Ledger]) -> None:
    """No more faults: every timer must ring, once, every service end, every message and child arrive."""

    async def settle() -> None:
        async with client(server) as http:
            for ledger in ledgers:
                event = {"type": "add", "id": f"{ledger.name}-last"}
                await http.post(f"/machines/{MACHINE}/i/{ledger.name}/events", json={"event": event})
        until = time.monotonic() + 15
        while True:
            await read_histories(server, ledgers)
            missing = list(unfinished(ledgers))
            if not missing:
                break
            law(time.monotonic() < until, f"never came: {missing[:3]}")
            await asyncio.sleep(0.1)

    asyncio.run(settle())
    check(ledgers)
    for ledger in ledgers:
        law(ledger.services == 0, f"{ledger.name}: a service neither answered nor was owed its error")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    report = run(given.kills, given.seed, is_talkative=True)
    print(
        f"{report.kills} kills: {report.acknowledged} acknowledged events, {report.rang} timers, "
        f"{report.heard} messages, {report.ended} children, {report.performed} performed steps; "
        "every law held"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
