"""The supervisor with servers that are small scripts: what it starts again, what it believes, how it ends."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from statebacked.model.limits import (
    SERVER_QUICK_FAILURE_MS,
    SERVER_RESTART_FIRST_MS,
    SERVER_RESTART_LONGEST_MS,
    SERVER_START_ATTEMPTS_MAX,
    SERVER_STOP_GRACE_MS,
)
from statebacked.serve.main import wants_supervisor
from statebacked.serve.supervisor import is_quick, pause_after

START = """
import sys
from statebacked.serve.supervisor import Supervisor
sys.exit(Supervisor([sys.executable, *sys.argv[1:]]).run())
"""
SERVER = """
import os, signal, socket, sys
from statebacked.serve import supervised
assert supervised.begin()
supervision = supervised.given()
heard = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
heard.connect(sys.argv[1])

def say(*words):
    heard.sendall((" ".join(map(str, words)) + "\\n").encode())

say("begins", os.getpid(), *sorted(supervision.inherited))
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
"""
READY = """
supervision.tell_ready(0)
say("ready")
while not stopped:
    signal.pause()
say("stops")
sys.exit(0)
"""


class Stand:
    """A supervisor of servers that say on a socket what they do."""

    def __init__(self, folder: Path, code: str) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(folder / "told"))
        self._listener.listen()
        self._listener.settimeout(60)
        self.script = folder / "server.py"
        self.script.write_text(SERVER + code)
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, str(self.script), str(folder / "told")],
            stderr=subprocess.PIPE,
            text=True,
        )

    def server(self) -> "Heard":
        """The next one that starts."""
        connection, _ = self._listener.accept()
        connection.settimeout(60)
        return Heard(connection)

    def ends(self) -> tuple[int, str]:
        """Its exit code, and what it said."""
        _, err = self.process.communicate(timeout=60)
        self._listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            self._listener.accept()
        return self.process.returncode, err

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self._listener.close()


class Heard:
    """What one server says, word by word."""

    def __init__(self, connection: socket.socket) -> None:
        self._lines = connection.makefile()
        connection.close()
        _, pid, *self.inherited = self.line().split()
        self.pid = int(pid)

    def line(self) -> str:
        """ "" when it has ended."""
        try:
            return self._lines.readline().strip()
        except ConnectionResetError:
            return ""


@pytest.fixture
def stands(tmp_path: Path) -> Iterator[list[Stand]]:
    made: list[Stand] = []
    yield made
    for stand in made:
        stand.close()


def stand(stands: list[Stand], folder: Path, code: str = READY) -> Stand:
    stands.append(Stand(folder, code))
    return stands[-1]


def ready(one: Stand) -> Heard:
    server = one.server()
    assert server.line() == "ready"
    return server


@pytest.mark.parametrize(
    ("number", "to_server", "last"),
    [(signal.SIGKILL, True, ""), (signal.SIGTERM, True, "stops"), (signal.SIGHUP, False, "stops")],
)
def test_a_server_that_ends_is_followed_by_the_next(
    tmp_path: Path, stands: list[Stand], number: int, to_server: bool, last: str
) -> None:
    one = stand(stands, tmp_path)
    server = ready(one)
    for _ in range(3):
        os.kill(server.pid if to_server else one.process.pid, number)
        assert server.line() == last
        server = ready(one)
    one.process.terminate()
    assert server.line() == "stops"
    code, said = one.ends()
    assert code == 0
    assert len(said.splitlines()) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_its_server_gracefully_and_is_content_with_being_told_twice(
    tmp_path: Path, stands: list[Stand], number: int
) -> None:
    one = stand(stands, tmp_path)
    server = ready(one)
    one.process.send_signal(number)
    if number == signal.SIGTERM:
        one.process.send_signal(number)
    assert server.line() == "stops"
    assert one.ends() == (0, "")


def test_connections_are_refused_once_no_server_follows(tmp_path: Path, stands: list[Stand]) -> None:
    code = """
listener = socket.create_server(("127.0.0.1", 0))
supervision.hold("listener", listener.fileno())
say(listener.getsockname()[1])
"""
    closes = READY.replace('say("stops")\n', 'listener.close()\nsay("stops")\nsignal.pause()\n')
    one = stand(stands, tmp_path, code + closes)
    server = one.server()
    port = int(server.line())
    assert server.line() == "ready"
    one.process.terminate()
    assert server.line() == "stops"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    one.process.send_signal(signal.SIGINT)
    assert one.ends()[0] == 128 + signal.SIGKILL


def test_a_second_ctrl_c_ends_a_server_that_does_not_stop(tmp_path: Path, stands: list[Stand]) -> None:
    one = stand(stands, tmp_path, READY.replace('say("stops")\n', 'say("hangs")\nsignal.pause()\n'))
    server = ready(one)
    one.process.send_signal(signal.SIGINT)
    assert server.line() == "hangs"
    one.process.send_signal(signal.SIGINT)
    assert server.line() == ""
    assert one.ends()[0] == 128 + signal.SIGKILL


def test_what_a_server_holds_is_given_to_the_next(tmp_path: Path, stands: list[Stand]) -> None:
    """The very same socket: a connection that the first did not accept is accepted by the second."""
    code = """
if "listener" in supervision.inherited:
    taken = socket.socket(fileno=supervision.inherited["listener"]).accept()[0]
    taken.sendall(b"second")
else:
    listener = socket.create_server(("127.0.0.1", 0))
    supervision.hold("listener", listener.fileno())
    say(listener.getsockname()[1])
"""
    one = stand(stands, tmp_path, code + READY)
    server = one.server()
    assert server.inherited == []
    with socket.create_connection(("127.0.0.1", int(server.line()))) as connection:
        assert server.line() == "ready"
        os.kill(server.pid, signal.SIGKILL)
        second = ready(one)
        assert second.inherited == ["listener"]
        assert connection.recv(100) == b"second"


def test_a_server_that_crashes_before_it_is_ready_is_tried_a_few_times(
    tmp_path: Path, stands: list[Stand]
) -> None:
    one = stand(stands, tmp_path, "raise SystemExit(70)")
    for _ in range(SERVER_START_ATTEMPTS_MAX):
        assert one.server().line() == ""
    code, said = one.ends()
    assert code == 70
    assert len(said.splitlines()) == SERVER_START_ATTEMPTS_MAX
    assert f"again in {SERVER_RESTART_FIRST_MS} ms" in said.splitlines()[0]
    assert f"again in {2 * SERVER_RESTART_FIRST_MS} ms" in said.splitlines()[1]


@pytest.mark.parametrize(("code", "told"), [(78, 1), (2, 2), (75, 1), (0, 0)])
def test_a_server_that_refuses_to_start_is_believed(
    tmp_path: Path, stands: list[Stand], code: int, told: int
) -> None:
    one = stand(stands, tmp_path, f"raise SystemExit({code})")
    assert one.server().line() == ""
    assert one.ends() == (told, "")


def test_once_a_server_was_ready_it_is_tried_for_ever_but_for_one_that_refuses(
    tmp_path: Path, stands: list[Stand]
) -> None:
    turns = f"""
count = open({str(tmp_path / "count")!r}, "ab")
count.write(b"x")
count.flush()
if 1 < count.tell() < 6:
    sys.exit(75 if count.tell() % 2 else 1)
if count.tell() == 6:
    sys.exit(78)
"""
    one = stand(stands, tmp_path, turns + READY)
    os.kill(ready(one).pid, signal.SIGKILL)
    for _ in range(5):
        assert one.server().line() == ""
    code, said = one.ends()
    assert code == 1
    assert len(said.splitlines()) == 5


def test_pauses_double_up_to_the_longest() -> None:
    assert [pause_after(failures) for failures in range(4)] == [0, 250, 500, 1_000]
    assert pause_after(7) == pause_after(10_000) == SERVER_RESTART_LONGEST_MS == 10_000
    soon = SERVER_QUICK_FAILURE_MS / 1000
    assert [is_quick(None, 5.0), is_quick(5.0, 4.99 + soon), is_quick(5.0, 5.0 + soon)] == [True, True, False]


def test_a_server_that_does_not_stop_in_its_time_is_killed(tmp_path: Path, stands: list[Stand]) -> None:
    """Its time is what it needs, and a grace on top."""
    hangs = READY.replace('say("stops")\n', 'say("hangs")\nsignal.pause()\n')
    one = stand(stands, tmp_path, hangs.replace("tell_ready(0)", f"tell_ready({50 - SERVER_STOP_GRACE_MS})"))
    server = ready(one)
    one.process.send_signal(signal.SIGHUP)
    assert [server.line(), server.line()] == ["hangs", ""]
    ready(one)
    one.process.send_signal(signal.SIGKILL)
    assert "does not stop and is killed" in one.ends()[1]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0)])
def test_it_ends_while_its_server_starts(tmp_path: Path, stands: list[Stand], number: int, code: int) -> None:
    starting = "signal.signal(signal.SIGTERM, signal.SIG_DFL)\nsay('starts')\nsignal.pause()\n"
    one = stand(stands, tmp_path, starting)
    assert one.server().line() == "starts"
    one.process.send_signal(number)
    assert one.ends() == (code, "")


def test_sighup_while_a_server_starts_starts_another(tmp_path: Path, stands: list[Stand]) -> None:
    starting = "signal.signal(signal.SIGTERM, signal.SIG_DFL)\nsay('starts')\nsignal.pause()\n"
    one = stand(stands, tmp_path, starting)
    for _ in range(4):
        server = one.server()
        assert server.line() == "starts"
        one.process.send_signal(signal.SIGHUP)
        assert server.line() == ""
    assert one.server().line() == "starts"
    one.process.terminate()
    assert one.ends()[0] == 0


def test_a_server_ends_with_its_supervisor(tmp_path: Path, stands: list[Stand]) -> None:
    one = stand(stands, tmp_path)
    server = ready(one)
    one.process.kill()
    assert server.line() == ""


def test_it_ends_between_two_servers(tmp_path: Path, stands: list[Stand]) -> None:
    one = stand(stands, tmp_path)
    os.kill(ready(one).pid, signal.SIGKILL)
    assert one.process.stderr is not None
    assert "started again in" in one.process.stderr.readline()
    one.process.terminate()
    assert one.process.wait(60) == 0


def test_it_is_small() -> None:
    """It stays beside every server: nothing of the server may come into its memory."""
    show = "import sys, statebacked.serve.main; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True)
    ours = {name for name in told.stdout.split() if name.startswith("statebacked")}
    assert ours == {
        "statebacked",
        "statebacked.model",
        "statebacked.model.limits",
        "statebacked.serve",
        "statebacked.serve.main",
        "statebacked.serve.supervised",
        "statebacked.serve.supervisor",
    }
    assert not {"asyncio", "typer", "structlog", "ctypes", "json", "subprocess"} & set(told.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "environment", "is_wanted"),
    [
        (["serve"], {}, True),
        (["dev", "x.ts"], {}, True),
        (["serve", "--no-supervisor"], {}, False),
        (["serve"], {"STATEBACKED_NO_SUPERVISOR": "true"}, False),
        (["serve"], {"STATEBACKED_NO_SUPERVISOR": "0"}, True),
        (["serve", "--help"], {}, False),
        (["--version"], {}, False),
        ([], {}, False),
        (["serve"], {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}, False),
        (["serve"], {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, True),
    ],
)
def test_servers_have_a_supervisor_unless_they_are_told_or_given_sockets(
    arguments: list[str], environment: dict[str, str], is_wanted: bool
) -> None:
    assert wants_supervisor(arguments, environment) is is_wanted
