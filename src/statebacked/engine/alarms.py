"""Durable timers, delivered when they are due: sleeps until the next one, never polls on a short interval.

Theory of operation: the store holds every timer row. A heap holds the rows that fire within the window, read
from the store once a window and added to as steps set new ones. A delivery that gets lost (the activation
ended, the mailbox was full) is found again by the next scan; one that comes twice is dropped by the core.
The window is short so that a wall clock that was set is noticed.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable

import structlog

from statebacked.model.ids import InstanceId, Instant, RowKey
from statebacked.model.values import DueTimer
from statebacked.ports import Clock, Store, StoreFailed

logger = structlog.get_logger(__name__)

WINDOW_MS = 60_000
SCAN_ROWS_MAX = 10_000
RETRY_MS = 1_000
TOGETHER_MAX = 64  # deliveries under way at once, so that a backlog does not load every instance at once


class Alarms:
    """Calls `deliver` for every timer row once it is due. `deliver` may raise StoreFailed: tried again."""

    def __init__(self, store: Store, clock: Clock, deliver: Callable[[DueTimer], Awaitable[None]]) -> None:
        self._store = store
        self._clock = clock
        self._deliver = deliver
        self._heap: list[tuple[Instant, int, DueTimer]] = []
        self._held: set[tuple[InstanceId, RowKey, int]] = set()
        self._order = 0
        self._horizon = Instant(0)
        self._must_scan = True
        self._changed = asyncio.Event()

    def arm(self, timers: tuple[DueTimer, ...]) -> None:
        """Rows that are durable now. Those beyond the window are left to a later scan."""
        for due in timers:
            if due.fire_at <= self._horizon:
                self._push(due)
        self._changed.set()

    def scan_soon(self) -> None:
        """A delivery may have been lost: look into the store again."""
        self._must_scan = True
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._changed.clear()
            now = self._clock.now().wall
            is_stale = self._must_scan or now >= self._horizon or self._horizon > now + 2 * WINDOW_MS
            if is_stale and not await self._scan(now):
                await self._sleep(RETRY_MS)
                continue
            await self._deliver_due()
            await self._sleep(self._pause_ms())

    def _push(self, due: DueTimer) -> None:
        held = (due.instance, due.timer.key, due.attempts)
        if held not in self._held:
            self._held.add(held)
            self._order += 1
            heapq.heappush(self._heap, (due.fire_at, self._order, due))

    async def _scan(self, now: Instant) -> bool:
        self._must_scan = False
        until = Instant(now + WINDOW_MS)
        self._horizon = until  # from here on, new rows in the window are pushed by arm()
        try:
            rows = await self._store.due_timers(until, SCAN_ROWS_MAX)
        except StoreFailed as failure:
            logger.error("timers cannot be read", error=str(failure))
            self._must_scan = True
            return False
        if len(rows) == SCAN_ROWS_MAX:
            self._horizon = rows[-1].fire_at
        for row in rows:
            self._push(row)
        return True

    async def _deliver_due(self) -> None:
        while self._heap and self._heap[0][0] <= self._clock.now().wall:
            together: list[DueTimer] = []
            while self._heap and len(together) < TOGETHER_MAX and self._heap[0][0] <= self._clock.now().wall:
                due = heapq.heappop(self._heap)[2]
                self._held.discard((due.instance, due.timer.key, due.attempts))
                together.append(due)
            results = await asyncio.gather(*(self._deliver(due) for due in together), return_exceptions=True)
            for failure in results:
                if isinstance(failure, BaseException):
                    logger.error("a timer cannot be delivered yet", error=repr(failure))
                    self._must_scan = True

    def _pause_ms(self) -> float:
        if self._must_scan:
            return RETRY_MS
        now = self._clock.now().wall
        next_at = self._heap[0][0] if self._heap else self._horizon
        return max(0, min(next_at, self._horizon) - now)

    async def _sleep(self, pause_ms: float) -> None:
        try:
            async with asyncio.timeout(min(pause_ms, WINDOW_MS) / 1000):
                await self._changed.wait()
        except TimeoutError:
            pass
