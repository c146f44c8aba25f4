"""The processes of a real server, and their end."""

import os
import signal
from pathlib import Path

from tests.e2e.servers import RealServer


def kill_workers(server: RealServer) -> int:
    """kill -9 of every process that the server has started, at one moment of its time; how many."""
    killed = 0
    server.process.send_signal(signal.SIGSTOP)
    try:
        for thread in Path(f"/proc/{server.process.pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                os.kill(int(child), signal.SIGKILL)
                killed += 1
    finally:
        server.process.send_signal(signal.SIGCONT)
    return killed
