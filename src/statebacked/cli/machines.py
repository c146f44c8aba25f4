"""`smply machines`: the names under which code lives."""

import re
from typing import Annotated

import typer

from statebacked.cli.api import Api, JsonObject, path_of
from statebacked.cli.errors import ApiError, CliError
from statebacked.cli.listing import show_list
from statebacked.cli.options import (
    JsFile,
    Machine,
    NodeFile,
    NoSourceMap,
    SkipValidation,
    connect,
    globals_of,
)
from statebacked.cli.output import write_json
from statebacked.cli.versions import IndexSelectors, bundle_from, parse_selectors, upload_version

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Manage state machine definitions.")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")


@app.command("create")
def create(
    context: typer.Context,
    *,
    machine: Machine,
    js: JsFile = None,
    node: NodeFile = None,
    version_reference: Annotated[
        str, typer.Option("--version-reference", "-r", help="Name of the first version, e.g. a commit.")
    ] = "0.0.1",
    index: Annotated[
        list[str] | None,
        typer.Option(
            "--index",
            "-i",
            help="Name of an index; may be repeated. --index-selectors names its own.",
            show_default=False,
        ),
    ] = None,
    index_selectors: IndexSelectors = None,
    skip_validation: SkipValidation = False,
    no_source_map: NoSourceMap = False,
) -> None:
    """Create a machine; with --node or --js also its first version, which becomes current."""
    if not _NAME.fullmatch(machine):
        raise CliError("a machine's name is 1 to 128 letters, digits, underscores and dashes")
    selectors = parse_selectors(index_selectors)
    surroundings = globals_of(context).surroundings
    # Bundled first: a file with a mistake in it must not leave a machine without code behind.
    bundle = bundle_from(
        surroundings, js=js, node=node, skips_validation=skip_validation, has_source_map=not no_source_map
    )
    body: JsonObject = {"slug": machine}
    indexes = [*(index or []), *(selectors or {})]
    if indexes:
        body["indexes"] = list(dict.fromkeys(indexes))
    output: JsonObject = {"name": machine}
    with connect(context) as api:
        _create_machine(api, machine, body)
        if bundle is not None:
            finalize: JsonObject = {"clientInfo": version_reference, "makeCurrent": True}
            if selectors is not None:
                finalize["indexSelectors"] = selectors
            try:
                output["currentVersion"] = upload_version(api, machine, bundle, finalize)
            except CliError as exc:
                raise CliError(
                    f"{exc}\nThe machine {machine} exists now, without a version: add one with "
                    f"`smply machine-versions create -m {machine} -r {version_reference} --make-current …`"
                ) from exc
    write_json(output)


def _create_machine(api: Api, machine: str, body: JsonObject) -> None:
    try:
        api.post(path_of("machines"), body)
    except ApiError as exc:
        if exc.status != 409:
            raise
        raise CliError(
            f"{exc}\nA new version of {machine} is made with "
            f"`smply machine-versions create -m {machine} -r NAME --make-current …`"
        ) from exc


@app.command("get")
def get(context: typer.Context, machine: Machine) -> None:
    """Show a machine."""
    with connect(context) as api:
        write_json(api.get(path_of("machines", machine)))


@app.command("list")
def list_machines(context: typer.Context) -> None:
    """List the machines of the org."""
    columns = ["name", "currentVersion", "createdAt"]
    show_list(context, path_of("machines"), "machines", columns, shown=_row)


def _row(machine: JsonObject) -> JsonObject:
    """The original's columns: a machine's slug is called its name there."""
    row: JsonObject = {"name": machine.get("slug"), "createdAt": machine.get("createdAt")}
    if machine.get("currentVersion") is not None:
        row["currentVersion"] = machine["currentVersion"]
    return row
