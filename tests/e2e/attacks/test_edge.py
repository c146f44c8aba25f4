"""What somebody without a token can send to the port, byte by byte, and what the server makes of it."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import httpx
import pytest

from tests.e2e.attacks.arena import Arena

HALF_OPEN = 100
FLOOD_BYTES = 8_000_000
# A flood may be on its way in the buffers of both ends when the server closes.
ON_THE_WAY_BYTES_MAX = 6_000_000
PATIENCE_S = 30.0


@contextmanager
def connected(field: Arena) -> Iterator[socket.socket]:
    url = urlsplit(field.server.url)
    assert url.hostname is not None
    with socket.create_connection((url.hostname, url.port or 80), timeout=PATIENCE_S) as connection:
        yield connection


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server ends the connection."""
    told = b""
    with suppress(ConnectionError):
        while piece := connection.recv(65_536):
            told += piece
    return told


def asked(field: Arena, request: bytes) -> tuple[int, str]:
    """Status and code of the answer to a request that ends its connection."""
    with connected(field) as connection:
        connection.sendall(request)
        head, _, body = rest(connection).partition(b"\r\n\r\n")
    code = json.loads(body)["code"] if b"application/json" in head and body.startswith(b'{"code"') else ""
    return int(head.split(b" ")[1]), code


HOST = b"host: localhost\r\n"
END = b"connection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET /" + b"a" * 100, b"a" * 1000),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"x: ", b"a" * 1000),
        (b"GET /healthz HTTP/1.1\r\n" + HOST, b"a: b\r\n" * 200),
        (b"POST /tokens HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 200),
        (b"POST /tokens HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n1;", b"a=b;" * 200),
        (b"GET /rt HTTP/1.1\r\n" + HOST + b"connection: upgrade\r\nupgrade: websocket\r\nx: ", b"a" * 1000),
    ],
    ids=["line", "value", "headers", "trailers", "extension", "upgrade"],
)
def test_a_flood_beside_the_body_ends_with_431(field: Arena, begin: bytes, piece: bytes) -> None:
    sent = 0
    with connected(field) as connection:
        connection.sendall(begin)
        with suppress(ConnectionError):
            while sent < FLOOD_BYTES:
                connection.sendall(piece)
                sent += len(piece)
        told = rest(connection)
    assert sent < ON_THE_WAY_BYTES_MAX
    assert told == b"" or told.startswith(b"HTTP/1.1 431 ")  # a reset may take the answer along


def test_a_head_just_over_the_limit_is_told_431(field: Arena) -> None:
    with connected(field) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n" + HOST)
        connection.sendall(b"x: " + b"a" * 65_000)
        connection.sendall(b"a" * 1_000)
        told = rest(connection)
    assert told.startswith(b"HTTP/1.1 431 ")
    assert b'"headers-too-large"' in told
    assert b"connection: close" in told


def test_half_open_requests_are_ended_in_time(field: Arena) -> None:
    ends: list[bytes] = []
    begun = [connected(field) for _ in range(HALF_OPEN)]
    connections = [one.__enter__() for one in begun]
    try:
        for number, connection in enumerate(connections):
            connection.sendall((b"", b"G", b"GET / HTTP/1.1\r\nx: ", b"\r\n")[number % 4])
        ends = [rest(connection) for connection in connections]
    finally:
        for one in begun:
            one.__exit__(None, None, None)
    silent, told = ends[0::4] + ends[3::4], ends[1::4] + ends[2::4]
    assert set(silent) == {b""}
    assert all(end.startswith(b"HTTP/1.1 408 ") and b"request-timeout" in end for end in told)


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        (HOST, (200, "")),
        (b"host: LOCALHOST:80\r\n", (200, "")),
        (b"", (400, "bad-request")),
        (HOST + HOST, (400, "bad-request")),
        (HOST + b"host: evil.example\r\n", (400, "bad-request")),
        (b"host: evil.example@localhost\r\n", (400, "bad-request")),
        (b"host: localhost:evil\r\n", (400, "bad-request")),
        (b"host: localhost:70000\r\n", (400, "bad-request")),
        (b"host: evil.example\r\n", (421, "misdirected")),
        (b"host: localhost.evil.example\r\n", (421, "misdirected")),
        (b"host: 2130706433\r\n", (421, "misdirected")),
        (b"host: [::ffff:10.0.0.1]\r\n", (421, "misdirected")),
        (HOST + b"authorization: Bearer a\r\nauthorization: Bearer b\r\n", (400, "bad-request")),
        (HOST + b"x : y\r\n", (400, "bad-request")),
        (HOST + b"x\r\n", (400, "bad-request")),
        (HOST + b"content-length: 1\r\ncontent-length: 2\r\n", (400, "bad-request")),
        (HOST + b"content-length: 1\r\ntransfer-encoding: chunked\r\n", (400, "bad-request")),
    ],
)
def test_a_head_that_could_be_read_in_two_ways_is_refused(
    field: Arena, head: bytes, answer: tuple[int, str]
) -> None:
    assert asked(field, b"GET /healthz HTTP/1.1\r\n" + head + END) == answer


def test_a_trailer_is_no_header(field: Arena) -> None:
    chunks = b"transfer-encoding: chunked\r\n" + END + b"0\r\n"
    assert asked(field, b"POST /healthz HTTP/1.1\r\nhost: evil.example\r\n" + chunks + HOST + b"\r\n") == (
        421,
        "misdirected",
    )
    token = b"authorization: Bearer " + field.server.admin["adminToken"].encode() + b"\r\n"
    assert asked(field, b"POST /orgs HTTP/1.1\r\n" + HOST + chunks + token + b"\r\n") == (403, "missing-user")


@pytest.mark.parametrize(
    "line",
    [
        b"GET /\xff HTTP/1.1",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/9.9",
        b"GET / HTTP/2.0",
        b"CONNECT localhost:80 HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"BREW / HTTP/1.1",
        b"get / HTTP/1.1",
        b"PRI * HTTP/2.0\r\n\r\nSM",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET http://[ HTTP/1.1",
        b"GET //[x HTTP/1.1",
        b"GET ?%ff HTTP/1.1",
    ],
)
def test_a_line_that_asks_for_nothing_is_answered_without_a_fault(field: Arena, line: bytes) -> None:
    status, _ = asked(field, line + b"\r\n" + HOST + END)
    assert 200 <= status < 500


@pytest.mark.parametrize(
    "query", ["token=%FF", "token=%00", "x-statebacked-org-id=%FF", "%FF=%FF", "&" * 500]
)
def test_an_upgrade_is_accepted_whatever_its_query(field: Arena, query: str) -> None:
    with connected(field) as connection:
        connection.sendall(
            f"GET /rt?{query} HTTP/1.1\r\n".encode() + HOST + b"connection: upgrade\r\nupgrade: websocket\r\n"
            b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert connection.recv(12) == b"HTTP/1.1 101"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 70 + b'"' + b'\\"' * 490_000,
        b'{"event":"' + b'\\"' * 490_000,
        b'{"event":' + b"[" * 490_000,
        b'{"event":{"type":"a","n":' + b"9" * 900_000 + b"}}",
    ],
)
def test_a_body_of_quotes_brackets_or_digits_is_refused(field: Arena, body: bytes) -> None:
    admin = field.server.admin
    headers = {"authorization": f"Bearer {admin['adminToken']}", "x-statebacked-org-id": admin["orgId"]}
    answer = httpx.post(
        f"{field.server.url}/machines/m/i/i/events", content=body, headers=headers, timeout=PATIENCE_S
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-body")


def test_the_server_logs_nothing_of_what_strangers_send(field: Arena) -> None:
    before = field.server.log.stat().st_size
    for _ in range(20):
        asked(field, b"no HTTP at all\r\n\r\n")
        asked(field, b"GET / HTTP/1.1\r\n" + HOST + b"connection: upgrade\r\nupgrade: h2c\r\n\r\n")
    assert field.server.log.stat().st_size == before
