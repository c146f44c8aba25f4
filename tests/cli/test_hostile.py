"""Every command of `smply` with the worst values for each of its options: an error in words, never a
traceback."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Smply
from tests.cli.test_guide import leaves
from typer.main import get_command

from statebacked.cli.main import app

BIN = Path(sys.executable).parent
# What makes a command go as far as its server.
USUAL = {
    "--machine": "m",
    "--instance": "i",
    "--event": "go",
    "--auth-context": "{}",
    "--from": "-1m",
    "--to": "1m",
    "--status": "running",
    "--version": "ver_1",
    "--index": "x",
    "--id": "dl_1",
    "--name": "n",
    "--key": "sbk_1",
    "--org": "org_1",
    "--version-reference": "1",
    "--js": "machine.js",
    "--local": None,
}
MIGRATION = {"--from": "ver_1", "--to": "ver_2", "--js": "migration.js"}
WORST = {
    "empty": "",
    "space": " ",
    "nul": "\0",
    "line": "a\nb",
    "not utf-8": "\udcff",
    "not ascii": "Zoë 🙂",
    "huge": "x" * 100_000,
    "number": "-99999999999999999999",
    "path": "../../..",
    "folder": "folder",
    "missing": "missing.ts",
    "broken json": "{",
    "other json": "[1]",
    "deep json": "[" * 100_000,
    "long number": "9" * 10_000,
    "half a pair": '{"type": "go", "x": "\\ud800"}',
    "nan": '{"type": "go", "n": NaN}',
    "control": "\x1b[2J",
}


FOR_ALL = ("empty", "nul", "not ascii", "huge", "folder", "deep json", "control")
HOLDS_JSON = {"--event", "--context", "--auth-context", "--index-selectors"}
FLAGS = {"--local", "--legacy-credentials", "--store", "--no-store", "--clean", "--help"}
FLAGS |= {"--make-current", "--skip-validation", "--no-source-map"}
COMMANDS = dict(leaves(get_command(app)))


def commands() -> Iterator[tuple[tuple[str, ...], str | None]]:
    """Each command alone, and with each of its long options."""
    for path, options in COMMANDS.items():
        yield path, None
        for option in sorted(options):
            if option.startswith("--") and option not in FLAGS:
                yield path, option


def usual(path: tuple[str, ...]) -> dict[str, str | None]:
    known = {**USUAL, **(MIGRATION if path[0] == "migrations" else {})}
    return {option: value for option, value in known.items() if option in COMMANDS[path]}


@pytest.fixture
def prepared(smply: Smply) -> Smply:
    (smply.folder / "folder").mkdir()
    (smply.folder / "machine.js").write_text("export { a as default, allowRead, allowWrite }")
    (smply.folder / "migration.js").write_text("export { upgradeState }")
    smply.around = {"sleep": lambda _seconds: None}
    smply.server.give("GET /logs", {"maxTimestamp": "2999-01-01T00:00:00.000Z", "logs": []})
    for route in ("GET /machines/m", "GET /machines/m/i/i/admin"):
        smply.server.give(route, {})
    return smply


@pytest.mark.parametrize(("path", "option"), list(commands()), ids=str)
def test_the_worst_values_are_answered_in_words(
    prepared: Smply, path: tuple[str, ...], option: str | None
) -> None:
    names = WORST if option in HOLDS_JSON else FOR_ALL
    for value in [WORST[name] for name in names] if option is not None else [""]:
        given = usual(path)
        if option is not None:
            given[option] = value
        arguments = [part for pair in given.items() for part in pair if part is not None]
        outcome = prepared(*path, *arguments)  # any other exception than the end of the process fails here
        assert outcome.code in {0, 1, 2}
        assert "Traceback" not in outcome.err
        assert outcome.code == 0 or outcome.err
        assert "\x1b" not in outcome.err


@pytest.mark.parametrize("option", ["--api-url", "--access-token", "--org"])
@pytest.mark.parametrize("value", WORST.values(), ids=WORST)
def test_the_worst_values_of_the_global_options_are_answered_in_words(
    prepared: Smply, option: str, value: str
) -> None:
    given = {"--api-url": "http://localhost:1", "--access-token": "t", option: value}
    outcome = prepared(*[part for pair in given.items() for part in pair], "orgs", "list")

    assert outcome.code in {0, 1, 2}
    assert outcome.code == 0 or outcome.err


NAMES = [
    ("instances", "get", "-i", "i", "-m"),
    ("instances", "get", "-m", "m", "-i"),
    ("machines", "get", "-m"),
    ("dead-letters", "redrive", "--id"),
    ("dead-letters", "discard", "--id"),
    ("dead-letters", "list", "--instance"),
    ("keys", "delete", "-k"),
    ("instances", "set-desired-version", "-m", "m", "-i", "i", "-v"),
    ("migrations", "dry-run", "-m", "m", "-f", "ver_1", "-t"),
    ("logs", "get", "-f", "-1m", "-m"),
    ("orgs", "default", "set", "-o"),
]


@pytest.mark.parametrize("command", NAMES, ids=" ".join)
def test_an_empty_name_is_named_and_not_sent(prepared: Smply, command: tuple[str, ...]) -> None:
    outcome = prepared(*command, "")

    assert outcome.code == 2
    assert "it is empty" in outcome.err
    assert prepared.server.requests == []


def run(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    env = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(["bash", "-c", script], env=env, cwd=folder, capture_output=True, text=True)


def test_output_that_nobody_reads_is_no_failure_in_words(tmp_path: Path) -> None:
    done = run("{ smply --help; echo $? > code; } | true; cat code", tmp_path)
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    done = run("smply --smply-version > /dev/full", tmp_path)
    assert (done.returncode, done.stderr) == (1, "error: cannot write the output: No space left on device\n")


def test_a_home_that_cannot_be_written_is_told(stranger: Smply, tmp_path: Path) -> None:
    stranger.sign_in()
    (tmp_path / "file").write_text("")
    stranger.home = tmp_path / "file"
    outcome = stranger("login", "--local")

    assert outcome.code == 1
    assert "cannot write" in outcome.err
