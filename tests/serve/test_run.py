"""The server's process keeps its memory to itself, and its environment as it is."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HIDDEN = """
import sys
from statebacked.serve.run import hide_memory
if sys.argv[1] == "hide":
    hide_memory()
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can give rights up")
@pytest.mark.parametrize(("how", "is_read"), [("show", True), ("hide", False)])
def test_no_other_process_of_the_same_user_reads_the_servers_memory(how: str, is_read: bool) -> None:
    """The environment, where a master key may stand, is part of it."""
    rightless = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", sys.executable, "-c"]
    command = [*rightless, HIDDEN, how]
    environment = {**os.environ, "STATEBACKED_MASTER_KEY": "secret"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        read = f"print('secret' in open('/proc/{server.pid}/environ').read())"
        told = subprocess.run([*rightless, read], capture_output=True, text=True)
        server.communicate(b"")
    assert (told.stdout == "True\n") is is_read
    assert ("PermissionError" in told.stderr) is not is_read


CHANGES = """
import asyncio, os, sys, threading
from pathlib import Path

def watch(event, _):
    if event in ("os.putenv", "os.unsetenv"):
        print(event, "with", threading.active_count(), "thread(s)")

sys.addaudithook(watch)
from statebacked.app import open_server
from statebacked.settings import Settings

async def serve():
    async with open_server(Settings(data=Path(sys.argv[1]), port=0), print):
        print(threading.active_count() > 1)

asyncio.run(serve())
"""


@pytest.mark.worker
def test_the_environment_is_changed_before_there_is_a_second_thread_or_not_at_all(tmp_path: Path) -> None:
    """A library that reads it in another thread at that moment would end the process."""
    run = [sys.executable, "-c", CHANGES, str(tmp_path)]
    told = subprocess.run(run, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {line for line in told if line.startswith("os.")} == {"os.putenv with 1 thread(s)"}
    assert "True" in told
