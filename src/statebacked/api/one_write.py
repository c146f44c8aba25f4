"""uvicorn's HTTP protocol, with bounds for what comes and one write for each answer.

Theory of operation. `_spare_bytes` is how many more bytes the request may bring that are not its body: head,
chunk sizes with their extensions, trailers. Each read is taken from it and each piece of body given back, so
it costs two additions a request. A head that is not complete after its read is watched (connections.py), and
so is a request that was answered before it was complete. Bodies are bounded and timed where they are read
(bodies.py). Trailers are no headers here: nothing that comes after the head is added to it.

uvicorn writes an answer's head and its body each by itself: two system calls here, and two packets that
wake the client twice. This transport gathers what is written and hands it on when the answer is complete,
or else at the end of the loop's turn, so that streams flow as before.
"""

import asyncio
import select
from typing import Any, Final, cast

import httptools
import structlog
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from statebacked.api.addresses import address_of
from statebacked.api.connections import Connections
from statebacked.api.replies import CORS_HEADERS, error_reply
from statebacked.model.errors import (
    BadRequest,
    HeadersTooLarge,
    RateLimited,
    RequestTimeout,
    StateBackedError,
)
from statebacked.model.limits import PIPELINED_REQUESTS_MAX, REQUEST_FRAMING_BYTES_MAX

logger = structlog.get_logger(__name__)

BUSY_S: Final = 0.5
_CHUNK_LINES_BYTES: Final = 16  # a chunk's size and both line ends, without leading zeros and extensions


class OneWriteProtocol(HttpToolsProtocol):
    """For uvicorn.Config(http=…), bound to the server's connections by functools.partial."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],  # Any: as uvicorn has it
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        connections: Connections | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._all = connections or Connections()
        self._in_head = True
        self._is_between_requests = False
        self._is_watched = False
        self._spare_bytes = REQUEST_FRAMING_BYTES_MAX
        self._answered_at = -BUSY_S
        self._is_upgraded = False

    # --- the connection ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._gathering = GatheringTransport(transport, self.loop)
        super().connection_made(cast("asyncio.Transport", self._gathering))
        address = address_of({"client": self.client})
        if not self._all.enter(self, address):
            self._refuse(RateLimited("this address has too many connections: close some"))
            return
        self._gathering.on_lost = lambda: self._all.leave(self, address)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._gathering.on_lost()

    def data_received(self, data: bytes) -> None:
        if self._is_between_requests:
            data = data.lstrip(b"\r\n")  # no part of a request (RFC 9112, 2.2), and no reason to stay open
            if not data:
                return
            self._begin_request()
        self._unset_keepalive_if_required()
        self._spare_bytes -= len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as exc:
            logger.debug("a connection brings no HTTP", error=str(exc))
            self._refuse(BadRequest("this is not a request of HTTP/1.1"))
            return
        except httptools.HttpParserUpgrade:
            if self._should_upgrade():
                self.handle_websocket_upgrade()
            return
        if self._spare_bytes < 0:
            self._refuse(
                HeadersTooLarge("the request has too much beside its body: headers, trailers, chunks")
            )
        elif self._in_head and not self._is_watched:
            self._watch()

    def end_overdue(self) -> None:
        """As Connections asks."""
        self._is_watched = False
        has_begun = self._in_head and self.scope is not None
        if has_begun:
            self._refuse(RequestTimeout("the head of the request did not come in time"))
        else:  # nobody asked for anything, or was answered long ago
            self.transport.close()

    def end_when_answered(self) -> bool:
        """As Connections asks."""
        if self._is_upgraded:  # closed later, with a close frame
            return False
        if self._is_answering():
            self.cycle.keep_alive = False
            return False
        if self._in_head or self._gathering.has_something_to_read() or self._is_busy():
            return True
        self.transport.close()
        return False

    def _is_busy(self) -> bool:
        """Answered just now: the next request may be on its way, and would be lost if this were closed."""
        return self.loop.time() - self._answered_at < BUSY_S

    def _begin_request(self) -> None:
        self._is_between_requests = False
        self._spare_bytes = REQUEST_FRAMING_BYTES_MAX

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        self._is_watched = True
        self._all.watch(self)

    def _unwatch(self) -> None:
        self._is_watched = False
        self._all.unwatch(self)

    def _refuse(self, error: StateBackedError) -> None:
        """Answer, unless the answer to an earlier request is due, and close."""
        may_answer = True
        if self._is_answering():
            may_answer = not (self._in_head or self.pipeline or self.cycle.response_started)
            self.cycle.disconnected = True  # its handler learns that nobody will be answered
            self.cycle.message_event.set()
        if may_answer:
            self.transport.write(last_answer(error))
        self.transport.close()

    def handle_websocket_upgrade(self) -> None:
        self._is_upgraded = True
        self._all.heard(self)
        super().handle_websocket_upgrade()

    # --- what the parser finds -----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._is_between_requests:  # it begins behind another request of the same read
            self._begin_request()
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= PIPELINED_REQUESTS_MAX:
            raise httptools.HttpParserError("too many requests wait for their turn")
        self._in_head = False
        if self._is_watched:
            self._unwatch()
        super().on_headers_complete()
        if self.parser.should_upgrade():
            return  # uvicorn looks at the headers once more
        self.headers = []  # of the trailers; the request keeps the list that it has
        if self._all.is_stopping:
            self.cycle.keep_alive = False
            self._all.heard(self)

    def on_chunk_header(self) -> None:
        self._spare_bytes += _CHUNK_LINES_BYTES

    def on_body(self, body: bytes) -> None:
        self._spare_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_between_requests = True
        if self._is_watched:
            self._unwatch()
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete and not self.pipeline:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        self._gathering.flush()
        self._answered_at = self.loop.time()
        super().on_response_complete()
        if not self._is_between_requests and not self._in_head and not self._is_watched:
            self._watch()  # the rest of its body


def last_answer(error: StateBackedError) -> bytes:
    """The answer to a request that no route sees; its connection is to be closed."""
    reply = error_reply(error, "")
    headers = (*reply.headers, *CORS_HEADERS, (b"content-length", b"%d" % len(reply.body)))
    lines = [b"%b: %b\r\n" % header for header in headers]
    return b"".join((STATUS_LINE[reply.status], *lines, b"connection: close\r\n\r\n", reply.body))


class GatheringTransport:
    """A transport that writes once what is written in one turn of the loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self.is_closing = transport.is_closing  # asked for at each request
        self.on_lost = _nothing  # called when the connection is lost, whatever protocol it has by then
        self._waiting: list[bytes] = []
        self._is_scheduled = False

    def write(self, data: bytes) -> None:
        """Written by the end of this turn."""
        self._waiting.append(data)
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._end_turn)

    def flush(self) -> None:
        """Write now."""
        if self._waiting:
            data = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            self._waiting.clear()
            self._transport.write(data)

    def close(self) -> None:
        """Write what waits, then close."""
        self.flush()
        self._transport.close()

    def has_something_to_read(self) -> bool:
        """Whether bytes came that the protocol was not given yet."""
        socket = self._transport.get_extra_info("socket")
        if socket is None:
            return False
        poll = select.poll()
        poll.register(socket.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the transport has
        return getattr(self._transport, name)

    def _end_turn(self) -> None:
        self._is_scheduled = False
        self.flush()


def _nothing() -> None:
    pass
