"""Machines under development: each is deployed again when what its code comes from was saved.

Theory of operation. Before a machine's file is built, its sources are looked at (dev_sources). Afterwards
they are looked at again and again, and whenever they are not as they were *before* the build, it is built
again. So an edit is never missed, whenever it comes: what was saved while a build ran differs from what was
seen before it. A build that comes from more folders than were looked at is done once more, since edits there
could not be seen. Nothing depends on notifications of the file system, which containers, network drives and
editors lose.

Every build is compared with the current version, which carries the bundle's hash in its `clientInfo`. Only
other code is uploaded, so a restart deploys nothing. A file that does not build is told about, and what was
deployed before goes on running. What fails because the server does not answer is tried again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from statebacked.cli.api import Api
from statebacked.cli.build import Bundle
from statebacked.cli.errors import ApiError, BuildError, CliError
from statebacked.cli.output import note, progress
from statebacked.serve.dev_deploy import deploy
from statebacked.serve.dev_plan import Deployment, DevFile
from statebacked.serve.dev_sources import Sighting, Sources, look_at
from statebacked.serve.dev_text import deployment_text

__all__ = ["Workshop"]

logger = structlog.get_logger(__name__)

LOOK_AGAIN_S = 0.25

Build = Callable[[DevFile], Bundle]


async def _pause() -> None:
    await asyncio.sleep(LOOK_AGAIN_S)


@dataclass(slots=True)
class _Bench:
    """A machine under development. `seen`: its sources before the last build; None: to be built in any case.
    `outcome`: the version or the failure of the last build."""

    dev_file: DevFile
    sources: Sources
    seen: Sighting | None = None
    outcome: str = ""
    is_deployed: bool = False


class Workshop:
    """The machines under development. `build` makes a bundle of a file, `connect` an Api of an admin; `pause`
    passes the time between two looks at the sources."""

    def __init__(
        self,
        files: Sequence[DevFile],
        connect: Callable[[], Api],
        build: Build,
        *,
        pause: Callable[[], Awaitable[None]] = _pause,
        moves_instances: bool = True,
        progress_note: str = "",
    ) -> None:
        self._benches = [_Bench(file, Sources.of([file.file])) for file in files]
        self._connect = connect
        self._build = build
        self._pause = pause
        self._moves_instances = moves_instances
        self._progress_note = progress_note

    @property
    def deployed(self) -> list[DevFile]:
        """The files whose machine has a version that came from here."""
        return [bench.dev_file for bench in self._benches if bench.is_deployed]

    async def deploy_changed(self) -> bool:
        """Builds and deploys the machines whose sources are not as they were before their last build; whether
        there were any. Failures are printed."""
        is_any = False
        for bench in self._benches:
            sighting = await asyncio.to_thread(look_at, bench.sources)
            if bench.seen is None or not sighting.is_as(bench.seen):
                is_any = True
                await self._deploy_safely(bench, sighting)
        return is_any

    async def watch(self, deployed: Callable[[], None] = lambda: None) -> None:
        """Deploys what changes, until cancelled. `deployed` is called after each round."""
        while True:
            if await self.deploy_changed():
                deployed()
            await self._pause()

    async def _deploy_safely(self, bench: _Bench, sighting: Sighting) -> None:
        """Whatever goes wrong must not be the end of watching: then every later edit would be missed."""
        try:
            await self._deploy(bench, sighting)
        except Exception:
            logger.exception("a deployment fails", machine=bench.dev_file.machine)
            bench.seen = sighting

    async def _deploy(self, bench: _Bench, sighting: Sighting) -> None:
        name = bench.dev_file.machine
        said: list[str] = []
        files: tuple[Path, ...] = ()
        is_to_be_tried_again = False
        try:
            with progress(f"{name}: bundling{self._progress_note}"):
                bundle = await asyncio.to_thread(self._build, bench.dev_file)
            files = bundle.files
            said += [f"{name}: warning: {warning}" for warning in bundle.warnings]
            deployment = await asyncio.to_thread(self._upload, bench.dev_file, bundle)
            bench.is_deployed = True
            said.append(deployment_text(deployment))
            outcome = deployment.version
        except (CliError, OSError) as exc:
            files = exc.files if isinstance(exc, BuildError) else files
            is_to_be_tried_again = _is_of_the_moment(exc)
            outcome = exc.message if isinstance(exc, ApiError) else str(exc)
            said.append(f"{name}: not deployed: {exc}")
        self._progress_note = ""
        is_news = outcome != bench.outcome
        is_second_look = bench.seen is None and bool(bench.outcome)
        bench.outcome = outcome
        before, bench.sources = bench.sources, bench.sources.with_files(files)
        is_seen = bench.sources.folders == before.folders and not is_to_be_tried_again
        bench.seen = sighting if is_seen else None
        if is_news or not is_second_look:
            for line in said:
                note(line)

    def _upload(self, dev_file: DevFile, bundle: Bundle) -> Deployment:
        with self._connect() as api:
            return deploy(api, dev_file, bundle, moves_instances=self._moves_instances)


def _is_of_the_moment(failure: Exception) -> bool:
    """Whether the same code may be deployed in a moment: the server, and not the code, is the reason."""
    if isinstance(failure, ApiError):
        return failure.status >= 500
    return not isinstance(failure, BuildError)
