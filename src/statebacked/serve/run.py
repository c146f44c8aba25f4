"""One server process: its event loop, its signals, its exit code."""

import asyncio
import contextlib
import ctypes
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
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
from statebacked.serve.folder_lock import FolderInUse
from statebacked.serve.log import set_up_logging
from statebacked.serve.place import Place
from statebacked.serve.supervised import TRY_LATER, Supervision, given
from statebacked.settings import Settings
from statebacked.store.schema import SchemaRefused

# Any: the event loop's own business.
Alongside = Callable[[Server, Place], Coroutine[Any, Any, None]]

_PR_SET_DUMPABLE: Final = 4
_REFUSED: Final = 1

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a server does besides serving. `alongside` runs beside it; `prepare` is called once the folder is
    its own, but not in a server that a supervisor starts again; `is_take_over`: whoever has the folder is
    asked to stop."""

    alongside: Alongside | None = None
    prepare: Callable[[], None] = lambda: None
    is_take_over: bool = False
    machine_log: MachineLog | None = None
    is_dev: bool = False


def run(settings: Settings, work: Work) -> int:
    """Serve until SIGTERM or SIGINT, then stop gracefully; 0. Anything else is a server that does not start,
    or that another has taken the store from; stderr says why."""
    set_up_logging(settings.log_level, is_readable=work.is_dev or sys.stderr.isatty())
    hide_memory()
    supervision = given()
    try:
        place = Place.claim(settings, supervision, is_take_over=work.is_take_over, prepare=work.prepare)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(settings, work, place, supervision))
    except (AdminFileRefused, FolderInUse, MasterKeyRefused, SchemaRefused) as refused:
        print(f"statebacked: {refused}", file=sys.stderr)
        return _REFUSED
    except (StoreFailed, OSError) as refused:
        print(f"statebacked: {refused}", file=sys.stderr)
        return _REFUSED if supervision is None else TRY_LATER


def hide_memory() -> None:
    """Keys and contexts stand in the memory of this process: no core dump writes it to a disk, and other
    processes of the same user (workers, where no wall keeps them from it) cannot read it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


async def _serve(settings: Settings, work: Work, place: Place, supervision: Supervision | None) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    _heed_signals(loop, stop, is_supervised=supervision is not None)
    if supervision is not None:
        supervision.watch(loop.add_reader)
    machine_log = work.machine_log or _shown(settings)
    async with open_server(
        settings, machine_log, listeners=place.listeners, expose_machine_texts=work.is_dev
    ) as server:
        if supervision is not None:
            supervision.tell_ready(settings.drain_ms)
        if not place.is_again:
            _tell(server.url)
        beside = loop.create_task(_beside(work.alongside, server, place)) if work.alongside else None
        waits = [loop.create_task(event.wait()) for event in (stop, server.fenced)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in (*waits, *([beside] if beside is not None else [])):
            task.cancel()
        await asyncio.gather(*waits, *([beside] if beside is not None else []), return_exceptions=True)
        if not server.fenced.is_set():
            return 0
    raise FolderInUse(f"another server has taken over {settings.data}: this one ends")


def _heed_signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, *, is_supervised: bool) -> None:
    """A supervisor hears what comes from the terminal, and says SIGTERM."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        is_heeded = number == signal.SIGTERM or not is_supervised
        loop.add_signal_handler(number, stop.set if is_heeded else _ignore)


def _ignore() -> None:
    """Instead of SIG_IGN, which workers would inherit."""


def _tell(url: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"statebacked listens on {url}", flush=True)


async def _beside(alongside: Alongside, server: Server, place: Place) -> None:
    """The root of that task: what it raises is told at once, and the server goes on."""
    try:
        await alongside(server, place)
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
