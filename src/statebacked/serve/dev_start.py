"""`statebacked dev` as a process: the server, and beside it the deploying and watching of serve/dev.py."""

import sys
from collections.abc import Sequence
from pathlib import Path

from statebacked.app import Server
from statebacked.cli.errors import CliError
from statebacked.model.ids import InstanceKey
from statebacked.model.logs import OutputType
from statebacked.ports.machines import Code
from statebacked.serve.dev import DevOptions, ServerInfo, develop, empty_data_folder, parse_dev_file
from statebacked.serve.dev_page import listen_for_page
from statebacked.serve.place import Place
from statebacked.serve.run import Work, run
from statebacked.settings import Settings


def start_dev(
    settings: Settings,
    files: Sequence[str],
    options: DevOptions,
    *,
    is_reset: bool,
    page_port: int,
    is_take_over: bool = False,
) -> int:
    """Until SIGTERM or Ctrl-C; the exit code."""
    try:
        dev_files = [parse_dev_file(text, Path.cwd()) for text in files]
        _refuse_twins([dev_file.machine for dev_file in dev_files])
    except CliError as refused:
        print(f"statebacked dev: {refused}", file=sys.stderr)
        return 1

    async def alongside(server: Server, place: Place) -> None:
        if server.admin is None:
            print(
                "statebacked dev: the data folder has no admin.json; --reset makes a new one", file=sys.stderr
            )
            return
        info = ServerInfo(
            url=server.url,
            org_id=server.admin.orgId,
            admin_token=server.admin.adminToken,
            data=settings.data,
            allows_egress=settings.allow_egress,
        )
        await develop(
            info,
            dev_files,
            options,
            open_page=lambda: place.page_listener("page", lambda: listen_for_page(page_port)),
            is_again=place.is_again,
        )

    def prepare() -> None:
        if is_reset:
            empty_data_folder(settings.data)

    work = Work(
        alongside=alongside,
        prepare=prepare,
        is_take_over=is_take_over,
        machine_log=print_machine_line,
        is_dev=True,
    )
    try:
        return run(settings, work)
    except CliError as refused:
        print(f"statebacked dev: {refused}", file=sys.stderr)
        return 1


def _refuse_twins(machines: Sequence[str]) -> None:
    """Two files of one machine would overwrite each other."""
    twins = sorted({name for name in machines if machines.count(name) > 1})
    if twins:
        raise CliError(f"two files are named {twins[0]}: name them apart with NAME=FILE")


def print_machine_line(code: Code, key: InstanceKey | None, output: OutputType, line: str) -> None:
    """What machine code writes to its console, control characters made visible."""
    who = f"{code.machine}/{key.name}" if key is not None else code.machine
    text = "".join(c if c.isprintable() or c == "\t" else repr(c)[1:-1] for c in line)
    mark = "!" if output == "stderr" else "|"
    print(f"{who} {mark} {text}", file=sys.stderr, flush=True)
