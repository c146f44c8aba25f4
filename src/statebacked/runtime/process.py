"""Start, feed and kill one sandboxed process. Bytes in, bytes out, and its end told once, with a reason.

`Sandbox` knows the command line; `Process` is one running process. Neither knows frames.
"""

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, cast

from deno import find_deno_bin  # type: ignore[import-untyped]  # it has no types

from statebacked.model import limits
from statebacked.runtime.cgroups import NO_GROUP, Group
from statebacked.runtime.leftovers import own_prefix, remove_leftovers
from statebacked.runtime.walls import NO_WALLS, Walls, offered_walls

STDERR_BYTES_MAX: Final = 16_384
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_NOBODY: Final = 65_534
_PIPES_GRACE_S: Final = 0.2  # how long a dead process's pipes may stay open (a wrapper's child holds them)

# A folder that nobody, not even root, can create: Deno then keeps its caches in memory and leaves nothing.
_NOWHERE: Final = "/proc/statebacked"
ENVIRON: Final = {"NO_COLOR": "1", "DENO_NO_UPDATE_CHECK": "1", "DENO_DIR": _NOWHERE, "HOME": _NOWHERE}

_V8_FLAGS: Final = (
    f"--max-old-space-size={limits.WORKER_HEAP_MB},--min-semi-space-size=8,--max-semi-space-size=16"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """How a worker process is started: the binary, the folder of built workers (one a major), the user that
    it runs as when the server is root (-1: the server's own), its environment, its walls."""

    deno: str
    dist: Path
    uid: int = -1
    environ: Mapping[str, str] = field(default_factory=lambda: ENVIRON)
    walls: Walls = NO_WALLS

    def majors(self) -> list[int]:
        """The majors of xstate that a worker is built for, ascending."""
        return [major for major in (4, 5) if (self.dist / str(major) / "boot.js").is_file()]

    def command(self, major: int) -> list[str]:
        folder = self.dist / str(major)
        return [
            *(self.deno, "run", "--quiet", "--no-prompt", "--no-config", "--no-lock", "--no-remote"),
            *("--no-npm", "--no-code-cache", "--import-map", str(folder / "import-map.json")),
            *(f"--v8-flags={_V8_FLAGS}", str(folder / "boot.js")),
        ]

    async def start(self, major: int, folder: Path, listener: "Listener") -> "Process":
        """A worker of `major` in the empty folder `folder`. Raises OSError."""
        return await start_process(self, major, folder, listener)


def find_sandbox(environ: Mapping[str, str]) -> Sandbox:
    """The sandbox of this installation.

    STATEBACKED_DENO names another binary: a wrapper for tests or debugging, so it keeps the server's user and
    gets the server's environment, but for what is ours, and no walls.
    """
    dist = Path(__file__).resolve().parent / "js" / "dist"
    named = environ.get("STATEBACKED_DENO")
    if named is not None:
        others = {name: value for name, value in environ.items() if not name.startswith("STATEBACKED_")}
        return Sandbox(deno=os.path.abspath(named), dist=dist, environ={**others, **ENVIRON})
    deno = os.path.realpath(find_deno_bin())
    uid = _NOBODY if os.geteuid() == 0 else -1
    return Sandbox(deno=deno, dist=dist, uid=uid, walls=offered_walls([deno, str(dist)]))


class Listener(Protocol):
    """Who hears a process."""

    def received(self, data: bytes) -> None: ...

    def drained(self) -> None:
        """The process reads again after `is_paused` was true."""

    def ended(self, reason: str) -> None:
        """It is gone, and nothing more will be received. Called once."""


class Process(asyncio.SubprocessProtocol):
    """One process, and its control group. Writes of one turn of the event loop go out together."""

    def __init__(self, listener: Listener, group: Group) -> None:
        self.is_paused = False
        self.is_over = False
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._group = group
        self._transport: asyncio.SubprocessTransport
        self._stdin: asyncio.WriteTransport
        self._stdout: asyncio.ReadTransport
        self._out: list[bytes] = []
        self._stderr = bytearray()
        self._verdict: str | None = None
        self._statm = -1
        self._passed_its_memory = False

    @property
    def pid(self) -> int:
        return self._transport.get_pid()

    def write(self, parts: Sequence[bytes]) -> None:
        """Send these bytes, in order, at the end of this turn of the loop. Never waits."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += parts

    def _flush(self) -> None:
        out, self._out = self._out, []
        if not self._stdin.is_closing():  # it closes when the process dies, before that is told
            self._stdin.write(b"".join(out))

    def pause_reading(self) -> None:
        """Hear no more of it; it waits when it writes."""
        if not self._stdout.is_closing():
            self._stdout.pause_reading()

    def resume_reading(self) -> None:
        if not self.is_over and not self._stdout.is_closing():
            self._stdout.resume_reading()

    def kill(self, reason: str) -> None:
        """SIGKILL: a looping process obeys it within milliseconds. The first reason given is the one told."""
        self._verdict = self._verdict or reason
        if self.is_over or self._transport.get_returncode() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # a wrapper named by STATEBACKED_DENO has a child
        with suppress(ProcessLookupError):
            self._transport.kill()

    @property
    def was_killed_by_others(self) -> bool:
        """It ended by a SIGKILL that was not ours: an operator's, or the kernel's when the machine needed
        memory."""
        is_ours = self._verdict is not None or self._passed_its_memory
        return not is_ours and self._transport.get_returncode() == -signal.SIGKILL

    def resident_bytes(self) -> int:
        """How much memory it occupies now; 0 when it is gone. One read of a file that is kept open."""
        if self._statm < 0:
            return 0
        with suppress(OSError, IndexError, ValueError):
            return int(os.pread(self._statm, 128, 0).split()[1]) * _PAGE_BYTES
        return 0

    def cpu_seconds(self) -> float:
        """How much CPU it has used so far; 0 when it is gone."""
        with suppress(OSError, IndexError, ValueError):
            fields = Path(f"/proc/{self.pid}/stat").read_bytes().rpartition(b")")[2].split()
            return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        return 0.0

    # --- called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes, and do what these do.
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self._stdin = cast("asyncio.WriteTransport", self._transport.get_pipe_transport(0))
        self._stdout = cast("asyncio.ReadTransport", self._transport.get_pipe_transport(1))
        with suppress(OSError):
            self._statm = os.open(f"/proc/{self.pid}/statm", os.O_RDONLY | os.O_CLOEXEC)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._listener.received(data)
        else:
            self._stderr += data
            del self._stderr[:-STDERR_BYTES_MAX]

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self._listener.drained()

    def process_exited(self) -> None:
        self._passed_its_memory = self._group.ran_out_of_memory()
        self._group.remove()
        self._loop.call_later(_PIPES_GRACE_S, self._transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.is_over:
            return
        self.is_over = True
        if self._statm >= 0:
            os.close(self._statm)
            self._statm = -1
        self._transport.close()
        self._listener.ended(self._verdict or self._cause())

    def stderr_tail(self) -> str:
        """The last of what it wrote to stderr, for the server's own log: it may name paths of the host."""
        return self._stderr.decode(errors="replace")

    def _cause(self) -> str:
        if b"Last few GCs" in self._stderr or b"heap out of memory" in self._stderr:
            return f"ran out of memory: its heap passed {limits.WORKER_HEAP_MB} MB"
        if self._passed_its_memory:
            return f"ran out of memory: it passed {limits.WORKER_GROUP_MB_MAX} MB"
        code = self._transport.get_returncode()
        if code is None:
            return "closed its output"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"exited with code {code}"


async def start_process(sandbox: Sandbox, major: int, folder: Path, listener: Listener) -> Process:
    """Start a worker of `major` in the empty folder `folder`. Raises OSError.

    Call it on a thread that lives as long as the server: the worker is killed when that thread ends.
    """
    loop = asyncio.get_running_loop()
    launcher = Path(__file__).with_name("launcher.py")
    walls = sandbox.walls
    group = walls.groups.make() if walls.groups is not None else NO_GROUP
    try:
        _, process = await loop.subprocess_exec(
            lambda: Process(listener, group),
            *(sys.executable, "-I", "-S", str(launcher), str(os.getpid()), str(sandbox.uid)),
            *("\n".join(group.entrances()), "\n".join(walls.readable), walls.filter),
            *sandbox.command(major),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=str(folder),
            env=sandbox.environ,
        )
    except BaseException:
        group.remove()
        raise
    return process


def empty_folder() -> Path:
    """A new folder in which nothing can be created; it also removes those of servers that were killed."""
    root = Path(tempfile.gettempdir())
    remove_leftovers(root)
    folder = Path(tempfile.mkdtemp(prefix=own_prefix()))
    folder.chmod(0o555)
    return folder
