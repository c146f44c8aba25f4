"""ports.Egress: HTTP requests on behalf of others, under one guard.

Theory of operation. A request is a chain of hops, one for each redirect. Every hop starts anew: the URL is
read strictly, its name is resolved, every address must be allowed, and the connection goes to one of these
very addresses, while `host`, SNI and the certificate go by the name. A hop has FETCH_HEADERS_MS until the
head of its answer is there, counted from the last piece of body that the caller gave; after that the caller
decides how long to read. The environment's proxies, .netrc and cookies play no part: httpcore knows none.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import httpcore

from statebacked.egress import headers as fields
from statebacked.egress.bodies import BodyReader
from statebacked.egress.pools import Pools
from statebacked.egress.resolver import Resolve, Resolver, system_resolve
from statebacked.egress.urls import Target, normal, parse_url
from statebacked.model.ids import OrgId
from statebacked.model.limits import (
    FETCH_BODY_BYTES_MAX,
    FETCH_HEADERS_BYTES_MAX,
    FETCH_HEADERS_MS,
    FETCH_REDIRECTS_MAX,
    FETCH_REPLAY_BYTES_MAX,
)
from statebacked.ports.egress import EgressFailed, EgressRefused, Headers, HttpRequest, HttpResponse

_ADDRESSES_TRIED_MAX: Final = 3
_CONNECT_S: Final = 3.0  # for one address while there are others to try
_KEPT_S: Final = 15.0
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_BODILESS: Final = frozenset({"GET", "HEAD"})
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class _Hop:
    method: str
    target: Target
    headers: Headers
    body: "_Body | None"


class GuardedHttp:
    """`allow_private` opens this machine and the networks of its owner, for development. The rest is for
    tests."""

    def __init__(
        self,
        *,
        allow_private: bool,
        resolve: Resolve = system_resolve,
        ssl_context: ssl.SSLContext | None = None,
        headers_ms: int = FETCH_HEADERS_MS,
        kept_s: float = _KEPT_S,
        connect_s: float = _CONNECT_S,
    ) -> None:
        self._resolver = Resolver(resolve, allow_private=allow_private)
        self._pools = Pools(ssl_context, kept_s)
        self._headers_ms = headers_ms
        self._connect_s = connect_s

    async def aclose(self) -> None:
        """Close the kept connections."""
        await self._pools.aclose()

    @asynccontextmanager
    async def send(self, org: OrgId | None, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        """See ports.Egress."""
        fields.check_method(request.method)
        body = None if request.body is None else _Body(request.body, request.length)
        hop = _Hop(request.method, parse_url(request.url), fields.callers_headers(request.headers), body)
        async with AsyncExitStack() as stack:
            redirects = 0
            while True:
                answer = await self._answer(org, hop, stack)
                said = fields.answers_headers(answer.headers)
                location = _location(answer.status, said)
                if location is None or request.redirect == "manual":
                    break
                if request.redirect == "error":
                    raise EgressRefused('the answer is a redirect, and `redirect` is "error"')
                redirects += 1
                if redirects > FETCH_REDIRECTS_MAX:
                    raise EgressRefused(f"there are more than {FETCH_REDIRECTS_MAX} redirects")
                await stack.aclose()
                hop = _redirected(hop, answer.status, location)
            yield _response(hop, answer, said, is_redirected=redirects > 0)

    async def _answer(self, org: OrgId | None, hop: _Hop, stack: AsyncExitStack) -> httpcore.Response:
        """The head of a hop's answer; `stack` then holds what there is to close."""
        name = hop.target.name
        try:
            async with asyncio.timeout(self._headers_ms / 1000) as limit:
                if hop.body is not None:
                    hop.body.patience = _Patience(limit, self._headers_ms / 1000)
                answer = await self._exchange_with_any(org, hop, stack)
        except TimeoutError:
            raise EgressFailed(f"{name} does not answer within {self._headers_ms / 1000:g} s") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
            raise EgressFailed(_told(error, hop.target)) from error
        if not 200 <= answer.status <= 599:
            raise EgressFailed(f"{name} answers with the status {answer.status}")
        if sum(len(name) + len(value) + 4 for name, value in answer.headers) > FETCH_HEADERS_BYTES_MAX:
            raise EgressFailed(f"the headers of {name} take more than {FETCH_HEADERS_BYTES_MAX:,} bytes")
        return answer

    async def _exchange_with_any(
        self, org: OrgId | None, hop: _Hop, stack: AsyncExitStack
    ) -> httpcore.Response:
        addresses = (await self._resolver.addresses(org, hop.target))[:_ADDRESSES_TRIED_MAX]
        while True:
            address = addresses.pop(0)
            pool = await stack.enter_async_context(self._pools.lease(org, address, hop.target))
            try:
                return await _exchange(pool, hop, stack, connect_s=self._connect_s if addresses else None)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if not addresses:
                    raise
                # Nothing was sent: the next one may be reachable.


async def _exchange(
    pool: httpcore.AsyncConnectionPool, hop: _Hop, stack: AsyncExitStack, *, connect_s: float | None
) -> httpcore.Response:
    try:
        answer = await pool.handle_async_request(_on_the_wire(hop, connect_s))
    except (httpcore.RemoteProtocolError, httpcore.ReadError):
        if hop.body is not None or hop.method not in _SAFE:
            raise
        # The server gave up a kept connection.
        answer = await pool.handle_async_request(_on_the_wire(hop, connect_s))
    stack.push_async_callback(answer.aclose)
    return answer


def _on_the_wire(hop: _Hop, connect_s: float | None) -> httpcore.Request:
    target, body = hop.target, hop.body
    length = 0 if body is None else body.length
    has_body = body is not None or hop.method not in _SAFE
    return httpcore.Request(
        hop.method,
        httpcore.URL(scheme=target.scheme, host=target.name, port=target.port, target=target.path),
        headers=fields.on_the_wire(target, hop.headers, has_body=has_body, length=length),
        content=None if body is None else body.pieces(),
        extensions={"timeout": {"connect": connect_s}},
    )


def _location(status: int, headers: Headers) -> str | None:
    """Where a redirect leads, as the server wrote it."""
    location = fields.find(headers, "location") if status in _REDIRECTS else None
    if location is None:
        return None
    try:
        return location.encode("latin-1").decode()
    except UnicodeDecodeError:
        return location


def _redirected(hop: _Hop, status: int, location: str) -> _Hop:
    """The next hop, as the Fetch standard has it. Raises EgressRefused."""
    target = parse_url(normal(location, hop.target.url))
    headers = hop.headers
    if target.origin != hop.target.origin:
        headers = fields.without_secrets(headers)
    becomes_get = (status in {301, 302} and hop.method == "POST") or (
        status == 303 and hop.method not in _BODILESS
    )
    if becomes_get:
        return _Hop("GET", target, fields.without_content(headers), None)
    return replace(hop, target=target, headers=headers)


def _response(hop: _Hop, answer: httpcore.Response, said: Headers, *, is_redirected: bool) -> HttpResponse:
    headers, coding = fields.unpacked(said)
    reason = answer.extensions.get("reason_phrase", b"")
    assert isinstance(reason, bytes)
    return HttpResponse(
        status=answer.status,
        reason=reason.decode("latin-1"),
        headers=headers,
        url=hop.target.url,
        redirected=is_redirected,
        body=_pieces(answer, hop.target, coding),
    )


async def _pieces(answer: httpcore.Response, target: Target, coding: str | None) -> AsyncIterator[bytes]:
    reader = BodyReader(coding, FETCH_BODY_BYTES_MAX)
    try:
        async for data in answer.aiter_stream():
            for piece in reader.feed(data):
                yield piece
            await asyncio.sleep(0)  # data that unpacks to nothing takes its turns, too
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        raise EgressFailed(_told(error, target)) from error
    reader.end()


def _told(error: Exception, target: Target) -> str:
    """What went wrong, without the addresses that texts of the system may hold."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the certificate of {target.name} is not good: {cause.verify_message}"
    if cause is not None:
        return f"TLS with {target.name} fails"
    match error:
        case httpcore.ConnectError():
            return f"{target.name} cannot be reached on port {target.port}"
        case httpcore.LocalProtocolError():
            return f"the request is not valid HTTP: {error}"
        case httpcore.ProtocolError():
            return f"{target.name} breaks HTTP: {error}"
        case _:
            return f"the connection to {target.name} was lost"


class _Patience:
    """The time that a hop has left. It stands still while the caller makes the next piece of the body."""

    def __init__(self, limit: asyncio.Timeout, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds

    def pause(self) -> None:
        self._limit.reschedule(None)

    def resume(self) -> None:
        self._limit.reschedule(asyncio.get_running_loop().time() + self._seconds)


class _Body:
    """A request's body. Its beginning is kept: a redirect may ask for it again."""

    def __init__(self, source: AsyncIterator[bytes], length: int | None) -> None:
        self.length = length
        self.patience: _Patience | None = None
        self._source = source
        self._kept: list[bytes] | None = []
        self._taken_bytes = 0

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body from its beginning. Raises EgressFailed when that is not kept any more."""
        if self._kept is None:
            kept = f"{FETCH_REPLAY_BYTES_MAX:,} bytes"
            raise EgressFailed(f"a redirect asks for the body again, and only {kept} are kept for that")
        for piece in [*self._kept]:
            yield piece
        assert self.patience is not None
        self.patience.pause()
        async for piece in self._source:
            self.patience.resume()
            self._take(piece)
            yield piece
            self.patience.pause()
        self.patience.resume()
        if self.length is not None and self._taken_bytes != self.length:
            raise EgressFailed("the body of the request is shorter than was said")

    def _take(self, piece: bytes) -> None:
        self._taken_bytes += len(piece)
        if self.length is not None and self._taken_bytes > self.length:
            raise EgressFailed("the body of the request is longer than was said")
        if self._kept is not None and self._taken_bytes <= FETCH_REPLAY_BYTES_MAX:
            self._kept.append(piece)
        else:
            self._kept = None
