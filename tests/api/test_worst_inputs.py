"""For each place of the API that reads from outside, the worst input known: work grows as the input, no more.

Work is counted: calls, turns of the loop, objects that are held. What connections bring before a request is
whole stands in test_connections.py, JSON in core/test_json_text.py, regular expressions in test_patterns.py.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from statebacked.api.bodies import check_length
from statebacked.api.cursors import Cursors
from statebacked.api.edge import Edge
from statebacked.api.paths import HotPaths, split_path
from statebacked.api.realtime import RealtimeSession
from statebacked.api.sockets import _credentials
from statebacked.api.uploads import UploadForm
from statebacked.api.wire import CreateInstance, parse_body, parse_event
from statebacked.auth.exchange import ExchangeRefused, read_anonymous, read_request
from statebacked.auth.jwt import read_token
from statebacked.model.errors import InvalidBody, InvalidCursor, StateBackedError, TooLarge
from statebacked.model.limits import (
    EVENT_BODY_BYTES_MAX,
    HEADERS_BYTES_MAX,
    SOCKET_IDLE_FRAMES_MAX,
    SOCKET_IDLE_FRAMES_MS,
    SOCKET_MESSAGE_CHARACTERS_MAX,
    SOCKET_PIECE_BYTES_MAX,
    TOKEN_BYTES_MAX,
)
from tests.api.doubles import keyring
from tests.api.memory_transport import UPGRADE, MemoryTransport, connect, until
from tests.api.server import ApiServer
from tests.auth.test_exchange import form
from tests.counting import count_calls
from tests.virtual_time import run_in_virtual_time

pytestmark = pytest.mark.anyio
REFUSALS = (StateBackedError, ExchangeRefused)
MASK = b"\0\0\0\0"
PING, PONG, EMPTY_FRAGMENT = b"\x89\x80" + MASK, b"\x8a\x80" + MASK, b"\x00\x80" + MASK
FIRST_FRAGMENT, MESSAGE = b"\x01\x80" + MASK, b"\x81\x82" + MASK + b"{}"


def cursor(text: str) -> object:
    return Cursors(keyring()).open(text, org="o", route="r", query="q")


def edge(headers: list[tuple[bytes, bytes]]) -> None:
    Edge(bound_to_loopback=True, public_url=None).check(headers, dict(headers), "1.1")


# A name, and what reads the worst input known there, of a given size.
PLACES: list[tuple[str, Callable[[int], Callable[[], object]]]] = [
    ("an event of quotes", lambda n: lambda: parse_event(b"[" * 70 + b'"' + b'\\"' * n)),
    ("an event of brackets", lambda n: lambda: parse_event(b'{"event":' + b"[" * n)),
    ("an event of objects", lambda n: lambda: parse_event(b'{"event":' + b'{"a":' * n)),
    ("an event of keys", lambda n: lambda: parse_event(b'{"event":{"type":"a"' + b',"a":1' * n + b"}}")),
    ("a creation of digits", lambda n: lambda: parse_body(b'{"slug":' + b"9" * n + b"}", CreateInstance)),
    ("a token of dots", lambda n: lambda: read_token(b"." * min(n, TOKEN_BYTES_MAX))),
    ("a token without dots", lambda n: lambda: read_token(b"e" * n)),
    ("a form of nothing", lambda n: lambda: read_anonymous(read_request(form(subject_token="." * n)))),
    ("an audience", lambda n: lambda: read_request(form(audience="https://tokens.statebacked.dev/" * n))),
    ("a cursor", lambda n: lambda: cursor("A" * n)),
    ("a path of slashes", lambda n: lambda: split_path(b"/" * n, (b"base",))),
    ("a path of percents", lambda n: lambda: HotPaths(()).find(b"/machines/m/i/" + b"%41" * n)),
    ("a query of a socket", lambda n: lambda: _credentials(b"token=" + b"%" * n)),
    ("a host of colons", lambda n: lambda: edge([(b"host", b":" * n)])),
    ("a host of brackets", lambda n: lambda: edge([(b"host", b"[" * n)])),
    ("a length of digits", lambda n: lambda: check_length({b"content-length": b"9" * n}, 1)),
    ("a message of brackets", lambda n: lambda: RealtimeSession().receive("[" * n)),
]


@pytest.mark.parametrize("place", [place for _, place in PLACES], ids=[name for name, _ in PLACES])
def test_ten_times_the_input_takes_ten_times_the_calls_at_most(
    place: Callable[[int], Callable[[], object]],
) -> None:
    few, many = place(800), place(8_000)
    count_calls(few, *REFUSALS)  # what is remembered is remembered now
    assert count_calls(many, *REFUSALS) <= 10 * count_calls(few, *REFUSALS)


def test_headers_are_judged_in_one_pass() -> None:
    def headers(count: int) -> Callable[[], object]:
        return lambda: edge([(b"host", b"localhost"), *[(b"x", b"")] * count])

    few, many = count_calls(headers(100), *REFUSALS), count_calls(headers(1_000), *REFUSALS)
    assert many <= 11 * few
    assert count_calls(headers(HEADERS_BYTES_MAX), *REFUSALS) < 100  # too many to be looked at one by one


@pytest.mark.parametrize("piece", [b"\r", b"\r\n", b"\r\n-", b"\r\n--boundar", b"x", b"--boundary"])
def test_an_upload_full_of_half_boundaries_is_read_in_one_pass(piece: bytes) -> None:
    def feed(count: int) -> Callable[[], object]:
        form = UploadForm(b"multipart/form-data; boundary=boundary")
        form.feed(b'--boundary\r\ncontent-disposition: form-data; name="file"\r\n\r\n')
        return lambda: form.feed(piece * count)

    assert count_calls(feed(40_000), *REFUSALS) <= 4.2 * count_calls(feed(10_000), *REFUSALS) + 40


def test_the_head_of_a_part_is_bounded() -> None:
    form = UploadForm(b"multipart/form-data; boundary=boundary")
    form.feed(b"--boundary\r\n")
    with pytest.raises(InvalidBody):
        form.feed(b"a" * 60_000)


async def test_a_page_has_no_more_rows_than_its_limit_says(server: ApiServer) -> None:
    """Zeros in front, or digits behind those that were looked at, once led past it."""
    async with server.client(await server.token(await server.org())) as client:
        for limit in ("0000000010", "000000001999999", "1" + "0" * 5_000, "٣"):
            response = await client.get("/machines", params={"limit": limit})
            assert (response.status_code, response.json()["code"]) == (400, "invalid-parameter"), limit
        assert (await client.get("/machines", params={"limit": "000000010"})).status_code == 200


def test_a_length_is_judged_by_all_its_digits() -> None:
    check_length({b"content-length": b"0" * 19 + b"1"}, 1)
    for length in (b"0" * 20 + b"9", b"9" * 5_000):
        with pytest.raises(TooLarge):
            check_length({b"content-length": length}, EVENT_BODY_BYTES_MAX)


def test_a_cursor_and_a_message_over_their_limit_are_not_read() -> None:
    with pytest.raises(InvalidCursor):
        cursor("A" * 1_000_000)
    assert RealtimeSession().receive('"' + "x" * SOCKET_MESSAGE_CHARACTERS_MAX) == []


# --- sockets -----------------------------------------------------------------------------------------


class Listener:
    """An application that accepts a socket and, once it may, takes what comes."""

    def __init__(self) -> None:
        self.may_read = asyncio.Event()
        self.heard: list[str] = []
        self.end: int | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await self.may_read.wait()
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self.end = message["code"]
                return
            self.heard.append(message["text"])


async def opened(app: Listener) -> tuple[Any, MemoryTransport]:
    protocol, transport = connect(app)
    protocol.data_received(UPGRADE)
    await until(lambda: transport.statuses == [101])
    return transport.protocol, transport


@pytest.mark.parametrize("frame", [PING, PONG, MESSAGE])
def test_a_read_full_of_frames_is_taken_in_pieces(frame: bytes) -> None:
    async def tell() -> None:
        app = Listener()
        protocol, _ = await opened(app)
        taken = 0
        receive_data = protocol.conn.receive_data

        def counted(data: bytes) -> None:
            nonlocal taken
            taken += len(data)
            receive_data(data)

        protocol.conn.receive_data = counted
        protocol.data_received(frame * 40_000)
        assert 0 < taken <= SOCKET_PIECE_BYTES_MAX
        assert protocol.queue.qsize() <= SOCKET_PIECE_BYTES_MAX // len(MESSAGE)
        await asyncio.sleep(0)
        assert taken <= 2 * SOCKET_PIECE_BYTES_MAX
        protocol.transport.close()
        protocol.connection_lost(None)
        app.may_read.set()
        await until(lambda: app.end is not None)

    run_in_virtual_time(tell())


def test_every_message_of_a_long_read_is_heard_once_and_in_order() -> None:
    async def tell() -> None:
        app = Listener()
        protocol, transport = await opened(app)
        texts = [f"{n:04}" for n in range(2_000)]
        protocol.data_received(b"".join(b"\x81\x84" + MASK + text.encode() for text in texts))
        protocol.data_received(b"\x81\xfe\xff\xff" + MASK + b"x" * 65_535)
        app.may_read.set()
        await until(lambda: len(app.heard) == 2_001)
        assert app.heard == [*texts, "x" * 65_535]
        transport.close()
        protocol.connection_lost(None)
        await until(lambda: app.end is not None)

    run_in_virtual_time(tell())


@pytest.mark.parametrize(("first", "frame"), [(b"", PING), (b"", PONG), (FIRST_FRAGMENT, EMPTY_FRAGMENT)])
def test_frames_without_a_message_end_the_socket(first: bytes, frame: bytes) -> None:
    async def tell() -> None:
        app = Listener()
        app.may_read.set()
        protocol, transport = await opened(app)
        protocol.data_received(first)
        for _ in range(3):
            protocol.data_received(frame * SOCKET_IDLE_FRAMES_MAX)
            await asyncio.sleep(SOCKET_IDLE_FRAMES_MS / 1000 + 1)
        assert not transport.is_closed
        protocol.data_received(frame * (SOCKET_IDLE_FRAMES_MAX + 1))
        await until(lambda: transport.is_closed)
        await until(lambda: app.end is not None)
        assert app.end == 1008
        protocol.connection_lost(None)

    run_in_virtual_time(tell())
