"""What a process behind the walls can still do, tried by a program that is free to call anything."""

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from statebacked.runtime.process import find_sandbox
from statebacked.runtime.proof import NoDeno, Proof, prove
from statebacked.runtime.walls import InForce, Walls, landlock_abi, offered_walls
from tests.event_loop import run
from tests.runtime.test_process import ScriptSandbox, said

OFFERED = offered_walls([sys.base_prefix, sys.prefix])
FILTER = Walls(filter=OFFERED.filter)
LANDLOCK = Walls(readable=OFFERED.readable)
with_filter = pytest.mark.skipif(not OFFERED.filter, reason="this kernel offers no filter")
with_landlock = pytest.mark.skipif(not OFFERED.readable, reason="this kernel offers no Landlock")


def outcome(walls: Walls, script: str) -> str:
    """What that code prints or raises behind these walls, or how it ends."""
    outcomes: list[str] = []
    indented = script.replace("\n", "\n    ")
    code = (
        f"import ctypes, os, socket, threading\ntry:\n    {indented}\n"
        "except Exception as e:\n    print(type(e).__name__)"
    )

    @run
    async def test() -> None:
        text, reason = await said(code, walls=walls)
        outcomes.append(text.strip() or reason)

    test()
    return outcomes[0]


@with_filter
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("print(1 + 1)", "2"),
        ("t = threading.Thread(target=print, args=('a thread',)); t.start(); t.join()", "a thread"),
        ("print(len(open('/proc/self/status').read()) > 0)", "True"),
        ("socket.socket()", "PermissionError"),
        ("socket.socket(socket.AF_UNIX)", "PermissionError"),
        ("print(len(socket.socketpair()))", "2"),
        ("os.fork()", "PermissionError"),
        ("os.posix_spawn('/bin/true', ['true'], {})", "PermissionError"),
        ("os.execv('/bin/true', ['true'])", "was killed by SIGSYS"),
        ("os.kill(os.getppid(), 0)", "PermissionError"),
        ("os.kill(os.getpid(), 0); print('itself')", "itself"),
        ("os.pidfd_open(os.getppid())", "PermissionError"),
        ("os.open('/dev/null', os.O_WRONLY)", "PermissionError"),
        ("os.mkdir('/tmp/statebacked-never')", "PermissionError"),
        ("os.unlink('/tmp/statebacked-never')", "PermissionError"),
        ("print(ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0))", "was killed by SIGSYS"),
        ("print(ctypes.CDLL(None).unshare(0x10000000))", "was killed by SIGSYS"),
    ],
)
def test_the_filter_lets_a_program_compute_and_nothing_else(script: str, expected: str) -> None:
    assert outcome(FILTER, script) == expected


@with_landlock
def test_landlock_leaves_the_files_that_it_names(tmp_path: Path) -> None:
    secret = tmp_path / "master.key"
    secret.write_text("planted")
    assert outcome(LANDLOCK, f"print(open({os.__file__!r}).read(4))") == 'r"""'
    assert outcome(LANDLOCK, f"open({str(secret)!r})") == "PermissionError"
    assert outcome(LANDLOCK, f"open({str(tmp_path / 'new')!r}, 'w')") == "PermissionError"
    assert outcome(LANDLOCK, "os.listdir('/etc')") == "PermissionError"
    assert outcome(LANDLOCK, f"open('/proc/{os.getpid()}/environ')") == "PermissionError"
    assert outcome(Walls(), f"print(open({str(secret)!r}).read())") == "planted"


@pytest.mark.skipif(landlock_abi() < 4, reason="this kernel's Landlock knows no network")
def test_landlock_reaches_no_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dial = f"socket.create_connection(('127.0.0.1', {server.getsockname()[1]})); print('through')"
        assert outcome(LANDLOCK, dial) == "PermissionError"
        assert outcome(Walls(), dial) == "through"


@pytest.mark.skipif(landlock_abi() < 6, reason="this kernel's Landlock knows no signals")
def test_landlock_reaches_no_other_process() -> None:
    assert outcome(LANDLOCK, "os.kill(os.getppid(), 0)") == "PermissionError"


@run
async def test_a_wall_that_cannot_be_raised_is_told_and_nothing_runs() -> None:
    told, reason = await said("print('it runs')", walls=Walls(filter="6,0,0"))
    assert (told, reason) == ("", "exited with code 1")
    told, reason = await said("print('it runs')", walls=Walls(filter="0,0,0,0"))
    assert (told, reason) == ("", "exited with code 71")


@pytest.mark.worker
@run
async def test_what_is_in_force_is_told_in_one_line() -> None:
    with capture_logs() as logs:
        sandbox = find_sandbox({})
        assert await prove(sandbox) == Proof(sandbox, None)
    [line] = logs
    assert line["event"] == "workers are sandboxed"
    assert line["landlock"] == landlock_abi()
    assert line["seccomp"] is bool(OFFERED.filter)
    assert (line["no_new_privileges"], line["capabilities"]) == (True, False)
    assert line["user"] == ("65534" if os.geteuid() == 0 else str(os.geteuid()))
    assert line["log_level"] == ("warning" if line["missing"] else "info")


@pytest.mark.worker
@with_landlock
@run
async def test_a_wall_behind_which_no_worker_starts_is_given_up_and_told() -> None:
    found = find_sandbox({})
    elsewhere = replace(found, walls=found.walls._replace(readable=("/etc",)))
    with capture_logs() as logs:
        sandbox, failure = await prove(elsewhere)
    assert failure is None
    assert sandbox.walls == found.walls._replace(readable=())
    assert logs[-1]["missing"][0] == "landlock"
    assert logs[-1]["log_level"] == "warning"
    assert [line["walls"] for line in logs if line["event"] == "worker does not start"] != []


@run
async def test_a_sandbox_that_never_starts_is_left_as_it_is() -> None:
    dist = find_sandbox({}).dist
    broken = ScriptSandbox(deno=sys.executable, dist=dist, script="raise SystemExit(3)", walls=FILTER)
    with capture_logs() as logs:
        assert await prove(broken) == Proof(broken, "no worker can be started: the first exited with code 3")
    events = {line["event"]: line["log_level"] for line in logs}
    assert events.keys() == {"worker ends", "worker does not start", "no worker can be started"}
    assert events["no worker can be started"] == "error"


@pytest.mark.parametrize("deno", ["/nowhere/deno", "/etc/passwd", "/bin/false"])
def test_a_deno_that_cannot_be_run_is_told_with_what_to_do(deno: str) -> None:
    @run
    async def test() -> None:
        broken = ScriptSandbox(deno=deno, dist=find_sandbox({}).dist, script="raise SystemExit(3)")
        with pytest.raises(NoDeno, match=rf"{deno}.*STATEBACKED_DENO"):
            await prove(broken)

    test()


def test_what_is_missing_is_named() -> None:
    all_there = InForce("65534", landlock=7, seccomp=True, capabilities=False, no_new_privileges=True)
    assert all_there.missing == []
    assert all_there._replace(landlock=0, seccomp=False).missing == ["landlock", "seccomp"]
    assert all_there._replace(user="0").missing == ["another user"]


@pytest.mark.worker
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can give rights up")
def test_a_root_that_may_nothing_starts_workers_all_the_same() -> None:
    """As in a container whose capabilities were dropped: the walls need none."""
    script = (
        "import asyncio; from statebacked.runtime.process import find_sandbox; "
        "from statebacked.runtime.proof import prove; asyncio.run(prove(find_sandbox({})))"
    )
    rightless = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", sys.executable, "-c", script]
    told = subprocess.run(rightless, capture_output=True, text=True, check=True).stdout
    assert "workers are sandboxed" in told
    assert f"landlock={landlock_abi()}" in told
    assert "missing=['another user']" in told
