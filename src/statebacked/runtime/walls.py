"""What a kernel offers to wall a worker in, beyond the permissions of Deno, and what is in force.

Asked of the kernel, not of its version: a container may forbid what its kernel can do.
"""

import ctypes
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from statebacked.runtime import seccomp
from statebacked.runtime.cgroups import Groups, offered_groups

_PR_GET_SECCOMP: Final = 21
_LANDLOCK_CREATE: Final = 444
_VERSION_FLAG: Final = 1

# What a program needs of a system to start; nothing of it is secret anywhere.
SYSTEM_FILES: Final = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/ld.so.preload",
    "/usr/share/zoneinfo", "/etc/localtime", "/dev/null", "/dev/zero", "/dev/urandom",
    "/proc/self/cgroup", "/sys/fs/cgroup",  # how many CPUs it may use, so how many threads it starts
    "/proc/self/maps",  # where libc looks for the end of the stack
)  # fmt: skip


class Walls(NamedTuple):
    """How a worker is walled in: the files that Landlock leaves it (none: no Landlock), the program of its
    seccomp filter (empty: no filter), and where its control group is made (None: it has none)."""

    readable: tuple[str, ...] = ()
    filter: str = ""
    groups: Groups | None = None


NO_WALLS: Final = Walls()


def landlock_abi() -> int:
    """The version of Landlock that this kernel offers to this process; 0: none."""
    abi: int = ctypes.CDLL(None).syscall(_LANDLOCK_CREATE, None, 0, _VERSION_FLAG)
    return max(abi, 0)


def offered_walls(files: Sequence[str]) -> Walls:
    """All that this kernel offers for a program that reads these files and folders."""
    has_filters = ctypes.CDLL(None).prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0
    return Walls(
        readable=(*files, *SYSTEM_FILES) if landlock_abi() else (),
        filter=seccomp.program(platform.machine()) if has_filters else "",
        groups=offered_groups(),
    )


class InForce(NamedTuple):
    """What holds a running process: read from the kernel, but for Landlock, which it does not tell."""

    user: str
    landlock: int  # its version; 0: not in force
    seccomp: bool
    capabilities: bool  # it has some
    no_new_privileges: bool
    cgroups: tuple[str, ...] = ()  # the controllers that bound it

    @property
    def missing(self) -> list[str]:
        """What should be there. Control groups are not: few systems let a server make them."""
        walls = [name for name in ("landlock", "seccomp", "no_new_privileges") if not getattr(self, name)]
        return ["another user", *walls] if self.user == "0" else walls


def in_force(pid: int, walls: Walls) -> InForce:
    """`walls` were asked for, and the launcher starts nothing without what it was asked for."""
    lines: dict[str, str] = {}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            lines[name] = value.strip()
    return InForce(
        user=lines.get("Uid", "?").split()[0],
        landlock=landlock_abi() if walls.readable else 0,
        seccomp=lines.get("Seccomp") == "2",
        capabilities=int(lines.get("CapEff", "0"), 16) != 0,
        no_new_privileges=lines.get("NoNewPrivs") == "1",
        cgroups=walls.groups.controllers if walls.groups is not None and walls.groups.hold(pid) else (),
    )
