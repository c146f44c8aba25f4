"""The executable specification of ports.LogStore: a list, in the order of adding."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final

from statebacked.model.ids import InstanceKey, Instant, OrgId
from statebacked.model.limits import LOG_BATCH_ENTRIES_MAX, LOG_ROWS_LOOKED_AT_MAX
from statebacked.model.logs import LogEntry, LogFilter, LogPage, LogPosition, StoredEntry

_DAY_MS: Final = 86_400_000


class MemoryLogs:
    """Implements ports.LogStore. `held` may be read directly."""

    def __init__(self) -> None:
        self.held: list[StoredEntry] = []
        self._numbers = 0
        self._volumes: dict[int, Counter[OrgId]] = {}

    async def append(self, entries: Sequence[LogEntry]) -> None:
        last = self.held[-1].position.at if self.held else Instant(-1)
        assert not entries or entries[0].at > last, "the clock of entries went back"
        for entry in entries:
            self._numbers += 1
            self.held.append(StoredEntry(LogPosition(entry.at, self._numbers), entry))
            self._volumes.setdefault(entry.at // _DAY_MS, Counter())[entry.org] += entry.weight
        assert all(count <= LOG_BATCH_ENTRIES_MAX for count in Counter(e.at for e in entries).values())

    async def read(self, wanted: LogFilter, after: LogPosition, until: Instant, *, limit: int) -> LogPage:
        # What a store finds by an index: one instance's entries, else all of the org.
        indexed = LogFilter(org=wanted.org)
        if wanted.machine is not None and wanted.instance is not None:
            indexed = LogFilter(org=wanted.org, machine=wanted.machine, instance=wanted.instance)
        behind = (row for row in self.held if after < row.position and row.entry.at <= until)
        rows = [row for row in behind if indexed.admits(row.entry)]
        if len(rows) > LOG_ROWS_LOOKED_AT_MAX:
            until = Instant(rows[LOG_ROWS_LOOKED_AT_MAX].entry.at - 1)
        found = (row for row in rows if row.entry.at <= until and wanted.admits(row.entry))
        return LogPage(tuple(islice(found, limit)), until)

    async def newest(self) -> Instant:
        return self.held[-1].entry.at if self.held else Instant(0)

    async def volumes(self, day: int) -> Mapping[OrgId, int]:
        return dict(self._volumes.get(day, {}))

    async def erase(self, key: InstanceKey, until: Instant, *, limit: int) -> int:
        wanted = LogFilter(org=key.org, machine=key.machine, instance=key.name)
        rows = [row for row in self.held if wanted.admits(row.entry) and row.entry.at <= until]
        return self._remove(rows[:limit])

    async def prune(self, before: Instant, bytes_max: int, *, limit: int) -> int:
        size = sum(row.entry.weight for row in self.held)
        gone = []
        for row in self.held[:limit]:
            if row.entry.at >= before and size <= bytes_max:
                break
            gone.append(row)
            size -= row.entry.weight
        return self._remove(gone)

    def _remove(self, rows: Sequence[StoredEntry]) -> int:
        numbers = {row.position.number for row in rows}
        self.held = [row for row in self.held if row.position.number not in numbers]
        return len(rows)
