"""uvicorn's protocol over a transport in memory: how often it writes, and what."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from statebacked.api.one_write import GatheringTransport, OneWriteProtocol

pytestmark = pytest.mark.anyio

Asgi = Callable[[Any, Any, Any], Awaitable[None]]
REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
UPGRADE = (
    b"GET /rt HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class MemoryTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_closed = False
        self.protocol: Any = None

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


def connect(app: Asgi) -> tuple[OneWriteProtocol, MemoryTransport]:
    config = uvicorn.Config(
        cast("Any", app), http=OneWriteProtocol, ws="websockets-sansio", lifespan="off", log_config=None
    )
    config.load()
    protocol = OneWriteProtocol(config=config, server_state=ServerState(), app_state={})
    transport = MemoryTransport()
    protocol.connection_made(transport)
    return protocol, transport


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a transport has no signal for it
            await asyncio.sleep(0)


async def whole(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def test_an_answer_is_one_write() -> None:
    protocol, transport = connect(whole)
    for _ in range(2):
        transport.writes.clear()
        protocol.data_received(REQUEST)
        await until(lambda: transport.writes)
        assert len(transport.writes) == 1
        assert transport.writes[-1].startswith(b"HTTP/1.1 200 OK\r\n")
        assert transport.writes[-1].endswith(b"\r\n\r\nhello")
    transport.close()
    protocol.connection_lost(None)


async def test_a_stream_is_not_held_back() -> None:
    go_on = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"two"})

    protocol, transport = connect(stream)
    protocol.data_received(REQUEST)
    await until(lambda: transport.writes)
    assert b"one" in transport.writes[0]
    go_on.set()
    await until(lambda: len(transport.writes) > 1)
    assert b"two" in b"".join(transport.writes[1:])
    transport.close()
    protocol.connection_lost(None)


async def test_an_answer_that_ends_the_connection_is_written_before_it_closes() -> None:
    protocol, transport = connect(whole)
    protocol.data_received(REQUEST.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    await until(lambda: transport.is_closed)
    assert transport.writes[-1].endswith(b"hello")
    protocol.connection_lost(None)


async def test_an_upgrade_goes_through() -> None:
    async def accept(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "hi"})
        await receive()

    protocol, transport = connect(accept)
    protocol.data_received(UPGRADE)
    await until(lambda: b"hi" in b"".join(transport.writes))
    assert transport.writes[0].startswith(b"HTTP/1.1 101")
    assert transport.protocol is not None
    transport.protocol.connection_lost(None)


async def test_what_waits_is_written_before_a_close_and_only_once() -> None:
    transport = MemoryTransport()
    gathering = GatheringTransport(transport, asyncio.get_running_loop())
    gathering.write(b"a")
    gathering.write(b"b")
    assert transport.writes == []
    gathering.close()
    assert (transport.writes, transport.is_closed) == ([b"ab"], True)
    await asyncio.sleep(0)
    assert transport.writes == [b"ab"]
