"""`smply dead-letters`: deliveries that were given up."""

from typing import Annotated

import typer

from statebacked.cli.api import path_of
from statebacked.cli.listing import show_list
from statebacked.cli.options import connect, not_empty
from statebacked.cli.output import note

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Timers and messages whose delivery was given up.")

COLUMNS = ("id", "kind", "machine", "instance", "to", "event", "attempts", "reason", "deadAt", "truncated")
Letter = Annotated[
    str, typer.Option("--id", "-i", help="Id of the dead letter.", show_default=False, callback=not_empty)
]


@app.command("list")
def list_letters(
    context: typer.Context,
    *,
    machine: Annotated[
        str | None,
        typer.Option("--machine", "-m", help="Only of this machine's instances.", callback=not_empty),
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option("--instance", help="Only of this instance.", show_default=False, callback=not_empty),
    ] = None,
) -> None:
    """List dead letters by who set or sent them: what they hold, and why they were given up."""
    wanted = {name: value for name, value in (("machine", machine), ("instance", instance)) if value}
    show_list(context, path_of("dead-letters"), "deadLetters", COLUMNS, params=wanted)


@app.command("redrive")
def redrive(context: typer.Context, letter: Letter) -> None:
    """Deliver a dead letter again, with as many attempts as a new one has."""
    with connect(context) as api:
        api.post(path_of("dead-letters", letter, "redrive"))
    note("It is due now.")


@app.command("discard")
def discard(context: typer.Context, letter: Letter) -> None:
    """Forget a dead letter."""
    with connect(context) as api:
        api.delete(path_of("dead-letters", letter))
    note("Forgotten.")
