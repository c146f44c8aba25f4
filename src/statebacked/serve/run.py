"""One server process: its event loop, its signals, its exit code."""

import asyncio
import ctypes
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog
import uvloop

from statebacked.app import Server, open_server
from statebacked.auth.first_start import AdminFileRefused
from statebacked.auth.secrets import MasterKeyRefused
from statebacked.model.ids import InstanceKey
from statebacked.model.logs import OutputType
from statebacked.ports.machines import Code, MachineLog
from statebacked.ports.store import StoreFailed
from statebacked.serve.log import set_up_logging
from statebacked.settings import Settings
from statebacked.store.schema import SchemaRefused

Alongside = Callable[[Server], Coroutine[Any, Any, None]]  # Any: the event loop's own business

_PR_SET_DUMPABLE: Final = 4

logger = structlog.get_logger(__name__)


def run(
    settings: Settings,
    alongside: Alongside | None = None,
    *,
    machine_log: MachineLog | None = None,
    is_dev: bool = False,
) -> int:
    """Serve until SIGTERM or SIGINT, then stop gracefully; 0. `alongside` runs beside the server."""
    set_up_logging(settings.log_level, is_readable=is_dev or sys.stderr.isatty())
    hide_memory()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_serve(settings, alongside, machine_log or _shown(settings), is_dev))
        except (AdminFileRefused, MasterKeyRefused, SchemaRefused, StoreFailed, OSError) as refused:
            print(f"statebacked: {refused}", file=sys.stderr)
            return 1


def hide_memory() -> None:
    """Keys and contexts stand in the memory of this process: no core dump writes it to a disk, and other
    processes of the same user (workers, where no wall keeps them from it) cannot read it."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


async def _serve(
    settings: Settings, alongside: Alongside | None, machine_log: MachineLog, is_dev: bool
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_server(settings, machine_log, expose_machine_texts=is_dev) as server:
        print(f"statebacked listens on {server.url}", flush=True)
        beside = loop.create_task(_beside(alongside, server)) if alongside is not None else None
        await stop.wait()
        if beside is not None:
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)
    return 0


async def _beside(alongside: Alongside, server: Server) -> None:
    """The root of that task: what it raises is told at once, and the server goes on."""
    try:
        await alongside(server)
    except Exception:
        logger.exception("what runs beside the server ends")


def _shown(settings: Settings) -> MachineLog:
    """Where lines of machines are shown beside their log: nowhere but at the level debug. A line that the
    server's log leaves out costs more than all else that is done with it."""
    return _log_line if settings.log_level.lower() == "debug" else _show_nowhere


def _show_nowhere(code: Code, key: InstanceKey | None, output: OutputType, line: str) -> None:
    pass


def _log_line(code: Code, key: InstanceKey | None, output: OutputType, line: str) -> None:
    """Machine output is data: one line of the server's log at the level debug."""
    logger.debug("machine", org=code.org, machine=code.machine, stream=output, line=line)
