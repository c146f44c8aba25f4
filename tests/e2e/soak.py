"""Memory over time: a thousand instances under a steady mix of events, timers, services and messages.

`python -m tests.e2e.soak [--minutes 10] [--seed N]` (make soak). 32 clients send up to 1,000 events a second.
The memory of the server and of its workers is looked at every five seconds; the last quarter of the run must
not stand above the second by more than a tenth. At the end the laws of the kill test must hold.
"""

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.e2e import kill
from tests.e2e.kill import Ledger, law
from tests.e2e.servers import RealServer, real_server

INSTANCES = 1_000
CLIENTS = 32
PAUSE_S = 0.02  # of a client between two events
SAMPLE_S = 5
GROWTH_MAX = 1.10
KINDS = ("add", "arm", "work", "tell")
WEIGHTS = (6, 2, 1, 2)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder, real_server(Path(folder) / "data") as server:
        ledgers = [Ledger(f"l{n}") for n in range(INSTANCES)]
        kill.set_up(server, ledgers)
        samples = asyncio.run(soak(server, ledgers, given.minutes * 60, random.Random(given.seed)))
        kill.finish(server, ledgers)
    events = sum(len(ledger.acknowledged) for ledger in ledgers)
    print(f"{events} acknowledged events on {INSTANCES} instances; every law held")
    for what, values in zip(("server", "workers"), zip(*samples, strict=True), strict=True):
        judge(what, values)
    return 0


async def soak(
    server: RealServer, ledgers: list[Ledger], seconds: float, chance: random.Random
) -> list[tuple[float, float]]:
    """Samples of MB of the server and of its workers, one every SAMPLE_S."""
    until = time.monotonic() + seconds
    parts = [ledgers[n::CLIENTS] for n in range(CLIENTS)]
    sending = [
        asyncio.create_task(send(server, part, random.Random(chance.random()), until)) for part in parts
    ]
    samples = []
    while time.monotonic() < until:
        await asyncio.sleep(SAMPLE_S)
        samples.append((memory_mb([server.process.pid, server.pid]), memory_mb(server.workers())))
        print(f"{samples[-1][0]:6.0f} MB server, {samples[-1][1]:6.0f} MB workers", flush=True)
    await asyncio.gather(*sending)
    return samples


async def send(server: RealServer, ledgers: Sequence[Ledger], chance: random.Random, until: float) -> None:
    """One client on its own share of the instances: ids are counted for each."""
    address = httpx.URL(server.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    while time.monotonic() < until:
        ledger = chance.choice(ledgers)
        ledger.sent += 1
        id = f"{ledger.name}-{ledger.sent}"
        kind = chance.choices(KINDS, WEIGHTS)[0]
        event = {
            "type": kind,
            "id": id,
            "to": f"l{chance.randrange(INSTANCES)}",
            "ms": chance.randrange(5_000),
        }
        writer.write(kill.request(server, ledger.name, event))
        status = await kill.read_status(reader)
        law(status == 200, f"{id}: {status}")
        ledger.acknowledged.add(f"{kind} {id}")
        await asyncio.sleep(PAUSE_S * 2 * chance.random())
    writer.close()


def memory_mb(processes: Sequence[int]) -> float:
    """Resident memory, pages that are shared split among those who share them."""
    total = 0
    for process in processes:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def judge(what: str, values: Sequence[float]) -> None:
    quarter = len(values) // 4
    second, last = statistics.mean(values[quarter : 2 * quarter]), statistics.mean(values[-quarter:])
    print(f"{what}: {second:.0f} MB in the second quarter, {last:.0f} MB in the last")
    law(last <= GROWTH_MAX * second + 5, f"the memory of the {what} grows")


if __name__ == "__main__":
    sys.exit(main())
