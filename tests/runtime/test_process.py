"""One process: how it is started, how its end is told, and that nothing outlives its server."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from statebacked.ports.machines import WorkerGone
from statebacked.runtime.process import Listener, Process, Sandbox, empty_folder, find_sandbox, start_process
from statebacked.runtime.walls import NO_WALLS, Walls
from statebacked.runtime.worker import Worker
from tests.event_loop import run
from tests.runtime.rig import is_running

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptSandbox(Sandbox):
    """Runs a line of Python, or another command."""

    script: str
    program: Sequence[str] = ()

    def command(self, major: int) -> list[str]:
        return [*(self.program or [sys.executable, "-I", "-S", "-c"]), self.script]


class Ear:
    """Collects what a process says."""

    def __init__(self) -> None:
        self.data = b""
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.has_drained = asyncio.Event()
        self.has_received = asyncio.Event()

    def received(self, data: bytes) -> None:
        self.data += data
        self.has_received.set()

    def drained(self) -> None:
        self.has_drained.set()

    def ended(self, reason: str) -> None:
        self.end.set_result(reason)


async def start(
    script: str, *, uid: int = -1, program: Sequence[str] = (), walls: Walls = NO_WALLS
) -> tuple[Process, Ear, Path]:
    ear, folder = Ear(), empty_folder()
    sandbox = ScriptSandbox(
        deno="", dist=Path("/nowhere"), script=script, uid=uid, program=program, walls=walls
    )
    return await start_process(sandbox, 5, folder, ear), ear, folder


async def said(script: str, *, uid: int = -1, walls: Walls = NO_WALLS) -> tuple[str, str]:
    """What a script writes, and how its end is told."""
    _, ear, folder = await start(script, uid=uid, walls=walls)
    reason = await ear.end
    folder.rmdir()
    return ear.data.decode(), reason


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise SystemExit(7)", "exited with code 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        (
            r"import os, sys; sys.stderr.write('\n<--- Last few GCs --->\n'); sys.stderr.flush(); os.abort()",
            "ran out of memory: its heap passed 128 MB",
        ),
    ],
)
def test_an_end_is_told_with_its_reason(script: str, reason: str) -> None:
    @run
    async def test() -> None:
        assert (await said(script))[1] == reason

    test()


@run
async def test_a_killed_process_is_told_with_the_verdict() -> None:
    process, ear, folder = await start("while True: pass")
    process.kill("took too long")
    process.kill("said a second time")
    assert await ear.end == "took too long"
    assert not is_running(process.pid)
    assert process.resident_bytes() == 0
    folder.rmdir()


@run
async def test_what_was_said_before_the_end_is_heard() -> None:
    assert (await said("print('x' * 1_000_000, end='')"))[0] == "x" * 1_000_000


@run
async def test_writes_of_one_turn_arrive_in_order() -> None:
    process, ear, folder = await start("import sys; sys.stdout.write(sys.stdin.readline())")
    for word in (b"one ", b"two ", b"three\n"):
        process.write([word])
    await ear.end
    assert ear.data == b"one two three\n"
    folder.rmdir()


@run
async def test_a_process_that_does_not_read_pauses_its_writer() -> None:
    process, ear, folder = await start("import sys; sys.stdin.readline(); sys.stdin.read(3_000_000)")
    process.write([b"x" * 2_000_000])
    while not process.is_paused:  # noqa: ASYNC110 - asyncio gives no signal for it
        await asyncio.sleep(0)
    process.write([b"\n", b"y" * 3_000_000])
    await ear.has_drained.wait()
    assert not process.is_paused
    await ear.end
    folder.rmdir()


@run
async def test_memory_is_measured() -> None:
    process, ear, folder = await start(
        "import sys; x = b'x' * 50_000_000; print(1, flush=True); sys.stdin.read()"
    )
    await ear.has_received.wait()
    assert 50_000_000 < process.resident_bytes() < 200_000_000
    process.kill("done")
    await ear.end
    folder.rmdir()


@run
async def test_a_process_gets_an_empty_environment_and_folder_and_no_core_dumps() -> None:
    script = (
        "import os, resource; "
        "print(dict(os.environ), os.listdir(), resource.getrlimit(resource.RLIMIT_CORE), "
        "os.getsid(0) == os.getpid(), os.access('.', os.W_OK), "
        "[line for line in open('/proc/self/status') if 'NoNewPrivs' in line or 'CapEff' in line], "
        "resource.getrlimit(resource.RLIMIT_NOFILE), len(os.listdir('/proc/self/fd')))"
    )
    environ = {
        "NO_COLOR": "1",
        "DENO_NO_UPDATE_CHECK": "1",
        "DENO_DIR": "/proc/statebacked",
        "HOME": "/proc/statebacked",
    }
    told, _ = await said(script)
    told = told.replace(", 'LC_CTYPE': 'C.UTF-8'", "")  # by the Python of this test
    rights = ["CapEff:\t0000000000000000\n", "NoNewPrivs:\t1\n"]
    fds = 4  # its pipes, and the folder that it lists
    assert told == f"{environ} [] (0, 0) True False {rights} (256, 256) {fds}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("mode", "user"), [(0o644, 65_534), (0o600, 0)])
def test_started_by_root_it_is_another_user_if_that_one_can_read_it(
    tmp_path_factory: pytest.TempPathFactory, mode: int, user: int
) -> None:
    file = Path("/tmp") / f"statebacked-test-{os.getpid()}.sh"
    file.write_text("id -u")
    file.chmod(mode)

    @run
    async def test() -> None:
        _, ear, folder = await start(str(file), uid=65_534, program=["/bin/sh"])
        await ear.end
        folder.rmdir()
        assert ear.data == f"{user}\n".encode()

    try:
        test()
    finally:
        file.unlink()


def test_a_named_binary_gets_the_servers_environment_without_its_secrets() -> None:
    sandbox = find_sandbox({"STATEBACKED_DENO": "/bin/true", "STATEBACKED_MASTER_KEY": "x", "TEE": "y"})
    assert (sandbox.deno, sandbox.uid) == ("/bin/true", -1)
    assert sandbox.environ["TEE"] == "y"
    assert "STATEBACKED_MASTER_KEY" not in sandbox.environ


def test_empty_folders_of_killed_servers_are_removed() -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    left = Path("/tmp") / f"statebacked-{process.pid}-left"
    left.mkdir()
    kept = Path("/tmp") / f"statebacked-{os.getpid()}-kept"
    kept.mkdir()
    try:
        empty_folder().rmdir()
        assert not left.exists()
        assert kept.exists()
    finally:
        kept.rmdir()


@pytest.mark.parametrize(
    "what",
    [
        "hang",
        pytest.param("idle", marks=pytest.mark.worker),
        pytest.param("loop", marks=pytest.mark.worker),
    ],
)
def test_no_worker_outlives_a_killed_server(what: str) -> None:
    command = [sys.executable, "-m", "tests.runtime.parent", what]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pids = [int(pid) for pid in server.stdout.readline().split()]
        watches = [os.pidfd_open(pid) for pid in pids]
        server.send_signal(signal.SIGKILL)
        assert len(pids) == 2
        for watch in watches:
            assert ends_within(watch, 1.0)
            os.close(watch)


def ends_within(pidfd: int, seconds: float) -> bool:
    """Whether the process ends in that time: its descriptor becomes readable then."""

    async def wait() -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(pidfd, ended.set)
        try:
            async with asyncio.timeout(seconds):
                await ended.wait()
        finally:
            asyncio.get_running_loop().remove_reader(pidfd)

    try:
        asyncio.run(wait())
    except TimeoutError:
        return False
    return True


def test_a_worker_starts_where_few_files_may_be_open() -> None:
    told = subprocess.run(
        [
            *(sys.executable, "-I", "-S", str(ROOT / "src" / "statebacked" / "runtime" / "launcher.py")),
            *(str(os.getpid()), "-1", "", "", ""),
            *(sys.executable, "-I", "-S", "-c"),
            "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))",
        ],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "(100, 100)\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedSandbox(ScriptSandbox):
    """Tells of the start when the process has ended."""

    async def start(self, major: int, folder: Path, listener: Listener) -> Process:
        process = await start_process(self, major, folder, listener)
        assert isinstance(listener, Worker)
        await listener.gone
        return process


@run
async def test_a_worker_that_ends_before_its_start_is_told_is_gone_with_its_reason() -> None:
    folder = empty_folder()
    sandbox = EndedSandbox(deno="", dist=Path("/nowhere"), script="raise SystemExit(3)")
    worker = Worker(5, Nobody(), lambda *_: None, in_flight_max=1)
    async with asyncio.timeout(20):
        with pytest.raises(WorkerGone, match="exited with code 3"):
            await worker.boot(sandbox, folder, 1_000)
    folder.rmdir()


class Nobody:
    """Hooks of a worker that nobody else knows."""

    def worker_woke(self) -> None: ...
    def worker_over(self, worker: Worker, reason: str) -> None: ...
