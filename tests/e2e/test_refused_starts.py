"""What a server cannot start with: one line on stderr and an exit code, never a traceback."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.servers import BIN


def a_file(folder: Path) -> list[str]:
    (folder / "file").write_text("")
    return ["--data", str(folder / "file")]


def below_a_file(folder: Path) -> list[str]:
    (folder / "file").write_text("")
    return ["--data", str(folder / "file" / "data")]


def a_folder_for_a_key(folder: Path) -> list[str]:
    (folder / "key").mkdir(mode=0o700)
    return ["--data", str(folder / "data"), "--master-key-file", str(folder / "key")]


def a_damaged_admin_file(folder: Path) -> list[str]:
    (folder / "data").mkdir(mode=0o700)
    (folder / "data" / "admin.json").write_text(json.dumps(["no"]))
    return ["--data", str(folder / "data")]


def no_database(folder: Path) -> list[str]:
    (folder / "data").mkdir(mode=0o700)
    (folder / "data" / "statebacked.sqlite3").write_text("not a database " * 1_000)
    return ["--data", str(folder / "data")]


def with_value(option: str, value: str) -> Callable[[Path], list[str]]:
    def arguments(folder: Path) -> list[str]:
        return ["--data", str(folder / "data"), option, value]

    arguments.__name__ = f"{option} {value[:20]}"
    return arguments


CASES = [
    a_file,
    below_a_file,
    a_folder_for_a_key,
    a_damaged_admin_file,
    no_database,
    with_value("--host", "nowhere.invalid"),
    with_value("--host", "x" * 300),
    with_value("--host", "203.0.113.1"),
    with_value("--master-key", "secret"),
    with_value("--data", "x" * 5_000),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_server_that_cannot_start_says_why_in_a_line(
    tmp_path: Path, case: Callable[[Path], list[str]]
) -> None:
    command = [str(BIN / "statebacked"), "serve", "--no-supervisor", "--port", "0", *case(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    told = [line for line in done.stderr.splitlines() if not line.startswith("{")]  # its log is JSON
    assert done.returncode not in {0, -6, -11}
    assert len(told) == 1
    assert told[0].startswith("statebacked: ")
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
