"""The parent of a server: keeps its sockets and its folder while one server ends and the next one starts.

Theory of operation. The server does all the work, from reading the command line on. What it binds and locks
it hands up (`hold`); the next server gets it from here, so connections wait in the socket's backlog
meanwhile, the port stays the same, and no other server comes into the folder. There is at most one server at
a time.

- A server that crashes is started again: at once when it had run for a while, else after a pause that
  doubles. Before any server was ready, a few attempts are all. One that says why it does not start is
  believed.
- SIGHUP: the server stops gracefully, the next one starts. A server that ends well by itself, or by a SIGTERM
  of its own, is followed by the next one, too.
- SIGTERM, SIGINT: the server stops gracefully, and this ends with 0; no connection waits any more. A second
  SIGINT ends it at once.
- A server that does not stop in its time is killed. When this process is killed, its server is, too.

One thread, and only small modules: what is imported here stays in memory beside every server.
"""

import contextlib
import errno
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence

from statebacked.model.limits import (
    SERVER_QUICK_FAILURE_MS,
    SERVER_RESTART_FIRST_MS,
    SERVER_RESTART_LONGEST_MS,
    SERVER_START_ATTEMPTS_MAX,
    SERVER_STOP_GRACE_MS,
)
from statebacked.serve.supervised import FOLDER, REFUSED, TRY_LATER, VARIABLE

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_BAD_USAGE = 2
_NOT_STARTED = 71  # EX_OSERR
_BYTES_MAX = 4_096
_DESCRIPTORS_MAX = 16


class _Server:
    """One server process, from its start to its end."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.control = control
        self.heard = b""
        self.ready_at: float | None = None
        self.stop_ms: int = SERVER_STOP_GRACE_MS
        self.stops_until: float | None = None  # it has been told to stop, and is killed then


class Supervisor:
    """Runs `command` as a server, and again, until it is told to end."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._held: dict[str, int] = {}
        self._server: _Server | None = None
        self._start_at: float | None = 0.0
        self._was_ready = False
        self._failures = 0  # quick ones in a row
        self._is_ending = False
        self._code: int | None = None  # to end with
        self._had_terminal = _has_terminal()
        self._ignored_hangup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN

    def run(self) -> int:
        """Until the last server has ended; the exit code."""
        wakeup, woken = socket.socketpair()
        wakeup.setblocking(False)
        woken.setblocking(False)
        for heeded in _SIGNALS:
            signal.signal(heeded, _note)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        while self._code is None:
            self._act(time.monotonic())
            for ready in self._wait(wakeup):
                if ready is wakeup:
                    for number in wakeup.recv(_BYTES_MAX):
                        self._signalled(number)
                else:
                    self._hear()
        return self._code

    def _wait(self, wakeup: socket.socket) -> list[socket.socket]:
        if self._code is not None:
            return []
        server = self._server
        until = self._start_at if server is None else server.stops_until
        timeout = None if until is None else max(0.0, until - time.monotonic())
        readable = [wakeup] if server is None or server.control.fileno() < 0 else [wakeup, server.control]
        return select.select(readable, [], [], timeout)[0]

    def _act(self, now: float) -> None:
        """What is due by its time."""
        server = self._server
        if server is None and self._start_at is not None and now >= self._start_at:
            self._start()
        elif server is not None and server.stops_until is not None and now >= server.stops_until:
            self._say("error", f"the server (pid {server.pid}) does not stop and is killed")
            server.stops_until = None
            _kill(server.pid, signal.SIGKILL)

    # --- signals -----------------------------------------------------------------------------------

    def _signalled(self, number: int) -> None:
        if number == signal.SIGCHLD:
            self._look_for_end()
        elif number == signal.SIGHUP and not self._is_terminal_gone():
            self._replace()
        elif number == signal.SIGHUP and self._ignored_hangup:
            pass  # nohup: the server outlives its terminal
        elif number == signal.SIGINT and self._is_ending and self._server is not None:
            _kill(self._server.pid, signal.SIGKILL)
        else:
            self._end()

    def _is_terminal_gone(self) -> bool:
        return self._had_terminal and not _has_terminal()

    def _replace(self) -> None:
        if self._is_ending:
            return
        if self._server is None:
            self._start_at = 0.0
        elif self._server.stops_until is None:
            self._stop(self._server)

    def _end(self) -> None:
        self._is_ending = True
        for name in [name for name in self._held if name != FOLDER]:
            os.close(self._held.pop(name))  # nobody will accept what waits: refuse it
        if self._server is None:
            self._code = 0
            return
        self._stop(self._server)

    def _stop(self, server: _Server) -> None:
        server.stops_until = time.monotonic() + server.stop_ms / 1000
        _kill(server.pid, signal.SIGTERM)

    # --- the server --------------------------------------------------------------------------------

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        inherited = [f"{name}={descriptor}" for name, descriptor in self._held.items()]
        told = " ".join([str(os.getpid()), str(theirs.fileno()), *inherited])
        pid = os.fork()
        if pid == 0:
            self._become_server(told, [theirs.fileno(), *self._held.values()])
        theirs.close()
        ours.setblocking(False)
        self._server = _Server(pid, ours)
        self._start_at = None

    def _become_server(self, told: str, inherited: Sequence[int]) -> None:
        try:
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            for number in (signal.SIGINT, signal.SIGHUP):  # they are for the supervisor
                signal.signal(number, signal.SIG_IGN)
            for descriptor in inherited:
                os.set_inheritable(descriptor, True)
            os.execve(self._command[0], self._command, {**os.environ, VARIABLE: told})  # noqa: S606
        except BaseException as failure:
            os.write(2, f"statebacked: the server cannot be started: {failure}\n".encode())
        finally:
            os._exit(_NOT_STARTED)

    def _hear(self) -> None:
        """What the server says."""
        server = self._server
        if server is None:
            return
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(server.control, _BYTES_MAX, _DESCRIPTORS_MAX)
            except BlockingIOError:
                return
            except OSError as failure:
                if failure.errno != errno.ECONNRESET:
                    raise
                data, descriptors = b"", []
            if not data:
                server.control.close()
                return
            *lines, server.heard = (server.heard + data).split(b"\n")
            for line in lines:
                self._heard(server, line.decode().split(), descriptors)

    def _heard(self, server: _Server, words: list[str], descriptors: list[int]) -> None:
        if words[0] == "hold":
            if words[1] in self._held:
                os.close(self._held[words[1]])
            self._held[words[1]] = descriptors.pop(0)
            os.set_inheritable(self._held[words[1]], False)
        elif words[0] == "ready":
            server.ready_at = time.monotonic()
            server.stop_ms = int(words[1]) + SERVER_STOP_GRACE_MS
            self._was_ready = True

    def _look_for_end(self) -> None:
        server = self._server
        if server is None:
            return
        pid, status = os.waitpid(server.pid, os.WNOHANG)
        if pid == 0:
            return
        if server.control.fileno() >= 0:
            self._hear()
            server.control.close()
        self._server = None
        self._ended(server, os.waitstatus_to_exitcode(status), time.monotonic())

    def _ended(self, server: _Server, code: int, now: float) -> None:
        """Decides what comes after it. `code`: its exit code, or a signal as a negative number."""
        told = server.stops_until is not None
        if self._is_ending:
            self._code = 0 if told and code in (0, -signal.SIGTERM) else _exit_code(code)
        elif code in (REFUSED, _BAD_USAGE):
            self._code = _exit_code(code)
        elif code in (0, TRY_LATER) and not self._was_ready and not told:
            self._code = 0 if code == 0 else _exit_code(code)
        elif code == 0 or told:
            self._say("info", f"the server (pid {server.pid}) has stopped, the next one starts")
            self._failures, self._start_at = 0, now
        else:
            self._failed(server, code, now)

    def _failed(self, server: _Server, code: int, now: float) -> None:
        how = f"was killed by signal {-code}" if code < 0 else f"failed with code {code}"
        self._failures = self._failures + 1 if is_quick(server.ready_at, now) else 0
        if not self._was_ready and self._failures >= SERVER_START_ATTEMPTS_MAX:
            self._say("error", f"the server (pid {server.pid}) {how}; it never started, this ends")
            self._code = _exit_code(code)
            return
        pause_ms = pause_after(self._failures)
        self._say("error", f"the server (pid {server.pid}) {how} and is started again in {pause_ms} ms")
        self._start_at = now + pause_ms / 1000

    def _say(self, level: str, text: str) -> None:
        """A line of the server's log; nobody may be there to read it."""
        if sys.stderr.isatty() or "dev" in self._command[2:3]:
            line = f"statebacked: {text}\n"
        else:
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            line = f'{{"event": "{text}", "level": "{level}", "timestamp": "{at}"}}\n'
        with contextlib.suppress(OSError):
            os.write(2, line.encode())


def is_quick(ready_at: float | None, now: float) -> bool:
    """Whether a server failed so soon that the next one waits. Times in seconds; None: it was never ready."""
    return ready_at is None or (now - ready_at) * 1000 < SERVER_QUICK_FAILURE_MS


def pause_after(failures: int) -> int:
    """Milliseconds before the next start, after so many quick failures in a row."""
    if failures == 0:
        return 0
    doubled = SERVER_RESTART_FIRST_MS << min(failures - 1, 20)
    return min(doubled, SERVER_RESTART_LONGEST_MS)


def _note(_number: int, _frame: object) -> None:
    """Its number has been written to the wake-up descriptor by now."""


def _has_terminal() -> bool:
    """Whether this process has a terminal that can still be opened."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _kill(pid: int, number: int) -> None:
    """It may have ended; it is not waited for before SIGCHLD says so, so its number is still its own."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _exit_code(code: int) -> int:
    """As a shell tells it, and as a server without a supervisor would have ended."""
    if code in (0, REFUSED, TRY_LATER):
        return 1
    return 128 - code if code < 0 else code
