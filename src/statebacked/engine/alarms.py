"""Durable timers, delivered when they are due: sleeps until the next one, never polls on a short interval.

Theory of operation: the store holds every timer row. A rack (bells.py) holds the rows that fire within the
window, read from the store once a window and added to as steps set new ones, and says whose turn it is. A
delivery that gets lost (the activation ended) is found again by the next scan; one that comes twice is
dropped by the core. The window is short so that a wall clock that was set is noticed.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from statebacked.engine.bells import Bells, Held, Rack
from statebacked.model.ids import Instant
from statebacked.model.limits import INSTANCE_TIMERS_HELD_MAX
from statebacked.model.rows import DueTimer, TimerPlace
from statebacked.ports.clock import Clock
from statebacked.ports.store import TIMERS_BEGIN, Store, StoreFailed

logger = structlog.get_logger(__name__)

WINDOW_MS = 60_000
SCAN_ROWS_MAX = 1_000
RETRY_MS = 1_000
SETBACK_MS = 250
TOGETHER_MAX = 64  # deliveries under way at once, so that a backlog does not load every instance at once


class Busy(Exception):
    """The instance has enough to do: once more a little later."""


class Alarms:
    """Calls `deliver` for every timer row once it is due. `deliver` may raise Busy, and StoreFailed: tried
    again."""

    def __init__(self, store: Store, clock: Clock, deliver: Callable[[DueTimer], Awaitable[None]]) -> None:
        self._store = store
        self._clock = clock
        self._deliver = deliver
        self._rack = Rack()
        self._missed: list[DueTimer] | None = None  # armed while the store is being read
        self._horizon = Instant(0)
        self._scanned_at = 0
        self._must_scan = True
        self._changed = asyncio.Event()
        self._reads: set[asyncio.Task[None]] = set()

    def arm(self, timers: tuple[DueTimer, ...]) -> None:
        """Rows that are durable now. Those beyond the window are left to a later scan."""
        for due in timers:
            if due.fire_at > self._horizon:
                continue
            if self._missed is not None:
                self._missed.append(due)
            else:
                self._rack.hang(due)
        self._changed.set()

    def scan_soon(self) -> None:
        """A delivery may have been lost: look into the store again."""
        self._must_scan = True
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._changed.clear()
                if self._is_stale() and not await self._scan():
                    await self._sleep(RETRY_MS)
                elif not await self._deliver_some():
                    await self._sleep(self._pause_ms())
        finally:
            for read in self._reads:
                read.cancel()

    # --- the store

    def _is_stale(self) -> bool:
        now = self._clock.now()
        if self._must_scan or now.wall >= self._horizon or self._horizon > now.wall + 2 * WINDOW_MS:
            return True
        return now.mono - self._scanned_at >= RETRY_MS and self._rack.lacks_some(now.wall)

    async def _scan(self) -> bool:
        """Hold anew what fires within the window, as far as there is room for it."""
        now = self._clock.now()
        self._must_scan = False
        self._scanned_at = now.mono
        self._horizon = Instant(now.wall + WINDOW_MS)
        self._rack, self._missed = Rack(), []
        try:
            await self._read_window()
        except StoreFailed as failure:
            logger.error("timers cannot be read", error=str(failure))
            self._must_scan = True
            return False
        finally:
            missed, self._missed = self._missed, None
            for due in missed:
                self._rack.hang(due)
        return True

    async def _read_window(self) -> None:
        after = TIMERS_BEGIN
        while True:
            orgs, instances = self._rack.left_to_the_store()
            rows = await self._store.due_timers(
                self._horizon, SCAN_ROWS_MAX, after=after, without_orgs=orgs, without_instances=instances
            )
            for row in rows:
                self._rack.hang(row)
            if len(rows) < SCAN_ROWS_MAX:
                return
            after = TimerPlace(rows[-1].fire_at, rows[-1].row)

    def _refill(self, bells: Bells, after: TimerPlace) -> None:
        read = asyncio.get_running_loop().create_task(self._read_more(bells, after))
        self._reads.add(read)
        read.add_done_callback(self._reads.discard)

    async def _read_more(self, bells: Bells, after: TimerPlace) -> None:
        rack = self._rack
        try:
            rows = await self._store.next_timers(
                bells.instance, self._horizon, INSTANCE_TIMERS_HELD_MAX, after=after
            )
        except StoreFailed as failure:
            logger.error("timers cannot be read", error=str(failure))
            self.scan_soon()
        else:
            rack.refill(bells, rows, is_all=len(rows) < INSTANCE_TIMERS_HELD_MAX)
            self._changed.set()

    # --- deliveries

    async def _deliver_some(self) -> bool:
        """Whether any was due."""
        taken = self._rack.take(self._clock.now().wall, TOGETHER_MAX)
        if not taken:
            return False
        results = await asyncio.gather(*(self._deliver(held.due) for held in taken), return_exceptions=True)
        for held, failure in zip(taken, results, strict=True):
            self._heed(held, failure)
        for bells, after in self._rack.emptied(taken):
            self._refill(bells, after)
        return True

    def _heed(self, held: Held, failure: BaseException | None) -> None:
        if isinstance(failure, Busy):
            self._rack.put_back(held, Instant(self._clock.now().wall + SETBACK_MS))
        elif failure is not None:
            logger.error("a timer cannot be delivered yet", error=repr(failure))
            self._rack.put_back(held, Instant(self._clock.now().wall + RETRY_MS))

    def _pause_ms(self) -> float:
        if self._must_scan:
            return RETRY_MS
        now, next_at = self._clock.now().wall, self._rack.next_at()
        return max(0, min(self._horizon if next_at is None else next_at, self._horizon) - now)

    async def _sleep(self, pause_ms: float) -> None:
        try:
            async with asyncio.timeout(min(pause_ms, WINDOW_MS) / 1000):
                await self._changed.wait()
        except TimeoutError:
            pass
