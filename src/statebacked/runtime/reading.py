"""allowRead on saved states, in whichever worker it is let into."""

import asyncio
from collections.abc import Callable, Sequence

from statebacked.ports import WorkerGone
from statebacked.runtime.worker import Read, Worker


class SavedRead:
    """An Entrant. `begin` asks the worker that was found, or raises WorkerGone. `answer` is what it is told,
    or WorkerGone; `is_refused`: because no worker can be had."""

    def __init__(self, begin: Callable[[Worker], Read]) -> None:
        self.answer: asyncio.Future[Sequence[bool]] = asyncio.get_running_loop().create_future()
        self.is_refused = False
        self.on_rest: Callable[[], None] | None = None
        self._begin = begin
        self._has_entered = False

    @property
    def is_waiting(self) -> bool:
        return not self._has_entered and not self.answer.done()

    def enter(self, worker: Worker) -> None:
        self._has_entered = True
        try:
            read = self._begin(worker)
        except WorkerGone as busy:
            self.turned_away("unavailable", busy.reason)
        else:
            read.add_done_callback(self._heard)

    def turned_away(self, code: str, message: str) -> None:
        self.is_refused = True
        if not self.answer.done():
            self.answer.set_exception(WorkerGone(message))

    def _heard(self, read: asyncio.Future[list[bool] | None]) -> None:
        assert isinstance(read, Read)
        if not self.answer.done():
            error = read.exception()
            ok = None if error else read.result()
            if ok is None:
                self.answer.set_exception(error or WorkerGone("lacks the state that it was given"))
            else:
                self.answer.set_result(ok)
        elif not read.cancelled():
            read.exception()  # nobody wants it any more
        if self.on_rest is not None:
            self.on_rest()
