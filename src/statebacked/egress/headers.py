"""Headers of requests and answers: what the caller may say, what the server says itself. Pure."""

import re
from typing import Final

from statebacked import __version__
from statebacked.egress.bodies import CODINGS
from statebacked.egress.urls import Target
from statebacked.model.limits import FETCH_HEADERS_BYTES_MAX
from statebacked.ports.egress import EgressRefused, Headers

_OURS: Final = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "te", "upgrade", "expect"),
        *("keep-alive", "trailer"),
    }
)
_SECRET: Final = frozenset({"authorization", "cookie"})
_DEFAULTS: Final = {
    "accept": "*/*",
    "accept-encoding": "gzip, deflate",
    "user-agent": f"statebacked/{__version__}",
}
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE: Final = re.compile(r"[\t -~\x80-\xff]*")
_FORBIDDEN_METHODS: Final = frozenset({"CONNECT", "TRACE", "TRACK"})


def check_method(method: str) -> None:
    """Raises EgressRefused."""
    if not _NAME.fullmatch(method) or method.upper() in _FORBIDDEN_METHODS:
        raise EgressRefused("a request with that method cannot be sent")


def callers_headers(headers: Headers) -> list[tuple[str, str]]:
    """Those that are the caller's to say, names in lower case. Raises EgressRefused."""
    if bytes_of(headers) > 2 * FETCH_HEADERS_BYTES_MAX:  # some of them are dropped; the rest counts below
        raise EgressRefused(f"the headers of the request take more than {FETCH_HEADERS_BYTES_MAX:,} bytes")
    said: list[tuple[str, str]] = []
    for name, value in headers:
        value = value.strip(" \t")
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise EgressRefused("the request has a header that HTTP does not allow")
        if not _is_ours(name.lower()):
            said.append((name.lower(), value))
    if bytes_of(said) > FETCH_HEADERS_BYTES_MAX:
        raise EgressRefused(f"the headers of the request take more than {FETCH_HEADERS_BYTES_MAX:,} bytes")
    return said


def _is_ours(name: str) -> bool:
    return name in _OURS or name.startswith("proxy-")


def bytes_of(headers: Headers) -> int:
    """What they take on the wire."""
    return sum(len(name) + len(value) + 4 for name, value in headers)


def without_secrets(headers: Headers) -> list[tuple[str, str]]:
    """For another origin than the one that the caller had in mind."""
    return [(name, value) for name, value in headers if name not in _SECRET]


def without_content(headers: Headers) -> list[tuple[str, str]]:
    """For a request whose body is dropped."""
    return [(name, value) for name, value in headers if not name.startswith("content-")]


def on_the_wire(
    target: Target, headers: Headers, *, has_body: bool, length: int | None
) -> list[tuple[bytes, bytes]]:
    """All headers of a request; `length` None: the body goes in chunks."""
    said = {name for name, _ in headers}
    every = [("host", target.authority), *headers]
    every += [(name, value) for name, value in _DEFAULTS.items() if name not in said]
    if has_body and length is None:
        every.append(("transfer-encoding", "chunked"))
    elif has_body:
        every.append(("content-length", str(length)))
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in every]


def answers_headers(raw: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Those that are for the caller, names in lower case."""
    every = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw]
    return [(name, value) for name, value in every if name == "content-length" or not _is_ours(name)]


def find(headers: Headers, name: str) -> str | None:
    return next((value for other, value in headers if other == name), None)


def unpacked(headers: Headers) -> tuple[Headers, str | None]:
    """The headers of an answer whose packing is undone, and the packing; None: none that we undo."""
    coding = (find(headers, "content-encoding") or "").strip().lower()
    if coding not in CODINGS:
        return headers, None
    rest = [(name, value) for name, value in headers if name not in {"content-encoding", "content-length"}]
    return rest, coding
