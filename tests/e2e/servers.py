"""A real server process for tests: started, killed and asked as a user would."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
E2E = Path(__file__).resolve().parent


@dataclass(frozen=True)
class RealServer:
    """`process` is what was started: the supervisor, unless it was started without one."""

    process: subprocess.Popen[str]
    url: str
    data: Path
    log: Path
    is_supervised: bool = True

    @property
    def pid(self) -> int:
        """The process that serves at the moment. Waits until there is one."""
        if not self.is_supervised:
            return self.process.pid
        while not (children := children_of(self.process.pid)):
            assert self.process.poll() is None, self.log.read_text()
        return children[0]

    def workers(self) -> list[int]:
        """The processes that the server has started."""
        return children_of(self.pid)

    @cached_property
    def admin(self) -> dict[str, str]:
        held: dict[str, str] = json.loads((self.data / "admin.json").read_text())
        return held

    def environment(self) -> dict[str, str]:
        """For the command line and for scripts that use the published client."""
        admin = self.admin
        return {
            **os.environ,
            "STATEBACKED_DATA": str(self.data),
            "API_HOST": self.url,
            "ORG_ID": admin["orgId"],
            "KEY_ID": admin["keyId"],
            "SECRET_KEY": admin["secretKey"],
            "ADMIN_TOKEN": admin["adminToken"],
        }

    def smply(self, *arguments: str, cwd: Path | None = None) -> str:
        """What the command prints; fails the test when it fails."""
        done = self._run_smply(arguments, cwd)
        assert done.returncode == 0, f"smply {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def failing_smply(self, *arguments: str, cwd: Path | None = None) -> str:
        """What the command complains of; fails the test when it succeeds."""
        done = self._run_smply(arguments, cwd)
        assert done.returncode == 1, f"smply {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        assert done.stdout == ""
        return done.stderr

    def _run_smply(self, arguments: Sequence[str], cwd: Path | None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "smply"), *arguments],
            env=self.environment(),
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def node(self, script: str, environment: Mapping[str, str] | None = None) -> str:
        """Run a script of this folder; fails the test when it fails."""
        done = subprocess.run(
            ["node", *(["--test"] if script.endswith(".test.mjs") else []), script],
            env={**self.environment(), **(environment or {})},
            cwd=E2E,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr + self.log.read_text()[-4000:]
        return done.stdout

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@contextmanager
def real_server(
    data: Path, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[RealServer]:
    server = start_server(data, arguments, environment)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def start_server(
    data: Path, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> RealServer:
    """Start and wait until it listens: it says so in one line."""
    data.mkdir(parents=True, exist_ok=True)
    log = data / "server.log"
    with log.open("a") as out:
        process = subprocess.Popen(
            [str(BIN / "statebacked"), "serve", "--port", "0", "--data", str(data), *arguments],
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
            env={**os.environ, **(environment or {})},
        )
    assert process.stdout is not None
    with process.stdout:
        line = process.stdout.readline()
    assert line.startswith("statebacked listens on "), line + log.read_text()
    return RealServer(process, line.split()[-1], data, log, "--no-supervisor" not in arguments)


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]
