"""`smply machine-versions`: the code of a machine. Uploaded in three steps, current only when asked for."""

from pathlib import Path
from typing import Annotated

import typer

from statebacked.cli.api import Api, JsonObject, path_of
from statebacked.cli.build import MACHINE, Bundle, Kind, build, read_js
from statebacked.cli.deno_tool import bundler_note
from statebacked.cli.errors import CliError
from statebacked.cli.listing import show_list
from statebacked.cli.options import (
    JsFile,
    Machine,
    NodeFile,
    NoSourceMap,
    SkipValidation,
    connect,
    globals_of,
    parse_json,
)
from statebacked.cli.output import note, progress, write_json
from statebacked.cli.surroundings import Surroundings

__all__ = [
    "IndexSelectors",
    "app",
    "bundle_from",
    "parse_selectors",
    "reserve_and_upload",
    "upload_version",
]

app = typer.Typer(no_args_is_help=True, help="Manage versions of state machine definitions.")

IndexSelectors = Annotated[
    str | None,
    typer.Option(
        "--index-selectors",
        "-d",
        help="JSON object: index name to JSONPath into the context. An index that is left out keeps the "
        "current version's selector; null takes it away.",
        show_default=False,
    ),
]


@app.command("create")
def create(
    context: typer.Context,
    *,
    machine: Machine,
    version_reference: Annotated[
        str,
        typer.Option(
            "--version-reference", "-r", help="Name of the version, e.g. a commit.", show_default=False
        ),
    ],
    js: JsFile = None,
    node: NodeFile = None,
    index_selectors: IndexSelectors = None,
    make_current: Annotated[
        bool, typer.Option("--make-current", "-c", help="Make this version the current one.")
    ] = False,
    skip_validation: SkipValidation = False,
    no_source_map: NoSourceMap = False,
) -> None:
    """Upload a new version of a machine."""
    selectors = parse_selectors(index_selectors)
    surroundings = globals_of(context).surroundings
    bundle = bundle_from(
        surroundings, js=js, node=node, skips_validation=skip_validation, has_source_map=not no_source_map
    )
    if bundle is None:
        raise CliError("give the code: --node FILE or --js FILE")
    finalize: JsonObject = {"clientInfo": version_reference, "makeCurrent": make_current}
    if selectors is not None:
        finalize["indexSelectors"] = selectors
    with connect(context) as api:
        write_json(upload_version(api, machine, bundle, finalize))


@app.command("list")
def list_versions(context: typer.Context, machine: Machine) -> None:
    """List the versions of a machine."""
    show_list(context, path_of("machines", machine, "v"), "versions", ["id", "clientInfo", "createdAt"])


def bundle_from(
    surroundings: Surroundings,
    *,
    js: Path | None,
    node: Path | None,
    skips_validation: bool,
    kind: Kind = MACHINE,
    has_source_map: bool = True,
) -> Bundle | None:
    """The code that the options name, ready to upload; None when they name none. Raises CliError."""
    if js is not None and node is not None:
        raise CliError("give one of --node and --js, not both")
    if node is not None:
        with progress(f"bundling {node} and checking its types{bundler_note(surroundings.env)}"):
            file, env = surroundings.cwd / node, surroundings.env
            bundle = build(
                file,
                env=env,
                skips_validation=skips_validation,
                kind=kind,
                has_source_map=has_source_map,
            )
    elif js is not None:
        bundle = read_js(
            surroundings.cwd / js,
            skips_validation=skips_validation,
            kind=kind,
            has_source_map=has_source_map,
        )
    else:
        return None
    for warning in bundle.warnings:
        note(f"warning: {warning}")
    return bundle


def upload_version(api: Api, machine: str, bundle: Bundle, finalize: JsonObject) -> JsonObject:
    """Announce, upload, finalize: {machineVersionId, xstate}; warnings are told. Raises ApiError, 400
    `invalid-machine` for bad code."""
    path = path_of("machines", machine, "v")
    with progress(f"uploading {len(bundle.module):,} bytes"):
        signed = reserve_and_upload(
            api, path, bundle, bundle.hint, id_key="machineVersionId", file_name=f"{machine}.js"
        )
        made = api.put(f"{path}/{signed}", finalize)
    warnings = made.pop("warnings", None)
    for warning in warnings if isinstance(warnings, list) else []:
        note(f"warning: {warning}")
    return made


def reserve_and_upload(
    api: Api, path: str, bundle: Bundle, body: object, *, id_key: str, file_name: str
) -> str:
    """The first two of the three steps; the signed id with which to take the third, ready for a path."""
    announced = api.post(path + "?gzip", body)
    url, fields, signed = (announced.get(key) for key in ("codeUploadUrl", "codeUploadFields", id_key))
    if not isinstance(url, str) or not isinstance(fields, dict) or not isinstance(signed, str):
        raise CliError("the server's answer names no place to upload to: is this a statebacked server?")
    form = {str(key): str(value) for key, value in fields.items()}
    api.upload(url, form, file_name=file_name, code=bundle.module)
    return path_of(signed).removeprefix("/")


def parse_selectors(text: str | None) -> dict[str, str | None] | None:
    """Index names and their paths, None: no longer. Raises CliError."""
    if text is None:
        return None
    selectors = parse_json(text, "--index-selectors")
    if not isinstance(selectors, dict) or not all(
        name and (path is None or isinstance(path, str)) for name, path in selectors.items()
    ):
        raise CliError("--index-selectors must be a JSON object of index names and JSONPath strings")
    return selectors
