"""Control groups: what the kernel does to a worker that takes too much, and where groups may be made."""

import asyncio
import os
from pathlib import Path

import pytest

from statebacked.model import limits
from statebacked.runtime.cgroups import NO_GROUP, Groups, offered_groups
from statebacked.runtime.walls import NO_WALLS
from tests.event_loop import run
from tests.runtime.test_process import start

OFFERED = offered_groups()
BOUND = NO_WALLS._replace(groups=OFFERED)
ALL = limits.WORKER_GROUP_MB_MAX
bounds_memory = pytest.mark.skipif(
    OFFERED is None or "memory" not in OFFERED.controllers, reason="no memory groups may be made here"
)
bounds_tasks = pytest.mark.skipif(
    OFFERED is None or "pids" not in OFFERED.controllers, reason="no groups of tasks may be made here"
)


def groups_left() -> list[Path]:
    assert OFFERED is not None
    return [left for folder in OFFERED.folders for left in folder.glob(f"statebacked-{os.getpid()}-*")]


@bounds_memory
@run
async def test_a_burst_of_memory_is_ended_by_the_kernel_and_told_as_the_workers_own_doing() -> None:
    burst = f"kept = bytearray({ALL * 3} << 20); kept[::4096] = b'x' * len(kept[::4096]); print('kept')"
    process, ear, folder = await start(burst, walls=BOUND)
    assert await ear.end == f"ran out of memory: it passed {ALL} MB"
    assert (ear.data, process.was_killed_by_others) == (b"", False)
    assert groups_left() == []
    folder.rmdir()


@bounds_memory
@run
async def test_less_than_a_worker_may_have_is_no_ones_business() -> None:
    process, ear, folder = await start(
        f"kept = bytearray({limits.WORKER_RESIDENT_MB_MAX} << 20); kept[::4096] = b'x' * len(kept[::4096])",
        walls=BOUND,
    )
    assert await ear.end == "exited with code 0"
    assert not process.was_killed_by_others
    folder.rmdir()


@bounds_tasks
@run
async def test_threads_are_bounded() -> None:
    script = (
        "import threading\nfor n in range(10_000):\n"
        "    try: threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "    except RuntimeError: break\nprint(n, flush=True)\nimport os; os._exit(0)"
    )
    _, ear, folder = await start(script, walls=BOUND)
    assert await ear.end == "exited with code 0"
    assert int(ear.data) == limits.WORKER_TASKS_MAX - 1
    folder.rmdir()


@bounds_memory
@run
async def test_a_group_that_cannot_be_had_starts_nothing() -> None:
    assert OFFERED is not None
    nowhere = OFFERED._replace(folders=(*OFFERED.folders, Path("/proc/statebacked")))
    with pytest.raises(OSError, match="statebacked"):
        await start("print('it runs')", walls=NO_WALLS._replace(groups=nowhere))
    assert groups_left() == []


@bounds_memory
@run
async def test_groups_of_servers_that_were_killed_are_removed() -> None:
    assert OFFERED is not None
    dead = await asyncio.create_subprocess_exec("true")
    await dead.wait()
    left = [folder / f"statebacked-{dead.pid}-0" for folder in OFFERED.folders]
    own = OFFERED.make()
    for folder in left:
        folder.mkdir()
    assert offered_groups() == OFFERED
    assert [folder.exists() for folder in (*left, *own.folders)] == [False] * len(left) + [True] * len(left)
    own.remove()


# --- version 2, by what a kernel would tell ------------------------------------------------------


class Tree:
    """The files of a version 2 tree, and of a process in it. Its root is the system's own."""

    def __init__(self, folder: Path, *, own: str, mount_root: str = "/") -> None:
        self.point = folder / "cgroup"
        self.proc = folder / "proc"
        self.proc.mkdir()
        self.add(".", others=())
        (self.proc / "cgroup").write_text(f"0::{own}\n")
        mount = f"30 25 0:26 {mount_root} {self.point} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
        (self.proc / "mountinfo").write_text(f"25 1 8:1 / / rw - ext4 /dev/sda1 rw\n{mount}")

    def add(self, path: str, *, others: tuple[int, ...] = (), is_delegated: bool = False) -> Path:
        group = self.point / path
        group.mkdir(parents=True)
        (group / "cgroup.controllers").write_text("cpu memory pids\n")
        (group / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in others))
        if path != ".":
            (group / "cgroup.type").write_text("domain\n")
        if is_delegated:
            os.setxattr(group, "user.delegate", b"1")
        return group

    def offered(self) -> Groups | None:
        return offered_groups(self.proc)


@pytest.fixture
def marks(tmp_path: Path) -> None:
    try:
        os.setxattr(tmp_path, "user.delegate", b"1")
    except OSError:
        pytest.skip("the file system of temporary files keeps no marks")


@pytest.mark.usefixtures("marks")
def test_a_delegated_tree_is_divided_and_the_server_moves_into_a_group_of_its_own(tmp_path: Path) -> None:
    tree = Tree(tmp_path, own="/system.slice/statebacked.service")
    group = tree.add("system.slice/statebacked.service", others=(os.getpid(),), is_delegated=True)
    assert tree.offered() == Groups((group,), ("memory", "pids"))
    assert (group / "statebacked-server" / "cgroup.procs").read_text() == "0"
    assert (group / "cgroup.subtree_control").read_text() == "+memory +pids"


@pytest.mark.usefixtures("marks")
def test_a_server_that_stands_beneath_the_delegated_group_stays_where_it_is(tmp_path: Path) -> None:
    """`DelegateSubgroup=` of systemd, and a server that asks a second time."""
    tree = Tree(tmp_path, own="/a.service/main")
    group = tree.add("a.service", is_delegated=True)
    tree.add("a.service/main", others=(os.getpid(),))
    assert tree.offered() == Groups((group,), ("memory", "pids"))
    assert not (group / "statebacked-server").exists()


@pytest.mark.usefixtures("marks")
def test_a_group_that_holds_others_is_left_alone(tmp_path: Path) -> None:
    tree = Tree(tmp_path, own="/a.service")
    group = tree.add("a.service", others=(1, os.getpid()), is_delegated=True)
    assert tree.offered() is None
    assert not (group / "cgroup.subtree_control").exists()


def test_a_group_that_was_not_delegated_is_left_alone(tmp_path: Path) -> None:
    tree = Tree(tmp_path, own="/user.slice/session.scope")
    group = tree.add("user.slice/session.scope", others=(os.getpid(),))
    assert tree.offered() is None
    assert not (group / "cgroup.subtree_control").exists()


def test_the_root_of_a_containers_own_tree_is_used_and_that_of_the_system_is_not(tmp_path: Path) -> None:
    tree = Tree(tmp_path, own="/")
    (tree.point / "cgroup.procs").write_text(f"{os.getpid()}\n")
    assert tree.offered() is None
    (tree.point / "cgroup.type").write_text("domain\n")
    assert tree.offered() == Groups((tree.point,), ("memory", "pids"))


def test_a_mount_that_shows_a_part_of_the_tree_is_understood(tmp_path: Path) -> None:
    tree = Tree(tmp_path, own="/docker/abc", mount_root="/docker/abc")
    (tree.point / "cgroup.procs").write_text(f"{os.getpid()}\n")
    (tree.point / "cgroup.type").write_text("domain\n")
    assert tree.offered() == Groups((tree.point,), ("memory", "pids"))


def test_controllers_of_version_1_that_share_a_tree_share_the_group_of_a_worker(tmp_path: Path) -> None:
    point, proc = tmp_path / "both", tmp_path / "proc"
    (point / "own").mkdir(parents=True)
    proc.mkdir()
    (proc / "cgroup").write_text("4:memory,pids:/own\n")
    (proc / "mountinfo").write_text(f"30 25 0:26 / {point} rw - cgroup cgroup rw,memory,pids\n")
    groups = offered_groups(proc)
    assert groups == Groups((point / "own",), ("memory", "pids"))
    assert groups is not None
    assert len(groups.make().folders) == 1


def test_a_group_of_version_2_gets_the_limits_that_its_kernel_knows(tmp_path: Path) -> None:
    group = Groups((tmp_path,), ("memory", "pids")).make()
    (folder,) = group.folders
    assert [file.name for file in folder.iterdir()] == []  # a real tree has them; an absent one is not made
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\noom_group_kill 0\n")
    assert not group.ran_out_of_memory()
    (folder / "memory.events").write_text("oom 1\noom_kill 1\noom_group_kill 1\n")
    assert group.ran_out_of_memory()


def test_no_group_has_nothing_to_enter_and_nothing_to_remove() -> None:
    assert NO_GROUP.entrances() == []
    NO_GROUP.remove()
    assert not NO_GROUP.ran_out_of_memory()
