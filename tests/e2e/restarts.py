"""Restarts under traffic of the published client, in Node and in headless Chromium: a pause, not an end.

`python -m tests.e2e.restarts --restarts 20 [--seed N]` (make restarts). The server process is told to stop
(SIGTERM), replaced (SIGHUP to its supervisor) or killed (SIGKILL), in a random order, while restarts.mjs
sends events and listens. The laws: after each restart every subscriber hears of new events; no request is
refused but those in flight at a SIGKILL; no acknowledged event is lost, and none happens twice.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.e2e.asking import Asker, answered
from tests.e2e.servers import E2E, RealServer, real_server

MACHINE = "counter"
KINDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)


class Traffic:
    """restarts.mjs, and what it answers."""

    def __init__(self, server: RealServer) -> None:
        self.process = subprocess.Popen(
            ["node", "restarts.mjs"],
            cwd=E2E,
            env={**server.environment(), "MACHINE": MACHINE},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> dict[str, Any]:  # Any: JSON
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the traffic ended"
        told: dict[str, Any] = json.loads(line)
        return told

    def ask(self, word: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def run(restarts: int, seed: int, *, is_talkative: bool = False) -> str:
    """Raises AssertionError when a law does not hold; what was done."""
    chance = random.Random(seed)
    kinds = [KINDS[n % len(KINDS)] for n in range(restarts)]
    chance.shuffle(kinds)
    with tempfile.TemporaryDirectory() as folder, real_server(Path(folder) / "data") as server:
        server.smply(
            "machines", "create", "--machine", MACHINE, "--node", str(E2E / "machines" / "counter.ts")
        )
        traffic = Traffic(server)
        try:
            told = traffic.answer()
            assert told == {"deaf": []}, told
            lost = 0
            for number, kind in enumerate(kinds, 1):
                restart(server, kind)
                told = traffic.ask("settle")
                refused = told["refused"]
                lost += len(refused)
                if is_talkative:
                    print(f"{number:3} {kind.name}: {len(refused)} requests lost", flush=True)
                assert told["deaf"] == [], f"after {kind.name}: {told}\n{server.log.read_text()[-2000:]}"
                assert kind == signal.SIGKILL or not refused, f"after {kind.name}: {refused}"
                # Each sender has one request in flight; what it sends next waits for the next server.
                senders = [one["id"].partition(".")[0] for one in refused]
                assert len(senders) == len(set(senders)), f"after {kind.name}: {refused}"
            acknowledged = check(server, traffic.ask("end"))
        finally:
            traffic.close()
    return f"{restarts} restarts: {acknowledged} acknowledged events, {lost} requests in flight at a SIGKILL"


def restart(server: RealServer, kind: signal.Signals) -> None:
    """And waits until the server before has ended."""
    pid = server.pid
    os.kill(server.process.pid if kind == signal.SIGHUP else pid, kind)
    while server.pid == pid:
        pass


def check(server: RealServer, told: dict[str, Any]) -> int:
    """The histories say what the senders were told; how many events were acknowledged."""
    asker = Asker(server)
    total = 0
    for name, sent in told.items():
        happened = Counter(history(asker, name))
        assert max(happened.values()) == 1, f"{name}: twice {[id for id, n in happened.items() if n > 1]}"
        lost = set(sent["acknowledged"]) - set(happened)
        assert not lost, f"{name}: lost {sorted(lost)[:5]}"
        assert not sent["refused"], sent["refused"]
        total += len(sent["acknowledged"])
    return total


def history(asker: Asker, name: str) -> list[str]:
    ids: list[str] = []
    query = {"limit": "1000"}
    while True:
        page = answered(asker.http.get(f"/machines/{MACHINE}/i/{name}/events", params=query))
        ids += [t["event"]["id"] for t in page["transitions"] if t["event"]["type"] == "increment"]
        if "cursor" not in page:
            return ids
        query["cursor"] = page["cursor"]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    print(run(given.restarts, given.seed, is_talkative=True) + "; every law held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
