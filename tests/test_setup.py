"""`make setup` and the Python it finds: nothing is installed with one that is too old."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Answers the question for its version, and makes a .venv that answers the same.
FAKE_PYTHON = """#!/bin/sh
case $1 in
-c) echo {version} ;;
-m) echo "{version} $*" >> calls
    [ "$2" != venv ] || {{ rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python; }} ;;
esac
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A folder with the Makefile, in which `python3` is a script that says it is of some version."""

    folder: Path

    def has_python(self, name: str, version: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(FAKE_PYTHON.format(version=version))
        path.chmod(0o755)

    def setup(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "--silent", ".venv/.installed", *arguments],
            cwd=self.folder,
            env={"PATH": f"{self.folder / 'bin'}", "HOME": str(self.folder)},
            capture_output=True,
            text=True,
        )

    def calls(self) -> list[str]:
        """What pythons were asked to make since the last call."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line.partition(" --")[0] for line in lines]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    (tmp_path / "tools").mkdir()
    (tmp_path / "bin").mkdir()
    for tool in ("make", "sh", "bash", "cp", "mkdir", "rm", "touch", "env"):
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(os.path.realpath(found))
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "tools/make_venv.sh"):
        shutil.copy(ROOT / name, tmp_path / name)
    return Clone(folder=tmp_path)


@pytest.mark.parametrize("version", ["2.7.18", "3.6.15", "3.9.18", "3.10.13"])
def test_an_old_python_is_named_before_anything_is_installed(clone: Clone, version: str) -> None:
    clone.has_python("python3", version)
    done = clone.setup()

    assert done.returncode != 0
    assert f"needs Python 3.11 or newer; python3 is {version}" in done.stderr
    assert "make PYTHON=python3.12 setup" in done.stderr
    assert clone.calls() == []
    assert not (clone.folder / ".venv").exists()


def test_a_missing_python_is_told(clone: Clone) -> None:
    done = clone.setup()

    assert done.returncode != 0
    assert "needs Python 3.11 or newer; python3 was not found" in done.stderr


def test_the_command_to_use_instead_names_a_python_that_is_there(clone: Clone) -> None:
    clone.has_python("python3", "3.9.18")
    clone.has_python("python3.14", "command not found")  # as pyenv's stand-ins say
    clone.has_python("python3.13", "3.13.0")

    assert "make PYTHON=python3.13 setup" in clone.setup().stderr
    assert clone.setup("PYTHON=python3.13").returncode == 0
    assert clone.calls()[0] == "3.13.0 -m venv"


def test_what_an_unfinished_setup_left_is_replaced(clone: Clone) -> None:
    clone.has_python("python3", "3.12.1")
    left = clone.folder / ".venv" / "bin"
    left.mkdir(parents=True)
    (left / "python").write_text(FAKE_PYTHON.format(version="3.9.18"))
    (left / "python").chmod(0o755)

    assert clone.setup().returncode == 0
    assert clone.calls() == ["3.12.1 -m venv", "3.12.1 -m pip install", "3.12.1 -m pip install"]


def test_another_python_replaces_a_finished_environment_only_when_it_is_named(clone: Clone) -> None:
    clone.has_python("python3", "3.11.7")
    clone.has_python("python3.12", "3.12.1")
    clone.setup()
    clone.calls()

    assert clone.setup().returncode == 0
    assert clone.setup("PYTHON=python3").returncode == 0
    assert clone.calls() == []
    clone.setup("PYTHON=python3.12")
    assert clone.calls()[0] == "3.12.1 -m venv"
    # The environment works, so the old default is of no interest, also when something is to be installed.
    clone.has_python("python3", "3.9.18")
    (clone.folder / ".venv" / ".installed").touch()
    os.utime(clone.folder / ".venv" / ".installed", (0, 0))
    assert clone.setup().returncode == 0
    assert [call.split()[2] for call in clone.calls()] == ["pip", "pip"]


def test_an_environment_whose_python_is_gone_is_made_anew(clone: Clone) -> None:
    clone.has_python("python3", "3.11.7")
    clone.setup()
    clone.calls()
    (clone.folder / ".venv" / "bin" / "python").unlink()

    assert clone.setup().returncode == 0
    assert clone.calls()[0] == "3.11.7 -m venv"
