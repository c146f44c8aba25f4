"""What other orgs notice while one tenant, or a stranger, attacks at full force: `python -m bench.neighbours`
measures each attack of bench/attack.py on a server of its own."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.attack import ATTACKS, MACHINE
from tests.e2e.asking import Asker, answered
from tests.e2e.servers import ROOT, real_server
from tests.e2e.test_indexes import anonymous

BENCH = Path(__file__).resolve().parent
P99_MS_MAX = 100.0
MEASURED_S = 8.0
BEGINS_S = 1.5  # an attack is at full force then


class Noticed(NamedTuple):
    """How long events of another org took, and the worst of them."""

    attack: str
    events: int
    p50_ms: float
    p99_ms: float
    worst_ms: float


def measure(name: str) -> Noticed:
    """`name` "": without an attack."""
    with (
        tempfile.TemporaryDirectory() as folder,
        real_server(Path(folder) / "data", ["--allow-egress"]) as server,
    ):
        admin = Asker(server)
        machines = [f"{MACHINE}-{n}" for n in range(4)] if name == "logs" else [MACHINE]
        for machine in machines:
            admin.deploy(machine, BENCH / "attacker.js")
            for n in range(4):
                answered(admin.create(machine, str(n)))
        other = answered(admin.http.post("/orgs", json={"name": "other"}))["id"]
        near = Asker(server, org=other)
        near.deploy("quiet", QUIET)
        answered(near.create("quiet", "i"))
        token = anonymous(server, "stranger").token if name == "quotes" else admin.token
        with begun(name, server.url, admin.org, token):
            time.sleep(BEGINS_S)
            return noticed(name, near)


QUIET = """
import { createMachine, assign } from "xstate";
export const allowRead = () => true;
export const allowWrite = () => true;
export default createMachine({
  context: { public: { count: 0 } },
  on: { go: { actions: assign({ public: ({ context }) => ({ count: context.public.count + 1 }) }) } },
});
"""


@contextmanager
def begun(name: str, *arguments: str) -> Iterator[None]:
    if not name:
        yield
        return
    process = subprocess.Popen([sys.executable, "-m", "bench.attack", name, *arguments], cwd=ROOT)
    try:
        yield
        assert process.poll() is None, "the attack has ended by itself"
    finally:
        process.kill()
        process.wait()


def noticed(name: str, asker: Asker) -> Noticed:
    taken: list[float] = []
    end = time.perf_counter() + MEASURED_S
    while time.perf_counter() < end or len(taken) < 100:
        began = time.perf_counter()
        answered(asker.send("quiet", "i", "go"))
        taken.append((time.perf_counter() - began) * 1000)
        time.sleep(0.005)
    taken.sort()
    return Noticed(name, len(taken), taken[len(taken) // 2], taken[len(taken) * 99 // 100], taken[-1])


def main() -> None:
    for name in sys.argv[1:] or ["", *ATTACKS]:
        of = measure(name)
        told = f"p50 {of.p50_ms:7.1f}  p99 {of.p99_ms:7.1f}  worst {of.worst_ms:7.1f} ms"
        print(f"{name or 'no attack':12} {of.events:5} events  {told}")


if __name__ == "__main__":
    main()
