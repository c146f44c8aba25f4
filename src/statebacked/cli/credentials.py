"""Where a command finds its server and the right to talk to it.

In order: what the options and the environment say; the `admin.json` of the data folder named by
STATEBACKED_DATA; that of `.statebacked` in the working folder or a folder above it; the place remembered by
`smply login`; else the user is asked to sign in, or told how when nobody is there to be asked.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from statebacked.cli.default_orgs import read_default_org
from statebacked.cli.errors import CliError
from statebacked.cli.private_files import read_object
from statebacked.cli.surroundings import Globals, Surroundings

__all__ = [
    "Credentials",
    "NotSignedIn",
    "admin_file_at",
    "find_credentials",
    "read_admin_file",
    "without_default_org",
]

ADMIN_FILE = "admin.json"
DATA_FOLDER = ".statebacked"
SESSION_FILE = "session.json"


class NotSignedIn(CliError):
    """Nothing says which server to use."""

    def __init__(self) -> None:
        super().__init__(
            "no server was found for this folder: start one with `statebacked dev` in this folder, or run "
            "`smply login --local FOLDER` with the data folder of a running one (it holds admin.json), "
            "or set STATEBACKED_API_URL and pass --access-token"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """`org` None: the server picks the only one. `source` tells the user where all this was found. `server`
    tells one server from another: its URL when nothing better is known. `local_url`: its address on the
    machine where its data folder is, when that is not `url`."""

    url: str
    token: str
    org: str | None
    source: str
    server: str = ""
    local_url: str | None = None

    def __post_init__(self) -> None:
        if not self.server:
            object.__setattr__(self, "server", self.url.rstrip("/"))


def find_credentials(options: Globals) -> Credentials:
    """What the next request goes out with. Raises NotSignedIn; CliError when what is found is of no use."""
    found = without_default_org(options)
    if options.org:
        return replace(found, org=options.org)
    default = read_default_org(options.surroundings, found.server)
    return found if default is None else replace(found, org=default)


def without_default_org(options: Globals) -> Credentials:
    """The same with the org of the admin file or of the session, if it names one."""
    around = options.surroundings
    url = options.api_url or around.env.get("STATEBACKED_API_URL") or None
    token = options.access_token or around.env.get("STATEBACKED_ACCESS_TOKEN") or None
    if url is not None and token is not None:
        return Credentials(url=url, token=token, org=None, source="options and environment")
    found = _stored(around)
    if found is None:
        raise NotSignedIn
    if url is not None:
        if url.rstrip("/") not in (found.url.rstrip("/"), (found.local_url or found.url).rstrip("/")):
            raise CliError(
                f"{found.source} is for {found.url}, not for {url}: "
                "pass --access-token, or `smply login` there"
            )
        found = replace(found, url=url)
    return found if token is None else replace(found, token=token)


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
    stored = read_object(path)
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
    return _credentials(read_object(path), path, token_key="adminToken")  # noqa: S106 (the name of a field)


def _credentials(stored: dict[str, object], path: Path, *, token_key: str) -> Credentials:
    url, token, org = stored.get("url"), stored.get(token_key), stored.get("orgId")
    if not isinstance(url, str) or not isinstance(token, str):
        raise CliError(f"{path} does not hold url and {token_key}: sign in again with `smply login`")
    local_url = stored.get("localUrl")
    # The first org of a data folder is in no other one: servers take turns at an address, as 127.0.0.1:7070.
    server = org if token_key == "adminToken" and isinstance(org, str) else ""  # noqa: S105 (a field's name)
    return Credentials(
        url=url,
        token=token,
        org=org if isinstance(org, str) else None,
        source=str(path),
        server=server,
        local_url=local_url if isinstance(local_url, str) and local_url != url else None,
    )
