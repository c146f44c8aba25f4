"""Who waits for new entries. Nobody is handed any: whoever is woken reads the store, at its own pace."""

import asyncio
from collections.abc import Sequence

from statebacked.model.ids import OrgId
from statebacked.model.logs import LogEntry, LogFilter


class Watch:
    """Waits for entries that a filter admits. To be used in `with`."""

    def __init__(self, watches: "Watches", wanted: LogFilter) -> None:
        self.wanted = wanted
        self._watches = watches
        self._has_news = asyncio.Event()

    def __enter__(self) -> "Watch":
        self._watches.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._watches.remove(self)

    def expect(self) -> None:
        """From now on, only newer entries are news."""
        self._has_news.clear()

    async def wait(self) -> None:
        """Until there is one since `expect`."""
        await self._has_news.wait()

    def look(self, entry: LogEntry) -> None:
        if not self._has_news.is_set() and self.wanted.admits(entry):
            self._has_news.set()


class Watches:
    """All who wait now."""

    def __init__(self) -> None:
        self._by_org: dict[OrgId, set[Watch]] = {}

    def add(self, watch: Watch) -> None:
        self._by_org.setdefault(watch.wanted.org, set()).add(watch)

    def remove(self, watch: Watch) -> None:
        watching = self._by_org[watch.wanted.org]
        watching.discard(watch)
        if not watching:
            del self._by_org[watch.wanted.org]

    def stored(self, entries: Sequence[LogEntry]) -> None:
        """These can be read now."""
        if not self._by_org:
            return
        for entry in entries:
            for watch in self._by_org.get(entry.org, ()):
                watch.look(entry)
