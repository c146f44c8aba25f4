"""The processes of a real server, and their end."""

import os
import signal

from tests.e2e.servers import RealServer, children_of


def kill_workers(server: RealServer) -> int:
    """kill -9 of every process that the server has started, at one moment of its time; how many."""
    killed = 0
    pid = server.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        for worker in children_of(pid):
            os.kill(worker, signal.SIGKILL)
            killed += 1
    finally:
        os.kill(pid, signal.SIGCONT)
    return killed
