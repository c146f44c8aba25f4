"""What `statebacked dev` is asked to do, and what became of it: values only."""

import re
from dataclasses import dataclass
from pathlib import Path

from statebacked.cli.build import SOURCE_SUFFIXES
from statebacked.cli.errors import CliError

__all__ = [
    "Deployment",
    "DevFile",
    "DevOptions",
    "Elsewhere",
    "Moves",
    "ServerInfo",
    "Staying",
    "parse_dev_file",
]

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
class DevOptions:
    """`moves_instances`: to new code, where their state still exists."""

    moves_instances: bool = True
    has_source_map: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DevFile:
    """A machine's file, absolute, and the name under which it is deployed."""

    machine: str
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """An instance that runs another version than the current one."""

    instance: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Staying:
    """An instance that stays on its version; `reason` is empty where nothing was tried."""

    instance: str
    version: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """`moving`: instances that go on in the current version with their next event."""

    moving: tuple[str, ...] = ()
    staying: tuple[Staying, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The current version of a machine. `is_new`: uploaded just now. `moves`: of the instances that were on
    another version, at most as many as were looked at; `has_more`: there are more."""

    machine: str
    file: Path
    version: str
    is_new: bool
    moves: Moves = Moves()
    has_more: bool = False


def parse_dev_file(text: str, folder: Path) -> DevFile:
    """`FILE`, deployed under the file's name, or `name=FILE`; relative to `folder`. Raises CliError."""
    named = _NAMED.fullmatch(text)
    path = Path(named[2] if named is not None else text)
    file = (folder / path.expanduser()).resolve()
    if file.is_dir():
        raise CliError(f"{file} is a folder: name the machine's file")
    if not file.is_file():
        name, equals, _ = text.partition("=")
        if equals and named is None:
            raise CliError(
                f"{name!r} is no name for a machine (1 to 128 letters, digits, underscores and dashes), "
                f"and there is no file {file}"
            )
        raise CliError(f"there is no file {file}")
    if file.suffix not in SOURCE_SUFFIXES:
        raise CliError(f"{file.name} is neither TypeScript nor JavaScript (.ts, .js)")
    if named is not None:
        return DevFile(machine=named[1], file=file)
    machine = _NOT_IN_A_NAME.sub("-", file.name.split(".")[0]).strip("-")[:128]
    if not machine:
        raise CliError(f"{file.name} gives no name for the machine: say name={text}")
    return DevFile(machine=machine, file=file)
