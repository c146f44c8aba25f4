"""One server process: its event loop, its signals, its exit code."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable

import uvloop

from statebacked.app import Server, open_server
from statebacked.auth.secrets import MasterKeyRefused
from statebacked.serve.log import set_up_logging
from statebacked.settings import Settings

Alongside = Callable[[Server], Awaitable[None]]


def run(settings: Settings, alongside: Alongside | None = None, *, is_dev: bool = False) -> int:
    """Serve until SIGTERM or SIGINT, then drain; 0. `alongside` runs beside the server and ends with it."""
    set_up_logging(settings.log_level, is_readable=is_dev or sys.stderr.isatty())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_serve(settings, alongside, is_dev=is_dev))
        except (MasterKeyRefused, OSError) as refused:
            print(f"statebacked: {refused}", file=sys.stderr)
            return 1


async def _serve(settings: Settings, alongside: Alongside | None, *, is_dev: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_server(settings, is_dev=is_dev) as server:
        print(f"statebacked listens on {server.url}", flush=True)
        beside = loop.create_task(alongside(server)) if alongside is not None else None
        await stop.wait()
        if beside is not None:
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)
        await server.drain()
    return 0
