"""A server under attack: its attackers, a neighbour who must notice nothing, and what must never leak."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TypeVar

import httpx

from tests.e2e.asking import XSTATE, Asker, answered
from tests.e2e.servers import RealServer, real_server

ATTACKER = Path(__file__).with_name("attacker.js").read_text()
ATTACKER4 = Path(__file__).with_name("attacker4.js").read_text()
VERSIONS = {4: "4.38.3", 5: XSTATE}
CANARY = "canary-that-nobody-may-read"
NAMES = count()
T = TypeVar("T")

# Shorter than by default, so that an attack that has to be waited for is over soon.
FLAGS = ["--step-ms", "1000", "--worker-idle-ms", "1000", "--settle-ms", "8000"]
ATTACKS_AT_ONCE = 3
PATIENCE_S = 30.0
WORKERS_LEFT_MAX = 4  # the neighbour's, spares, and one that is being ended
SERVER_MB_MAX = 700


class Arena:
    def __init__(self, server: RealServer, secret: Path) -> None:
        self.server = server
        self.secret = secret  # a file that anybody may read
        self.admin = Asker(server)
        self.pool = ThreadPoolExecutor(ATTACKS_AT_ONCE)

    def attacker(self, code: str = ATTACKER, *, major: int = 5) -> "Attacker":
        """A machine of its own, with one instance that has counted to 1."""
        attacker = Attacker(self, f"attacker-{next(NAMES)}")
        attacker.asker.deploy(attacker.machine, code, xstate=VERSIONS[major])
        answered(attacker.asker.create(attacker.machine, "i"))
        attacker.must_count()
        return attacker

    def begin(self, attack: Callable[["Attacker"], T]) -> "Future[tuple[Attacker, T]]":
        """Soon, on a thread of its own, with a machine of its own."""

        def run() -> tuple[Attacker, T]:
            attacker = self.attacker()
            return attacker, attack(attacker)

        return self.pool.submit(run)

    def workers(self) -> list[int]:
        return self.server.workers()

    def until_few_workers(self) -> int:
        """Waits until those that nobody needs have ended; how many are left."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.workers()) > WORKERS_LEFT_MAX and time.monotonic() < deadline:
            time.sleep(0.1)
        return len(self.workers())

    def peak_mb(self) -> int:
        """The most memory that the server itself has had."""
        status = Path(f"/proc/{self.server.pid}/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) // 1024


class Attacker:
    """A machine of its own, and a client of it."""

    def __init__(self, arena: Arena, machine: str) -> None:
        self.arena = arena
        self.machine = machine
        self.asker = Asker(arena.server)
        self.counted = 0

    def send(self, where: str, code: str, instance: str = "i") -> httpx.Response:
        """Have the code run there: in a guard, an assign, an action, a service or an authorizer."""
        if where in {"allowWrite", "allowRead"}:
            how = "write" if where == "allowWrite" else "read"
            caller = Asker(self.arena.server, act={how: code})
            if where == "allowWrite":
                return caller.send(self.machine, instance, "count")
            return caller.get(self.machine, instance)
        if where == "context":
            return self.asker.create(self.machine, f"{instance}-{next(NAMES)}", {"code": code})
        return self.asker.send(self.machine, instance, {"type": where, "code": code})

    def add_version(self, code: str) -> httpx.Response:
        return self.asker.add_version(self.machine, code)

    def count(self, instance: str = "i") -> httpx.Response:
        return self.asker.send(self.machine, instance, "count")

    def must_count(self) -> int:
        """The machine still works: its next event counts exactly one on."""
        before = answered(self.asker.get(self.machine, "i"))["publicContext"]["count"]
        after: int = answered(self.count())["publicContext"]["count"]
        assert after == before + 1
        return after

    def until_it_counts(self) -> None:
        """Waits until its events are taken, as by a new worker."""
        deadline = time.monotonic() + PATIENCE_S
        while (response := self.count()).status_code != 200:
            assert time.monotonic() < deadline, response.text
            time.sleep(1.5)  # longer than an idle worker lives


def sending(where: str, code: str) -> Callable[[Attacker], httpx.Response]:
    """An attack that is one event."""
    return lambda attacker: attacker.send(where, code)


class Neighbour:
    """Another version's client, who asks all the time: `answers` to its events, `healths` of the server."""

    def __init__(self, arena: Arena) -> None:
        self.asker = Asker(arena.server)
        self.asker.deploy("neighbour", ATTACKER)
        answered(self.asker.create("neighbour", "i"))
        self.answers: list[httpx.Response] = []
        self.healths: list[int] = []
        self.slowest_s = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        while not self._is_over.is_set():
            began = time.monotonic()
            self.answers.append(self.asker.send("neighbour", "i", "count"))
            self.healths.append(self.asker.http.get("/healthz").status_code)
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            self._is_over.wait(0.05)

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()


@contextmanager
def arena(folder: Path) -> Iterator[Arena]:
    secret = Path("/tmp") / f"statebacked-canary-{os.getpid()}.json"
    secret.write_text(f'{{"secret": "{CANARY}"}}')
    secret.chmod(0o644)
    try:
        with real_server(folder, FLAGS, {"PLANTED": CANARY}) as server:
            made = Arena(server, secret)
            try:
                yield made
            finally:
                made.pool.shutdown(cancel_futures=True)
    finally:
        secret.unlink()
