"""`smply` in one process with the test: a folder of its own, a home of its own, a server that is a
function."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.cli.fake_server import URL, FakeServer

from statebacked.cli.main import main
from statebacked.cli.surroundings import Surroundings

ADMIN = {"url": URL, "orgId": "org_1", "adminToken": "sbs_admin", "keyId": "sbk_1", "secretKey": "sbsec_1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> object:
        return json.loads(self.out)


@dataclass(slots=True, kw_only=True)
class Smply:
    """Calls `smply` in `folder`; `home` is its HOME."""

    server: FakeServer
    folder: Path
    home: Path
    capture: pytest.CaptureFixture[str]
    env: dict[str, str] = field(default_factory=dict)
    around: dict[str, Any] = field(default_factory=dict)  # other surroundings than the usual

    def __call__(self, *arguments: str) -> Outcome:
        env = {"HOME": str(self.home), "PATH": os.environ["PATH"], **self.env}
        if "DENO_DIR" in os.environ:
            env["DENO_DIR"] = os.environ["DENO_DIR"]
        around = Surroundings(env=env, cwd=self.folder, transport=self.server.transport(), **self.around)
        self.capture.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments, surroundings=around)
        shown = self.capture.readouterr()
        code = ended.value.code
        return Outcome(code=code if isinstance(code, int) else 0, out=shown.out, err=shown.err)

    def sign_in(self) -> None:
        """The server of this folder has started once."""
        data = self.folder / ".statebacked"
        data.mkdir(exist_ok=True)
        (data / "admin.json").write_text(json.dumps(ADMIN))


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def stranger(server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Smply:
    """Nobody has signed in."""
    folder, home = tmp_path / "work", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    return Smply(server=server, folder=folder, home=home, capture=capsys)


@pytest.fixture
def smply(stranger: Smply) -> Smply:
    """The working folder holds a server's data folder."""
    stranger.sign_in()
    return stranger
