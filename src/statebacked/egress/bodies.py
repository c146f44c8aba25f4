"""The body of a response: undone, in small pieces, within a limit. Sans-IO.

What a server sends may unpack to a thousand times its size. It is unpacked in pieces of at most
FETCH_CHUNK_BYTES_MAX, and only as far as the limit reaches.
"""

import zlib
from collections.abc import Iterator
from typing import Final

from statebacked.model.limits import FETCH_CHUNK_BYTES_MAX, FETCH_GZIP_MEMBERS_MAX
from statebacked.ports.egress import EgressFailed

CODINGS: Final = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP: Final = 31  # zlib's words for the format of the stream
_ZLIB: Final = 15
_RAW: Final = -15


class BodyReader:
    """`coding` is one of CODINGS, or None for a body that is what it is. Raises EgressFailed past
    `bytes_max`, and for what cannot be unpacked."""

    def __init__(self, coding: str | None, bytes_max: int) -> None:
        self._inflater = None if coding is None else _Inflater(coding)
        self._bytes_max = bytes_max
        self._received = 0
        self._given = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces that `data` gives, none of them empty."""
        self._received += len(data)
        if self._received > self._bytes_max:
            self._too_long()
        pieces = _pieces(data) if self._inflater is None else self._inflater.feed(data)
        for piece in pieces:
            self._given += len(piece)
            if self._given > self._bytes_max:
                self._too_long()
            yield piece

    def end(self) -> None:
        """The server has sent everything."""
        if self._inflater is not None and self._received and not self._inflater.is_whole:
            raise EgressFailed("the body of the answer is packed and ends too early")

    def _too_long(self) -> None:
        raise EgressFailed(f"the body of the answer is longer than {self._bytes_max:,} bytes")


class _Inflater:
    def __init__(self, coding: str) -> None:
        self._format = _GZIP
        self._is_undecided = coding == "deflate"
        self._held = b""
        self._stream = zlib.decompressobj(self._format)
        self._members = 1

    @property
    def is_whole(self) -> bool:
        return self._stream.eof and not self._held

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._is_undecided:
            data = self._held = self._held + data
            if len(data) < 2:
                return
            self._held = b""
            self._is_undecided = False
            self._format = _ZLIB if _has_zlib_header(data) else _RAW
            self._stream = zlib.decompressobj(self._format)
        may_hold_more = False
        while data or may_hold_more:
            if self._stream.eof:
                if self._format != _GZIP:
                    return  # what follows is nobody's
                self._begin_member()
            try:
                piece = self._stream.decompress(data, FETCH_CHUNK_BYTES_MAX)
            except zlib.error:
                raise EgressFailed("the body of the answer is packed and damaged") from None
            if piece:
                yield piece
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            may_hold_more = len(piece) == FETCH_CHUNK_BYTES_MAX and not self._stream.eof

    def _begin_member(self) -> None:
        """gzip may have several members; each copies the rest of what came with it."""
        self._members += 1
        if self._members > FETCH_GZIP_MEMBERS_MAX:
            raise EgressFailed(
                f"the body of the answer is packed in more than {FETCH_GZIP_MEMBERS_MAX} parts"
            )
        self._stream = zlib.decompressobj(_GZIP)


def _has_zlib_header(data: bytes) -> bool:
    """Some servers take "deflate" at its word and leave out zlib's frame."""
    return data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0


def _pieces(data: bytes) -> Iterator[bytes]:
    if len(data) <= FETCH_CHUNK_BYTES_MAX:
        if data:
            yield data
        return
    for start in range(0, len(data), FETCH_CHUNK_BYTES_MAX):
        yield data[start : start + FETCH_CHUNK_BYTES_MAX]
