"""Stories of requests made up from the contract, against a real server: none may end in a status of 5xx.

`python -m tests.e2e.fuzz [--minutes 10] [--seed N]` (make fuzz). schemathesis plays its stateful phase: what
one answer names is used in the next request, with sense and without. Every 5xx fails the run, as does every
error in the server's log: the 503 of a server that stops or lacks workers has no place here. Left out is the
stream of logs, which does not end.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from tests.e2e.asking import Asker, answered
from tests.e2e.servers import BIN, E2E, RealServer, real_server

MACHINE = "bells"
ANSWER_S = 60
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder, real_server(Path(folder) / "data") as server:
        set_up(server)
        status = play(server, Path(folder), minutes=given.minutes, seed=given.seed)
        assert httpx.get(server.url + "/readyz", timeout=ANSWER_S).status_code == 200
        faults = faults_in(server.log)
    for line in faults:
        print(f"in the server's log: {line}")
    return 1 if faults else status


def set_up(server: RealServer) -> None:
    """A machine and an instance, for stories to begin with."""
    asker = Asker(server)
    asker.deploy(MACHINE, E2E / "machines" / "bells.js")
    answered(asker.create(MACHINE, "one"))


def play(server: RealServer, folder: Path, *, minutes: float, seed: int) -> int:
    """The exit code of schemathesis: 0 when no check fails."""
    admin = server.admin
    command = [
        *(str(BIN / "schemathesis"), "run"),
        *(f"{server.url}/openapi.yaml", "--url", server.url),
        *("--phases", "stateful", "--checks", CHECKS, "--max-time", str(max(1, round(minutes * 60)))),
        *("--header", f"authorization:Bearer {admin['adminToken']}"),
        *("--header", f"x-statebacked-org-id:{admin['orgId']}"),
        *("--exclude-operation-id", "streamLogs", "--request-timeout", str(ANSWER_S)),
        *("--seed", str(seed), "--no-shrink", "--generation-database", "none", "--no-color"),
    ]
    return subprocess.run(command, cwd=folder, env={**os.environ, "NO_COLOR": "1"}, check=False).returncode


def faults_in(log: Path) -> list[str]:
    """Lines of the server's log that tell of a fault of its own."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [json.dumps(line) for line in lines if line["level"] in ("error", "critical")]


if __name__ == "__main__":
    sys.exit(main())
