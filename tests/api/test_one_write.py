"""uvicorn's protocol over a transport in memory: how often it writes, and what."""

import asyncio
from typing import Any

import pytest

from statebacked.api.one_write import GatheringTransport
from tests.api.memory_transport import REQUEST, UPGRADE, MemoryTransport, connect, until, whole

pytestmark = pytest.mark.anyio


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
