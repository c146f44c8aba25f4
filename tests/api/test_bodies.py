"""Bodies that never come, come slowly or come too large. Time is the event loop's own, moved by hand."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from statebacked.api.bodies import ClientGone, Deadlines, feed_body, read_body
from statebacked.model.errors import InvalidBody, TooLarge
from statebacked.model.limits import BODY_READ_MS, UPLOAD_READ_MS

pytestmark = pytest.mark.anyio


class HandDeadlines(Deadlines):
    """Ticks when the test says so."""

    def begin(self, task: asyncio.Task[Any], limit_ms: int) -> None:
        super().begin(task, limit_ms)
        if self._ticking is not None:
            self._ticking.cancel()

    def tick(self, times: int) -> None:
        for _ in range(times):
            self._tick(asyncio.get_running_loop())
            if self._ticking is not None:
                self._ticking.cancel()


def request(*chunks: bytes) -> Callable[[], Any]:
    messages: AsyncIterator[dict[str, Any]] = _messages(chunks)
    return lambda: anext(messages)


async def _messages(chunks: tuple[bytes, ...]) -> AsyncIterator[dict[str, Any]]:
    for number, chunk in enumerate(chunks):
        yield {"type": "http.request", "body": chunk, "more_body": number < len(chunks) - 1}
    yield {"type": "http.disconnect"}


async def never() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_body_in_pieces_is_whole() -> None:
    for chunks in ((b"abc",), (b"a", b"b", b"c"), (b"", b"abc", b"")):
        assert await read_body(request(*chunks), 3, Deadlines()) == b"abc"
        taken: list[bytes] = []
        await feed_body(request(*chunks), 3, Deadlines(), taken.append)
        assert b"".join(taken) == b"abc"


async def test_reading_stops_where_the_limit_is_passed() -> None:
    for chunks in ((b"abcd",), (b"ab", b"cd", b"e")):
        with pytest.raises(TooLarge):
            await read_body(request(*chunks), 3, Deadlines())
        with pytest.raises(TooLarge):
            await feed_body(request(*chunks), 3, Deadlines(), len)


async def test_a_client_that_leaves_is_gone() -> None:
    for messages in (
        [{"type": "http.disconnect"}],
        [{"type": "http.request", "body": b"a", "more_body": True}],
    ):
        left = iter([*messages, {"type": "http.disconnect"}])

        async def receive(left: Any = left) -> Any:
            return next(left)

        with pytest.raises(ClientGone):
            await read_body(receive, 10, Deadlines())


async def test_a_body_that_never_comes_ends_with_its_time() -> None:
    for read, limit_ms in (
        (lambda d: read_body(never, 10, d), BODY_READ_MS),
        (lambda d: feed_body(never, 10, d, len), UPLOAD_READ_MS),
    ):
        deadlines = HandDeadlines()
        task = asyncio.create_task(read(deadlines))
        await asyncio.sleep(0)
        deadlines.tick(limit_ms // 1000)
        await asyncio.sleep(0)
        assert not task.done()
        deadlines.tick(1)
        with pytest.raises(InvalidBody, match=f"within {limit_ms // 1000} s"):
            await task
        assert not task.cancelled()


async def test_a_cancel_by_somebody_else_stays_one() -> None:
    deadlines = HandDeadlines()
    task = asyncio.create_task(read_body(never, 10, deadlines))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancel_that_meets_the_deadline_wins() -> None:
    deadlines = HandDeadlines()
    task = asyncio.create_task(read_body(never, 10, deadlines))
    await asyncio.sleep(0)
    deadlines.tick(BODY_READ_MS // 1000 + 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nothing_ticks_while_nobody_waits() -> None:
    deadlines = HandDeadlines()
    await read_body(request(b"x"), 10, deadlines)
    deadlines.tick(1)
    assert deadlines._ticking is None
