"""Reading bodies: never more than the limit, never longer than allowed."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from statebacked.model.errors import InvalidBody, TooLarge
from statebacked.model.limits import BODY_READ_MS, UPLOAD_READ_MS

Message = MutableMapping[str, Any]  # ASGI's messages hold whatever their type says
Receive = Callable[[], Awaitable[Message]]

_TICK_S: Final = 1.0
_LENGTH_DIGITS_MAX: Final = 20


class ClientGone(Exception):
    """The client closed the connection; nobody waits for an answer."""


class Deadlines:
    """Ends tasks that wait too long for a client, to the second.

    A timer per request would cost more than all else that the edge does for one; one tick a second for
    all of them does not.
    """

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Task[Any], int] = {}  # task → the tick at which it is overdue
        self._overdue: set[asyncio.Task[Any]] = set()
        self._now = 0
        self._ticking: asyncio.TimerHandle | None = None

    def begin(self, task: asyncio.Task[Any], limit_ms: int) -> None:
        """From now on, cancel the task when the limit has passed."""
        self._waiting[task] = self._now + limit_ms // 1000 + 1
        if self._ticking is None:
            loop = asyncio.get_running_loop()
            self._ticking = loop.call_later(_TICK_S, self._tick, loop)

    def is_overdue(self, task: asyncio.Task[Any]) -> bool:
        """Whether the task was cancelled for its slowness, and by nobody else. Ask once, before `end`."""
        return task in self._overdue and task.uncancel() == 0

    def end(self, task: asyncio.Task[Any]) -> None:
        """The task needs no watch any more."""
        del self._waiting[task]
        if self._overdue:
            self._overdue.discard(task)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._now += 1
        for task, overdue_at in self._waiting.items():
            if overdue_at <= self._now and task not in self._overdue:
                self._overdue.add(task)
                task.cancel()
        self._ticking = loop.call_later(_TICK_S, self._tick, loop) if self._waiting else None


def check_length(headers: Mapping[bytes, bytes], limit_bytes: int) -> None:
    """Judge content-length before a byte of the body is read. Raises TooLarge, InvalidBody."""
    length = headers.get(b"content-length")
    if length is None:
        return
    if not length.isdigit():
        raise InvalidBody("content-length must be a number")
    if len(length) > _LENGTH_DIGITS_MAX or int(length) > limit_bytes:
        raise _too_large(limit_bytes)


async def read_body(receive: Receive, limit_bytes: int, deadlines: Deadlines) -> bytes:
    """The whole body. Raises TooLarge as soon as it is, InvalidBody when it is slow, ClientGone."""
    task = asyncio.current_task()
    assert task is not None
    deadlines.begin(task, BODY_READ_MS)
    try:
        message = await receive()
        if not message.get("more_body", False) and message["type"] == "http.request":
            body: bytes = message.get("body", b"")
            if len(body) > limit_bytes:
                raise _too_large(limit_bytes)
            return body
        return await _read_rest(message, receive, limit_bytes)
    except asyncio.CancelledError:
        if deadlines.is_overdue(task):
            raise _too_slow(BODY_READ_MS) from None
        raise
    finally:
        deadlines.end(task)


async def _read_rest(message: Message, receive: Receive, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    total, more = 0, True
    while more:
        if message["type"] != "http.request":
            raise ClientGone
        chunks.append(message.get("body", b""))
        total += len(chunks[-1])
        if total > limit_bytes:
            raise _too_large(limit_bytes)
        more = message.get("more_body", False)
        if more:
            message = await receive()
    return b"".join(chunks)


async def feed_body(
    receive: Receive, limit_bytes: int, deadlines: Deadlines, take: Callable[[bytes], object]
) -> None:
    """A large body, piece by piece into `take`. Raises TooLarge as soon as it is, InvalidBody when slow,
    ClientGone, and what `take` raises."""
    task = asyncio.current_task()
    assert task is not None
    total, more = 0, True
    deadlines.begin(task, UPLOAD_READ_MS)
    try:
        while more:
            message = await receive()
            if message["type"] != "http.request":
                raise ClientGone
            chunk = message.get("body", b"")
            total += len(chunk)
            if total > limit_bytes:
                raise _too_large(limit_bytes)
            more = message.get("more_body", False)
            take(chunk)
    except asyncio.CancelledError:
        if deadlines.is_overdue(task):
            raise _too_slow(UPLOAD_READ_MS) from None
        raise
    finally:
        deadlines.end(task)


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit_bytes:,} bytes")


def _too_slow(limit_ms: int) -> InvalidBody:
    return InvalidBody(f"the body did not arrive within {limit_ms // 1000} s")
