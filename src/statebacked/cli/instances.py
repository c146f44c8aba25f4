"""`smply instances`: one life of a machine each."""

import json
from enum import Enum
from typing import Annotated

import typer

from statebacked.cli.api import JsonObject, path_of
from statebacked.cli.errors import CliError
from statebacked.cli.listing import show_list
from statebacked.cli.options import (
    AuthContext,
    Instance,
    Machine,
    Token,
    connect,
    connect_as,
    not_empty,
    parse_json,
)
from statebacked.cli.output import note, progress, write_json

__all__ = ["app"]

IdempotencyKey = Annotated[
    str | None,
    typer.Option("--idempotency-key", help="However often it comes, it happens once.", show_default=False),
]

app = typer.Typer(no_args_is_help=True, help="Manage state machine instances.")


class Op(Enum):
    eq = "eq"
    ne = "ne"
    gt = "gt"
    gte = "gte"
    lt = "lt"
    lte = "lte"


class Sort(Enum):
    asc = "asc"
    desc = "desc"


@app.command("create")
def create(
    context: typer.Context,
    *,
    machine: Machine,
    instance: Instance,
    auth_context: AuthContext = None,
    token: Token = None,
    idempotency_key: IdempotencyKey = None,
    initial: Annotated[
        str | None, typer.Option("--context", "-c", help="Initial context, JSON.", show_default=False)
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(
            "--version",
            "-v",
            help="Machine version id; the current version if absent.",
            show_default=False,
            callback=not_empty,
        ),
    ] = None,
) -> None:
    """Create an instance and show its first state."""
    body: JsonObject = {"slug": instance}
    if initial is not None:
        body["context"] = parse_json(initial, "--context")
    if version is not None:
        body["machineVersionId"] = version
    with (
        connect_as(context, auth_context=auth_context, token=token) as api,
        progress("waiting for the machine"),
    ):
        state = api.post(path_of("machines", machine), body, idempotency_key=idempotency_key)
    write_json(state)


@app.command("send-event")
def send_event(
    context: typer.Context,
    *,
    machine: Machine,
    instance: Instance,
    event: Annotated[
        str,
        typer.Option(
            "--event", "-e", help='Event: a name, or JSON {"type": "...", ...data}.', show_default=False
        ),
    ],
    auth_context: AuthContext = None,
    token: Token = None,
    idempotency_key: IdempotencyKey = None,
) -> None:
    """Send an event and show the state in which the machine settles."""
    parsed = parse_event(event)
    with (
        connect_as(context, auth_context=auth_context, token=token) as api,
        progress("waiting for the machine"),
    ):
        path = path_of("machines", machine, "i", instance, "events")
        state, has_changed = api.send_event(path, parsed, idempotency_key=idempotency_key)
    write_json(state)
    if not has_changed:
        name = parsed["type"] if isinstance(parsed, dict) else parsed
        note(_unchanged(str(name), is_done=state.get("done") is True))


@app.command("get")
def get(context: typer.Context, machine: Machine, instance: Instance) -> None:
    """Show an instance as its administrator sees it."""
    with connect(context) as api:
        write_json(api.get(path_of("machines", machine, "i", instance, "admin")))


@app.command("list")
def list_instances(context: typer.Context, machine: Machine) -> None:
    """List the instances of a machine."""
    columns = ["name", "status", "machineVersion", "createdAt"]
    show_list(context, path_of("machines", machine, "i"), "instances", columns, shown=_row)


@app.command("query")
def query(
    context: typer.Context,
    *,
    machine: Machine,
    index: Annotated[
        str,
        typer.Option(
            "--index", "-i", help="Name of the index to query.", show_default=False, callback=not_empty
        ),
    ],
    op: Annotated[
        Op | None,
        typer.Option(
            "--op", "-o", help="How values compare to --value; both or neither.", show_default=False
        ),
    ] = None,
    value: Annotated[
        str | None, typer.Option("--value", "-v", help="The value to compare with.", show_default=False)
    ] = None,
    sort: Annotated[Sort, typer.Option("--sort", "-s", help="Order of values.")] = Sort.asc,
) -> None:
    """Find instances by a value of their context."""
    if (op is None) != (value is None):
        raise CliError("give both of --op and --value, or neither")
    asked = {"dir": sort.value} | ({} if op is None or value is None else {"op": op.value, "value": value})
    path = path_of("machines", machine, "indexes", index, "query")
    show_list(context, path, "instances", ["name", "indexValue"], params=asked, shown=_found)


@app.command("list-transitions")
def list_transitions(context: typer.Context, machine: Machine, instance: Instance) -> None:
    """List what has happened to an instance, oldest first."""
    path = path_of("machines", machine, "i", instance, "events")
    show_list(context, path, "transitions", ["createdAt", "event", "state"])


def parse_event(text: str) -> object:
    """A bare name is that event; what starts as a JSON object must be one, with a `type`. Neither is empty.
    Raises CliError."""
    if not text:
        raise CliError("--event is empty: give the name of an event, or a JSON object with a type")
    if not text.lstrip().startswith("{"):
        return text
    event = parse_json(text, "--event")
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise CliError(f'--event {json.dumps(event)} has no "type": the name of the event stands there')
    if not event["type"]:
        raise CliError(f'--event {json.dumps(event)} has an empty "type"')
    return event


def _unchanged(name: str, *, is_done: bool) -> str:
    if is_done:
        return f"the instance is done: `{name}` changed nothing"
    return f"unchanged: no state handles `{name}` now, or a guard said no"


def _found(row: JsonObject) -> JsonObject:
    return {"name": row.get("slug"), "indexValue": row.get("indexValue")}


def _row(instance: JsonObject) -> JsonObject:
    """The original's columns: an instance's slug is called its name there."""
    row: JsonObject = {"name": instance.get("slug")}
    return row | {key: instance.get(key) for key in ("createdAt", "machineVersion", "status")}
