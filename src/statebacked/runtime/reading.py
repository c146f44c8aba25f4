"""allowRead on a saved state, in whichever worker it is let into."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from statebacked.model.ids import ActivationNumber, InstanceName
from statebacked.model.values import Json
from statebacked.ports import Saved, WorkerGone
from statebacked.runtime.worker import Read, Worker

_NO_ACTIVATION: Final = ActivationNumber(0)


class SavedRead:
    """An Entrant. `answer` is what it is told, or WorkerGone; `is_refused`: because no worker can be had."""

    def __init__(self, name: InstanceName, saved: Saved, auths: Sequence[Json], expires_ms: int) -> None:
        self.answer: asyncio.Future[Sequence[bool]] = asyncio.get_running_loop().create_future()
        self.is_refused = False
        self.on_rest: Callable[[], None] | None = None
        self._name = name
        self._saved = saved
        self._auths = auths
        self._expires_ms = expires_ms
        self._has_entered = False

    @property
    def is_waiting(self) -> bool:
        return not self._has_entered and not self.answer.done()

    def enter(self, worker: Worker) -> None:
        self._has_entered = True
        try:
            read = worker.read((_NO_ACTIVATION, self._name), self._saved, self._auths, self._expires_ms)
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
