"""uvicorn's WebSocket protocol, with bounds for what one client may have heard at once.

Theory of operation. One read brings up to 256 KB: some 40,000 empty frames, which uvicorn would all take in
one turn of the loop, and as many messages, which it would all hold. Here a read is taken in pieces, one a
turn, and no further while a message waits for the application. Frames that bring no message (pings, pongs,
fragments) are counted, since no application sees them: a client that sends too many is disconnected.
"""

import asyncio
from typing import Any, cast

from uvicorn._types import ASGIReceiveEvent
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame

from statebacked.api.one_write import GatheringTransport, last_answer
from statebacked.model.errors import BadRequest
from statebacked.model.limits import (
    SOCKET_IDLE_FRAMES_MAX,
    SOCKET_IDLE_FRAMES_MS,
    SOCKET_PIECE_BYTES_MAX,
)

_POLICY_VIOLATED = 1008
_NO_UPGRADE = "the upgrade has more than 128 headers, a line of more than 32 KB, or a body"


class SocketProtocol(WebSocketsSansIOProtocol):
    """For uvicorn.Config(ws=…), behind OneWriteProtocol."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],  # Any: as uvicorn has it
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._unheard = bytearray()  # of the last read
        self._is_scheduled = False
        self._idle_frames = 0
        self._idle_since = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unheard.clear()
        cast("GatheringTransport", self.transport).on_lost()

    def data_received(self, data: bytes) -> None:
        if not self.handshake_initiated:
            super().data_received(data)  # the whole head, as OneWriteProtocol hands it on
            if not self.handshake_initiated:
                self.transport.write(last_answer(BadRequest(_NO_UPGRADE)))
                self.transport.close()
            return
        self._unheard += data
        if not self._is_scheduled:
            self._hear()

    async def receive(self) -> ASGIReceiveEvent:
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self._schedule()
        return message

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self.loop.call_soon(self._hear)

    def _hear(self) -> None:
        """The next piece of what came; then the rest of it, or the next read."""
        self._is_scheduled = False
        if self.transport.is_closing():
            return
        if self._unheard and not self.read_paused:
            piece = bytes(self._unheard[:SOCKET_PIECE_BYTES_MAX])
            del self._unheard[:SOCKET_PIECE_BYTES_MAX]
            super().data_received(piece)
        if self.transport.is_closing() or self.read_paused:
            return
        if self._unheard:
            self.transport.pause_reading()
            self._schedule()
        else:
            self.transport.resume_reading()

    # --- frames that bring no message --------------------------------------------------------------

    def handle_ping(self) -> None:
        super().handle_ping()
        self._count_idle()

    def handle_pong(self, event: Frame) -> None:
        super().handle_pong(event)
        self._count_idle()

    def handle_cont(self, event: Frame) -> None:
        super().handle_cont(event)
        self._count_idle()

    def _count_idle(self) -> None:
        now = self.loop.time()
        if now - self._idle_since > SOCKET_IDLE_FRAMES_MS / 1000:
            self._idle_since, self._idle_frames = now, 0
        self._idle_frames += 1
        if self._idle_frames > SOCKET_IDLE_FRAMES_MAX and not self.close_sent:
            self.conn.fail(_POLICY_VIOLATED, "too many frames without a message")
            self.handle_parser_exception()
