"""What a command shows: JSON for a pipe, tables for a terminal, notes and progress on stderr.

Nothing that came from a server reaches a terminal with a control character in it: machine code and other
people's names could otherwise move the cursor or rewrite what was printed before.
"""

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from statebacked.cli.errors import CliError

__all__ = [
    "JsonObject",
    "is_unicode",
    "note",
    "page_through",
    "printable",
    "progress",
    "rows_of",
    "write_json",
    "write_table",
]

JsonObject = dict[str, object]

# C0, DEL, C1, line and paragraph separators, and the marks that reorder text on a terminal.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
PROGRESS_AFTER_S = 1.0


def printable(text: str) -> str:
    r"""The text with every control character shown as \uXXXX."""
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def is_unicode(text: str) -> bool:
    """Whether it can be sent: bytes that are not UTF-8 come from the shell and the environment, too."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_json(value: object) -> None:
    """Two spaces of indent, as the original. Escapes are JSON's own, so the value stays what it was."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    # json escapes C0 inside strings; its own line ends are the only ones left.
    print("\n".join(printable(line) for line in text.split("\n")))


def write_table(rows: Sequence[JsonObject], columns: Sequence[str]) -> None:
    """One line a row. A version is shown as its id, any other value that is no string as JSON."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(_cell(row.get(column)))) for column in columns))
    Console().print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict) and isinstance(value.get("id"), str):
        return str(value["id"])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def rows_of(page: JsonObject, key: str) -> list[JsonObject]:
    """The list of objects under `key`. Raises CliError when the server sent something else."""
    rows = page.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CliError(f"the server's answer has no list of {key}: is this a statebacked server?")
    return rows


def page_through(
    fetch: Callable[[str | None], JsonObject],
    rows: Callable[[JsonObject], Sequence[JsonObject]],
    columns: Sequence[str],
) -> None:
    """Every page, as the original: in a pipe one JSON array a page; on a terminal a table, and a key for the
    next."""
    on_terminal = sys.stdout.isatty()
    cursor: str | None = None
    while True:
        page = fetch(cursor)
        if on_terminal:
            write_table(rows(page), columns)
        else:
            write_json(list(rows(page)))
        following = page.get("cursor")
        if not isinstance(following, str) or not following:
            return
        if following == cursor:
            raise CliError("the server sent the same page cursor twice")
        cursor = following
        if on_terminal and input("Press enter for more (q + Enter to quit)... ").strip() == "q":
            return


def note(text: str) -> None:
    """One line for the person who watches; a pipe's reader does not get it."""
    print(text, file=sys.stderr)


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Says on stderr what takes so long, once it takes longer than a second."""
    timer = threading.Timer(PROGRESS_AFTER_S, note, args=(f"{text} …",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
