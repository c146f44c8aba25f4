"""Pieces of bodies, a few in each turn of the event loop, so that events never wait for downloads.

Theory of operation. In one turn of the loop `per_loop_turn` pieces may be handled, each of well under a
millisecond. Who comes later waits, queued by key, and the keys go round robin: an instance with sixteen
requests gets no more than one with a single request.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Hashable

Queue = deque[asyncio.Future[None]]


class Turns:
    def __init__(self, per_loop_turn: int = 8) -> None:
        self._per_loop_turn = per_loop_turn
        self._left = per_loop_turn
        self._waiting: OrderedDict[Hashable, Queue] = OrderedDict()
        self._is_due = False

    async def take(self, key: Hashable) -> None:
        """Wait for a turn of `key`."""
        if self._left and not self._waiting:
            self._left -= 1
            self._renew_later()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(turn)
        self._renew_later()
        await turn

    def _renew_later(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._renew)

    def _renew(self) -> None:
        self._is_due = False
        self._left = self._per_loop_turn
        while self._left and self._waiting:
            key, queue = next(iter(self._waiting.items()))
            turn = queue.popleft()
            if queue:
                self._waiting.move_to_end(key)
            else:
                del self._waiting[key]
            if not turn.done():  # else who waited was cancelled
                turn.set_result(None)
                self._left -= 1
        if self._waiting or self._left < self._per_loop_turn:
            self._renew_later()
