"""A restart or crash of the server is a pause: connections wait, the port stays, a folder has one server."""

import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from statebacked.settings import Settings
from tests.e2e import restarts
from tests.e2e.asking import Asker, answered, refused
from tests.e2e.fences import blocks_of
from tests.e2e.servers import BIN, E2E, ROOT, RealServer, children_of, real_server, start_server

MACHINE = "faulty"
EITHER = pytest.mark.parametrize("flags", [[], ["--no-supervisor"]], ids=["supervised", "alone"])


def deployed(server: RealServer) -> Asker:
    asker = Asker(server)
    asker.deploy(MACHINE, E2E / "machines" / "faulty.js")
    answered(asker.create(MACHINE, "one"))
    return asker


def count(asker: Asker) -> int:
    number: int = answered(asker.send(MACHINE, "one", "count"))["publicContext"]["count"]
    return number


def serve(data: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A server that is expected not to start."""
    return subprocess.run(
        [str(BIN / "statebacked"), "serve", "--port", "0", "--data", str(data), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@contextmanager
def without_a_server(server: RealServer) -> Iterator[None]:
    """The moment between two servers, as long as the block runs: the supervisor is stopped."""
    child = server.pid
    server.process.send_signal(signal.SIGSTOP)
    try:
        os.kill(child, signal.SIGKILL)
        wait_for_end_of(child)
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


def wait_for_end_of(pid: int) -> None:
    """Until it does not run any more; its parent may not have taken note yet."""
    wait_for_end(os.pidfd_open(pid))


def wait_for_end(descriptor: int) -> None:
    try:
        assert select.select([descriptor], [], [], 60)[0]
    finally:
        os.close(descriptor)


# --- a pause ---------------------------------------------------------------------------------------


def test_connections_wait_while_there_is_no_server(tmp_path: Path) -> None:
    with real_server(tmp_path / "data") as server:
        asker = deployed(server)
        assert count(asker) == 1
        address = urlsplit(server.url)
        assert address.hostname is not None
        with without_a_server(server):
            waiting = [socket.create_connection((address.hostname, address.port)) for _ in range(2_000)]
            for connection in waiting[::100]:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        for connection in waiting[::100]:
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        for connection in waiting:
            connection.close()
        assert count(Asker(server)) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_next_server_has_the_same_url_and_whoever_asks_meanwhile_is_answered(
    tmp_path: Path, number: int
) -> None:
    with real_server(tmp_path / "data") as server:
        assert count(deployed(server)) == 1
        first, admin = server.pid, (tmp_path / "data" / "admin.json").read_text()
        os.kill(server.process.pid if number == signal.SIGHUP else first, number)
        wait_for_end_of(first)
        assert count(Asker(server)) == 2
        assert server.pid != first
        assert (tmp_path / "data" / "admin.json").read_text() == admin
        assert json.loads(admin)["url"] == server.url
        assert server.stop() == 0


def test_a_killed_supervisor_takes_its_server_along_and_is_not_in_the_way(tmp_path: Path) -> None:
    with real_server(tmp_path / "data") as server:
        deployed(server)
        server.stop(signal.SIGKILL)
    with real_server(tmp_path / "data") as server:
        assert count(Asker(server)) == 1


def test_workers_end_with_a_killed_server(tmp_path: Path) -> None:
    with real_server(tmp_path / "data") as server:
        assert count(deployed(server)) == 1
        workers = server.workers()
        descriptors = [os.pidfd_open(worker) for worker in workers]
        assert workers
        os.kill(server.pid, signal.SIGKILL)
        for descriptor in descriptors:
            wait_for_end(descriptor)
        assert count(Asker(server)) == 2


# --- a terminal ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_both_processes_at_once_ends_them_gracefully(tmp_path: Path, number: int) -> None:
    """Ctrl-C goes to all processes of the terminal's foreground."""
    command = [str(BIN / "statebacked"), "serve", "--port", "0", "--data", str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started_process(command, start_new_session=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("statebacked listens on ")
        os.killpg(process.pid, number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Traceback" not in said


@pytest.mark.parametrize("is_nohup", [False, True], ids=["plain", "nohup"])
def test_a_server_ends_with_its_terminal_unless_it_was_started_with_nohup(
    tmp_path: Path, is_nohup: bool
) -> None:
    command = [str(BIN / "statebacked"), "serve", "--port", "0", "--data", str(tmp_path)]
    pid, terminal = pty.fork()
    if pid == 0:
        if is_nohup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.execv(command[0], command)
    try:
        said = b""
        while b"statebacked listens on " not in said or not said.endswith(b"\n"):
            said += os.read(terminal, 4096)
        found = re.search(rb"listens on (http://\S+)", said)
        assert found is not None
        os.close(terminal)
        if is_nohup:
            assert httpx.get(found[1].decode() + "/healthz").status_code == 200
            os.kill(pid, signal.SIGTERM)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# --- one server a folder ---------------------------------------------------------------------------


@EITHER
def test_a_second_server_is_refused_with_pid_and_url_of_the_first(tmp_path: Path, flags: list[str]) -> None:
    data = tmp_path / "data"
    with real_server(data, flags) as first:
        asker = deployed(first)
        before = (data / "admin.json").read_text()
        for more in ([], ["--no-supervisor"]):
            second = serve(data, *more)
            assert second.returncode == 1
            assert f"pid {first.process.pid} serves {data} at {first.url}" in second.stderr
            assert "--take-over" in second.stderr
        assert (data / "admin.json").read_text() == before
        assert count(asker) == 1
        assert first.stop() == 0


def test_no_second_server_comes_in_between_two_servers_of_a_supervisor(tmp_path: Path) -> None:
    with real_server(tmp_path / "data") as server:
        deployed(server)
        with without_a_server(server):
            second = serve(tmp_path / "data")
        assert second.returncode == 1
        assert f"pid {server.process.pid} serves" in second.stderr
        assert count(Asker(server)) == 1


@EITHER
def test_a_server_that_takes_over_has_the_first_stop_gracefully(tmp_path: Path, flags: list[str]) -> None:
    data = tmp_path / "data"
    with real_server(data, flags) as first:
        one = deployed(first)
        assert count(one) == 1
        second = start_server(data, ["--take-over", *flags])
        try:
            assert first.process.wait(30) == 0
            two = Asker(second)
            assert count(two) == 2
            assert json.loads((data / "admin.json").read_text())["url"] == second.url
        finally:
            assert second.stop() == 0


@EITHER
def test_a_server_whose_store_another_has_taken_ends_with_an_error(tmp_path: Path, flags: list[str]) -> None:
    """The lock is lost when somebody removes its file: the lease in the store still tells."""
    data = tmp_path / "data"
    with real_server(data, flags) as first:
        one = deployed(first)
        (data / "server.lock").unlink()
        second = start_server(data)
        try:
            two = Asker(second)
            assert count(two) == 1
            refused(one.send(MACHINE, "one", "count"), 503, "unavailable")
            assert first.process.wait(30) == 1
            assert "another server has taken over" in first.log.read_text()
            assert count(two) == 2
        finally:
            assert second.stop() == 0


@contextmanager
def started_process(command: Sequence[str], **how: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, text=True, **how) as process:
        try:
            yield process
        finally:
            process.kill()


# --- sockets that are given ------------------------------------------------------------------------


LIKE_SYSTEMD = """
import os, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.create_server((sys.argv[1], 0), family=family)
print(listener.getsockname()[1], flush=True)
if listener.fileno() != 3:
    os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="http")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0"])
def test_a_server_takes_the_socket_that_systemd_has_opened(tmp_path: Path, host: str) -> None:
    data = tmp_path / "data"
    command = [str(BIN / "statebacked"), "serve", "--data", str(data)]
    started = ["python3", "-c", LIKE_SYSTEMD, host, *command]
    with started_process(started, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        shown = f"[{host}]" if ":" in host else host
        assert process.stdout.readline() == f"statebacked listens on http://{shown}:{port}\n"
        local = "127.0.0.1" if host == "0.0.0.0" else shown
        foreign = {"host": "statebacked.example"}
        answer = httpx.get(f"http://{local}:{port}/healthz", headers=foreign)
        assert answer.status_code == (200 if host == "0.0.0.0" else 421)
        assert httpx.get(f"http://{local}:{port}/healthz").status_code == 200
        process.terminate()
        assert process.wait(30) == 0


def test_a_descriptor_that_does_not_listen_is_refused(tmp_path: Path) -> None:
    spoilt = LIKE_SYSTEMD.replace("socket.create_server(", "socket.socket() #")
    command = [str(BIN / "statebacked"), "serve", "--data", str(tmp_path / "data")]
    done = subprocess.run(
        ["python3", "-c", spoilt, "x", *command], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "ListenStream" in done.stderr


def test_the_units_in_the_guide_start_a_server(tmp_path: Path) -> None:
    """With the socket of the one and the command of the other, as systemd would, but for paths and port."""
    blocks = {block.title: block.text for block in blocks_of(ROOT / "docs" / "guide" / "restarts.md")}
    units = {name: ConfigParser(interpolation=None) for name in blocks if name and name.startswith("stateb")}
    assert set(units) == {"statebacked.service", "statebacked.socket"}
    for name, unit in units.items():
        unit.optionxform = str  # type: ignore[assignment, method-assign]  # their names have capitals
        unit.read_string(blocks[name])
    host, port = units["statebacked.socket"]["Socket"]["ListenStream"].split(":")
    program, command, *flags = units["statebacked.service"]["Service"]["ExecStart"].split()
    assert (Path(program).name, command, port) == ("statebacked", "serve", str(Settings().port))
    flags = [str(tmp_path / "data") if flag == "/var/lib/statebacked" else flag for flag in flags]
    started = ["python3", "-c", LIKE_SYSTEMD, host, str(BIN / program.rsplit("/", 1)[1]), command, *flags]
    with started_process(started, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        bound = process.stdout.readline().strip()
        assert process.stdout.readline() == f"statebacked listens on http://{host}:{bound}\n"
        process.terminate()
        assert process.wait(30) == 0


# --- dev -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_dev_comes_back_with_its_data_its_page_and_its_ports(tmp_path: Path, number: int) -> None:
    """--reset is for the first start; what is printed to be pasted is printed once."""
    data, toggler = tmp_path / "data", E2E.parents[1] / "examples" / "toggler" / "toggler.ts"
    command = [str(BIN / "statebacked"), "dev", "--reset", "--port", "0", "--page-port", "0"]
    arguments: Sequence[str] = [*command, "--data", str(data), str(toggler)]
    with started_process(arguments, stderr=subprocess.PIPE) as dev:
        assert dev.stderr is not None
        said = list(until(dev, r"getOrCreate"))
        (page,) = [line.split()[1] for line in said if line.startswith("page ")]
        (child,) = children_of(dev.pid)
        os.kill(dev.pid if number == signal.SIGHUP else child, number)
        again = list(until(dev, r"^toggler: unchanged"))
        assert not [line for line in again if "getOrCreate" in line]
        with urllib.request.urlopen(page, timeout=60) as answer:
            assert answer.status == 200
        dev.terminate()
        threading.Thread(target=dev.stderr.read).start()
        assert dev.wait(30) == 0


def until(process: subprocess.Popen[str], pattern: str) -> Iterator[str]:
    assert process.stderr is not None
    for line in process.stderr:
        yield line
        if re.search(pattern, line):
            return
    raise AssertionError(f"never said {pattern!r}")


# --- the example that goes on trying ---------------------------------------------------------------


def test_a_subscriber_that_goes_on_trying_outlives_a_closed_port(tmp_path: Path) -> None:
    """examples/toggler/watch.mjs, and a server without a supervisor. With `ws` alone Node would end."""
    toggler = tmp_path / "toggler"
    shutil.copytree(ROOT / "examples" / "toggler", toggler)
    (toggler / "node_modules").symlink_to(E2E / "node_modules")
    named = ["--machine", "example-machine", "--instance", "s-1", "--auth-context", '{"sid": "s-1"}']
    with real_server(tmp_path / "data", ["--no-supervisor"]) as first:
        made = ["--machine", "example-machine", "--node", str(ROOT / "examples" / "toggler" / "toggler.js")]
        first.smply("machines", "create", *made)
        first.smply("instances", "create", *named)
        watching = ["node", "watch.mjs", "example-machine", "s-1"]
        how = {"cwd": toggler, "env": first.environment(), "stdout": subprocess.PIPE}
        with started_process(watching, **how) as watch:
            assert watch.stdout is not None
            assert watch.stdout.readline() == 'off {"toggleCount":0}\n'
            address = urlsplit(first.url)
            assert first.stop() == 0
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((address.hostname, address.port))
            with real_server(tmp_path / "data", ["--no-supervisor", "--port", str(address.port)]) as second:
                assert watch.stdout.readline() == 'off {"toggleCount":0}\n'
                second.smply("instances", "send-event", *named, "--event", "toggle")
                assert watch.stdout.readline() == 'on {"toggleCount":1}\n'
                assert watch.poll() is None


# --- the published client --------------------------------------------------------------------------


def test_the_published_client_goes_on_over_restarts_in_node_and_in_chromium() -> None:
    """`make restarts` does it longer."""
    restarts.run(6, seed=1)
