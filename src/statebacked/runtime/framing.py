"""How the host writes one frame: lengths, header, sections (docs/reference/worker-protocol.md)."""

import struct
from typing import Final

import msgspec

OF_BYTES: Final = 0x8000_0000  # in the length of a header: the frame has one section, and it is bytes

two_lengths = struct.Struct(">II")
encode = msgspec.json.Encoder().encode
_pack = two_lengths.pack


class ProtocolError(Exception):
    """A worker broke the protocol. It must be killed; the text is fit for the machine's owner."""


def frame(header: object) -> list[bytes]:
    head = encode(header)
    return [_pack(4 + len(head), len(head)), head]


def framed(header: object, sections: list[bytes], size: int) -> list[bytes]:
    """`size`: the bytes of all sections, whose lengths stand in the header's `raw`."""
    head = encode(header)
    return [_pack(4 + len(head) + size, len(head)), head, *sections]


def framed_bytes(header: object, section: bytes) -> list[bytes]:
    """The frame of a section that is no text; the header's `raw` holds its length."""
    head = encode(header)
    return [_pack(4 + len(head) + len(section), len(head) | OF_BYTES), head, section]
