"""The code blocks of a Markdown document, with what the words after their language say.

`title=NAME` is a file, `from=PATH` lines of one in the repository, `run` is run, `output` is what the block
run before it prints (`run soon`: prints in the end), `xstate=4` is for that major only.
"""

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(?P<language>\w+)(?P<words>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    language: str
    text: str
    title: str | None
    source: str | None
    is_run: bool
    is_soon: bool
    is_output: bool
    xstate: str | None


def blocks_of(document: Path) -> list[Block]:
    """All fenced blocks in their order."""
    return [_block(found) for found in _FENCE.finditer(document.read_text())]


def _block(found: re.Match[str]) -> Block:
    words = found["words"].split()
    named = dict(word.split("=", 1) for word in words if "=" in word)
    return Block(
        language=found["language"],
        text=found["text"],
        title=named.get("title"),
        source=named.get("from"),
        is_run="run" in words,
        is_soon="soon" in words,
        is_output="output" in words,
        xstate=named.get("xstate"),
    )
