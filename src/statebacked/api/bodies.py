"""Reading bodies: never more than the limit, never longer than allowed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from statebacked.model.errors import InvalidBody, TooLarge

Message = MutableMapping[str, Any]  # ASGI's messages hold whatever their type says
Receive = Callable[[], Awaitable[Message]]

_SWEEP_S: Final = 1.0


class ClientGone(Exception):
    """The client closed the connection; nobody waits for an answer."""


class Deadlines:
    """Ends tasks that wait too long for a client.

    A timer per request would cost more than all else that the edge does for one; one sweep a second does not.
    """

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Task[Any], float] = {}
        self._overdue: set[asyncio.Task[Any]] = set()
        self._sweep: asyncio.TimerHandle | None = None

    def within(self, limit_ms: int) -> "Deadline":
        """Raises InvalidBody in the current task when the limit has passed inside `with`."""
        return Deadline(self, limit_ms)

    def begin(self, task: asyncio.Task[Any], limit_ms: int) -> None:
        """From now on, end the task when the limit has passed."""
        loop = asyncio.get_running_loop()
        self._waiting[task] = loop.time() + limit_ms / 1000
        if self._sweep is None:
            self._sweep = loop.call_later(_SWEEP_S, self._end_overdue, loop)

    def is_overdue(self, task: asyncio.Task[Any]) -> bool:
        """Whether the task was just cancelled for its slowness."""
        return task in self._overdue

    def end(self, task: asyncio.Task[Any]) -> bool:
        """The task needs no watch any more. True if it was ended for its slowness."""
        del self._waiting[task]
        was_overdue = task in self._overdue
        self._overdue.discard(task)
        return was_overdue

    def _end_overdue(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, deadline in self._waiting.items():
            if deadline <= now and task not in self._overdue:
                self._overdue.add(task)
                task.cancel()
        self._sweep = loop.call_later(_SWEEP_S, self._end_overdue, loop) if self._waiting else None


class Deadline:
    """One task's time for one body."""

    __slots__ = ("_deadlines", "_limit_ms", "_task")

    def __init__(self, deadlines: Deadlines, limit_ms: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._deadlines = deadlines
        self._limit_ms = limit_ms
        self._task = task

    def __enter__(self) -> None:
        self._deadlines.begin(self._task, self._limit_ms)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        # The cancel was ours if we asked for it and nobody else did as well.
        if self._deadlines.end(self._task) and self._task.uncancel() == 0:
            raise InvalidBody(f"the body did not arrive within {self._limit_ms // 1000} s") from None


def check_length(headers: Mapping[bytes, bytes], limit_bytes: int) -> None:
    """Judge content-length before a byte of the body is read. Raises TooLarge, InvalidBody."""
    length = headers.get(b"content-length")
    if length is None:
        return
    if not length.isdigit():
        raise InvalidBody("content-length must be a number")
    if int(length[:20]) > limit_bytes:
        raise _too_large(limit_bytes)


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """The whole body. Raises TooLarge as soon as it is, ClientGone."""
    message = await receive()
    if message["type"] != "http.request":
        raise ClientGone
    body = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= limit_bytes:
        return bytes(body)
    chunks, total = [body], len(body)
    while message.get("more_body", False):
        if total > limit_bytes:
            break
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunks.append(message.get("body", b""))
        total += len(chunks[-1])
    if total > limit_bytes:
        raise _too_large(limit_bytes)
    return b"".join(chunks)


async def chunks_of_body(receive: Receive, limit_bytes: int) -> AsyncIterator[bytes]:
    """The body piece by piece. Raises TooLarge as soon as it is, ClientGone."""
    total, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunk = message.get("body", b"")
        total += len(chunk)
        if total > limit_bytes:
            raise _too_large(limit_bytes)
        more = message.get("more_body", False)
        yield bytes(chunk)


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit_bytes:,} bytes")
