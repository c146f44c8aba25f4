"""`statebacked dev`: machines from files, deployed again whenever their code changes, and what to do next."""

import contextlib
import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from statebacked.cli.api import Api
from statebacked.cli.build import Bundle, build
from statebacked.cli.credentials import Credentials, read_admin_file
from statebacked.cli.deno_tool import bundler_note
from statebacked.cli.errors import CliError
from statebacked.cli.output import note
from statebacked.serve import folder_lock
from statebacked.serve.dev_page import page_app, page_folder, serve_page
from statebacked.serve.dev_plan import DevFile, DevOptions, ServerInfo, parse_dev_file
from statebacked.serve.dev_text import CommandLine, next_steps_text, welcome_text
from statebacked.serve.dev_workshop import Workshop

__all__ = ["DevFile", "DevOptions", "ServerInfo", "develop", "empty_data_folder", "parse_dev_file"]


async def develop(
    server: ServerInfo,
    files: Sequence[DevFile],
    options: DevOptions,
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

    def build_file(dev_file: DevFile) -> Bundle:
        return build(dev_file.file, env=os.environ, has_source_map=options.has_source_map)

    workshop = Workshop(
        files,
        lambda: Api(credentials),
        build_file,
        moves_instances=options.moves_instances,
        progress_note=bundler_note(os.environ),
    )
    await workshop.deploy_changed()
    async with contextlib.AsyncExitStack() as stack:
        page_url = None
        paged = next((file for file in files if page_folder(file.file) is not None), None)
        if paged is not None and (folder := page_folder(paged.file)) is not None:
            app = page_app(server, paged, folder)
            page_url = await stack.enter_async_context(serve_page(app, open_page()))
        if not is_again:
            note(f"\n{welcome_text(server, page_url=page_url)}")
        next_steps = _NextSteps(server, workshop, is_told=is_again)
        next_steps.tell()
        await workshop.watch(next_steps.tell)


class _NextSteps:
    """Said once, when there is a machine to use."""

    def __init__(self, server: ServerInfo, workshop: Workshop, *, is_told: bool) -> None:
        self._server = server
        self._workshop = workshop
        self._is_told = is_told

    def tell(self) -> None:
        deployed = self._workshop.deployed
        if self._is_told or not deployed:
            return
        self._is_told = True
        note(f"\n{next_steps_text(self._server, deployed[0], find_command_line())}\n")


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
