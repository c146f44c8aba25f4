"""uvicorn's HTTP protocol, with one write for each answer.

uvicorn writes an answer's head and its body each by itself: two system calls here, and two packets that
wake the client twice. This transport gathers what is written and hands it on when the answer is complete,
or else at the end of the loop's turn, so that streams flow as before.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class OneWriteProtocol(HttpToolsProtocol):
    """For uvicorn.Config(http=…). Adds to two of its steps: a connection's start and an answer's end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._gathering = GatheringTransport(transport, self.loop)
        super().connection_made(cast("asyncio.Transport", self._gathering))

    def on_response_complete(self) -> None:
        self._gathering.flush()
        super().on_response_complete()


class GatheringTransport:
    """A transport that writes once what is written in one turn of the loop."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self.is_closing = transport.is_closing  # asked for at each request
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

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the transport has
        return getattr(self._transport, name)

    def _end_turn(self) -> None:
        self._is_scheduled = False
        self.flush()
