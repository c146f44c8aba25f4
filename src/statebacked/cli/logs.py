"""`smply logs`: what machines write, and what the server tells about them."""

import os
import sys
from typing import Annotated

import typer

from statebacked.cli.api import JsonObject
from statebacked.cli.errors import CliError
from statebacked.cli.log_watch import Window, next_batch, watch
from statebacked.cli.options import connect, globals_of, not_empty
from statebacked.cli.output import note, printable, rows_of, write_json
from statebacked.cli.times import parse_time

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Retrieve execution logs for transitions, actions, services, authorizers, and migrations.",
)

Since = Annotated[
    str,
    typer.Option(
        "--from", "-f", help="Start: a date in ISO 8601, or relative to now (e.g. -1h).", show_default=False
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        "--to", "-t", help="End: a date in ISO 8601, or relative to --from (e.g. 1h).", show_default=False
    ),
]
Machine = Annotated[
    str | None, typer.Option("--machine", "-m", help="Machine name", show_default=False, callback=not_empty)
]
Instance = Annotated[
    str | None, typer.Option("--instance", "-i", help="Instance name", show_default=False, callback=not_empty)
]
Version = Annotated[
    str | None,
    typer.Option("--version", "-v", help="Machine version id", show_default=False, callback=not_empty),
]
Clean = Annotated[bool, typer.Option("--clean", "-c", help="Show the lines alone; who wrote them on stderr.")]

INTERRUPTED = 130


@app.command("get")
def get(
    context: typer.Context,
    *,
    since: Since,
    to: To = None,
    machine: Machine = None,
    instance: Instance = None,
    version: Version = None,
    clean: Clean = False,
) -> None:
    """Retrieve one batch of logs."""
    window = _window(context, since=since, to=to, machine=machine, instance=instance, version=version)
    with connect(context) as api:
        batch = next_batch(api, window)
    if not clean:
        write_json(batch)
        return
    writer = CleanWriter()
    for entry in rows_of(batch, "logs"):
        writer.write(entry)


@app.command("watch")
def watch_logs(
    context: typer.Context,
    *,
    since: Since,
    to: To = None,
    machine: Machine = None,
    instance: Instance = None,
    version: Version = None,
    clean: Clean = False,
) -> None:
    """Show all matching logs, and each new one as it comes."""
    window = _window(context, since=since, to=to, machine=machine, instance=instance, version=version)
    surroundings = globals_of(context).surroundings
    write = CleanWriter().write if clean else write_json
    try:
        with connect(context) as api:
            for entry in watch(api, window, sleep=surroundings.sleep, now=surroundings.now):
                write(entry)
                sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read is gone; what is left in the buffer must not fail again when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class CleanWriter:
    """Lines alone, raw in a pipe, harmless on a terminal; on stderr a heading for whoever wrote them."""

    def __init__(self) -> None:
        self._last: tuple[object, ...] | None = None
        self._is_terminal = sys.stdout.isatty()

    def write(self, entry: JsonObject) -> None:
        """One entry, with a heading when another speaks than before."""
        names = ("machineName", "instanceName", "machineVersionId", "orgId")
        speaker = (*(entry.get(name) for name in names), entry.get("outputType"))
        if speaker != self._last:
            sys.stdout.flush()
            machine, instance, version, _org, output = speaker
            who = f"{machine}/{instance}" if instance else str(machine)
            note(printable(f"--- {who} {output} ({version})"))
            self._last = speaker
        self._print(str(entry.get("log")))

    def _print(self, text: str) -> None:
        if self._is_terminal:
            lines = ("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))
            text = "\n".join(lines)
        print(text.encode(errors="replace").decode())


def _window(
    context: typer.Context,
    *,
    since: str,
    to: str | None,
    machine: str | None,
    instance: str | None,
    version: str | None,
) -> Window:
    """Raises CliError."""
    start = parse_time(since, "--from", base=globals_of(context).surroundings.now())
    end = None if to is None else parse_time(to, "--to", base=start)
    if end is not None and end < start:
        raise CliError("--to must not be before --from")
    named = {"machine": machine, "instance": instance, "version": version}
    filters = {name: value for name, value in named.items() if value is not None}
    return Window(since=start, to=end, filters=filters)
