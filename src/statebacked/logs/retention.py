"""What leaves the logs: entries that are too old or too many, and those of instances that were deleted."""

import asyncio
from typing import Final

import structlog

from statebacked.logs.capture import Capture
from statebacked.model.ids import Instant
from statebacked.model.logs import LogErasure
from statebacked.ports.clock import Clock
from statebacked.ports.logs import LogErasures, LogStore
from statebacked.ports.store import StoreFailed

logger = structlog.get_logger(__name__)

LOOK_MS: Final = 60_000
SLICE_ENTRIES: Final = 1_000
_SLICE_PAUSE_S: Final = 0.02  # so that lines which are to be stored come in between
_DAY_MS: Final = 86_400_000
_ERASURES_AT_ONCE: Final = 100


class Retention:
    """Keeps entries for `days`, and at most `bytes_max` of them together (the oldest go first)."""

    def __init__(
        self,
        store: LogStore,
        erasures: LogErasures,
        capture: Capture,
        clock: Clock,
        *,
        days: int,
        bytes_max: int,
    ) -> None:
        self._store = store
        self._erasures = erasures
        self._capture = capture
        self._clock = clock
        self._days = days
        self._bytes_max = bytes_max

    async def run(self) -> None:
        """Once a minute, until cancelled. The root of a task."""
        while True:
            try:
                await self.erase()
                await self.prune()
            except StoreFailed as failure:
                logger.error("logs cannot be cleared", error=str(failure))
            await asyncio.sleep(LOOK_MS / 1000)

    async def erase(self) -> None:
        """Erase what instances have left that are deleted. Raises StoreFailed."""
        while due := await self._erasures.log_erasures(_ERASURES_AT_ONCE):
            await self._capture.settle()
            for erasure in due:
                await self._erase_one(erasure)
            await self._erasures.log_erased(due)

    async def prune(self) -> None:
        """Remove what is too old or too much, in slices. Raises StoreFailed."""
        before = Instant(self._clock.now().wall - self._days * _DAY_MS)
        gone = SLICE_ENTRIES
        while gone == SLICE_ENTRIES:
            gone = await self._store.prune(before, self._bytes_max, limit=SLICE_ENTRIES)
            await asyncio.sleep(_SLICE_PAUSE_S)

    async def _erase_one(self, erasure: LogErasure) -> None:
        gone = SLICE_ENTRIES
        while gone == SLICE_ENTRIES:
            gone = await self._store.erase(erasure.key, erasure.at, limit=SLICE_ENTRIES)
