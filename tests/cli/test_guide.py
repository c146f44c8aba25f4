"""The guide names every command and every option of `smply`, and none that there is not."""

import re
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.main import get_command

from statebacked.cli.main import app
from statebacked.serve.commands import cli as statebacked

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "cli.md"


def leaves(command: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Each command with the spellings of its options."""
    children = getattr(command, "commands", None)
    if children is not None:
        for name, child in children.items():
            yield from leaves(child, (*path, name))
        return
    options = {
        opt for param in getattr(command, "params", ()) for opt in (*param.opts, *param.secondary_opts)
    }
    yield path, options


def test_the_guide_and_the_command_line_agree() -> None:
    assert isinstance(app, typer.Typer)
    real = dict(leaves(get_command(app)))
    rows = re.findall(r"^\| (`.*?) \|", GUIDE.read_text(), re.MULTILINE)
    named: dict[tuple[str, ...], set[str]] = {}
    for row in rows:
        for words in re.split(r", (?=`[a-z])", row):
            spans = re.findall(r"`([^`]+)`", words)
            command = tuple(word for word in spans[0].split() if not word.startswith("["))
            named[command] = set(spans[1:])

    assert named.keys() == real.keys()
    for command, options in named.items():
        assert options <= real[command], command
    told = set(re.findall(r"--[a-z][a-z-]+", GUIDE.read_text()))
    hidden = {"--global", "--experimental-websocket"}  # of npm, Node
    hidden |= set().union(*dict(leaves(get_command(statebacked))).values())
    everywhere = {"--api-url", "--access-token", "--org", "--help"}
    assert told - hidden - everywhere <= set().union(*real.values())
