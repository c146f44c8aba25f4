"""`smply keys`: what signs the tokens of your own users."""

from typing import Annotated

import typer

from statebacked.cli.api import JsonObject, path_of
from statebacked.cli.errors import CliError
from statebacked.cli.listing import show_list
from statebacked.cli.options import connect, not_empty
from statebacked.cli.output import note, write_json

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Manage API keys.")

USES = ("production", "ci")


@app.command("create")
def create(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Option("--name", "-n", help="Name of the key.", show_default=False)],
    use: Annotated[
        str | None,
        typer.Option(
            "--use",
            "-u",
            help="production (the default: instances and events) or ci (machines and versions).",
        ),
    ] = None,
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--scopes",
            "-s",
            help="Scopes instead of a use; several with commas or repeated.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Create a key. Its secret is shown this once."""
    wanted = [scope for given in scopes or () for scope in given.replace(",", " ").split()]
    if use is not None and wanted:
        raise CliError("give one of --use and --scopes, not both")
    if use is not None and use not in USES:
        raise CliError(f"--use is one of {' and '.join(USES)}")
    body: JsonObject = {"name": name}
    if wanted:
        body["scopes"] = wanted
    else:
        body["use"] = use or USES[0]
    with connect(context) as api:
        created = api.post(path_of("keys"), body)
    note("Store this key safely now: it is never shown again.")
    write_json({"id": created.get("id"), "key": created.get("key")})


@app.command("list")
def list_keys(context: typer.Context) -> None:
    """List the keys of the org, without their secrets."""
    show_list(context, path_of("keys"), "keys", ["id", "name", "scopes", "createdAt"])


@app.command("delete")
def delete(
    context: typer.Context,
    key: Annotated[str, typer.Option("--key", "-k", help="Key id.", show_default=False, callback=not_empty)],
) -> None:
    """Delete a key. Tokens that it signed stop working at once."""
    with connect(context) as api:
        api.delete(path_of("keys", key))
    note("Deleted the key.")
