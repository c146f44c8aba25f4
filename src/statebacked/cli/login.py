"""`smply login` and `whoami`: which server this person works with, remembered in ~/.smply."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from statebacked.cli.credentials import (
    SESSION_FILE,
    Credentials,
    NotSignedIn,
    admin_file_at,
    find_credentials,
    read_admin_file,
    without_default_org,
)
from statebacked.cli.default_orgs import keep_npm_org_apart, npm_org_file
from statebacked.cli.errors import CliError
from statebacked.cli.membership import orgs_of, require_membership
from statebacked.cli.output import note, write_json
from statebacked.cli.private_files import write_private
from statebacked.cli.surroundings import Globals, Surroundings

__all__ = ["login", "signed_in", "whoami"]

# npm's smply refreshes a session near its end at a host of its own, so the file names a far end: the year
# 2100.
NEVER_EXPIRES_AT_S = 4102444800
NEVER_EXPIRES_IN_S = 2_000_000_000


def signed_in(options: Globals) -> Credentials:
    """The credentials of this call; a person at a terminal without any is asked to sign in first."""
    try:
        return find_credentials(options)
    except NotSignedIn:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
    note("You are not signed in yet.")
    _ask(options, stores=True)
    return find_credentials(options)


def login(
    context: typer.Context,
    *,
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="With --local: the server's data folder; by default the one that commands here use.",
            show_default=False,
        ),
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Work with the server of a data folder on this machine.")
    ] = False,
    legacy_credentials: Annotated[
        bool,
        typer.Option(
            "--legacy-credentials",
            help="Also sign in npm's smply, which cannot sign in to your server itself.",
        ),
    ] = False,
    store: Annotated[
        bool,
        typer.Option("--store/--no-store", help="Remember it in ~/.smply, or just print the access token."),
    ] = True,
) -> None:
    """Choose the server to work with."""
    options = context.obj
    assert isinstance(options, Globals)
    if legacy_credentials:
        _write_legacy(options, folder)
    elif local or folder is not None:
        _remember_folder(options.surroundings, _local_file(options, folder), stores=store)
    else:
        _ask(options, stores=store)


def whoami(context: typer.Context) -> None:
    """Show the server, the org and whom the server takes you for."""
    options = context.obj
    assert isinstance(options, Globals)
    credentials = signed_in(options)
    orgs = orgs_of(options, credentials)
    write_json(
        {"url": credentials.url, "orgId": credentials.org, "signedInBy": credentials.source, "orgs": orgs}
    )


def _local_file(options: Globals, folder: Path | None) -> Path:
    if folder is not None:
        return admin_file_at(options.surroundings.cwd / folder)
    path = Path(without_default_org(options).source)
    if not path.is_file():
        raise NotSignedIn
    return path


def _remember_folder(around: Surroundings, admin_file: Path, *, stores: bool) -> None:
    """Remembers where the admin file is, not what it holds: a server that starts afresh writes it anew."""
    credentials = read_admin_file(admin_file)
    if not stores:
        print(credentials.token)
        return
    write_private(around.smply_folder / SESSION_FILE, json.dumps({"adminFile": str(admin_file.resolve())}))
    keep_npm_org_apart(around)
    note(f"Signed in to {credentials.url}, org {credentials.org}.")


def _ask(options: Globals, *, stores: bool) -> None:
    around = options.surroundings
    answer = typer.prompt("Data folder of the server on this machine, or URL of another", err=True).strip()
    if not answer.startswith(("http://", "https://")):
        _remember_folder(around, admin_file_at(around.cwd / Path(answer).expanduser()), stores=stores)
        return
    token = typer.prompt("Access token", hide_input=True, err=True).strip()
    credentials = Credentials(url=answer, token=token, org=options.org, source="what you typed")
    orgs = orgs_of(options, credentials)
    if options.org is not None:
        require_membership(options, credentials, options.org)
    if not stores:
        print(token)
        return
    stored = {"url": answer, "accessToken": token}
    if options.org is not None:
        stored["orgId"] = options.org
    write_private(around.smply_folder / SESSION_FILE, json.dumps(stored))
    keep_npm_org_apart(around)
    note(f"Signed in to {answer}, {len(orgs)} org{'' if len(orgs) == 1 else 's'}.")


def _write_legacy(options: Globals, folder: Path | None) -> None:
    """The files in which npm's smply 0.1.18 keeps its session and org; it then asks no other host."""
    around = options.surroundings
    credentials = (
        read_admin_file(_local_file(options, folder)) if folder is not None else find_credentials(options)
    )
    org = options.org or credentials.org
    if not org:
        raise CliError("name the org with --org: npm's smply keeps it beside the session")
    require_membership(options, credentials, org)
    write_private(around.smply_folder / "credentials", json.dumps(_legacy_session(credentials)))
    # Without a newline: npm's smply sends the file's content as a header.
    write_private(npm_org_file(around), org)
    keep_npm_org_apart(around)
    note(f"Wrote {around.smply_folder / 'credentials'} for npm's smply, org {org}.")
    note(
        "It has no setting for the server's address: name it in every call. As npm installs it today\n"
        "it wants TypeScript 5 beside it (npm install --global smply typescript@5) and a WebSocket:\n"
        "Node 22, or Node 20 with NODE_OPTIONS=--experimental-websocket. Then:"
    )
    print(f"smply --api-url {credentials.url} machines list")


def _legacy_session(credentials: Credentials) -> dict[str, object]:
    return {
        "access_token": credentials.token,
        "refresh_token": "none",
        "token_type": "bearer",
        "expires_in": NEVER_EXPIRES_IN_S,
        "expires_at": NEVER_EXPIRES_AT_S,
        "user": {"id": "00000000-0000-0000-0000-000000000000", "email": "admin@localhost"},
    }
