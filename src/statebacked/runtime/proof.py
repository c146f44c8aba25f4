"""Before a server starts workers, one of them shows that it runs behind every wall that the kernel offers.

A system may be laid out so that Deno does not start behind one of them (its libraries stand elsewhere, say).
Then that wall is given up, and the log says so: a server that does not start protects nobody.
"""

import asyncio
from asyncio.subprocess import DEVNULL, PIPE
from dataclasses import replace
from typing import NamedTuple

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


class Proof(NamedTuple):
    """`failure` says why no worker starts, None when one did: then the sandbox has the walls behind which it
    did."""

    sandbox: Sandbox
    failure: str | None


class NoDeno(OSError):
    """Deno itself cannot be run; the text says what to do."""


async def prove(sandbox: Sandbox) -> Proof:
    """Start a worker, and tell in one line of the log behind which walls it runs. Raises NoDeno."""
    if not sandbox.majors():
        logger.error("no worker is built: run make setup", folder=str(sandbox.dist))
        return Proof(sandbox, "no worker is built")
    failure = ""
    for walls in _fewer_and_fewer(sandbox.walls):
        tried = replace(sandbox, walls=walls)
        try:
            found = await _start_one(tried)
        except WorkerGone as gone:
            failure = gone.reason
            logger.warning("worker does not start", walls=_names(walls), reason=failure)
            continue
        tell = logger.warning if found.missing else logger.info
        tell("workers are sandboxed", **found._asdict(), missing=found.missing)
        return Proof(tried, None)
    await _run_deno(sandbox.deno)
    logger.error("no worker can be started", reason=failure)
    return Proof(sandbox, f"no worker can be started: the first {failure}")


async def _run_deno(deno: str) -> None:
    """Raises NoDeno when not even its version can be asked."""
    try:
        asked = await asyncio.create_subprocess_exec(deno, "--version", stdout=DEVNULL, stderr=PIPE)
        _, told = await asked.communicate()
        reason = told.decode(errors="replace").strip()[:500] or f"it exits with code {asked.returncode}"
    except OSError as refused:
        raise _no_deno(deno, refused.strerror or str(refused)) from refused
    if asked.returncode != 0:
        raise _no_deno(deno, reason)


def _no_deno(deno: str, reason: str) -> NoDeno:
    return NoDeno(
        f"Deno cannot be run, and nothing works without it ({deno}: {reason}): "
        "install the package again, or name a binary of Deno with STATEBACKED_DENO"
    )


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
