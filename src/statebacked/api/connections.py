"""Every connection of the server: how many one address may have, and how long each may take for a head.

Theory of operation. A connection enters when it is made and leaves when it is lost, whatever it has become (a
WebSocket included). While the head of a request is due, or the rest of a request that was answered already,
the connection is watched: one tick a second looks at those that came first. All have equally long, so the
order in which they came is the order in which they are overdue, and a tick looks at no other.
When the server stops, a connection that waits for a request is closed, one that is answered ends with that
answer, and one whose request is on its way, or may be since it was answered just now, is heard first.
WebSockets are not ended here.
"""

import asyncio
from collections import Counter
from typing import Final, Protocol

from statebacked.model.limits import CONNECTIONS_PER_ADDRESS_MAX, REQUEST_HEAD_MS

_TICK_S: Final = 1.0
_TICKS_MAX: Final = REQUEST_HEAD_MS // 1000 + 1  # the first tick may come at once


class Connection(Protocol):
    """What is known of a connection here."""

    def end_overdue(self) -> None:
        """What was due did not come in time."""

    def end_when_answered(self) -> bool:
        """The server stops: close now when nothing is under way. Whether a request is still to be heard."""


class Connections:
    """The connections of one server."""

    def __init__(self, *, per_address_max: int = CONNECTIONS_PER_ADDRESS_MAX) -> None:
        self._per_address_max = per_address_max
        self._by_address: Counter[str] = Counter()
        self._due: dict[Connection, int] = {}  # in the order of their ticks
        self._open: set[Connection] = set()
        self._unheard: set[Connection] = set()
        self._all_heard = asyncio.Event()
        self._now = 0
        self._ticking: asyncio.TimerHandle | None = None
        self.is_stopping = False

    def enter(self, connection: Connection, address: str | None) -> bool:
        """A connection is made. False when its address has too many. None: an address that is not counted."""
        if address is not None:
            if self._by_address[address] >= self._per_address_max:
                return False
            self._by_address[address] += 1
        self._open.add(connection)
        return True

    def leave(self, connection: Connection, address: str | None) -> None:
        """A connection that had entered is lost."""
        self._open.discard(connection)
        self.heard(connection)
        self._due.pop(connection, None)
        if address is not None:
            self._by_address[address] -= 1
            if self._by_address[address] <= 0:
                del self._by_address[address]

    def watch(self, connection: Connection) -> None:
        """From now on it has REQUEST_HEAD_MS, to the second."""
        self._due[connection] = self._now + _TICKS_MAX
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().call_later(_TICK_S, self._tick)

    def unwatch(self, connection: Connection) -> None:
        """What was due has come."""
        del self._due[connection]

    def heard(self, connection: Connection) -> None:
        """The head of a request is complete, or never will be."""
        if self._unheard:
            self._unheard.discard(connection)
            if not self._unheard:
                self._all_heard.set()

    async def stop(self, patience_s: float) -> None:
        """End every connection with its answer. Returns when what was sent before has been heard."""
        self.is_stopping = True
        self._unheard = {connection for connection in list(self._open) if connection.end_when_answered()}
        if self._unheard:
            try:
                async with asyncio.timeout(patience_s):
                    await self._all_heard.wait()
            except TimeoutError:
                pass  # opened ahead of a request that may never be sent

    def _tick(self) -> None:
        self._now += 1
        while self._due:
            connection, overdue_at = next(iter(self._due.items()))
            if overdue_at > self._now:
                break
            del self._due[connection]
            connection.end_overdue()
        self._ticking = asyncio.get_running_loop().call_later(_TICK_S, self._tick) if self._due else None
