"""Who serves a data folder: one process at a time, told by a lock that ends with its holder.

Theory of operation. The file `server.lock` in the folder is locked with flock. The lock belongs to the open
file: whoever inherits or is sent the descriptor holds it too, so a supervisor and the servers that it starts
one after the other hold one lock, and no other server comes in between. The kernel lets go of it when the
last holder ends, however it ends: nothing of a killed server is in the way. The text in the file says whom
to ask; it is true only while the lock is held. Nobody unlocks, everybody closes: unlocking would unlock for
all.
"""

import contextlib
import fcntl
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

FILE_NAME: Final = "server.lock"
_TEXT_BYTES_MAX: Final = 4_096


class FolderInUse(Exception):
    """Another server serves this folder; the text says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that is to be asked to stop, where it listens, and in which PID namespace its number counts
    ("" where there are none)."""

    pid: int
    url: str
    namespace: str


class FolderLock:
    """Held from `take` until `close`, and as long as another process has the descriptor, too."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def take(cls, folder: Path, *, is_asked_to_stop: bool = False) -> Self:
        """`is_asked_to_stop`: a holder gets SIGTERM, and this waits until it has ended.

        Raises FolderInUse, and OSError for a folder that cannot be written or locked."""
        descriptor = os.open(folder / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _read(descriptor)
                if is_asked_to_stop:
                    _ask_to_stop(folder, holder)
                elif holder is None or _is_alive(holder):
                    raise _in_use(folder, holder) from None
                # It ends. (When a supervisor is killed, its server is, a moment later.)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.ftruncate(descriptor, 0)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def tell(self, pid: int, url: str) -> None:
        """Who is to be asked to stop, and where the folder is served."""
        text = f"{pid}\n{url}\n{_pid_namespace()}\n".encode()
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text[:_TEXT_BYTES_MAX], 0)

    def close(self) -> None:
        os.close(self.descriptor)


def _read(descriptor: int) -> Holder | None:
    """None while a holder has not said who it is."""
    lines = os.pread(descriptor, _TEXT_BYTES_MAX, 0).decode(errors="replace").split("\n")
    if len(lines) < 4 or not lines[0].isdecimal():
        return None
    return Holder(int(lines[0]), lines[1], lines[2])


def _in_use(folder: Path, holder: Holder | None) -> FolderInUse:
    if holder is None:
        return FolderInUse(f"another server is starting in {folder}")
    return FolderInUse(
        f"pid {holder.pid} serves {folder} at {holder.url}: "
        "stop it first, or have it stopped with --take-over"
    )


def _ask_to_stop(folder: Path, holder: Holder | None) -> None:
    if holder is None:
        raise FolderInUse(f"another server is starting in {folder}: try again when it listens")
    if holder.namespace != _pid_namespace():
        raise FolderInUse(
            f"pid {holder.pid} of another container serves {folder} at {holder.url}: stop it there"
        )
    print(f"statebacked: asks pid {holder.pid} at {holder.url} to stop", file=sys.stderr, flush=True)
    with contextlib.suppress(ProcessLookupError):
        os.kill(holder.pid, signal.SIGTERM)


def _is_alive(holder: Holder) -> bool:
    if holder.namespace != _pid_namespace():
        return True
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
