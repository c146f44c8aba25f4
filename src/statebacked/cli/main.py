"""The `smply` command: parses, runs one command, turns its failure into one line and exit code 1."""

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from statebacked import __version__
from statebacked.cli import (
    dead_letters,
    instances,
    keys,
    lifecycle,
    login,
    logs,
    machines,
    migrations,
    orgs,
    versions,
)
from statebacked.cli.errors import CliError
from statebacked.cli.options import not_empty
from statebacked.cli.output import is_unicode, printable
from statebacked.cli.surroundings import Globals, Surroundings

__all__ = ["main"]

# The original takes these three anywhere on the line. Their short forms belong to the commands here
# (`instances create -t`): in the original they collide.
ANYWHERE = ("--access-token", "--api-url", "--org")

BROKEN_PIPE = 141  # as a shell counts a process that the signal ended

app = typer.Typer(
    name="smply",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help is there in half the time that a framed one takes.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(machines.app, name="machines")
app.add_typer(versions.app, name="machine-versions")
app.add_typer(migrations.app, name="migrations")
app.add_typer(instances.app, name="instances")
instances.app.command("set-desired-version")(lifecycle.set_desired_version)
instances.app.command("set-status")(lifecycle.set_status)
instances.app.command("delete")(lifecycle.delete)
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(keys.app, name="keys")
app.add_typer(orgs.app, name="orgs")
app.add_typer(logs.app, name="logs")
app.command("login")(login.login)
app.command("whoami")(login.whoami)


def main(argv: Sequence[str] | None = None, *, surroundings: Surroundings | None = None) -> None:
    """Runs `smply`. Exit code 0, 1 when the command failed, 2 when it was not understood."""
    arguments = options_first(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # one that cannot show a character shows its number
            stream.reconfigure(errors="backslashreplace")
    for argument in arguments:
        if not is_unicode(argument):
            print(f"error: {argument!a} is not valid UTF-8", file=sys.stderr)
            raise SystemExit(2)
    try:
        app(args=arguments, prog_name="smply", obj=surroundings or Surroundings())
    except SystemExit as exc:
        _end_output()
        raise exc from None
    except CliError as exc:
        _end_output()
        _fail(str(exc))
    except OSError as exc:
        _fail(f"{exc.strerror or exc}{'' if exc.filename is None else f': {exc.filename}'}")


def _end_output() -> None:
    """Writes what is left of the output. Whoever reads it may be gone, or the disk full: that is told, and
    does not fail again when the process ends."""
    try:
        sys.stdout.flush()
    except OSError as exc:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(exc, BrokenPipeError):
            raise SystemExit(BROKEN_PIPE) from None
        _fail(f"cannot write the output: {exc.strerror}")


def _fail(text: str) -> NoReturn:
    print("error: " + "\n".join(printable(line) for line in text.split("\n")), file=sys.stderr)
    raise SystemExit(1) from None


def options_first(arguments: Sequence[str]) -> list[str]:
    """The same line with the long global options moved before the command, where the parser knows them."""
    moved: list[str] = []
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            kept += [argument, *rest]
        elif argument in ANYWHERE:
            moved += [argument, *([value] if (value := next(rest, None)) is not None else [])]
        elif argument.startswith(tuple(f"{option}=" for option in ANYWHERE)):
            moved.append(argument)
        else:
            kept.append(argument)
    return moved + kept


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _globals(
    context: typer.Context,
    *,
    access_token: Annotated[
        str | None,
        typer.Option(
            "--access-token",
            "-t",
            help="Access token [env: STATEBACKED_ACCESS_TOKEN]",
            show_default=False,
            callback=not_empty,
        ),
    ] = None,
    api_url: Annotated[
        str | None,
        typer.Option(
            "--api-url",
            "-u",
            help="URL of the server [env: STATEBACKED_API_URL]; else that of the local server's admin.json",
            show_default=False,
            callback=not_empty,
        ),
    ] = None,
    org: Annotated[
        str | None,
        typer.Option(
            "--org",
            "-o",
            help="Organization id, if you have several.",
            show_default=False,
            callback=not_empty,
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--smply-version", "-V", help="Show the version.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    """Deploy machines to statebacked and look at what they do."""
    surroundings = context.obj
    assert isinstance(surroundings, Surroundings)
    context.obj = Globals(surroundings=surroundings, access_token=access_token, api_url=api_url, org=org)
