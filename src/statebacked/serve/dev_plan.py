"""What `statebacked dev` is asked to do, and what became of it: values only."""

import re
from dataclasses import dataclass
from pathlib import Path

from statebacked.cli.errors import CliError

__all__ = ["Deployment", "DevFile", "ServerInfo", "parse_dev_file"]

_NAMED = re.compile(r"([A-Za-z0-9_-]{1,128})=(.+)", re.DOTALL)
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """A running server and the admin who may deploy to it; `data` is its data folder."""

    url: str
    org_id: str
    admin_token: str
    data: Path
    allows_egress: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DevFile:
    """A machine's file, absolute, and the name under which it is deployed."""

    machine: str
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The current version of a machine. `is_new`: uploaded just now. `staying`: (instance, its version) of
    those that run another version, at most as many as were looked at; `has_more`: there are more."""

    machine: str
    file: Path
    version: str
    is_new: bool
    staying: tuple[tuple[str, str], ...] = ()
    has_more: bool = False


def parse_dev_file(text: str, folder: Path) -> DevFile:
    """`FILE`, deployed under the file's name, or `name=FILE`; relative to `folder`. Raises CliError."""
    named = _NAMED.fullmatch(text)
    path = Path(named[2] if named is not None else text)
    file = (folder / path.expanduser()).resolve()
    if not file.is_file():
        raise CliError(f"there is no file {file}")
    if named is not None:
        return DevFile(machine=named[1], file=file)
    machine = _NOT_IN_A_NAME.sub("-", file.name.split(".")[0]).strip("-")[:128]
    if not machine:
        raise CliError(f"{file.name} gives no name for the machine: say name={text}")
    return DevFile(machine=machine, file=file)
