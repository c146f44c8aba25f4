"""`smply` on a real terminal: tables, a key for the next page, a question to sign in."""

import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.conftest import ADMIN

WAIT_S = 20

SERVER = """
import sys
from pathlib import Path
from tests.cli.fake_server import FakeServer
from statebacked.cli.main import main
from statebacked.cli.surroundings import Surroundings
server = FakeServer()
server.give("GET /machines",
    {"machines": [{"slug": "first\\x1b[2J", "currentVersion": {"id": "ver_1"}}], "cursor": "c"},
    {"machines": [{"slug": "second"}]})
server.give("GET /logs", {"maxTimestamp": "2030-01-31T12:00:00.000Z", "logs": [
    {"machineName": "m", "outputType": "stdout", "log": "a\\tb \\x1b[2J\\u202e\\nsecond line"}]})
main(sys.argv[3:], surroundings=Surroundings(
    env={"HOME": sys.argv[1]}, cwd=Path(sys.argv[2]), transport=server.transport()))
"""


class Terminal:
    """The screen and the keyboard of one process."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int) -> None:
        self.process = process
        self._screen = screen
        self.shown = ""

    def until(self, text: str) -> str:
        """What was shown until `text` was."""
        while text not in self.shown:
            ready, _, _ = select.select([self._screen], [], [], WAIT_S)
            assert ready, f"{text!r} was never shown: {self.shown!r}"
            try:
                data = os.read(self._screen, 4096)
            except OSError:  # how Linux says that the other end has closed
                data = b""
            assert data, f"ended without showing {text!r}: {self.shown!r}"
            self.shown += data.decode()
        return self.shown

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode() + b"\n")


@contextmanager
def terminal(
    home: Path, folder: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[Terminal]:
    screen, program = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(home), str(folder), *arguments],
        stdin=program,
        stdout=program,
        stderr=program,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", **(env or {})},
    )
    os.close(program)
    try:
        yield Terminal(process, screen)
        process.wait(WAIT_S)
    finally:
        process.kill()
        process.wait()
        os.close(screen)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "server" / ".statebacked"
    folder.mkdir(parents=True)
    (folder / "admin.json").write_text(json.dumps(ADMIN))
    return folder


def test_a_table_and_a_key_for_the_next_page(tmp_path: Path, data: Path) -> None:
    with terminal(tmp_path, data.parent, "machines", "list") as screen:
        first = screen.until("Press enter for more")
        assert "currentVersion" in first
        assert "ver_1" in first
        assert "first\\u001b[2J" in first
        assert "second" not in first
        screen.type("")
        screen.until("second")
    assert screen.process.returncode == 0


def test_q_ends_the_list(tmp_path: Path, data: Path) -> None:
    with terminal(tmp_path, data.parent, "machines", "list") as screen:
        screen.until("Press enter for more")
        screen.type("q")
    assert screen.process.returncode == 0
    assert "second" not in screen.shown


def test_a_stranger_is_asked_to_sign_in_and_the_command_goes_on(tmp_path: Path, data: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with terminal(home, home, "orgs", "list") as screen:
        screen.until("Data folder of the server")
        screen.type(str(data))
        screen.until("Signed in to http://127.0.0.1:7070")
        screen.until("mine")
    assert screen.process.returncode == 0
    assert json.loads((home / ".smply" / "session.json").read_text()) == {
        "adminFile": str(data / "admin.json")
    }


def test_the_token_of_another_server_is_asked_for_without_echo(tmp_path: Path) -> None:
    with terminal(tmp_path, tmp_path, "login") as screen:
        screen.until("Data folder of the server")
        screen.type("http://example.test:7070")
        # The space comes when the echo is off.
        screen.until("Access token: ")
        screen.type("sbs_secret")
        screen.until("Signed in to http://example.test:7070")
    assert "sbs_secret" not in screen.shown
    assert json.loads((tmp_path / ".smply" / "session.json").read_text()) == {
        "url": "http://example.test:7070",
        "accessToken": "sbs_secret",
    }


def test_help_loads_neither_the_http_client_nor_the_tables() -> None:
    code = (
        "import sys; from statebacked.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('httpx', 'rich.table', 'msgspec', 'cryptography') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_lines_of_machines_do_nothing_to_the_terminal(tmp_path: Path, data: Path) -> None:
    with terminal(tmp_path, data.parent, "logs", "get", "--from", "-1h", "--clean") as screen:
        screen.until("a\tb \\u001b[2J\\u202e")
        screen.until("second line")
    assert screen.process.returncode == 0
    assert "\x1b" not in screen.shown
