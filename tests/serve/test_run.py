"""The server's process keeps its memory to itself."""

import os
import shutil
import subprocess
import sys

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
