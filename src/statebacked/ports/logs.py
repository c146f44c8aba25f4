"""Where the lines of machines are stored. Transactions and failures are those of store.py."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from statebacked.model.ids import InstanceKey, Instant, OrgId
from statebacked.model.logs import LogEntry, LogErasure, LogFilter, LogPage, LogPosition


class LogStore(Protocol):
    """What machines say, apart from what must not be lost: a crash may take the last moments."""

    async def append(self, entries: Sequence[LogEntry]) -> None:
        """Adds entries in their order, all or none. The first one's `at` is above that of all held."""

    async def read(self, wanted: LogFilter, after: LogPosition, until: Instant, *, limit: int) -> LogPage:
        """The first `limit` wanted entries behind `after` and not later than `until`. It looks at no more
        than LOG_ROWS_LOOKED_AT_MAX, and says how far that went."""

    async def newest(self) -> Instant:
        """When the last entry was added that is still held; 0 when there is none."""

    async def volumes(self, day: int) -> Mapping[OrgId, int]:
        """The weight of all entries ever added of that UTC day (counted from 1970), by org."""

    async def erase(self, key: InstanceKey, until: Instant, *, limit: int) -> int:
        """Removes up to `limit` entries of an instance, none later than `until`; how many that were."""

    async def prune(self, before: Instant, bytes_max: int, *, limit: int) -> int:
        """Removes up to `limit` of the oldest entries, how many that were: those earlier than `before`, and
        any while all together take more than `bytes_max`."""


class LogErasures(Protocol):
    """Which logs are still to be erased: recorded with the deletion of an instance, in its transaction."""

    async def log_erasures(self, limit: int) -> list[LogErasure]:
        """Some of them, at most `limit`."""

    async def log_erased(self, erasures: Sequence[LogErasure]) -> None:
        """They have been carried out."""
