"""Before a server starts workers, one of them shows that it runs behind every wall that the kernel offers.

A system may be laid out so that Deno does not start behind one of them (its libraries stand elsewhere, say).
Then that wall is given up, and the log says so: a server that does not start protects nobody.
"""

import asyncio
from dataclasses import replace

import structlog

from statebacked.ports.machines import WorkerGone
from statebacked.runtime.process import Sandbox, empty_folder
from statebacked.runtime.walls import InForce, Walls, in_force
from statebacked.runtime.worker import Worker

logger = structlog.get_logger(__name__)

_START_S = 10.0


class _Nobody:
    """Hooks of a worker that nobody else knows."""

    def worker_woke(self) -> None: ...
    def worker_over(self, worker: Worker, reason: str) -> None: ...


async def proven(sandbox: Sandbox) -> Sandbox:
    """The sandbox with the walls behind which a worker starts, told in one line of the log."""
    if not sandbox.majors():
        return sandbox  # what is missing is told where a worker is needed
    for walls in _fewer_and_fewer(sandbox.walls):
        tried = replace(sandbox, walls=walls)
        try:
            found = await _start_one(tried)
        except WorkerGone as gone:
            logger.warning("worker does not start", walls=_names(walls), reason=gone.reason)
            continue
        tell = logger.warning if found.missing else logger.info
        tell("workers are walled in", **found._asdict(), missing=found.missing)
        return tried
    return sandbox


def _fewer_and_fewer(walls: Walls) -> list[Walls]:
    """One first, then more. Landlock goes before the filter: it depends on where files stand, the filter only
    on what Deno does."""
    choices = [
        walls,
        walls._replace(groups=None),
        walls._replace(readable=()),
        walls._replace(filter=""),
        Walls(groups=walls.groups),
        Walls(),
    ]
    return list(dict.fromkeys(choices))


def _names(walls: Walls) -> list[str]:
    asked = {"landlock": walls.readable, "seccomp": walls.filter, "cgroups": walls.groups}
    return [name for name, is_asked in asked.items() if is_asked]


async def _start_one(sandbox: Sandbox) -> InForce:
    """Raises WorkerGone."""
    folder = empty_folder()
    worker = Worker(max(sandbox.majors()), _Nobody(), lambda *_: None, in_flight_max=1)
    try:
        async with asyncio.timeout(_START_S):
            await worker.boot(sandbox, folder, 1_000)
        assert worker.pid is not None
        return in_force(worker.pid, sandbox.walls)
    except TimeoutError:
        raise WorkerGone(f"did not start in {_START_S:g} seconds") from None
    finally:
        worker.retire()
        await worker.gone
        folder.rmdir()
