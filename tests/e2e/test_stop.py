"""A server that is asked to stop: what is under way is answered, and every connection ends with an answer."""

import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.e2e.asking import Asker, answered
from tests.e2e.servers import E2E, RealServer, real_server

CLIENTS = 8
BEFORE = 20  # answers of each client before the server is asked to stop


def test_no_request_of_a_kept_connection_is_refused_while_the_server_stops(tmp_path: Path) -> None:
    with real_server(tmp_path / "data", ["--no-supervisor"]) as server:
        asker = Asker(server)
        asker.deploy("bells", E2E / "machines" / "bells.js")
        for client in range(CLIENTS):
            answered(asker.create("bells", f"i{client}"))
        warm = threading.Barrier(CLIENTS + 1)
        with ThreadPoolExecutor(CLIENTS) as pool:
            stories = [pool.submit(send_until_closed, server, f"i{n}", warm.wait) for n in range(CLIENTS)]
            warm.wait(timeout=60)
            server.process.send_signal(signal.SIGTERM)
            ends = [story.result(timeout=60) for story in stories]
        assert server.process.wait(timeout=30) == 0
    for statuses, said in ends:
        assert set(statuses) == {200}
        assert said in ("close", "refused")
    assert "close" in {said for _, said in ends}


def send_until_closed(server: RealServer, instance: str, wait: Callable[[], object]) -> tuple[list[int], str]:
    """The statuses of all answers, and how it ended: with `connection: close`, or without a connection."""
    asker = Asker(server)
    statuses: list[int] = []
    while True:
        if len(statuses) == BEFORE:
            wait()
        try:
            answer = asker.send("bells", instance, {"type": "say", "text": "x"})
        except httpx.ConnectError:
            return statuses, "refused"
        statuses.append(answer.status_code)
        if answer.headers.get("connection") == "close":
            return statuses, "close"
