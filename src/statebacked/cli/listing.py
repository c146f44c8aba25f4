"""What every command that lists does: ask for page after page, and show the rows under one key of each."""

from collections.abc import Callable, Mapping, Sequence

import typer

from statebacked.cli.api import JsonObject
from statebacked.cli.options import connect, paged
from statebacked.cli.output import page_through, rows_of

__all__ = ["show_list"]


def _as_it_is(row: JsonObject) -> JsonObject:
    return row


def show_list(
    context: typer.Context,
    path: str,
    key: str,
    columns: Sequence[str],
    *,
    params: Mapping[str, str] | None = None,
    shown: Callable[[JsonObject], JsonObject] = _as_it_is,
) -> None:
    """The rows under `key` of all pages at `path`, each as `shown` makes it. `columns` are those of a
    terminal's table; `params` are asked for with every page. Raises CliError."""
    with connect(context) as api:
        page_through(
            lambda cursor: api.get(path, {**(params or {}), **paged(cursor)}),
            lambda page: [shown(row) for row in rows_of(page, key)],
            columns,
        )
