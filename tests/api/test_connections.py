"""What one connection may bring and how long it may take, over transports in memory and in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from statebacked.api.connections import Connections
from statebacked.api.one_write import BUSY_S, OneWriteProtocol
from statebacked.model.limits import (
    CONNECTIONS_PER_ADDRESS_MAX,
    PIPELINED_REQUESTS_MAX,
    REQUEST_FRAMING_BYTES_MAX,
    REQUEST_HEAD_MS,
)
from tests.api.memory_transport import REQUEST, UPGRADE, MemoryTransport, connect, until, whole
from tests.virtual_time import run_in_virtual_time

HEAD_S = REQUEST_HEAD_MS / 1000
CHUNKED = b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
STRANGER = "203.0.113.7"


def story(tell: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """A test in virtual time."""

    def test() -> None:
        async def run() -> None:
            await tell()

        run_in_virtual_time(run())

    test.__name__ = tell.__name__
    test.__doc__ = tell.__doc__
    return test


class Reader:
    """An application that reads every body to its end, and remembers what it was asked."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []
        self.body = b""
        self.is_gone = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.is_gone = True
                return
            self.body += message["body"]
            more = message["more_body"]
        await whole(scope, receive, send)


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def closed(transport: MemoryTransport) -> None:
    await until(lambda: transport.is_closed)


def end(protocol: OneWriteProtocol, transport: MemoryTransport) -> None:
    transport.close()
    protocol.connection_lost(None)


# --- bytes -----------------------------------------------------------------------------------------


def floods() -> Iterator[tuple[str, bytes, bytes]]:
    """A name, how it begins, what then comes over and over."""
    start = b"GET / HTTP/1.1\r\nhost: localhost\r\n"
    yield "one line", b"GET /", b"a" * 1000
    yield "one value", start + b"x: ", b"a" * 1000
    yield "one name", start, b"a" * 1000
    yield "headers", start, b"x: " + b"a" * 997 + b"\r\n"
    yield "empty headers", start, b"a:\r\n" * 250
    yield "folded lines", start + b"x: a", b"\r\n " + b"a" * 1000
    yield "blank lines", b"", b"\r\n" * 500
    yield "trailers", CHUNKED + b"1\r\na\r\n0\r\n", b"x: " + b"a" * 997 + b"\r\n"
    yield "one extension", CHUNKED + b"1;x=", b"a" * 1000
    yield "extensions", CHUNKED, b"1;x=" + b"a" * 1000 + b"\r\na\r\n"
    yield "zeros of a size", CHUNKED, b"0" * 1000


@pytest.mark.parametrize(("begin", "piece"), [f[1:] for f in floods()], ids=[f[0] for f in floods()])
def test_what_is_not_a_body_is_bounded_and_ends_the_connection(begin: bytes, piece: bytes) -> None:
    async def tell() -> None:
        protocol, transport = connect(Reader())
        protocol.data_received(begin)
        handed = 0
        while not transport.is_closed:
            protocol.data_received(piece)
            handed += len(piece)
            assert handed <= REQUEST_FRAMING_BYTES_MAX + 3_000
            await asyncio.sleep(0)
        assert transport.statuses[-1:] in ([431], [400]), transport.written
        assert b"connection: close" in transport.written
        protocol.connection_lost(None)

    run_in_virtual_time(tell())


@pytest.mark.parametrize("size", [1_000, 10_000, REQUEST_FRAMING_BYTES_MAX])
@pytest.mark.parametrize("before", [b"", REQUEST], ids=["first", "further"])
def test_the_bound_is_met_to_the_byte_however_the_head_arrives(size: int, before: bytes) -> None:
    async def tell() -> None:
        protocol, transport = connect(whole)
        if before:
            protocol.data_received(before)
            await until(lambda: transport.writes)
            transport.writes.clear()
        head = b"GET / HTTP/1.1\r\nx: ".ljust(REQUEST_FRAMING_BYTES_MAX, b"a")
        for at in range(0, len(head), size):
            protocol.data_received(head[at : at + size])
        assert not transport.is_closed
        protocol.data_received(b"a")
        assert (transport.is_closed, transport.statuses) == (True, [431])
        protocol.connection_lost(None)

    run_in_virtual_time(tell())


@story
async def test_a_body_of_tiny_chunks_is_no_flood() -> None:
    app = Reader()
    protocol, transport = connect(app)
    protocol.data_received(CHUNKED)
    for _ in range(200):
        protocol.data_received(b"1\r\na\r\n" * 1_000)
        await turns()
    protocol.data_received(b"0\r\n\r\n")
    await until(lambda: transport.writes)
    assert (transport.statuses, len(app.body)) == ([200], 200_000)
    end(protocol, transport)


@story
async def test_a_large_body_in_one_piece_is_no_flood() -> None:
    app = Reader()
    protocol, transport = connect(app)
    protocol.data_received(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 900000\r\n\r\n")
    for _ in range(9):
        protocol.data_received(b"x" * 100_000)
        await turns()
    await until(lambda: transport.writes)
    assert (transport.statuses, len(app.body)) == ([200], 900_000)
    end(protocol, transport)


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_trailers_never_become_headers(size: int) -> None:
    async def tell() -> None:
        app = Reader()
        protocol, transport = connect(app)
        request = (
            CHUNKED + b"5\r\nhello\r\n0\r\n"
            b"authorization: Bearer x\r\nhost: evil.example\r\nx-statebacked-act: {}\r\n"
            b"expect: 100-continue\r\n\r\n"
        )
        for at in range(0, len(request), size):
            protocol.data_received(request[at : at + size])
            await turns()
        await until(lambda: transport.writes)
        assert transport.statuses == [200]
        assert app.scopes[0]["headers"] == [(b"host", b"localhost"), (b"transfer-encoding", b"chunked")]
        protocol.data_received(REQUEST)
        await until(lambda: len(transport.statuses) == 2)
        assert app.scopes[1]["headers"] == [(b"host", b"localhost")]
        end(protocol, transport)

    run_in_virtual_time(tell())


@story
async def test_a_flood_of_pipelined_requests_ends_the_connection() -> None:
    begun = 0

    async def never(scope: Any, receive: Any, send: Any) -> None:
        nonlocal begun
        begun += 1
        await receive()
        await asyncio.Event().wait()

    protocol, transport = connect(never)
    protocol.data_received(REQUEST * (PIPELINED_REQUESTS_MAX + 1))
    assert not transport.is_closed
    protocol.data_received(REQUEST * 1_000)
    assert transport.is_closed
    assert len(protocol.pipeline) == PIPELINED_REQUESTS_MAX
    assert transport.writes == []  # no answer to a request that happens yet
    await turns()
    assert begun == 1
    for task in list(protocol.tasks):
        task.cancel()
    await asyncio.gather(*protocol.tasks, return_exceptions=True)


# --- time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"", []), (b"\r\n", []), (b"G", [408]), (b"GET / HTTP/1.1\r\nhost: localhost\r\n", [408])],
)
def test_a_head_has_10_seconds_from_the_connection_on(sent: bytes, status: list[int]) -> None:
    async def tell() -> None:
        protocol, transport = connect(whole)
        if sent:
            protocol.data_received(sent)
        await asyncio.sleep(HEAD_S - 0.5)
        assert not transport.is_closed
        await asyncio.sleep(2)
        assert transport.is_closed
        assert transport.statuses == status
        protocol.connection_lost(None)

    run_in_virtual_time(tell())


@story
async def test_a_head_that_comes_byte_by_byte_gains_no_time() -> None:
    protocol, transport = connect(whole)
    for byte in REQUEST:
        if transport.is_closed:
            break
        protocol.data_received(bytes([byte]))
        await asyncio.sleep(1)
    assert transport.statuses == [408]
    protocol.connection_lost(None)


@story
async def test_a_further_head_has_10_seconds_from_its_first_byte_on() -> None:
    protocol, transport = connect(whole)
    protocol.data_received(REQUEST)
    await until(lambda: transport.writes)
    await asyncio.sleep(3)
    protocol.data_received(REQUEST[:5])
    await asyncio.sleep(HEAD_S - 0.5)
    assert not transport.is_closed
    await asyncio.sleep(2)
    assert transport.statuses == [200, 408]
    protocol.connection_lost(None)


@pytest.mark.parametrize("drip", [b"", b"\r\n"])
def test_a_connection_that_asks_for_nothing_more_is_closed_after_5_seconds(drip: bytes) -> None:
    async def tell() -> None:
        protocol, transport = connect(whole)
        protocol.data_received(REQUEST)
        await until(lambda: transport.writes)
        for _ in range(4):
            protocol.data_received(drip)
            await asyncio.sleep(1)
        assert not transport.is_closed
        protocol.data_received(drip)
        await asyncio.sleep(1.5)
        assert transport.is_closed
        protocol.connection_lost(None)

    run_in_virtual_time(tell())


@story
async def test_a_body_that_nobody_waits_for_any_more_has_10_seconds() -> None:
    """Refused before its body was read, a request would hold the connection with a byte now and then."""
    protocol, transport = connect(whole)
    protocol.data_received(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 900000\r\n\r\n")
    await until(lambda: transport.writes)
    for _ in range(20):
        if transport.is_closed:
            break
        protocol.data_received(b"x")
        await asyncio.sleep(1)
    assert transport.is_closed
    assert transport.statuses == [200]
    protocol.connection_lost(None)


@story
async def test_a_connection_whose_body_came_after_the_answer_is_idle_again() -> None:
    protocol, transport = connect(whole)
    protocol.data_received(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n")
    await until(lambda: transport.writes)
    protocol.data_received(b"ab")
    await asyncio.sleep(4)
    assert not transport.is_closed
    await asyncio.sleep(2)
    assert transport.is_closed
    protocol.connection_lost(None)


@story
async def test_a_long_answer_is_not_ended_by_the_time_for_a_head() -> None:
    answer = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await answer.wait()
        await whole(scope, receive, send)

    protocol, transport = connect(slow)
    protocol.data_received(REQUEST)
    await asyncio.sleep(300)
    assert not transport.is_closed
    answer.set()
    await until(lambda: transport.writes)
    assert transport.statuses == [200]
    end(protocol, transport)


@story
async def test_a_tick_looks_at_no_connection_that_still_has_time() -> None:
    connections = Connections()
    ended: list[int] = []

    class Counted:
        def __init__(self, number: int) -> None:
            self.number = number

        def end_overdue(self) -> None:
            ended.append(self.number)

        def end_when_answered(self) -> bool:
            return False

    looks = 0

    class Watched(dict[Any, int]):
        def items(self) -> Any:
            nonlocal looks
            looks += 1
            return super().items()

    connections._due = Watched()
    for number in range(1_000):
        connections.watch(Counted(number))
    await asyncio.sleep(HEAD_S - 0.5)
    assert (ended, looks) == ([], 9)
    await asyncio.sleep(2)
    assert ended == list(range(1_000))
    assert looks <= 9 + 1_000 + 3


# --- how many ----------------------------------------------------------------------------------------


@story
async def test_an_address_has_a_limited_number_of_connections() -> None:
    connections = Connections()
    open_ones = [connect(whole, connections, STRANGER) for _ in range(CONNECTIONS_PER_ADDRESS_MAX)]
    assert not any(transport.is_closed for _, transport in open_ones)
    refused, transport = connect(whole, connections, STRANGER)
    assert (transport.is_closed, transport.statuses) == (True, [429])
    assert b"retry-after: 1\r\n" in transport.written
    refused.connection_lost(None)
    for address in ("203.0.113.8", "127.0.0.1", "::1"):
        other, transport = connect(whole, connections, address)
        assert not transport.is_closed
        end(other, transport)
    end(*open_ones.pop())
    again, transport = connect(whole, connections, STRANGER)
    assert not transport.is_closed
    end(again, transport)
    for one in open_ones:
        end(*one)


@story
async def test_a_network_of_version_6_is_one_address() -> None:
    connections = Connections(per_address_max=2)
    for number in (1, 2):
        connect(whole, connections, f"2001:db8::{number}")
    assert connect(whole, connections, "2001:db8::3")[1].is_closed
    assert not connect(whole, connections, "2001:db8:0:1::3")[1].is_closed


async def accept(scope: Any, receive: Any, send: Any) -> None:
    """A socket, until its client leaves."""
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


@story
async def test_a_websocket_stays_a_connection_of_its_address_until_it_ends() -> None:
    connections = Connections(per_address_max=1)
    protocol, transport = connect(accept, connections, STRANGER)
    protocol.data_received(UPGRADE)
    await until(lambda: transport.statuses == [101])
    assert connect(whole, connections, STRANGER)[1].is_closed
    transport.close()
    transport.protocol.connection_lost(None)
    await turns()
    assert not connect(whole, connections, STRANGER)[1].is_closed


@pytest.mark.parametrize(
    "more",
    [
        b"".join(b"x-%d: 1\r\n" % n for n in range(150)),
        b"x: " + b"a" * 60_000 + b"\r\n",
        b"content-length: 5\r\n",
        b"transfer-encoding: chunked\r\n",
    ],
    ids=["headers", "line", "length", "chunks"],
)
def test_an_upgrade_that_cannot_be_read_is_refused(more: bytes) -> None:
    """Left without an answer it would stay open for ever."""

    async def tell() -> None:
        connections = Connections(per_address_max=1)
        protocol, transport = connect(whole, connections, STRANGER)
        protocol.data_received(UPGRADE[:-2] + more + b"\r\n")
        await closed(transport)
        assert transport.statuses == [400]
        transport.protocol.connection_lost(None)
        assert not connect(whole, connections, STRANGER)[1].is_closed

    run_in_virtual_time(tell())


# --- the server stops --------------------------------------------------------------------------------


@story
async def test_while_the_server_stops_every_answer_ends_its_connection() -> None:
    connections, answer = Connections(), asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await answer.wait()
        await whole(scope, receive, send)

    idle, idle_transport = connect(whole, connections)
    idle.data_received(REQUEST)
    await until(lambda: idle_transport.writes)
    await asyncio.sleep(BUSY_S)
    busy, busy_transport = connect(slow, connections)
    busy.data_received(REQUEST)
    fresh, fresh_transport = connect(whole, connections)
    half, half_transport = connect(whole, connections)
    half.data_received(REQUEST[:9])

    stopping = asyncio.create_task(connections.stop(0.5))
    await turns()
    assert idle_transport.is_closed
    assert [t.is_closed for t in (busy_transport, fresh_transport, half_transport)] == [False] * 3
    half.data_received(REQUEST[9:])
    assert not stopping.done()
    fresh.data_received(REQUEST)
    await asyncio.wait_for(stopping, 0.1)
    answer.set()
    for transport in (busy_transport, fresh_transport, half_transport):
        await closed(transport)
        assert transport.statuses == [200]
        assert b"connection: close\r\n" in transport.written


@story
async def test_a_websocket_is_left_to_be_closed_with_a_close_frame() -> None:
    connections = Connections()
    protocol, transport = connect(accept, connections)
    protocol.data_received(UPGRADE)
    await until(lambda: transport.statuses == [101])
    late, late_transport = connect(accept, connections)
    stopping = asyncio.create_task(connections.stop(0.5))
    await turns()
    assert not stopping.done()
    late.data_received(UPGRADE)
    await until(lambda: late_transport.statuses == [101])
    await asyncio.wait_for(stopping, 0.1)
    assert [transport.is_closed, late_transport.is_closed] == [False, False]
    for socket in (transport, late_transport):
        socket.protocol.connection_lost(None)


@story
async def test_what_is_sent_right_after_an_answer_is_heard_by_a_server_that_stops() -> None:
    """The client may have sent it before it could know."""
    connections = Connections()
    idle, transport = connect(whole, connections)
    idle.data_received(REQUEST)
    await until(lambda: transport.statuses == [200])
    await asyncio.sleep(BUSY_S - 0.1)
    stopping = asyncio.create_task(connections.stop(0.5))
    await turns()
    assert not transport.is_closed
    assert not stopping.done()
    idle.data_received(REQUEST)
    await closed(transport)
    assert transport.statuses == [200, 200]
    await asyncio.wait_for(stopping, 0.1)


@story
async def test_a_connection_on_which_nothing_comes_holds_up_the_stop_for_its_patience_only() -> None:
    connections = Connections()
    connect(whole, connections)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await connections.stop(0.5)
    assert loop.time() - began == pytest.approx(0.5)
