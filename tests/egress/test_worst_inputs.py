"""The worst that a server can answer: what is read of it is bounded, and the loop has its turns meanwhile.

Work is counted in bytes that are handed on and in turns of the loop, never in time.
"""

import asyncio
import gzip
import zlib

import pytest

from statebacked.egress.bodies import BodyReader
from statebacked.egress.headers import callers_headers
from statebacked.egress.meter import AnswerMeter
from statebacked.egress.resolver import Resolver
from statebacked.egress.urls import normal, parse_url
from statebacked.model import limits
from statebacked.ports.egress import EgressFailed, EgressRefused
from tests.egress.site import Got, Site, answer, site
from tests.egress.test_client import ask, guarded, names, refused
from tests.event_loop import run

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EMPTY_MEMBER = gzip.compress(b"")
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def fed(data: bytes, piece: int = 16_384) -> tuple[AnswerMeter, int]:
    """The meter, and how many bytes of the data it let through."""
    meter = AnswerMeter("a.test")
    for at in range(0, len(data), piece):
        try:
            meter.feed(data[at : at + piece])
        except EgressFailed:
            return meter, at
    return meter, len(data)


# --- each kind of flood ends at its limit


@pytest.mark.parametrize("piece", [1, 7, 16_384])
def test_interim_answers_are_counted(piece: int) -> None:
    most = CONTINUE * limits.FETCH_INTERIM_ANSWERS_MAX
    whole = most + OK + b"content-length: 2\r\n\r\nhi"
    assert fed(whole, piece)[1] == len(whole)
    assert fed(CONTINUE * 100_000, piece)[1] <= len(most) + len(CONTINUE)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_many_short_lines_are_too_many(line_end: bytes) -> None:
    def head(lines: int) -> bytes:
        return b"HTTP/1.1 200 OK" + line_end + (b"a:" + line_end) * lines + line_end

    assert fed(head(limits.FETCH_HEADER_LINES_MAX - 2))[1] == len(head(limits.FETCH_HEADER_LINES_MAX - 2))
    assert fed(head(limits.FETCH_HEADER_LINES_MAX - 1))[1] == 0
    trailers = CHUNKED + b"0\r\n" + b"a:\r\n" * limits.FETCH_HEADER_LINES_MAX
    assert fed(trailers, 100)[1] < len(trailers)


@pytest.mark.parametrize(
    "endless",
    [
        OK + b"a: " + b"x" * 200_000,
        b"HTTP/1.1 102 Processing\r\na: " + b"x" * 200_000,
        CHUNKED + b"1;" + b"x" * 200_000,
        CHUNKED + (b"1;" + b"x" * 1_000 + b"\r\na\r\n") * 200,
        CHUNKED + b"0\r\na: " + b"x" * 200_000,
        CHUNKED + b"0" * 200_000,
        b"x" * 200_000,
    ],
)
def test_what_is_no_body_is_bounded_in_bytes(endless: bytes) -> None:
    for piece in (1_000, 16_384):
        assert fed(endless, piece)[1] <= limits.FETCH_HEADERS_BYTES_MAX + 16_384


def test_an_answer_is_bounded_as_it_is_sent() -> None:
    tiny = CHUNKED + b"1\r\na\r\n" * (limits.FETCH_WIRE_BYTES_MAX // 6 + 1)
    assert len(tiny) - 32_768 < fed(tiny)[1] < len(tiny)


@pytest.mark.parametrize(
    ("data", "has_surplus"),
    [
        (OK + b"content-length: 2\r\n\r\nhi", False),
        (OK + b"content-length: 2\r\n\r\nhi" + CONTINUE, True),
        (OK + b"content-length: 0\r\n\r\n" + CONTINUE, True),
        (CHUNKED + b"2\r\nhi\r\n0\r\n\r\n", False),
        (CHUNKED + b"2;x=y\r\nhi\r\n0\r\nt: 1\r\n\r\n", False),
        (CHUNKED + b"2\r\nhi\r\n0\r\n\r\n" + CONTINUE, True),
    ],
)
@pytest.mark.parametrize("piece", [1, 3, 16_384])
def test_more_than_the_answer_is_noticed(data: bytes, has_surplus: bool, piece: int) -> None:
    meter, let_through = fed(data, piece)
    assert (meter.has_surplus, let_through) == (has_surplus, len(data))


# --- packed bodies


def test_empty_members_are_counted() -> None:
    few = EMPTY_MEMBER * (limits.FETCH_GZIP_MEMBERS_MAX - 1) + gzip.compress(b"hi")
    assert b"".join(BodyReader("gzip", 1_000).feed(few)) == b"hi"
    with pytest.raises(EgressFailed, match="more than 16 parts"):
        list(BodyReader("gzip", limits.FETCH_BODY_BYTES_MAX).feed(EMPTY_MEMBER * 3_000))


def test_a_bomb_is_unpacked_piece_by_piece_as_far_as_the_limit() -> None:
    bomb = zlib.compress(b"\0" * 100_000_000, 9)
    pieces: list[bytes] = []
    with pytest.raises(EgressFailed, match="longer than"):
        pieces.extend(BodyReader("deflate", limits.FETCH_BODY_BYTES_MAX).feed(bomb))
    assert max(map(len, pieces)) <= limits.FETCH_CHUNK_BYTES_MAX
    assert sum(map(len, pieces)) <= limits.FETCH_BODY_BYTES_MAX


# --- against the client


async def stream_of(served: Site, flood: bytes, times: int) -> None:
    async def endless(got: Got, writer: asyncio.StreamWriter) -> None:
        for _ in range(times):
            writer.write(flood)
            await writer.drain()

    served.pages["/"] = endless


@run
async def test_a_flood_of_interim_answers_ends_the_request() -> None:
    async with site() as served, guarded() as http:
        await stream_of(served, CONTINUE * 1_000, 1_000)
        assert "interim answers" in await refused(http, served.url("/"))


@run
async def test_data_that_unpacks_to_nothing_leaves_the_loop_its_turns() -> None:
    """A gzip head whose name does not end, in chunks of a byte."""
    async with site() as served, guarded() as http:
        head = OK + b"content-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
        packed = b"\x1f\x8b\x08\x08" + b"\0" * 6 + b"n" * 5_000

        async def endless(got: Got, writer: asyncio.StreamWriter) -> None:
            writer.write(head + b"".join(b"1\r\n%c\r\n" % byte for byte in packed) + b"0\r\n\r\n")

        served.pages["/"] = endless
        turns, is_over = 0, asyncio.Event()

        async def count() -> None:
            nonlocal turns
            while not is_over.is_set():
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.get_running_loop().create_task(count())
        assert "ends too early" in await refused(http, served.url("/"))
        is_over.set()
        await counting
        assert turns >= len(packed)


@run
async def test_a_connection_on_which_more_came_than_the_answer_is_not_used_again() -> None:
    async with site() as served, guarded() as http:

        async def generous(got: Got, writer: asyncio.StreamWriter) -> None:
            writer.write(answer(200, b"hi") + (CONTINUE * 500 if len(served.requests) == 1 else b""))

        served.pages["/"] = generous
        for _ in range(3):
            assert (await ask(http, served.url("/")))[1] == b"hi"
        assert [got.connection for got in served.requests] == [1, 2, 2]


# --- names, URLs, headers


@run
async def test_a_name_with_very_many_addresses_is_refused_unjudged() -> None:
    many = [f"93.184.{n // 256}.{n % 256}" for n in range(4_000)]
    resolver = Resolver(names(many_test=many), allow_private=False)
    with pytest.raises(EgressRefused, match="more than 64 addresses"):
        await resolver.addresses(None, parse_url("http://many.test/"))


@pytest.mark.parametrize(
    "url",
    [
        "http://a/" + "?" * 100_000 + "é",
        "http://a/" + "/?" * 50_000 + " ",
        "http://" + "a." * 50_000,
        "http://" + "0" * 100_000,
        "http://a:" + "1" * 100_000,
        "http://[" + ":" * 100_000 + "]/",
    ],
)
def test_a_url_is_read_in_linear_time(url: str) -> None:
    """The first took hours when a path and a query could share their characters."""
    with pytest.raises(EgressRefused):
        parse_url(url)


@pytest.mark.parametrize(
    "location", ["http://" + "ü." * 30_000, "/" + "../" * 30_000, "/" + "é" * 30_000, "?" * 30_000]
)
def test_a_location_is_read_in_linear_time(location: str) -> None:
    try:
        assert len(normal(location, "http://a.test/")) < 10 * len(location)
    except EgressRefused:
        assert location.startswith("http")


def test_endless_headers_of_a_request_are_refused_unread() -> None:
    with pytest.raises(EgressRefused, match="take more than"):
        callers_headers([("a", "b")] * 100_000)
