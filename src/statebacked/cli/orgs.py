"""`smply orgs`: whose machines and instances they are."""

from typing import Annotated

import typer

from statebacked.cli.api import path_of
from statebacked.cli.credentials import without_default_org
from statebacked.cli.default_orgs import read_default_org, write_default_org
from statebacked.cli.errors import CliError
from statebacked.cli.listing import show_list
from statebacked.cli.login import signed_in
from statebacked.cli.membership import require_membership
from statebacked.cli.options import connect, globals_of, not_empty
from statebacked.cli.output import note, write_json

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Manage organizations.")
default = typer.Typer(no_args_is_help=True, help="The org that commands use, kept for each server.")
app.add_typer(default, name="default")

OrgOption = Annotated[
    str | None,
    typer.Option("--org", "-o", help="Organization id.", show_default=False, callback=not_empty),
]


@app.command("list")
def list_orgs(context: typer.Context) -> None:
    """List the orgs that you belong to."""
    show_list(context, path_of("orgs"), "orgs", ["id", "name", "role", "createdAt"])


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Option("--name", "-n", help="Organization name.", show_default=False)],
) -> None:
    """Create an org."""
    with connect(context) as api:
        created = api.post(path_of("orgs"), {"name": name})
    write_json({"orgId": created.get("id")})


@default.command("set")
def set_default(context: typer.Context, org: OrgOption = None) -> None:
    """Use this org from now on."""
    options = globals_of(context)
    chosen = org or options.org
    if not chosen:
        raise CliError("name the org with --org")
    credentials = signed_in(options)
    require_membership(options, credentials, chosen)
    write_default_org(options.surroundings, credentials.server, chosen)
    note(f"The default org at {credentials.url} is {chosen}.")


@default.command("get")
def get_default(context: typer.Context) -> None:
    """Show the org that commands use with this server."""
    options = globals_of(context)
    org = read_default_org(options.surroundings, without_default_org(options).server)
    print(org if org is not None else "No default organization set.")
