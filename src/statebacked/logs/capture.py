"""Takes lines as they are written and stores them in batches, without ever making anybody wait.

Theory of operation. `write` puts a line into a queue in memory; neighbouring lines of one instance and stream
in one millisecond become one entry. One task stores what has gathered, FLUSH_MS after the first line or as
soon as somebody who reads asks (`settle`). Times are given here: they never fall, not even with the clock or
over a restart; a millisecond takes LOG_BATCH_ENTRIES_MAX entries at most, the next ones are put a millisecond
later; and what is written after a batch was taken is later than all of it, so that whoever reads sees whole
milliseconds only. A batch that cannot be stored is tried again; meanwhile the queue fills up to its limit,
and then lines are dropped, and one line for each version says how many.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from statebacked.logs.budget import Budget, Verdict, day_of
from statebacked.model.ids import InstanceKey, Instant
from statebacked.model.limits import (
    LOG_BATCH_ENTRIES_MAX,
    LOG_INSTANCE_MINUTE_BYTES_MAX,
    LOG_LINE_BYTES_MAX,
    LOG_ORG_DAY_BYTES_MAX,
    LOG_QUEUE_BYTES_MAX,
)
from statebacked.model.logs import ENTRY_OVERHEAD_BYTES, LogEntry, OutputType
from statebacked.ports.clock import Clock
from statebacked.ports.logs import LogStore
from statebacked.ports.machines import Code
from statebacked.ports.store import StoreFailed

logger = structlog.get_logger(__name__)

FLUSH_MS: Final = 200
AGAIN_MS: Final = 1_000

_OVER_MINUTE: Final = (
    f"(more than {LOG_INSTANCE_MINUTE_BYTES_MAX:,} bytes: lines are dropped until the next minute)"
)
_OVER_DAY: Final = (
    f"(more than {LOG_ORG_DAY_BYTES_MAX:,} bytes: lines of this org are dropped until the next day)"
)

Stored = Callable[[Sequence[LogEntry]], None]


class Capture:
    """`write` is a ports.MachineLog. `stored` hears of every batch once it can be read."""

    @classmethod
    async def open(cls, store: LogStore, clock: Clock, stored: Stored) -> "Capture":
        """Goes on behind what the store holds. Raises StoreFailed."""
        now = clock.now()
        spent = await store.volumes(day_of(now.wall))
        capture = cls(store, clock, Budget(spent, now), stored, after=await store.newest())
        capture.start()
        return capture

    def __init__(
        self, store: LogStore, clock: Clock, budget: Budget, stored: Stored, *, after: Instant
    ) -> None:
        self._store = store
        self._clock = clock
        self._budget = budget
        self._stored = stored
        self._drafts: list[_Draft] = []
        self._batch: list[LogEntry] = []  # taken, and not stored yet
        self._queued_bytes = 0
        self._overflow: dict[Code, int] = {}  # lines dropped because the queue was full
        self._at = after  # the newest time given
        self._of_millisecond = LOG_BATCH_ENTRIES_MAX  # entries that have it
        self._waiters: list[asyncio.Future[None]] = []
        self._has_work = asyncio.Event()
        self._is_hurried = asyncio.Event()
        self._is_closed = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to store what is written."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    # --- writing

    def write(self, code: Code, key: InstanceKey | None, output: OutputType, line: str) -> None:
        """A line for the owner of a machine, cut to LOG_LINE_BYTES_MAX. Never waits, never raises."""
        now = self._clock.now()
        writer = (code.org, code.machine, None if key is None else key.name)
        if self._budget.is_spent(writer, now):
            return  # first of all, so that a flood costs little
        text, size = _fitting(line)
        draft = self._open_draft(code, key, output, size, now.wall)
        weight = size if draft is not None else size + ENTRY_OVERHEAD_BYTES
        if self._queued_bytes + weight > LOG_QUEUE_BYTES_MAX or self._is_closed:
            self._overflow[code] = self._overflow.get(code, 0) + 1
            return
        match self._budget.spend(writer, weight, now):
            case Verdict.KEPT:
                if draft is not None:
                    draft.add(text, size)
                    self._queued_bytes += weight
                else:
                    self._put(_Draft(self._next_time(now.wall), code, key, output, text, size))
            case Verdict.FIRST_OVER_MINUTE:
                self._tell(code, key, _OVER_MINUTE)
            case Verdict.FIRST_OVER_DAY:
                self._tell(code, None, _OVER_DAY)
            case Verdict.DROPPED:
                pass

    async def settle(self) -> Instant:
        """Stores what was written before this call. Everything up to the instant that it gives is in the
        store then, unless that fails."""
        is_running = self._task is not None and not self._task.done()
        if is_running and (self._drafts or self._batch or self._overflow):
            stored = asyncio.get_running_loop().create_future()
            self._waiters.append(stored)
            self._has_work.set()
            self._is_hurried.set()
            await stored
        if self._drafts or self._batch:
            return Instant((self._batch[0].at if self._batch else self._drafts[0].at) - 1)
        self._close_millisecond()
        return Instant(max(self._at, self._clock.now().wall - 1))

    async def aclose(self) -> None:
        """Stores what is left, if the store takes it, and ends."""
        self._is_closed = True
        self._has_work.set()
        self._is_hurried.set()
        if self._task is not None:
            await self._task

    # --- entries

    def _open_draft(
        self, code: Code, key: InstanceKey | None, output: OutputType, size: int, now: Instant
    ) -> "_Draft | None":
        """The last entry, if this line belongs to it."""
        last = self._drafts[-1] if self._drafts else None
        if last is None or last.at < now or last.output != output or last.key != key or last.code != code:
            return None
        return last if last.size + size <= LOG_LINE_BYTES_MAX else None

    def _next_time(self, now: Instant) -> Instant:
        if now > self._at:
            self._at, self._of_millisecond = now, 0
        elif self._of_millisecond >= LOG_BATCH_ENTRIES_MAX:
            self._at, self._of_millisecond = Instant(self._at + 1), 0
        self._of_millisecond += 1
        return self._at

    def _close_millisecond(self) -> None:
        """What is written from now on is later than all before."""
        self._of_millisecond = LOG_BATCH_ENTRIES_MAX

    def _tell(self, code: Code, key: InstanceKey | None, text: str) -> None:
        """A line of ours, which counts against no budget."""
        at = self._next_time(self._clock.now().wall)
        self._put(_Draft(at, code, key, "stderr", text, len(text) + 1))

    def _put(self, draft: "_Draft") -> None:
        self._drafts.append(draft)
        self._queued_bytes += draft.size + ENTRY_OVERHEAD_BYTES
        self._has_work.set()

    # --- storing

    async def _run(self) -> None:
        """The root of the one task that stores."""
        while not self._is_closed:
            await self._has_work.wait()
            await self._pause(FLUSH_MS)
            if not await self._flush():
                await self._pause(AGAIN_MS)
        await self._flush()

    async def _pause(self, ms: int) -> None:
        try:
            async with asyncio.timeout(ms / 1000):
                await self._is_hurried.wait()
        except TimeoutError:
            return

    async def _flush(self) -> bool:
        """Store what has gathered; False when that failed, and it is kept."""
        waiters, self._waiters = self._waiters, []
        self._is_hurried.clear()
        is_new = not self._batch
        if is_new:
            self._take()
        try:
            if self._batch and (is_new or await self._store.newest() < self._batch[0].at):
                await self._store.append(self._batch)
        except StoreFailed as failure:
            logger.error("log lines cannot be stored", entries=len(self._batch), error=str(failure))
            self._has_work.set()
            return False
        else:
            self._release()
            return True
        finally:
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def _take(self) -> None:
        overflow, self._overflow = self._overflow, {}
        for code, lines in overflow.items():
            self._tell(code, None, f"({lines} lines were dropped: more is written than can be stored)")
        self._batch = [draft.entry() for draft in self._drafts]
        self._drafts = []
        self._close_millisecond()
        self._has_work.clear()

    def _release(self) -> None:
        stored, self._batch = self._batch, []
        self._queued_bytes -= sum(entry.weight + 1 for entry in stored)
        if stored:
            self._stored(stored)


class _Draft:
    """An entry that may still grow. `size` counts a line end for each of its lines."""

    __slots__ = ("at", "code", "key", "lines", "output", "size")

    def __init__(
        self, at: Instant, code: Code, key: InstanceKey | None, output: OutputType, line: str, size: int
    ) -> None:
        self.at = at
        self.code = code
        self.key = key
        self.output = output
        self.lines = [line]
        self.size = size

    def add(self, line: str, size: int) -> None:
        self.lines.append(line)
        self.size += size

    def entry(self) -> LogEntry:
        return LogEntry(
            at=self.at,
            org=self.code.org,
            machine=self.code.machine,
            instance=None if self.key is None else self.key.name,
            version=self.code.version,
            output=self.output,
            text="\n".join(self.lines),
        )


def _fitting(line: str) -> tuple[str, int]:
    """The line as it may be stored, and its bytes with a line end."""
    data = line.encode(errors="replace")
    if len(data) >= LOG_LINE_BYTES_MAX:
        data = data[: LOG_LINE_BYTES_MAX - 4] + "…".encode()
    return data.decode(errors="ignore"), len(data) + 1
