"""`statebacked dev`: machines from files, deployed again whenever their code changes.

Theory of operation: every round bundles every file and compares the bundle with the current version, which
carries the bundle's hash in its `clientInfo`. Only other code is uploaded, so a restart deploys nothing and
instances stay where they are. A round begins when a source file changes in a folder that the last bundles
were made from. A file that does not build is told about and tried again with the next change; what was
deployed before goes on running.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from watchfiles import Change, awatch

from statebacked.cli.api import Api, JsonObject, path_of
from statebacked.cli.build import SOURCE_SUFFIXES, Bundle, build
from statebacked.cli.credentials import Credentials, read_admin_file
from statebacked.cli.errors import ApiError, CliError
from statebacked.cli.output import note, progress, rows_of
from statebacked.cli.versions import upload_version
from statebacked.serve import folder_lock
from statebacked.serve.dev_page import page_app, page_folder, serve_page
from statebacked.serve.dev_plan import Deployment, DevFile, ServerInfo, parse_dev_file
from statebacked.serve.dev_text import CommandLine, deployment_text, welcome_text

__all__ = ["DevFile", "ServerInfo", "develop", "empty_data_folder", "parse_dev_file"]

# Pages of instances looked at to tell who stays on an older version.
INSTANCE_PAGES_MAX = 10
WATCHED_SUFFIXES = SOURCE_SUFFIXES | {".json"}


async def develop(
    server: ServerInfo,
    files: Sequence[DevFile],
    *,
    open_page: Callable[[], socket.socket],
    is_again: bool = False,
) -> None:
    """Deploys `files` to a running server, prints what to paste next, serves the example page on the socket
    that `open_page` gives, watches. Until cancelled. `is_again`: what to paste has been printed before."""
    credentials = Credentials(
        url=server.url, token=server.admin_token, org=server.org_id, source="statebacked dev"
    )
    # What is printed is pasted in other folders.
    server = replace(server, data=server.data.resolve())
    # Its line for every request would bury what is said here.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    workshop = Workshop(files, lambda: Api(credentials))
    await workshop.deploy_all()
    async with contextlib.AsyncExitStack() as stack:
        page_url = None
        paged = next((file for file in files if page_folder(file.file) is not None), None)
        if paged is not None and (folder := page_folder(paged.file)) is not None:
            page_url = await stack.enter_async_context(
                serve_page(page_app(server, paged, folder), open_page())
            )
        if not is_again:
            note("")
            note(
                welcome_text(
                    server,
                    [(file.machine, file.file) for file in files],
                    page_url=page_url,
                    command_line=find_command_line(),
                )
            )
            note("")
        await workshop.watch()


def find_command_line() -> CommandLine:
    """This project's `smply` stands beside the Python that runs this."""
    first = shutil.which("smply")
    return CommandLine(ours=Path(sys.executable).parent, first=Path(first) if first is not None else None)


def empty_data_folder(data: Path) -> None:
    """`--reset`: removes a server's data, all but its lock. Raises CliError when the folder does not look
    like a server's, or when its server runs."""
    if not any(file.name != folder_lock.FILE_NAME for file in (data.iterdir() if data.exists() else ())):
        return
    if not (data / "admin.json").is_file():
        raise CliError(f"{data} has no admin.json: remove it by hand if it is a server's data folder")
    url = urlsplit(read_admin_file(data / "admin.json").url)
    if url.hostname is not None and url.port is not None and _is_taken(url.hostname, url.port):
        raise CliError(f"something answers at {url.geturl()}: stop the server of {data} first")
    for file in data.iterdir():
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        elif file.name != folder_lock.FILE_NAME:
            file.unlink()


def _is_taken(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


class Workshop:
    """The files under development and the folders that their code came from."""

    def __init__(self, files: Sequence[DevFile], connect: Callable[[], Api]) -> None:
        self._files = files
        self._connect = connect
        self._folders = {file.file.parent for file in files}

    async def deploy_all(self) -> None:
        """One round; failures are printed."""
        for dev_file in self._files:
            try:
                with progress(f"{dev_file.machine}: bundling (the first time fetches the bundler)"):
                    deployment, bundle = await asyncio.to_thread(self._deploy, dev_file)
            except CliError as exc:
                note(f"{dev_file.machine}: not deployed: {exc}")
                continue
            self._folders |= {file.parent for file in bundle.files}
            for warning in bundle.warnings:
                note(f"{dev_file.machine}: warning: {warning}")
            note(deployment_text(deployment))

    async def watch(self) -> None:
        """A round after every change, until cancelled."""
        while True:
            watched = frozenset(self._folders)
            async for _changes in awatch(*watched, recursive=False, watch_filter=_is_source):
                await self.deploy_all()
                if watched != self._folders:
                    break

    def _deploy(self, dev_file: DevFile) -> tuple[Deployment, Bundle]:
        bundle = build(dev_file.file, env=os.environ)
        with self._connect() as api:
            return deploy(api, dev_file, bundle), bundle


def _is_source(_change: Change, path: str) -> bool:
    return Path(path).suffix in WATCHED_SUFFIXES


def deploy(api: Api, dev_file: DevFile, bundle: Bundle) -> Deployment:
    """Makes `bundle` the machine's current version unless it is already. Raises CliError."""
    mark = f"dev {fingerprint(bundle)}"
    current = _current_version(api, dev_file.machine)
    is_new = current is None or current.get("clientInfo") != mark
    if is_new:
        finalized = upload_version(api, dev_file.machine, bundle, {"clientInfo": mark, "makeCurrent": True})
        version = str(finalized.get("machineVersionId"))
    else:
        assert current is not None
        version = str(current.get("id"))
    staying, has_more = _instances_elsewhere(api, dev_file.machine, version)
    return Deployment(
        machine=dev_file.machine,
        file=dev_file.file,
        version=version,
        is_new=is_new,
        staying=staying,
        has_more=has_more,
    )


def fingerprint(bundle: Bundle) -> str:
    """The same for the same code linked with the same xstate."""
    return sha256(bundle.code + b"\0" + (bundle.xstate or "").encode()).hexdigest()[:16]


def _current_version(api: Api, machine: str) -> JsonObject | None:
    """Of a machine that is made if need be."""
    try:
        answer = api.get(path_of("machines", machine))
    except ApiError as exc:
        if exc.status != 404:
            raise
        api.post(path_of("machines"), {"slug": machine})
        return None
    found = answer.get("currentVersion")
    return found if isinstance(found, dict) else None


def _instances_elsewhere(api: Api, machine: str, version: str) -> tuple[tuple[tuple[str, str], ...], bool]:
    staying: list[tuple[str, str]] = []
    cursor: str | None = None
    for _ in range(INSTANCE_PAGES_MAX):
        page = api.get(path_of("machines", machine, "i"), {} if cursor is None else {"cursor": cursor})
        for row in rows_of(page, "instances"):
            its_version = row.get("machineVersion")
            its_id = str(its_version.get("id")) if isinstance(its_version, dict) else str(its_version)
            if its_id != version:
                staying.append((str(row.get("slug")), its_id))
        following = page.get("cursor")
        if not isinstance(following, str):
            return tuple(staying), False
        cursor = following
    return tuple(staying), True
