"""The options that several commands share, spelled as the original spells them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from statebacked.cli.api import Api
from statebacked.cli.credentials import Credentials, find_credentials
from statebacked.cli.errors import CliError
from statebacked.cli.login import signed_in
from statebacked.cli.surroundings import Globals

__all__ = [
    "AuthContext",
    "Instance",
    "JsFile",
    "Machine",
    "NoSourceMap",
    "NodeFile",
    "SkipValidation",
    "Token",
    "connect",
    "connect_as",
    "globals_of",
    "not_empty",
    "paged",
    "parse_json",
]


def not_empty(value: object) -> object:
    """The callback of options that name something: an empty name would be another path of the API."""
    if value == "":
        raise typer.BadParameter("it is empty")
    return value


Machine = Annotated[
    str, typer.Option("--machine", "-m", help="Machine name", show_default=False, callback=not_empty)
]
Instance = Annotated[
    str, typer.Option("--instance", "-i", help="Instance name", show_default=False, callback=not_empty)
]
NodeFile = Annotated[
    Path | None,
    typer.Option(
        "--node",
        "-n",
        help="TypeScript or JavaScript file that exports the machine; bundled with what it imports.",
        show_default=False,
    ),
]
JsFile = Annotated[
    Path | None,
    typer.Option(
        "--js", "-j", help="Self-contained JavaScript module, uploaded as it is.", show_default=False
    ),
]
SkipValidation = Annotated[
    bool, typer.Option("--skip-validation", "-s", help="Upload without checking types and exports first.")
]
NoSourceMap = Annotated[
    bool,
    typer.Option(
        "--no-source-map",
        help="Upload no source map: errors name places in the bundle, not in your files.",
    ),
]
AuthContext = Annotated[
    str | None,
    typer.Option(
        "--auth-context",
        "-a",
        help='JSON auth context to act as, e.g. \'{"sub": "user_1234"}\'. This or --token.',
        show_default=False,
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        "-t",
        help="JWT signed with one of your keys, to act with. This or --auth-context.",
        show_default=False,
    ),
]


def globals_of(context: typer.Context) -> Globals:
    """What the options before the command said."""
    options = context.obj
    assert isinstance(options, Globals)
    return options


def connect(context: typer.Context) -> Api:
    """An Api that acts as the admin who is signed in; when nobody is, asks to sign in. To be used in
    `with`."""
    options = globals_of(context)
    return Api(signed_in(options), transport=options.surroundings.transport)


def connect_as(context: typer.Context, *, auth_context: str | None, token: str | None) -> Api:
    """An Api that acts for a user: by a token of theirs, or by the admin's word in `auth_context`."""
    if (auth_context is None) == (token is None):
        raise CliError("give one of --auth-context and --token")
    options = globals_of(context)
    if token is not None:
        found = find_credentials(options)
        theirs = Credentials(url=found.url, token=token, org=found.org, source="--token")
        return Api(theirs, transport=options.surroundings.transport)
    claims = parse_json(auth_context or "", "--auth-context")
    if not isinstance(claims, dict):
        raise CliError('--auth-context must be a JSON object, e.g. \'{"sub": "user_1234"}\'')
    # ASCII: a header has no agreed encoding.
    return Api(signed_in(options), act=json.dumps(claims), transport=options.surroundings.transport)


def parse_json(text: str, option: str) -> object:
    """The value of an option that holds JSON. Raises CliError that shows where it breaks off."""
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise CliError(f"{option} is not valid JSON: {exc}") from exc
    return value


def paged(cursor: str | None) -> dict[str, str]:
    """The query of a list's page; None is the first."""
    return {} if cursor is None else {"cursor": cursor}
