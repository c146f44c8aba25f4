"""Floods: of log lines, of questions that do not end, of answers of a server that a machine asks.

Whoever does not take part is answered, and the flood ends at its limit.
"""

import gzip
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.asking import Asker, answered
from tests.e2e.attacks.arena import ATTACKER, FLAGS, Arena
from tests.e2e.servers import RealServer, real_server

READERS = 7
LOG_FLOODS = {
    "empty lines": "setInterval(() => { for (let n = 0; n < 5000; n++) console.log('') })",
    "one write of many lines": "setInterval(() => console.log('\\n'.repeat(100000)))",
    "many writes": (
        "const again = () => { console.log(''); setTimeout(again) }; for (let n = 0; n < 500; n++) again()"
    ),
    "long lines": "setInterval(() => { for (let n = 0; n < 50; n++) console.error('x'.repeat(100000)) })",
}


# --- logs


@pytest.mark.parametrize("flood", LOG_FLOODS)
def test_a_flood_of_lines_is_counted_and_everybody_goes_on(field: Arena, flood: str) -> None:
    attacker, neighbour = field.attacker(), field.attacker()
    answered(attacker.send("action", LOG_FLOODS[flood]))
    for _ in range(20):
        neighbour.must_count()
    attacker.until_it_counts()


# --- questions


def test_readers_beside_a_reader_whose_question_does_not_end_are_answered(field: Arena) -> None:
    attacker = field.attacker()
    names = [f"r{n}" for n in range(READERS)]
    for name in names:
        answered(attacker.asker.create(attacker.machine, name))
    with ThreadPoolExecutor(READERS + 1) as pool:
        looping = pool.submit(attacker.send, "allowRead", "for (;;);")
        usual = [pool.submit(attacker.asker.get, attacker.machine, name) for name in names]
        for one in usual:
            assert one.result(timeout=60).status_code == 200
        assert looping.result(timeout=60).status_code == 400
    for name in names:
        assert attacker.asker.get(attacker.machine, name).status_code == 200


# --- answers of a server


class Bad(socketserver.ThreadingTCPServer):
    """Answers each path with a flood of its own, for as long as anybody reads."""

    daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


FLOODS = {
    "/interim": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000),
    "/head": (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n" * 1_000),
    "/members": (
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 9900000\r\n\r\n",
        gzip.compress(b"") * 1_000,
    ),
    "/extensions": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        (b"1;" + b"x" * 1_000 + b"\r\na\r\n") * 100,
    ),
    "/trailers": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 1_000),
    "/chunks": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 10_000),
}


class _Flood(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        path = self.rfile.readline().split()[1].decode()
        first, endless = FLOODS[path]
        with suppress(OSError):
            self.wfile.write(first)
            while True:
                self.wfile.write(endless)


@contextmanager
def bad_server() -> Iterator[Bad]:
    with Bad(("127.0.0.1", 0), _Flood) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        try:
            yield served
        finally:
            served.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    folder: Path = tmp_path_factory.mktemp("floods")
    with real_server(folder, [*FLAGS, "--allow-egress"]) as server:
        yield server


@pytest.fixture(scope="module")
def attacker(open_server: RealServer) -> Asker:
    asker = Asker(open_server)
    asker.deploy("attacker", ATTACKER)
    answered(asker.create("attacker", "neighbour"))
    return asker


@pytest.mark.parametrize("path", FLOODS)
def test_what_a_server_floods_ends_at_its_limit(attacker: Asker, path: str) -> None:
    """Sixteen at a time; another instance counts meanwhile."""
    with bad_server() as bad, ThreadPoolExecutor(1) as pool:
        answered(attacker.create("attacker", path[1:]))
        code = f"""const asked = Array.from({{ length: 16 }}, () => fetch("{bad.url}{path}")
          .then((answer) => answer.arrayBuffer()).then(() => "answered", (e) => e.name + ": " + e.message));
          return await Promise.all(asked)"""
        asked = pool.submit(attacker.send, "attacker", path[1:], {"type": "service", "code": code})
        for _ in range(5):
            answered(attacker.send("attacker", "neighbour", "count"))
        public = answered(asked.result(timeout=60))["publicContext"]
    if path == "/chunks" and "outcome" not in public:
        return  # it takes turns with everybody: the time to settle is over first
    outcome = public["outcome"]
    assert len(outcome) == 16
    assert all("more than" in told or "longer than" in told for told in outcome), outcome
