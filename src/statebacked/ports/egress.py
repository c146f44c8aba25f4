"""HTTP requests of machine code to the outside."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from statebacked.model.ids import OrgId


class EgressFailed(Exception):
    """A request had no answer that can be used; the text is fit for whoever asked for it."""


class EgressRefused(EgressFailed):
    """A rule forbids the request, or where it was redirected to; nothing was sent there."""


Headers = Sequence[tuple[str, str]]
Redirect = Literal["follow", "manual", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """`url` as the WHATWG parser writes it; `length` of `body` in bytes, if it is known."""

    method: str
    url: str
    headers: Headers = ()
    body: AsyncIterator[bytes] | None = None
    length: int | None = None
    redirect: Redirect = "follow"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """`url`: where it came from in the end. `body` is unpacked, the headers of its packing are gone. It
    gives pieces of at most FETCH_CHUNK_BYTES_MAX and raises EgressFailed, also past FETCH_BODY_BYTES_MAX."""

    status: int
    reason: str
    headers: Headers
    url: str
    redirected: bool
    body: AsyncIterator[bytes]


class Egress(Protocol):
    """Requests for machine code and for what orgs configure, under the rules of docs/guide/environment.md."""

    def send(self, org: OrgId | None, request: HttpRequest) -> AbstractAsyncContextManager[HttpResponse]:
        """Send a request for an org (None: for the server itself); leaving the context ends what is under
        way. Entering it raises EgressFailed, EgressRefused."""
