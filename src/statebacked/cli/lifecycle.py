"""`smply instances set-status` and `delete`: what is asked to be typed before it is done."""

import base64
import hashlib
import hmac
from typing import Annotated

import typer

from statebacked.cli.api import path_of
from statebacked.cli.errors import CliError
from statebacked.cli.options import Instance, Machine, connect, not_empty
from statebacked.cli.output import note

__all__ = ["delete", "set_desired_version", "set_status"]

STATUSES = ("running", "paused")


def set_status(
    context: typer.Context,
    *,
    machine: Machine,
    instance: Instance,
    status: Annotated[str, typer.Option("--status", "-s", help="running or paused", show_default=False)],
) -> None:
    """Pause an instance, which then takes no events, or let it run again."""
    if status not in STATUSES:
        raise CliError(f"--status is one of {' and '.join(STATUSES)}")
    if status == "paused":
        confirm(instance, "A paused instance answers every event with an error.")
    with connect(context) as api:
        api.put(path_of("machines", machine, "i", instance, "status"), {"status": status})
    note(f"The instance is {status}.")


def set_desired_version(
    context: typer.Context,
    *,
    machine: Machine,
    instance: Instance,
    version: Annotated[
        str,
        typer.Option(
            "--version", "-v", help="Version id to migrate to.", show_default=False, callback=not_empty
        ),
    ],
) -> None:
    """Migrate an instance to another version when its next event comes."""
    with connect(context) as api:
        body = {"targetMachineVersionId": version}
        api.put(path_of("machines", machine, "i", instance, "v"), body)
    note("Successfully set desired version")


def delete(context: typer.Context, machine: Machine, instance: Instance) -> None:
    """Delete an instance with its history, timers and messages, for ever."""
    confirm(instance, "The data of the instance will be deleted for ever.")
    proof = base64.urlsafe_b64encode(hmac.digest(machine.encode(), instance.encode(), hashlib.sha256))
    body = {
        "dangerDataWillBeDeletedForever": True,
        "hmacSha256OfMachineInstanceNameWithMachineNameKey": proof.rstrip(b"=").decode(),
    }
    with connect(context) as api:
        api.delete(path_of("machines", machine, "i", instance), body)
    note("Deleted the instance.")


def confirm(name: str, warning: str) -> None:
    """The name, typed once more, on a terminal or from a pipe. Raises CliError."""
    try:
        typed = typer.prompt(
            f"{warning} Type its name ({name}) to go on", err=True, default="", show_default=False
        )
    except typer.Abort:
        note("")  # the error stands on a line of its own
        typed = ""
    if typed.strip() != name:
        raise CliError("that is not its name: nothing was done")
