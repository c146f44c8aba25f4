"""Logs as server-sent events: each entry with a cursor as its id, from which a later request goes on.

Theory of operation. A stream holds no entries: it reads a page from the store behind its position, sends it
as fast as the client takes it, and waits for news when it is at the end. So a slow client costs a page and no
more. It ends when its window has passed (`end`), when its token is good no more (`error`), when nobody reads
it, and, without a word, when the client leaves or the server stops: then the client comes back with its last
id. While it is silent, it says that it lives and has its token judged again.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog
from starlette.types import Receive, Scope, Send

from statebacked.api.bodies import Deadlines
from statebacked.api.calls import OrgCall
from statebacked.api.hot import check_scope
from statebacked.api.wire import encode, iso, log_item
from statebacked.auth.authenticator import Authenticator
from statebacked.auth.principal import Principal
from statebacked.logs.reading import Logs
from statebacked.logs.watching import Watch
from statebacked.model.errors import InvalidCursor, MissingUser, RateLimited, StateBackedError, Unavailable
from statebacked.model.ids import Instant, OrgId
from statebacked.model.limits import (
    LOG_BATCH_ENTRIES_MAX,
    LOG_STREAM_STALLED_MS,
    LOG_STREAMS_MAX,
    LOG_STREAMS_PER_ORG_MAX,
)
from statebacked.model.logs import END_OF_TIME, LogFilter, LogPosition, StoredEntry, end_of
from statebacked.ports.clock import Clock
from statebacked.ports.store import StoreFailed

logger = structlog.get_logger(__name__)

_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
_CHUNK_BYTES: Final = 64_000
_CLOSE_ALL_S: Final = 5.0
_FAREWELL_S: Final = 1.0
_ALIVE: Final = b":\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamParts:
    """What every stream stands on."""

    logs: Logs
    authenticator: Authenticator
    clock: Clock
    deadlines: Deadlines
    heartbeat_ms: int


@dataclass(slots=True)
class Window:
    """What a stream shows: what is wanted, behind a position, and not later than `until`."""

    wanted: LogFilter
    after: LogPosition
    until: Instant


class LogStreams:
    """Every open stream of the server."""

    def __init__(self, parts: StreamParts) -> None:
        self.parts = parts
        self._open: set[LogStream] = set()
        self._by_org: Counter[OrgId] = Counter()
        self._is_closing = False
        parts.authenticator.on_revoke(self._revoke)

    async def close(self) -> None:
        """End all streams and take no more. Those that read nothing are not waited for."""
        self._is_closing = True
        streams = list(self._open)
        for stream in streams:
            stream.end(None)
        if streams:
            await asyncio.wait([stream.ended for stream in streams], timeout=_CLOSE_ALL_S)

    @contextmanager
    def admitted(self, stream: "LogStream", org: OrgId) -> Iterator[None]:
        """Counts an open stream. Raises RateLimited, and Unavailable while the server stops."""
        if self._is_closing:
            raise Unavailable("the server stops: try again in a moment")
        if len(self._open) >= LOG_STREAMS_MAX or self._by_org[org] >= LOG_STREAMS_PER_ORG_MAX:
            raise RateLimited("too many streams of logs are open: close one, or poll GET /logs")
        self._open.add(stream)
        self._by_org[org] += 1
        try:
            yield
        finally:
            self._open.discard(stream)
            self._by_org[org] -= 1
            if not self._by_org[org]:
                del self._by_org[org]

    def _revoke(self, is_affected: Callable[[Principal], bool]) -> None:
        for stream in list(self._open):
            if is_affected(stream.principal):
                stream.end(MissingUser("the token is not valid any more"))


class LogStream:
    """One stream, as an ASGI answer."""

    def __init__(self, streams: LogStreams, call: OrgCall, window: Window) -> None:
        self.principal = call.principal
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._streams = streams
        self._parts = streams.parts
        self._call = call
        self._window = window
        self._over: asyncio.Future[StateBackedError | None] = asyncio.get_running_loop().create_future()
        self._judge_at = self._parts.clock.now().mono + self._parts.heartbeat_ms

    def end(self, error: StateBackedError | None) -> None:
        """Say the error, if there is one, and end."""
        if not self._over.done():
            self._over.set_result(error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Until the window or the token ends, the client leaves or reads no more, or the server stops."""
        with self._streams.admitted(self, self.principal.org):
            try:
                await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
                farewell = b"" if scope["method"] == "HEAD" else await self._run(receive, send)
                async with asyncio.timeout(_FAREWELL_S):
                    await send({"type": "http.response.body", "body": farewell})
            except (OSError, TimeoutError):
                logger.debug("a client is gone before its stream of logs ends")
            finally:
                self.ended.set_result(None)

    async def _run(self, receive: Receive, send: Send) -> bytes:
        """What is to be said last."""
        pushing = asyncio.create_task(self._push(send))
        leaving = asyncio.create_task(_until_gone(receive))
        try:
            ways_to_end: set[asyncio.Future[Any]] = {pushing, leaving, self._over}  # Any: of several types
            await asyncio.wait(ways_to_end, return_when=asyncio.FIRST_COMPLETED)
            if self._over.done():
                error = self._over.result()
                return b"" if error is None else _error_event(error)
            return pushing.result() if pushing.done() else b""
        finally:
            pushing.cancel()
            leaving.cancel()
            await asyncio.gather(pushing, leaving, return_exceptions=True)

    # --- sending ---------------------------------------------------------------------------------

    async def _push(self, send: Send) -> bytes:
        """The root of the task that reads and sends; what is to be said last."""
        try:
            with self._parts.logs.watch(self._window.wanted) as watch:
                return await self._send_all(send, watch)
        except StateBackedError as error:
            return _error_event(error)
        except StoreFailed:
            return _error_event(Unavailable("the logs cannot be read now: try again"))
        except _Stalled:
            return b""
        except Exception:
            logger.exception("a stream of logs fails", request=self._call.request_id)
            return _error_event(Unavailable("the stream failed: open it again"))

    async def _send_all(self, send: Send, watch: Watch) -> bytes:
        window, logs = self._window, self._parts.logs
        is_endless = window.until == END_OF_TIME
        while True:
            watch.expect()
            complete_to = None if is_endless else await logs.complete_to()
            page = await logs.page(window.wanted, window.after, window.until)
            if page.entries:
                window.after = page.entries[-1].position
                await self._send_entries(send, page.entries)
            await self._judge()
            if len(page.entries) == LOG_BATCH_ENTRIES_MAX:
                continue
            if page.seen_to < window.until:
                window.after = max(window.after, end_of(page.seen_to))
                await self._say(send, b"id: %b\n\n" % self._cursor(window.after))
                continue
            if complete_to is not None and window.until <= complete_to:
                return b'event: end\ndata: {"maxTimestamp":"%b"}\n\n' % iso(window.until).encode()
            await self._wait_for_news(send, watch)

    async def _send_entries(self, send: Send, entries: Sequence[StoredEntry]) -> None:
        waiting, size = [], 0
        for position, entry in entries:
            frame = b"id: %b\ndata: %b\n\n" % (self._cursor(position), encode(log_item(entry)))
            waiting.append(frame)
            size += len(frame)
            if size > _CHUNK_BYTES:
                await self._say(send, b"".join(waiting))
                waiting, size = [], 0
        if waiting:
            await self._say(send, b"".join(waiting))

    async def _wait_for_news(self, send: Send, watch: Watch) -> None:
        """Until there are new entries; else say that the stream lives, and see whether it is to end."""
        wall = self._parts.clock.now().wall
        pause_ms = self._parts.heartbeat_ms
        for end in (self._window.until, self.principal.expires_at):
            if end is not None and end >= wall:
                pause_ms = min(pause_ms, end + 1 - wall)
        try:
            async with asyncio.timeout(pause_ms / 1000):
                await watch.wait()
        except TimeoutError:
            await self._say(send, _ALIVE)

    async def _say(self, send: Send, data: bytes) -> None:
        """Raises _Stalled when the client reads no more."""
        task, deadlines = asyncio.current_task(), self._parts.deadlines
        assert task is not None
        deadlines.begin(task, LOG_STREAM_STALLED_MS)
        try:
            await send({"type": "http.response.body", "body": data, "more_body": True})
        except asyncio.CancelledError:
            if deadlines.is_overdue(task):
                raise _Stalled from None
            raise
        except OSError as gone:
            raise _Stalled from gone
        finally:
            deadlines.end(task)

    # --- the token's end -------------------------------------------------------------------------

    async def _judge(self) -> None:
        """Look at the token again from time to time. Raises what `authenticate` raises, and MissingScope."""
        now = self._parts.clock.now()
        expires_at = self.principal.expires_at
        if now.mono < self._judge_at and (expires_at is None or now.wall < expires_at):
            return
        self._judge_at = now.mono + self._parts.heartbeat_ms
        self.principal = await self._parts.authenticator.authenticate(self._call.headers)
        check_scope(self.principal, "logs.read")

    def _cursor(self, position: LogPosition) -> bytes:
        return seal_position(self._call, self._window.wanted, position).encode()


class _Stalled(Exception):
    """Nobody reads."""


def seal_position(call: OrgCall, wanted: LogFilter, position: LogPosition) -> str:
    """The cursor of a stream with that filter."""
    text = f"{position.at}.{position.number}"
    return call.cursors.seal(text, org=call.principal.org, route=call.route, query=_query_of(wanted))


def open_position(call: OrgCall, wanted: LogFilter, cursor: str) -> LogPosition:
    """The position again. Raises InvalidCursor."""
    text = call.cursors.open(cursor, org=call.principal.org, route=call.route, query=_query_of(wanted))
    try:
        at, number = text.split(".")
        return LogPosition(Instant(int(at)), int(number))
    except ValueError as exc:
        raise InvalidCursor("the last event id is not one of this stream") from exc


def _query_of(wanted: LogFilter) -> str:
    return encode([wanted.machine, wanted.instance, wanted.version]).decode()


def _error_event(error: StateBackedError) -> bytes:
    told = {"status": error.status, "code": error.code, "error": error.message or error.code}
    return b"event: error\ndata: %b\n\n" % encode(told)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
