"""A worker process driven by hand over its pipes, with a framing of its own. bench/worker.py uses it too."""

import json
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

DIST = Path(__file__).parents[2] / "src" / "statebacked" / "runtime" / "js" / "dist"
FLAGS = (
    "--quiet",
    "--no-prompt",
    "--no-config",
    "--no-lock",
    "--no-remote",
    "--no-npm",
    "--no-code-cache",
    "--v8-flags=--max-old-space-size=128,--min-semi-space-size=8,--max-semi-space-size=16",
)
LIMITS = {
    "authorize_ms": 5_000,
    "context_bytes_max": 400_000,
    "step_bytes_max": 4_000_000,
    "timer_operations_max": 1_000,
    "sends_max": 1_000,
    "spawns_max": 100,
    "microsteps_max": 1_000,
    "services_max": 100,
    "index_values_max": 1_000,
    "index_value_bytes_max": 1_024,
    "fetch": {
        "per_instance_max": 16,
        "per_worker_max": 64,
        "headers_bytes_max": 32_768,
        "body_bytes_max": 10_000_000,
        "chunk_bytes_max": 65_536,
        "window_bytes": 262_144,
    },
}
PATIENCE_S = 10.0

Header = dict[str, Any]  # Any: tests look into frames freely
Frame = tuple[Header, list[str]]


def find_deno() -> str:
    found = shutil.which("deno", path=str(Path(sys.executable).parent)) or shutil.which("deno")
    assert found is not None, "deno is not installed"
    return found


def encode(header: Header, sections: Sequence[str] = ()) -> bytes:
    raw = [section.encode() for section in sections]
    if raw:
        header = {**header, "raw": [len(part) for part in raw]}
    head = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    body = struct.pack(">I", len(head)) + head + b"".join(raw)
    return struct.pack(">I", len(body)) + body


class WorkerProcess:
    """One `deno run` of a built worker. Frames are read in order; console lines are kept apart."""

    def __init__(self, major: int = 5, **limits: Any) -> None:  # Any: as frames
        self.major = major
        self.limits = {**LIMITS, **limits}
        self.logs: list[Header] = []
        self._home = tempfile.TemporaryDirectory()
        self._bytes = bytearray()
        self._early: list[Frame] = []
        self._number = 0

    def __enter__(self) -> Self:
        dist = DIST / str(self.major)
        flags = [*FLAGS, f"--import-map={dist / 'import-map.json'}"]
        env = {
            "NO_COLOR": "1",
            "DENO_NO_UPDATE_CHECK": "1",
            "DENO_DIR": self._home.name,
            "HOME": self._home.name,
        }
        self._process = subprocess.Popen(
            [find_deno(), "run", *flags, str(dist / "boot.js")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=self._home.name,
        )
        self.send({"t": "boot", "protocol": 1, **self.limits})
        self.ready = self.receive("ready")[0]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()
        self._home.cleanup()

    def hang_up(self) -> int:
        """Read nothing of it any more, ask it something, and wait for its end; its exit code."""
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()
        self.send({"t": "ping", "n": 1})
        return self._process.wait(timeout=PATIENCE_S)

    # --- frames

    def send(self, header: Header, sections: Sequence[str] = ()) -> None:
        self.write(encode(header, sections))

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise AssertionError(f"the worker is gone: {self._said()}") from error

    def _said(self) -> str:
        assert self._process.stderr is not None
        return self._process.stderr.read().decode()

    def receive(self, *types: str) -> Frame:
        """The next frame of one of the types. What services send meanwhile is kept for later."""
        early = next((frame for frame in self._early if frame[0]["t"] in types), None)
        if early is not None:
            self._early.remove(early)
            return early
        deadline = time.monotonic() + PATIENCE_S
        while True:
            frame = self._take()
            if frame is None:
                self._fill(deadline)
            elif frame[0]["t"] == "log":
                self.logs.append(frame[0])
            elif frame[0]["t"] in types:
                return frame
            else:
                assert frame[0]["t"] == "inside", frame
                self._early.append(frame)

    def _take(self) -> Frame | None:
        if len(self._bytes) < 4:
            return None
        (length,) = struct.unpack_from(">I", self._bytes)
        if len(self._bytes) < 4 + length:
            return None
        (head,) = struct.unpack_from(">I", self._bytes, 4)
        header = json.loads(self._bytes[8 : 8 + head])
        sections, at = [], 8 + head
        for size in header.pop("raw", []):
            sections.append(self._bytes[at : at + size].decode())
            at += size
        assert at == 4 + length
        del self._bytes[:at]
        return header, sections

    def _fill(self, deadline: float) -> None:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        readable, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        assert readable, "the worker gave no answer"
        data = os.read(fd, 1 << 20)
        if not data:
            raise AssertionError(f"the worker is gone: {self._said()}")
        self._bytes += data

    def said(self, a: int) -> list[str]:
        """The lines of machine code, without what the worker tells of a refusal."""
        lines = self.log_lines(a)
        return [line for line in lines if not line.startswith(("an event is refused: ", "    at "))]

    def log_lines(self, a: int | None = None) -> list[str]:
        """Console lines so far, of one activation; a ping makes sure that all are here."""
        self.send({"t": "ping", "n": 999})
        self.receive("pong")
        return [line for frame in self.logs if frame.get("a") == a for line in frame["lines"]]

    @property
    def stdout_fd(self) -> int:
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_exit(self) -> int:
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(PATIENCE_S)

    # --- the protocol's calls

    def load(self, bundle: str, selectors: Sequence[Sequence[str]] = (), *, examine: bool = False) -> Header:
        header: Header = {"t": "load", **({"examine": True} if examine else {})}
        if selectors:
            header["selectors"] = selectors
        self.send(header, [bundle])
        return self.receive("loaded", "unloadable")[0]

    def compute(
        self,
        a: int,
        seq: int,
        items: Sequence[Header],
        payloads: Sequence[str] = (),
        base: tuple[str, str] | None = None,
        name: str = "i",
    ) -> Frame:
        self._number += 1
        number = self._number
        header = {"t": "compute", "n": number, "a": a, "seq": seq, "name": name, "base": base is not None}
        self.send({**header, "items": list(items)}, [*(base or ()), *payloads])
        answer = self.receive("step", "refused", "lacks")
        assert answer[0]["n"] == number
        assert answer[0]["a"] == a
        return answer
