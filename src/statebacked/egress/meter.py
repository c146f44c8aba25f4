"""What an answer takes on the wire, beside its body: counted before a parser sees it. Sans-IO.

Theory of operation. An answer is a few interim heads (1xx), a head, and a body that has a length, comes in
chunks, or ends with the connection. Whatever is not body counts against FETCH_HEADERS_BYTES_MAX and
FETCH_HEADER_LINES_MAX: all heads together, what stands behind the sizes of chunks, and the trailers. The
meter decides nothing that the parser behind it decides: where the two could disagree, the answer is refused.
"""

import re
from typing import Final

from statebacked.model.limits import (
    FETCH_HEADER_LINES_MAX,
    FETCH_HEADERS_BYTES_MAX,
    FETCH_INTERIM_ANSWERS_MAX,
    FETCH_WIRE_BYTES_MAX,
)
from statebacked.ports.egress import EgressFailed

_HEAD_END: Final = re.compile(rb"\n\r?\n")
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")
_LENGTH: Final = re.compile(rb"\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r?\n", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\ntransfer-encoding:[ \t]*chunked[ \t]*\r?\n", re.IGNORECASE)
_SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,16}")


class AnswerMeter:
    """`name` is the server's, for texts. `has_surplus`: more came than the answer that was asked for."""

    def __init__(self, name: str) -> None:
        self.has_surplus = False
        self._name = name
        self._read = self._read_head
        self._line = bytearray()  # of a head or a line whose end has not come
        self._received = 0
        self._extra_bytes = 0
        self._lines = 0
        self._interims = 0
        self._left = 0  # of a body with a length, or of a chunk with its line end

    @property
    def is_untouched(self) -> bool:
        """Nothing has come yet."""
        return not self._received

    def feed(self, data: bytes) -> None:
        """More of the answer. Raises EgressFailed when it takes too much, or is no HTTP."""
        self._received += len(data)
        if self._received > FETCH_WIRE_BYTES_MAX:
            raise EgressFailed(f"the answer of {self._name} takes more than {FETCH_WIRE_BYTES_MAX:,} bytes")
        at = 0
        while at < len(data):
            at = self._read(data, at)

    # --- each reads on from `at`, and says where it has stopped

    def _read_head(self, data: bytes, at: int) -> int:
        held = len(self._line)
        self._line += data[at:]
        end = _HEAD_END.search(self._line, max(0, held - 2))
        if end is None:
            self._check(len(self._line), 0)
            return len(data)
        head = bytes(self._line[: end.end()])
        self._line.clear()
        self._count(len(head), head.count(b"\n"))
        status = _STATUS.match(head)
        if status is None:
            raise self._broken()
        if status[1].startswith(b"1") and status[1] != b"101":
            self._interims += 1
            if self._interims > FETCH_INTERIM_ANSWERS_MAX:
                raise EgressFailed(
                    f"{self._name} sends more than {FETCH_INTERIM_ANSWERS_MAX} interim answers"
                )
        else:
            self._begin_body(head)
        return at + len(head) - held

    def _begin_body(self, head: bytes) -> None:
        length = _LENGTH.search(head)
        if _CHUNKED.search(head):
            self._read = self._read_size
        elif length is not None:
            self._left = int(length[1])
            self._read = self._read_length
        else:
            self._read = self._read_all

    def _read_all(self, data: bytes, at: int) -> int:
        return len(data)

    def _read_length(self, data: bytes, at: int) -> int:
        stop = min(len(data), at + self._left)
        self._left -= stop - at
        if stop < len(data):
            self._read = self._read_surplus
        return stop

    def _read_surplus(self, data: bytes, at: int) -> int:
        self.has_surplus = True
        return len(data)

    def _read_size(self, data: bytes, at: int) -> int:
        line, stop = self._whole_line(data, at)
        if line is None:
            return stop
        size = _SIZE.match(line)
        if size is None:
            raise self._broken()
        self._count(len(line) - len(size[0]) - 2, 0)
        self._left = int(size[0], 16) + 2
        self._read = self._read_chunk if self._left > 2 else self._read_trailer
        return stop

    def _read_chunk(self, data: bytes, at: int) -> int:
        stop = min(len(data), at + self._left)
        self._left -= stop - at
        if not self._left:
            self._read = self._read_size
        return stop

    def _read_trailer(self, data: bytes, at: int) -> int:
        line, stop = self._whole_line(data, at)
        if line is not None:
            self._count(len(line), 1)
            if line in {b"\r\n", b"\n"}:
                self._read = self._read_surplus
        return stop

    def _whole_line(self, data: bytes, at: int) -> tuple[bytes | None, int]:
        end = data.find(b"\n", at) + 1
        if not end:
            self._line += data[at:]
            self._check(len(self._line), 0)
            return None, len(data)
        line = bytes(self._line) + data[at:end]
        self._line.clear()
        return line, end

    # --- counting

    def _count(self, size: int, lines: int) -> None:
        self._check(size, lines)
        self._extra_bytes += size
        self._lines += lines

    def _check(self, size: int, lines: int) -> None:
        if self._extra_bytes + size > FETCH_HEADERS_BYTES_MAX:
            raise EgressFailed(
                f"the headers of {self._name} take more than {FETCH_HEADERS_BYTES_MAX:,} bytes"
            )
        if self._lines + lines > FETCH_HEADER_LINES_MAX:
            raise EgressFailed(f"the headers of {self._name} are more than {FETCH_HEADER_LINES_MAX} lines")

    def _broken(self) -> EgressFailed:
        return EgressFailed(f"{self._name} breaks HTTP")
