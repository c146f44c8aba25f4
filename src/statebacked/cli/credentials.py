"""Where a command finds its server and the right to talk to it.

In order: what the options and the environment say; the `admin.json` of the data folder named by
STATEBACKED_DATA; that of `.statebacked` in the working folder or a folder above it; the place remembered by
`smply login`; else the user is asked to sign in, or told how when nobody is there to be asked.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from statebacked.cli.errors import CliError
from statebacked.cli.surroundings import Globals, Surroundings

__all__ = [
    "Credentials",
    "NotSignedIn",
    "admin_file_at",
    "find_credentials",
    "forget_default_org",
    "read_admin_file",
    "read_default_org",
    "write_default_org",
    "write_private",
]

ADMIN_FILE = "admin.json"
DATA_FOLDER = ".statebacked"
SESSION_FILE = "session.json"


class NotSignedIn(CliError):
    """No server is known from here."""

    def __init__(self) -> None:
        super().__init__(
            "no server is known from here: start one with `statebacked dev` in this folder, or run "
            "`smply login --local FOLDER` with the data folder of a running one (it holds admin.json), "
            "or set STATEBACKED_API_URL and pass --access-token"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """`org` None: the server picks the only one. `source` tells the user where all this was found."""

    url: str
    token: str
    org: str | None
    source: str


def find_credentials(options: Globals) -> Credentials:
    """What the next request goes out with. Raises NotSignedIn; CliError when what is found is of no use."""
    around = options.surroundings
    url = options.api_url or around.env.get("STATEBACKED_API_URL") or None
    token = options.access_token or around.env.get("STATEBACKED_ACCESS_TOKEN") or None
    org = options.org or read_default_org(around)
    if url is not None and token is not None:
        return Credentials(url=url, token=token, org=org, source="options and environment")
    found = _stored(around)
    if found is None:
        raise NotSignedIn
    if url is not None and token is None and not _same_server(url, found.url):
        raise CliError(
            f"{found.source} is for {found.url}, not for {url}: pass --access-token, or `smply login` there"
        )
    return Credentials(
        url=url or found.url, token=token or found.token, org=org or found.org, source=found.source
    )


def _stored(around: Surroundings) -> Credentials | None:
    data = around.env.get("STATEBACKED_DATA")
    if data:
        return read_admin_file(admin_file_at(around.cwd / data))
    for folder in (around.cwd, *around.cwd.parents):
        path = folder / DATA_FOLDER / ADMIN_FILE
        if path.is_file():
            return read_admin_file(path)
    return _remembered(around)


def _remembered(around: Surroundings) -> Credentials | None:
    """What `smply login` left: the place of an admin file, or a session of its own."""
    path = around.smply_folder / SESSION_FILE
    if not path.is_file():
        return None
    stored = _read_object(path)
    admin_file = stored.get("adminFile")
    if isinstance(admin_file, str):
        return read_admin_file(Path(admin_file))
    return _credentials(stored, path, token_key="accessToken")  # noqa: S106 (the name of a field)


def admin_file_at(folder: Path) -> Path:
    """The admin file of a data folder, of a folder that holds one, or the file itself. Raises CliError."""
    if folder.is_file():
        return folder
    for path in (folder / ADMIN_FILE, folder / DATA_FOLDER / ADMIN_FILE):
        if path.is_file():
            return path
    raise CliError(
        f"there is no {ADMIN_FILE} in {folder}: the server writes it when it starts for the first time"
    )


def read_admin_file(path: Path) -> Credentials:
    """The `admin.json` that the server wrote: {url, orgId, adminToken, keyId, secretKey}. Raises CliError."""
    return _credentials(_read_object(path), path, token_key="adminToken")  # noqa: S106 (the name of a field)


def _credentials(stored: dict[str, object], path: Path, *, token_key: str) -> Credentials:
    url, token, org = stored.get("url"), stored.get(token_key), stored.get("orgId")
    if not isinstance(url, str) or not isinstance(token, str):
        raise CliError(f"{path} does not hold url and {token_key}: sign in again with `smply login`")
    return Credentials(url=url, token=token, org=org if isinstance(org, str) else None, source=str(path))


def _read_object(path: Path) -> dict[str, object]:
    try:
        value: object = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CliError(f"{path} is gone: sign in again with `smply login`") from None
    except (OSError, ValueError) as exc:
        raise CliError(f"cannot read {path}: {exc}") from exc
    if not isinstance(value, dict):
        raise CliError(f"{path} does not hold a JSON object")
    return value


def _same_server(left: str, right: str) -> bool:
    return left.rstrip("/") == right.rstrip("/")


def read_default_org(around: Surroundings) -> str | None:
    """The org that `smply orgs default set` stored, in the file that the original uses."""
    try:
        return (around.smply_folder / "default-org").read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def write_default_org(around: Surroundings, org: str) -> None:
    """Without a newline: the original sends the file's content as a header."""
    write_private(around.smply_folder / "default-org", org)


def forget_default_org(around: Surroundings) -> None:
    """A new sign-in starts without one, as in the original: it may belong to another server."""
    (around.smply_folder / "default-org").unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Whole or not at all, readable by nobody else (0600), whatever mode an older file had."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
