"""`smply migrations`: how instances of one version become instances of another."""

from pathlib import Path
from typing import Annotated

import typer

from statebacked.cli.api import JsonObject, path_of
from statebacked.cli.build import MIGRATION
from statebacked.cli.errors import CliError
from statebacked.cli.options import (
    JsFile,
    Machine,
    NoSourceMap,
    SkipValidation,
    connect,
    globals_of,
    not_empty,
    paged,
)
from statebacked.cli.output import note, page_through, progress, rows_of, write_json
from statebacked.cli.versions import bundle_from, reserve_and_upload

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Manage migrations between machine versions.")

From = Annotated[
    str,
    typer.Option(
        "--from", "-f", help="Version id that instances migrate from.", show_default=False, callback=not_empty
    ),
]
To = Annotated[
    str,
    typer.Option(
        "--to", "-t", help="Version id that instances migrate to.", show_default=False, callback=not_empty
    ),
]
MigrationFile = Annotated[
    Path | None,
    typer.Option(
        "--node",
        "-n",
        help="TypeScript or JavaScript file that exports upgradeState; bundled with what it imports.",
        show_default=False,
    ),
]


@app.command("create")
def create(
    context: typer.Context,
    *,
    machine: Machine,
    from_version: From,
    to_version: To,
    js: JsFile = None,
    node: MigrationFile = None,
    skip_validation: SkipValidation = False,
    no_source_map: NoSourceMap = False,
) -> None:
    """Upload a migration: a module that exports upgradeState and, if need be, upgradeContext."""
    surroundings = globals_of(context).surroundings
    bundle = bundle_from(
        surroundings,
        js=js,
        node=node,
        skips_validation=skip_validation,
        kind=MIGRATION,
        has_source_map=not no_source_map,
    )
    if bundle is None:
        raise CliError("give the code: --node FILE or --js FILE")
    body = {"fromMachineVersionId": from_version, "toMachineVersionId": to_version}
    with connect(context) as api:
        path = path_of("machines", machine, "migrations")
        file_name = f"{machine}_{from_version}_to_{to_version}.js"
        with progress(f"uploading {len(bundle.module):,} bytes"):
            signed = reserve_and_upload(
                api, path, bundle, body, id_key="machineVersionMigrationId", file_name=file_name
            )
            made = api.put(f"{path}/{signed}")
        # The server says it twice, once under the name that clients of versions know.
        write_json({"machineVersionMigrationId": made.get("machineVersionMigrationId")})


@app.command("dry-run")
def dry_run(context: typer.Context, *, machine: Machine, from_version: From, to_version: To) -> None:
    """Show which instances of a version could not be migrated to another. Changes nothing."""
    body = {"fromMachineVersionId": from_version, "toMachineVersionId": to_version}
    looked_at = failed = 0
    with connect(context) as api, progress("migrating every instance, to throw it away"):

        def fetch(cursor: str | None) -> JsonObject:
            nonlocal looked_at, failed
            page = api.post(path_of("machines", machine, "migrations", "dry-run"), body, params=paged(cursor))
            count = page.get("instances")
            looked_at += count if isinstance(count, int) else 0
            failed += len(rows_of(page, "failures"))
            return page

        page_through(fetch, lambda page: rows_of(page, "failures"), ["slug", "state", "error"])
    if failed:
        raise CliError(f"{failed} of {looked_at} instances of this version could not be migrated")
    note(f"All {looked_at} instances of this version could be migrated.")
