"""Control groups: a worker's memory and threads, bounded by the kernel between two looks of the watchdog.

Used where this process may make groups: version 2 in a tree that was delegated to it (`Delegate=yes` of
systemd, or the root of a container's own tree), version 1 where its folders are writable. Nothing else is
touched: other people's processes stay where they are, and a tree that holds some is not used.
Source: cgroups(7), Documentation/admin-guide/cgroup-v2.rst of Linux, systemd.resource-control(5).
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from statebacked.model import limits
from statebacked.runtime.leftovers import own_prefix, remove_leftovers

_SERVER: Final = "statebacked-server"  # in version 2 a group with groups beneath it holds no process itself
_MEMORY: Final = str(limits.WORKER_GROUP_MB_MAX * 1024 * 1024)
_LIMITS: Final = {  # in this order, those that are there
    "memory.max": _MEMORY,
    "memory.swap.max": "0",
    "memory.oom.group": "1",
    "memory.limit_in_bytes": _MEMORY,
    "memory.memsw.limit_in_bytes": _MEMORY,
    "pids.max": str(limits.WORKER_TASKS_MAX),
}
_CONTROLLERS: Final = ("memory", "pids")
_numbers = itertools.count()


class Group(NamedTuple):
    """The group of one worker: a folder of version 2, or of version 1 one a controller."""

    folders: tuple[Path, ...]

    def entrances(self) -> list[str]:
        """A process that writes 0 to each of these files is in the group, with all that it will start."""
        return [str(folder / "cgroup.procs") for folder in self.folders]

    def ran_out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of it because it passed its memory."""
        return any(_oom_kills(folder) > 0 for folder in self.folders)

    def remove(self) -> None:
        """Once its processes are gone. One that is still busy is left, for the next server to remove."""
        for folder in self.folders:
            with suppress(OSError):
                folder.rmdir()


NO_GROUP: Final = Group(())


class Groups(NamedTuple):
    """Where groups for workers can be made: `folders` as in Group, and which `controllers` bound them."""

    folders: tuple[Path, ...]
    controllers: tuple[str, ...]

    def make(self) -> Group:
        """A new group with its limits. Raises OSError, and leaves nothing then."""
        name = f"{own_prefix()}{next(_numbers)}"
        group = Group(tuple([folder / name for folder in self.folders]))
        try:
            for folder in group.folders:
                folder.mkdir()
                for file, limit in _LIMITS.items():
                    if (folder / file).exists():
                        (folder / file).write_text(limit)
        except OSError:
            group.remove()
            raise
        return group

    def hold(self, pid: int) -> bool:
        """Whether that process is in one of these groups, in all of its folders."""
        paths = [Path(path) for _, path in _paths(Path(f"/proc/{pid}"))]
        held = [path for path in paths if path.name.startswith(own_prefix())]
        return len(held) == len(self.folders)


def offered_groups(proc: Path = Path("/proc/self")) -> Groups | None:
    """Where this process may make groups, by what `proc` tells of it. In version 2 it moves itself into a
    group beneath the delegated one."""
    found = _of_version_2(proc) or _of_version_1(proc)
    if found is not None:
        for folder in found.folders:
            remove_leftovers(folder)
    return found


# --- version 2 -----------------------------------------------------------------------------------


def _of_version_2(proc: Path) -> Groups | None:
    mounted = [(root, point) for root, point, kind, _ in _mounts(proc) if kind == "cgroup2"]
    own = [path for controllers, path in _paths(proc) if controllers == ""]
    if not mounted or not own:
        return None
    (root, point), path = mounted[0], own[0]
    here = _beneath(point, root, path)
    for group in (here, here.parent):
        if group.is_relative_to(point) and _is_delegated(group, point):
            return _divide(group, here)
    return None


def _is_delegated(group: Path, point: Path) -> bool:
    """By the mark that systemd sets; or a container's own tree, whose root is not that of the system."""
    if group == point:
        return (group / "cgroup.type").exists()
    for mark in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):
            if os.getxattr(group, mark) == b"1":
                return True
    return False


def _divide(group: Path, here: Path) -> Groups | None:
    """Let groups beneath that one have limits, which it takes an empty one for: we move, nobody else."""
    controllers = [name for name in _CONTROLLERS if name in _read(group / "cgroup.controllers").split()]
    if not controllers:
        return None
    try:
        if here == group:
            if _read(group / "cgroup.procs").split() != [str(os.getpid())]:
                return None
            (group / _SERVER).mkdir(exist_ok=True)
            (group / _SERVER / "cgroup.procs").write_text("0")
        (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
    except OSError:
        return None
    return Groups((group,), tuple(controllers))


# --- version 1 -----------------------------------------------------------------------------------


def _of_version_1(proc: Path) -> Groups | None:
    paths = {name: path for names, path in _paths(proc) for name in names.split(",")}
    folders: dict[str, Path] = {}
    for root, point, kind, options in _mounts(proc):
        for name in _CONTROLLERS:
            if kind == "cgroup" and name in options and name in paths:
                folders[name] = _beneath(point, root, paths[name])
    usable = {name: folder for name, folder in folders.items() if _may_make_groups(folder)}
    # Two controllers may share a tree, and then a folder.
    return Groups(tuple(dict.fromkeys(usable.values())), tuple(usable)) if usable else None


def _may_make_groups(folder: Path) -> bool:
    """Tried, because a folder may be writable and its file system read-only, or the other way round."""
    probe = folder / f"{own_prefix()}probe"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return False
    return True


# --- what the kernel tells -----------------------------------------------------------------------


def _paths(proc: Path) -> Iterator[tuple[str, str]]:
    """Pairs of controllers (with commas; none: version 2) and the path of a process's group."""
    for line in _read(proc / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        yield controllers, path


def _mounts(proc: Path) -> Iterator[tuple[str, Path, str, list[str]]]:
    """The root, the mount point, the kind and the options of each file system (proc(5), mountinfo)."""
    for line in _read(proc / "mountinfo").splitlines():
        mount, _, system = line.partition(" - ")
        fields, (kind, _, options) = mount.split(), system.split(" ", 2)
        yield fields[3], Path(fields[4]), kind, options.split(",")


def _beneath(point: Path, root: str, path: str) -> Path:
    """The folder of a group: a mount may show a part of the tree."""
    inner = path.removeprefix(root) if root != "/" else path
    return point / inner.lstrip("/")


def _read(file: Path) -> str:
    """Empty when it is not there or may not be read."""
    try:
        return file.read_text()
    except OSError:
        return ""


def _oom_kills(folder: Path) -> int:
    lines = f"{_read(folder / 'memory.events')}\n{_read(folder / 'memory.oom_control')}".splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
