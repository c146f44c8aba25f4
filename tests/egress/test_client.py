"""Requests through the guard, against a real server on this machine."""

import asyncio
import contextlib
import gzip
import os
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from statebacked.egress.client import GuardedHttp
from statebacked.egress.resolver import Resolve
from statebacked.model import limits
from statebacked.model.ids import OrgId
from statebacked.ports.egress import EgressFailed, EgressRefused, HttpRequest, HttpResponse
from tests.egress.site import Got, answer, read_body, redirect, site, text
from tests.event_loop import run

ORG = OrgId("org_1")


def names(**addresses: Sequence[str]) -> Resolve:
    """A resolver that knows these names ("_" stands for "."), and the loopback as local.test."""

    async def resolve(name: str) -> Sequence[str]:
        if name == "local.test":
            return ["127.0.0.1"]
        found = addresses.get(name.replace(".", "_"))
        if found is None:
            raise socket.gaierror(-2, "Name or service not known")
        return found

    return resolve


@asynccontextmanager
async def guarded(
    *,
    allow_private: bool = True,
    resolve: Resolve | None = None,
    headers_ms: int = 5_000,
    tls: ssl.SSLContext | None = None,
    kept_s: float = 15,
    connect_s: float = 3,
) -> AsyncIterator[GuardedHttp]:
    http = GuardedHttp(
        allow_private=allow_private,
        resolve=resolve or names(),
        ssl_context=tls,
        headers_ms=headers_ms,
        kept_s=kept_s,
        connect_s=connect_s,
    )
    try:
        yield http
    finally:
        await http.aclose()


async def ask(http: GuardedHttp, url: str, method: str = "GET", **more: Any) -> tuple[HttpResponse, bytes]:
    """An answer and its whole body."""
    async with http.send(ORG, HttpRequest(method=method, url=url, **more)) as response:
        return response, b"".join([piece async for piece in response.body])


async def refused(http: GuardedHttp, url: str, **more: Any) -> str:
    with pytest.raises(EgressFailed) as failed:
        await ask(http, url, **more)
    return str(failed.value)


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


# --- what is sent and what comes back


@run
async def test_a_request_arrives_as_it_was_said_with_the_headers_that_are_ours() -> None:
    async with site() as served, guarded() as http:
        served.pages["/a"] = text(b"hello", ("x-answer", "1"), ("set-cookie", "a=1"), ("set-cookie", "b=2"))
        said = [("X-Mine", "ü"), ("Host", "evil"), ("Content-Length", "9"), ("Connection", "upgrade")]
        said += [("Upgrade", "h2c"), ("TE", "trailers"), ("Expect", "100-continue"), ("Proxy-Foo", "1")]
        said += [("Transfer-Encoding", "chunked"), ("User-Agent", "mine"), ("Accept", "text/plain")]
        response, body = await ask(http, served.url("/a?b=c"), headers=said)
        [got] = served.requests
        assert (got.method, got.path) == ("GET", "/a?b=c")
        assert got.headers == [
            ("host", f"127.0.0.1:{served.port}"),
            ("x-mine", "ü"),
            ("user-agent", "mine"),
            ("accept", "text/plain"),
            ("accept-encoding", "gzip, deflate"),
        ]
        assert (response.status, response.reason, body) == (200, "Reason", b"hello")
        assert (response.url, response.redirected) == (served.url("/a?b=c"), False)
        assert response.headers == [
            ("x-answer", "1"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("content-length", "5"),
        ]


@run
async def test_a_body_of_known_length_and_one_of_unknown_length_arrive() -> None:
    async with site() as served, guarded() as http:
        served.pages["/"] = text(b"ok")
        await ask(http, served.url("/"), "POST", body=pieces(b"ab", b"c"), length=3)
        await ask(http, served.url("/"), "PUT", body=pieces(b"ab", b"c"))
        await ask(http, served.url("/"), "POST")
        known, unknown, none = served.requests
        assert (known.body, known.header("content-length")) == (b"abc", "3")
        assert (unknown.body, unknown.header("transfer-encoding")) == (b"abc", "chunked")
        assert (none.body, none.header("content-length")) == (b"", "0")


@run
async def test_a_body_of_another_length_than_was_said_fails() -> None:
    async with site() as served, guarded() as http:
        served.pages["/"] = text(b"ok")
        for length, how in [(2, "longer"), (4, "shorter")]:
            why = await refused(http, served.url("/"), method="POST", body=pieces(b"abc"), length=length)
            assert f"is {how} than was said" in why


@run
async def test_answers_without_a_body_have_none() -> None:
    async with site() as served, guarded() as http:
        served.pages["/"] = text(b"")
        served.pages["/none"] = text(b"", status=204)
        served.pages["/same"] = text(b"", status=304)
        for path, method in [("/", "HEAD"), ("/none", "GET"), ("/same", "GET"), ("/", "GET")]:
            assert (await ask(http, served.url(path), method))[1] == b""


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "track", "GE T", "", "GET\r\n"])
def test_methods_that_are_not_for_callers_are_refused(method: str) -> None:
    @run
    async def test() -> None:
        async with guarded() as http:
            assert "method" in await refused(http, "http://127.0.0.1:9000/", method=method)

    test()


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (("x y", "1"), "HTTP does not allow"),
        (("", "1"), "HTTP does not allow"),
        (("x", "a\r\nb: c"), "HTTP does not allow"),
        (("x", "\0"), "HTTP does not allow"),
        (("x", "€"), "HTTP does not allow"),
        (("x", "y" * 32_768), "more than 32,768 bytes"),
    ],
)
def test_headers_that_are_none_are_refused(header: tuple[str, str], reason: str) -> None:
    @run
    async def test() -> None:
        async with guarded() as http:
            assert reason in await refused(http, "http://127.0.0.1:9000/", headers=[header])

    test()


# --- where it may go


@run
async def test_private_addresses_are_closed_unless_opened() -> None:
    async with site() as served, guarded(allow_private=False) as http:
        served.pages["/"] = text(b"secret")
        for url in (served.url("/"), served.url("/", "local.test"), f"http://[::1]:{served.port}/"):
            assert "requests go to public addresses only" in await refused(http, url)
        assert served.connections == 0


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["93.184.216.34", "127.0.0.1"],
        ["::ffff:127.0.0.1"],
        ["2606:4700::1111", "::1"],
        ["93.184.216.34", "64:ff9b::7f00:1"],
        ["169.254.169.254"],
    ],
)
def test_every_answer_of_the_resolver_must_be_public(addresses: list[str]) -> None:
    @run
    async def test() -> None:
        async with guarded(allow_private=False, resolve=names(mixed_test=addresses)) as http:
            with pytest.raises(EgressRefused, match=r"mixed\.test is not allowed"):
                await ask(http, "http://mixed.test:9000/")

    test()


@run
async def test_an_address_with_a_zone_id_is_refused() -> None:
    async with guarded(resolve=names(zoned_test=["fe80::1%2"])) as http:
        assert "zone id" in await refused(http, "http://zoned.test:9000/")


@run
async def test_the_connection_goes_to_the_address_that_was_checked() -> None:
    """A name that leads elsewhere a moment later (rebinding) is not asked a second time."""
    asked = []

    async def rebinding(name: str) -> list[str]:
        asked.append(name)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    async with site() as served, guarded(resolve=rebinding) as http:
        served.pages["/"] = text(b"first")
        assert (await ask(http, served.url("/", "rebinding.test")))[1] == b"first"
        assert asked == ["rebinding.test"]
        assert served.requests[0].header("host") == f"rebinding.test:{served.port}"
        # Asked anew, the name leads elsewhere; the kept connection is not for that address.
        assert "cannot be reached" in await refused(http, served.url("/", "rebinding.test"))
        assert len(served.requests) == 1


@run
async def test_the_next_address_is_tried_when_one_cannot_be_reached() -> None:
    async with site() as served, guarded(resolve=names(two_test=["127.0.0.9", "127.0.0.1"])) as http:
        served.pages["/"] = text(b"here")
        assert (await ask(http, served.url("/", "two.test")))[1] == b"here"


@run
async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    """A socket whose queue is full takes no connection and refuses none."""
    resolve = names(two_test=["127.0.0.9", "127.0.0.1"])
    async with site() as served, guarded(resolve=resolve, connect_s=0.2) as http:
        served.pages["/"] = text(b"here")
        with socket.socket() as deaf, contextlib.ExitStack() as fillers:
            deaf.bind(("127.0.0.9", served.port))
            deaf.listen(0)
            for _ in range(4):
                filler = fillers.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.9", served.port))
            assert (await ask(http, served.url("/", "two.test")))[1] == b"here"


@run
async def test_a_name_that_leads_nowhere_is_told() -> None:
    async with guarded() as http:
        assert await refused(http, "http://nowhere.test/") == "the name nowhere.test leads nowhere"


@run
async def test_the_environment_names_no_proxy_and_no_secrets() -> None:
    before = dict(os.environ)
    os.environ |= {
        "http_proxy": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "NETRC": "/dev/null",
    }
    try:
        async with site() as served, guarded() as http:
            served.pages["/"] = text(b"direct", ("set-cookie", "a=1"))
            for _ in range(2):
                assert (await ask(http, served.url("/")))[1] == b"direct"
            assert all(got.header("cookie") is None for got in served.requests)
            assert all(got.header("authorization") is None for got in served.requests)
    finally:
        os.environ.clear()
        os.environ.update(before)


# --- redirects


@run
async def test_redirects_are_followed_and_told() -> None:
    async with site() as served, guarded() as http:
        served.pages |= {"/a": redirect(302, "b?x"), "/b": redirect(301, f"//local.test:{served.port}/c")}
        served.pages["/c"] = text(b"there")
        response, body = await ask(http, served.url("/a"))
        assert (response.url, response.redirected) == (served.url("/c", "local.test"), True)
        assert body == b"there"
        response, body = await ask(http, served.url("/a"), redirect="manual")
        assert (response.status, response.redirected, body) == (302, False, b"elsewhere")
        assert "redirect" in await refused(http, served.url("/a"), redirect="error")


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (302, "PUT", "PUT"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
    ],
)
def test_a_redirect_changes_the_method_as_the_standard_says(status: int, method: str, then: str) -> None:
    @run
    async def test() -> None:
        async with site() as served, guarded() as http:
            served.pages |= {"/a": redirect(status, "/b"), "/b": text(b"")}
            body = None if method == "HEAD" else pieces(b"abc")
            await ask(http, served.url("/a"), method, body=body, headers=[("content-type", "x"), ("y", "1")])
            got = served.requests[1]
            kept = then == method and method != "HEAD"
            assert (got.method, got.body) == (then, b"abc" if kept else b"")
            assert (got.header("content-type") is None) == (then != method)
            assert got.header("y") == "1"

    test()


@run
async def test_a_long_body_is_not_sent_twice() -> None:
    async with site() as served, guarded() as http:
        served.pages |= {"/a": redirect(307, "/b"), "/b": text(b"")}
        body = pieces(b"x" * limits.FETCH_REPLAY_BYTES_MAX, b"y")
        assert "asks for the body again" in await refused(http, served.url("/a"), method="POST", body=body)


@run
async def test_secrets_do_not_follow_to_another_origin() -> None:
    async with site() as served, site() as other, guarded() as http:
        served.pages |= {"/a": redirect(302, "/b"), "/b": redirect(302, other.url("/c"))}
        other.pages["/c"] = text(b"")
        said = [("authorization", "Bearer x"), ("cookie", "a=1"), ("x-y", "z")]
        await ask(http, served.url("/a"), headers=said)
        assert [got.header("authorization") for got in served.requests] == ["Bearer x", "Bearer x"]
        [got] = other.requests
        assert [got.header(name) for name in ("authorization", "cookie", "x-y")] == [None, None, "z"]


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://10.0.0.1/", "10.0.0.1 is not allowed"),
        ("http://[::ffff:169.254.169.254]/", "is not allowed"),
        ("http://inside.test/", "inside.test is not allowed"),
        ("http://0x7f.1/", "neither a name nor an address"),
        ("http://u:p@start.test/", "user name"),
        ("http://start.test:22/", "port 22"),
        ("file:///etc/passwd", "only http: and https:"),
        ("http://[", "cannot be read"),
    ],
)
def test_a_redirect_is_checked_like_the_first_url(location: str, reason: str) -> None:
    """Only the start is let through, as if it were public."""

    @run
    async def test() -> None:
        async with site() as served, guarded(resolve=names(inside_test=["192.168.0.1"])) as http:
            http._resolver._allows = lambda address: str(address) == "127.0.0.1"  # type: ignore[method-assign]
            served.pages["/"] = redirect(302, location)
            assert reason in await refused(http, served.url("/", "local.test"))

    test()


@run
async def test_the_sixth_redirect_is_one_too_many() -> None:
    async with site() as served, guarded() as http:
        served.pages |= {f"/{n}": redirect(302, f"/{n + 1}") for n in range(6)}
        served.pages["/6"] = text(b"")
        assert (await ask(http, served.url("/1")))[0].url == served.url("/6")
        assert "more than 5 redirects" in await refused(http, served.url("/0"))


# --- packed bodies


def packed(body: bytes, coding: str) -> Callable[[Got, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
    return text(body, ("content-encoding", coding))  # type: ignore[return-value]


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


LONG = b"".join(b"%d," % n for n in range(200_000))


@pytest.mark.parametrize(
    ("coding", "body", "outcome"),
    [
        ("gzip", gzip.compress(LONG, mtime=0), LONG),
        ("GZIP", gzip.compress(LONG, mtime=0), LONG),
        ("x-gzip", gzip.compress(b"a", mtime=0) + gzip.compress(b"b", mtime=0), b"ab"),
        ("gzip", gzip.compress(b"\0" * 3_000_000, mtime=0), b"\0" * 3_000_000),
        ("gzip", b"", b""),
        ("deflate", zlib.compress(LONG), LONG),
        ("deflate", raw_deflate(LONG), LONG),
    ],
)
def test_packed_bodies_are_unpacked_in_small_pieces(coding: str, body: bytes, outcome: bytes) -> None:
    @run
    async def test() -> None:
        async with site() as served, guarded() as http:
            served.pages["/"] = text(body, ("content-encoding", coding))
            request = HttpRequest(method="GET", url=served.url("/"))
            async with http.send(ORG, request) as response:
                parts = [piece async for piece in response.body]
            assert b"".join(parts) == outcome
            assert all(0 < len(part) <= limits.FETCH_CHUNK_BYTES_MAX for part in parts)
            assert {"content-encoding", "content-length"}.isdisjoint(dict(response.headers))

    test()


@run
async def test_a_coding_that_we_do_not_undo_is_left_as_it_is() -> None:
    async with site() as served, guarded() as http:
        served.pages["/"] = text(b"packed", ("content-encoding", "br"))
        response, body = await ask(http, served.url("/"))
        assert (dict(response.headers)["content-encoding"], body) == ("br", b"packed")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (gzip.compress(b"\0" * (limits.FETCH_BODY_BYTES_MAX + 1), mtime=0), "longer than 10,000,000 bytes"),
        (gzip.compress(LONG, mtime=0)[:-9], "ends too early"),
        (b"not packed at all", "damaged"),
    ],
)
def test_a_bomb_and_damage_are_told(body: bytes, reason: str) -> None:
    @run
    async def test() -> None:
        async with site() as served, guarded() as http:
            served.pages["/"] = text(body, ("content-encoding", "gzip"))
            assert reason in await refused(http, served.url("/"))

    test()


@run
async def test_a_body_may_have_the_limit_and_not_a_byte_more() -> None:
    async with site() as served, guarded() as http:
        served.pages["/"] = text(b"x" * limits.FETCH_BODY_BYTES_MAX)
        served.pages["/more"] = text(b"x" * (limits.FETCH_BODY_BYTES_MAX + 1))
        assert len((await ask(http, served.url("/")))[1]) == limits.FETCH_BODY_BYTES_MAX
        assert "longer than" in await refused(http, served.url("/more"))


# --- servers that misbehave


def raw(data: bytes, *, then_close: bool = True) -> Any:
    async def handler(got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if then_close:
            writer.close()
        else:
            await asyncio.Event().wait()

    return handler


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "breaks HTTP: Server disconnected"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "breaks HTTP"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "breaks HTTP"),
        (b"HTTP/1.1 799 Odd\r\n\r\n", "status 799"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc", "breaks HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nx: " + b"y" * 33_000 + b"\r\n\r\n",
            "headers of 127.0.0.1 take more than 32,768",
        ),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000, "headers of 127.0.0.1 take more than 32,768"),
    ],
)
def test_a_server_that_breaks_http_is_told(data: bytes, reason: str) -> None:
    @run
    async def test() -> None:
        async with site() as served, guarded() as http:
            served.pages["/"] = raw(data)
            assert reason in await refused(http, served.url("/"))

    test()


@run
async def test_headers_that_do_not_end_are_given_up() -> None:
    async def drip(got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x: y\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with site() as served, guarded(headers_ms=300) as http:
        served.pages |= {"/drip": drip, "/mute": raw(b"", then_close=False)}
        for path in ("/drip", "/mute"):
            assert await refused(http, served.url(path)) == "127.0.0.1 does not answer within 0.3 s"


@run
async def test_the_time_to_the_headers_stands_still_while_the_caller_makes_the_body() -> None:
    slow = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        await slow.wait()
        yield b"b"

    async with site() as served, guarded(headers_ms=200) as http:
        served.pages["/"] = text(b"late")
        asyncio.get_running_loop().call_later(0.6, slow.set)
        assert (await ask(http, served.url("/"), "POST", body=body()))[1] == b"late"
        assert served.requests[0].body == b"ab"


@run
async def test_leaving_the_context_ends_what_is_under_way() -> None:
    async def endless(got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    async with site() as served, guarded() as http:
        served.pages["/"] = endless
        async with http.send(ORG, HttpRequest(method="GET", url=served.url("/"))) as response:
            async for _ in response.body:
                break
        await served.lost.wait()


@run
async def test_who_does_not_read_is_not_sent_more() -> None:
    """Back-pressure reaches the server: it cannot write on for ever."""
    written = 0
    stalled = asyncio.Event()

    async def endless(got: Got, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while written < 100_000_000:
            writer.write(b"x" * 65_536)
            written += 65_536
            try:
                await asyncio.wait_for(writer.drain(), 0.5)
            except TimeoutError:
                stalled.set()
                return

    async with site() as served, guarded() as http:
        served.pages["/"] = endless
        async with http.send(ORG, HttpRequest(method="GET", url=served.url("/"))):
            await stalled.wait()
        assert written < 20_000_000


# --- kept connections


@run
async def test_connections_are_kept_for_one_org_address_and_name() -> None:
    async with site() as served, guarded() as http:
        served.pages["/"] = text(b"ok")
        for org, host in [
            *((ORG, "local.test"), (ORG, "local.test"), (OrgId("org_2"), "local.test")),
            *((ORG, "127.0.0.1"), (ORG, "local.test")),
        ]:
            request = HttpRequest(method="GET", url=served.url("/", host))
            async with http.send(org, request) as response:
                assert [piece async for piece in response.body] == [b"ok"]
        assert [got.connection for got in served.requests] == [1, 1, 2, 3, 1]


@run
async def test_connections_that_nobody_needs_are_closed() -> None:
    async with site() as served, guarded(kept_s=0.05) as http:
        served.pages["/"] = text(b"ok")
        await ask(http, served.url("/"))
        async with asyncio.timeout(10):
            await served.gone.wait()
        assert http._pools._pools == {}


@run
async def test_slow_names_of_one_org_hold_up_no_other() -> None:
    asked: list[str] = []
    release = asyncio.Event()

    async def resolve(name: str) -> list[str]:
        asked.append(name)
        if name.startswith("slow"):
            await release.wait()
        return ["127.0.0.1"]

    async with site() as served, guarded(resolve=resolve) as http:
        served.pages["/"] = text(b"ok")
        slow = [asyncio.ensure_future(ask(http, served.url("/", f"slow{n}.test"))) for n in range(4)]
        other = HttpRequest(method="GET", url=served.url("/", "quick.test"))
        async with http.send(OrgId("org_2"), other) as response:
            assert response.status == 200
        assert sorted(asked) == ["quick.test", "slow0.test", "slow1.test"]
        release.set()
        await asyncio.gather(*slow)


@run
async def test_a_kept_connection_that_the_server_gave_up_is_replaced() -> None:
    async def last(got: Got, writer: asyncio.StreamWriter) -> None:
        if got.connection == 1 and len(served.requests) > 1:
            writer.close()  # as a server does that has just given the connection up
        else:
            writer.write(answer(200, b"ok"))

    async with site() as served, guarded() as http:
        served.pages["/"] = last
        for _ in range(2):
            assert (await ask(http, served.url("/")))[1] == b"ok"
        assert served.connections == 2


# --- TLS


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The context of a server whose certificate is for `name`, and that of a client who trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))


def test_the_certificate_and_sni_go_by_the_name_and_the_connection_by_the_address(tmp_path: Path) -> None:
    server, client = certificate(tmp_path, "service.test")
    asked: list[str | None] = []
    server.sni_callback = lambda socket, name, context: asked.append(name)

    @run
    async def test() -> None:
        resolve = names(service_test=["127.0.0.1"], other_test=["127.0.0.1"])
        async with site(server) as served, guarded(resolve=resolve, tls=client) as http:
            served.pages["/"] = text(b"safe")
            assert (await ask(http, served.url("/", "service.test")))[1] == b"safe"
            assert served.requests[0].header("host") == f"service.test:{served.port}"
            why = await refused(http, served.url("/", "other.test"))
            assert why.startswith("the certificate of other.test is not good: Hostname mismatch")
        assert asked == ["service.test", "other.test"]
        async with site(server) as served, guarded(resolve=resolve) as http:
            why = await refused(http, served.url("/", "service.test"))
            assert why.startswith("the certificate of service.test is not good: self")

        async def mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 no TLS here\r\n")
            writer.close()
            await writer.wait_closed()

        plain = await asyncio.start_server(mail, "127.0.0.1", 0)
        port = plain.sockets[0].getsockname()[1]
        async with plain, guarded(resolve=resolve, tls=client) as http:
            why = await refused(http, f"https://service.test:{port}/")
            assert why == "TLS with service.test fails"

    test()


@run
async def test_a_body_that_fails_ends_the_request() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        raise EgressFailed("the caller gave up")

    async with site() as served, guarded() as http:

        async def read(got: Got, writer: asyncio.StreamWriter) -> None:
            await read_body(got)

        served.pages["/"] = read
        assert await refused(http, served.url("/"), method="POST", body=body()) == "the caller gave up"
        await served.lost.wait()
