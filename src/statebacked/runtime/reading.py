"""What is asked of a worker about saved states, in whichever worker it is let into: allowRead, and the parts
of an upgrade."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from statebacked.ports.machines import WorkerGone
from statebacked.runtime.worker import Worker

T = TypeVar("T")


class Errand(Generic[T]):
    """An Entrant. `ask` asks the worker that was found, or raises WorkerGone. `answer` is what it is told, or
    WorkerGone; `refusal` says why no worker can be had."""

    def __init__(self, ask: "Callable[[Worker], asyncio.Future[T]]") -> None:
        self.answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.refusal: str | None = None
        self.on_rest: Callable[[], None] | None = None
        self._ask = ask
        self._has_entered = False

    @property
    def is_waiting(self) -> bool:
        return not self._has_entered and not self.answer.done()

    def enter(self, worker: Worker) -> None:
        self._has_entered = True
        try:
            asked = self._ask(worker)
        except WorkerGone as gone:
            self._fail(gone, None if worker.is_over else "unavailable")
        else:
            asked.add_done_callback(self._heard)

    def turned_away(self, code: str, message: str) -> None:
        self._fail(WorkerGone(message), code)

    def _fail(self, gone: WorkerGone, refusal: str | None) -> None:
        self.refusal = refusal
        if not self.answer.done():
            self.answer.set_exception(gone)
        if self.on_rest is not None:
            self.on_rest()

    def _heard(self, asked: "asyncio.Future[T]") -> None:
        if self.answer.done():
            if not asked.cancelled():
                asked.exception()  # nobody wants it any more
        elif (error := asked.exception()) is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(asked.result())
        if self.on_rest is not None:
            self.on_rest()
