"""The frames of fetches (docs/reference/worker-protocol.md): requests of machine code, and their answers."""

from typing import Annotated, Final, Literal

import msgspec

from statebacked.model import limits
from statebacked.ports.egress import Headers
from statebacked.runtime.framing import frame, framed_bytes

PIECE_COST: Final = 1_000  # what a piece of a body costs beyond its bytes, so that many small ones cost more

_Count = Annotated[int, msgspec.Meta(ge=0)]


# --- what a worker says --------------------------------------------------------------------------


class _FromWorker(msgspec.Struct, tag_field="t", gc=False):
    pass


class Fetch(_FromWorker, tag="fetch"):
    """A request. `read`, or `a` with one of the other two or none, is whose code claims to ask."""

    f: int
    method: str
    url: str
    headers: list[tuple[str, str]]
    redirect: Literal["follow", "manual", "error"]
    body: bool
    length: _Count | None = None
    a: int = 0
    service: tuple[str, int] | None = None
    compute: int | None = None
    read: int | None = None


class FetchUpload(_FromWorker, tag="fetch_upload"):
    f: int
    ends: bool
    raw: list[_Count] = []


class FetchMore(_FromWorker, tag="fetch_more"):
    f: int
    bytes: _Count


class FetchAbort(_FromWorker, tag="fetch_abort"):
    f: int


FetchFrame = Fetch | FetchUpload | FetchMore | FetchAbort
FETCH_FRAMES: Final = frozenset({Fetch, FetchUpload, FetchMore, FetchAbort})


# --- what the host says --------------------------------------------------------------------------


class _FromHost(msgspec.Struct, tag_field="t", gc=False):
    pass


class FetchLimits(msgspec.Struct, gc=False):
    """Part of `boot`."""

    per_instance_max: int = limits.FETCHES_PER_INSTANCE_MAX
    per_worker_max: int = limits.FETCHES_PER_WORKER_MAX
    headers_bytes_max: int = limits.FETCH_HEADERS_BYTES_MAX
    body_bytes_max: int = limits.FETCH_BODY_BYTES_MAX
    chunk_bytes_max: int = limits.FETCH_CHUNK_BYTES_MAX
    window_bytes: int = limits.FETCH_WINDOW_BYTES


class _FetchHead(_FromHost, tag="fetch_head"):
    f: int
    status: int
    text: str
    headers: Headers
    url: str
    redirected: bool
    body: bool


class _FetchChunk(_FromHost, tag="fetch_chunk"):
    f: int
    ends: bool
    raw: list[int]


class _FetchUploadMore(_FromHost, tag="fetch_upload_more"):
    f: int
    bytes: int


class _FetchFailed(_FromHost, tag="fetch_failed"):
    f: int
    message: str


def fetch_head(
    f: int, status: tuple[int, str], headers: Headers, source: tuple[str, bool], *, body: bool
) -> list[bytes]:
    """`source`: the URL that answered, and whether it is another than was asked."""
    code, text = status
    url, redirected = source
    return frame(_FetchHead(f, code, text, headers, url, redirected, body))


def fetch_chunk(f: int, piece: bytes, *, ends: bool = False) -> list[bytes]:
    return framed_bytes(_FetchChunk(f, ends, [len(piece)]), piece)


def fetch_upload_more(f: int, count: int) -> list[bytes]:
    return frame(_FetchUploadMore(f, count))


def fetch_failed(f: int, message: str) -> list[bytes]:
    return frame(_FetchFailed(f, message))
