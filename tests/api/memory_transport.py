"""uvicorn's protocol over a transport in memory."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

import uvicorn
from uvicorn.server import ServerState

from statebacked.api.connections import Connections
from statebacked.api.one_write import OneWriteProtocol
from statebacked.api.socket_protocol import SocketProtocol

Asgi = Callable[[Any, Any, Any], Awaitable[None]]
REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
UPGRADE = (
    b"GET /rt HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class MemoryTransport(asyncio.Transport):
    """Remembers what is written."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        super().__init__({"peername": (address, 50_000)})
        self.writes: list[bytes] = []
        self.is_closed = False
        self.protocol: Any = None

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)

    @property
    def statuses(self) -> list[int]:
        """Of the answers."""
        lines = self.written.split(b"HTTP/1.1 ")[1:]
        return [int(line[:3]) for line in lines]

    def write(self, data: Any) -> None:
        assert not self.is_closed
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return


def connect(
    app: Asgi, connections: Connections | None = None, address: str = "127.0.0.1"
) -> tuple[OneWriteProtocol, MemoryTransport]:
    config = uvicorn.Config(
        cast("Any", app), http=OneWriteProtocol, ws=SocketProtocol, lifespan="off", log_config=None
    )
    config.load()
    protocol = partial(OneWriteProtocol, connections=connections or Connections())(
        config=config, server_state=ServerState(), app_state={}
    )
    transport = MemoryTransport(address)
    protocol.connection_made(transport)
    return protocol, transport


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a transport has no signal for it
            await asyncio.sleep(0)


async def whole(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers at once."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})
