"""Who waits for an answer: one future for each envelope that wants a reply."""

import asyncio

from statebacked.model.errors import MachineRefusal
from statebacked.model.ids import EnvelopeId
from statebacked.model.rows import StateView


class Callers:
    """Answers may come for callers who have gone; they are dropped."""

    def __init__(self) -> None:
        self._futures: dict[EnvelopeId, asyncio.Future[StateView]] = {}
        self._empty: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._futures)

    def expect(self, to: EnvelopeId) -> "asyncio.Future[StateView]":
        """The future that the answer comes to; it raises MachineRefusal when the envelope is refused."""
        future: asyncio.Future[StateView] = asyncio.get_running_loop().create_future()
        self._futures[to] = future
        return future

    def answer(self, to: EnvelopeId, view: StateView) -> None:
        future = self._futures.pop(to, None)
        if future is not None and not future.done():
            future.set_result(view)
        self._tell_if_empty()

    def refuse(self, to: EnvelopeId, code: str, message: str) -> None:
        future = self._futures.pop(to, None)
        if future is not None and not future.done():
            future.set_exception(MachineRefusal(code, message))
        self._tell_if_empty()

    async def until_empty(self) -> None:
        """Everyone has been answered."""
        while self._futures:
            self._empty = asyncio.Event()
            await self._empty.wait()

    def _tell_if_empty(self) -> None:
        if self._empty is not None and not self._futures:
            self._empty.set()
