"""A server's side of its supervisor: what it was given at its start, what it says, what it is told.

Theory of operation. The supervisor starts the server with the variable STATEBACKED_SUPERVISOR, which names
the supervisor's process, a socket between the two, and descriptors to inherit: `NAME=NUMBER`. On that socket
go lines. The server says `hold NAME`, with a descriptor that comes along and that the supervisor keeps open
and gives to the next server, and `ready MS`: it listens, and stops within that time when it is told to. The
end of the socket is the end of the supervisor. Imports next to nothing, as the supervisor does.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable

VARIABLE = "STATEBACKED_SUPERVISOR"
FOLDER = "folder"  # the descriptor that is a lock; all others take connections
REFUSED = 78  # EX_CONFIG: a server that said why it does not start, or goes no further
TRY_LATER = 75  # EX_TEMPFAIL: the same, for a reason that may pass
_PR_SET_PDEATHSIG = 1

_given: "Supervision | None" = None


class Supervision:
    """The socket to the supervisor `pid`, and the descriptors that it kept from the server before."""

    def __init__(self, pid: int, control: socket.socket, inherited: dict[str, int]) -> None:
        self.pid = pid
        self.inherited = inherited
        self._control = control

    def hold(self, name: str, descriptor: int) -> None:
        """Have the supervisor keep it open for the next server."""
        socket.send_fds(self._control, [f"hold {name}\n".encode()], [descriptor])

    def tell_ready(self, stop_ms: int) -> None:
        self._control.sendall(f"ready {stop_ms}\n".encode())

    def watch(self, add_reader: Callable[[int, Callable[[], None]], None]) -> None:
        """End with the supervisor, on an event loop."""
        self._control.setblocking(False)
        add_reader(self._control.fileno(), self._look)

    def _look(self) -> None:
        try:
            data = self._control.recv(1)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # the supervisor is gone, and with it whoever would start the next server
            os.kill(os.getpid(), signal.SIGKILL)


def given() -> Supervision | None:
    """None in a server that has no supervisor."""
    return _given


def begin() -> bool:
    """At the start of a process: whether a supervisor has started it. It is then ended with its supervisor,
    and leaves Ctrl-C and the end of the terminal to it."""
    global _given
    told = os.environ.pop(VARIABLE, None)
    if told is None:
        return False
    pid, control, *held = told.split()
    inherited = {name: int(number) for name, _, number in (one.partition("=") for one in held)}
    for descriptor in (int(control), *inherited.values()):
        os.set_inheritable(descriptor, False)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _end_with_supervisor(int(pid))
    _given = Supervision(int(pid), socket.socket(fileno=int(control)), inherited)
    return True


def _end_with_supervisor(pid: int) -> None:
    if sys.platform == "linux":  # elsewhere the end of the socket tells
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != pid:  # it ended before
        os._exit(1)
