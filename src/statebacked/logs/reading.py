"""Reading logs: one batch for whoever polls, page after page for whoever watches."""

from typing import NamedTuple

from statebacked.logs.capture import Capture
from statebacked.logs.retention import Retention
from statebacked.logs.watching import Watch, Watches
from statebacked.model.ids import Instant
from statebacked.model.limits import LOG_BATCH_ENTRIES_MAX
from statebacked.model.logs import END_OF_TIME, LogEntry, LogFilter, LogPage, LogPosition, end_of
from statebacked.ports.logs import LogStore


class Batch(NamedTuple):
    """Whole milliseconds of entries. Ask again from `max_timestamp`; when it is what was asked from, there is
    nothing newer yet."""

    entries: tuple[LogEntry, ...]
    max_timestamp: Instant


class Logs:
    """All that the API asks of the logs. Every method raises StoreFailed."""

    def __init__(self, store: LogStore, capture: Capture, retention: Retention, watches: Watches) -> None:
        self._store = store
        self._capture = capture
        self._retention = retention
        self._watches = watches

    async def batch(self, wanted: LogFilter, after: Instant, until: Instant | None) -> Batch:
        """The next entries later than `after`, up to and with `until`; at most LOG_BATCH_ENTRIES_MAX.

        When `until` has passed and nothing more can come before it, it is the `max_timestamp`: the published
        client ends then, if the batch holds entries.
        """
        await self._retention.erase()
        complete_to = await self._capture.settle()
        wished = END_OF_TIME if until is None else until
        # One entry more tells whether the last millisecond is whole.
        page = await self._store.read(wanted, end_of(after), wished, limit=LOG_BATCH_ENTRIES_MAX + 1)
        entries = tuple(entry for _, entry in page.entries)
        if len(entries) > LOG_BATCH_ENTRIES_MAX:
            cut = entries[-1].at
            whole = tuple(entry for entry in entries if entry.at < cut)
            return Batch(whole, whole[-1].at)
        if page.seen_to < wished:
            return Batch(entries, page.seen_to)
        if until is not None and until <= complete_to:
            return Batch(entries, until)
        return Batch(entries, entries[-1].at if entries else after)

    async def clear(self) -> None:
        """Erase what must not be seen any more, before a series of pages."""
        await self._retention.erase()

    async def page(self, wanted: LogFilter, after: LogPosition, until: Instant) -> LogPage:
        """The next entries behind a position."""
        return await self._store.read(wanted, after, until, limit=LOG_BATCH_ENTRIES_MAX)

    async def is_over(self, wanted: LogFilter, after: LogPosition, until: Instant) -> bool:
        """Whether nothing stands in that window, nor ever will."""
        if await self._capture.settle() < until:
            return False
        page = await self._store.read(wanted, after, until, limit=1)
        return not page.entries and page.seen_to >= until

    async def complete_to(self) -> Instant:
        """Every entry up to that instant that there will ever be can be read now."""
        return await self._capture.settle()

    def watch(self, wanted: LogFilter) -> Watch:
        """Hears of new entries."""
        return Watch(self._watches, wanted)
