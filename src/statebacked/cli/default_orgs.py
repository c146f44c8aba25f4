"""The org that `smply orgs default set` stored, for each server.

`~/.smply/default-orgs.json` is one JSON object: a server to an org. A server on this machine is known by the
first org of its admin.json, which no other server has; one elsewhere by its URL. Without that file the org of
`~/.smply/default-org` counts for every server, as in earlier versions. npm's smply keeps its default there.
"""

import json
from pathlib import Path

from statebacked.cli.errors import CliError
from statebacked.cli.private_files import read_object, write_private
from statebacked.cli.surroundings import Surroundings

__all__ = ["keep_npm_org_apart", "npm_org_file", "read_default_org", "write_default_org"]


def read_default_org(around: Surroundings, server: str) -> str | None:
    """Of the server that `server` stands for. Raises CliError for a file that is damaged."""
    path = _file(around)
    if path.is_file():
        org = read_object(path).get(server)
        return org if isinstance(org, str) and org else None
    try:
        return npm_org_file(around).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        raise CliError(f"cannot read {npm_org_file(around)}: {exc}") from exc


def write_default_org(around: Surroundings, server: str, org: str) -> None:
    """Keeps those of other servers."""
    path = _file(around)
    kept = read_object(path) if path.is_file() else {}
    write_private(path, json.dumps({**kept, server: org}, indent=2))


def keep_npm_org_apart(around: Surroundings) -> None:
    """From now on the org in npm's file is a default of npm's smply only."""
    if npm_org_file(around).is_file() and not _file(around).is_file():
        write_private(_file(around), "{}")


def npm_org_file(around: Surroundings) -> Path:
    """Where npm's smply keeps its default org."""
    return around.smply_folder / "default-org"


def _file(around: Surroundings) -> Path:
    return around.smply_folder / "default-orgs.json"
