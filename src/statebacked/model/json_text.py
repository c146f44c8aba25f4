"""Measures of JSON text that need no parse: how deep it nests, and how long its longest number is.

Both are for JSON that a decoder took already (of other text the answers mean nothing, but they stay cheap).
Each is a fixed number of passes over the text, all of them in C: about 30 ms for the worst megabyte.
"""

import re
from itertools import accumulate
from typing import Final

_NEITHER_BRACKET_NOR_QUOTE: Final = bytes(set(range(256)) - set(b'[]{}"'))
_LEVELS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes: 1 and -1
_OF_NUMBERS: Final = b"+-.0123456789Ee"
_NUMBERS_AND_SPACES: Final = bytes(byte if byte in _OF_NUMBERS else ord(" ") for byte in range(256))
_TWO_IN_A_ROW: Final = re.compile(rb"[-+.0-9Ee]{2}")


def is_deeper_than(depth_max: int, json: bytes) -> bool:
    """Whether arrays and objects of this valid JSON nest deeper than that."""
    # What has no more brackets is not deeper, and counting costs next to nothing.
    return json.count(b"{") + json.count(b"[") > depth_max and depth_of(json) > depth_max


def depth_of(json: bytes) -> int:
    """How deep arrays and objects of this valid JSON nest; 0 for a scalar."""
    marks = _without_escapes(json).translate(None, _NEITHER_BRACKET_NOR_QUOTE)
    # Two quotes in a row end one string and begin the next, or are one: what is in a string stays in one.
    levels = _without_strings(marks.replace(b'""', b"")).translate(_LEVELS)
    return max(accumulate(memoryview(levels).cast("b")), default=0)


def has_number_longer_than(characters_max: int, json: bytes) -> bool:
    """Whether a number of this valid JSON is written with more than that many characters (at least 2)."""
    # So long a number covers two samples in a row; hardly any text has two of its characters there.
    if len(json) <= characters_max or not _TWO_IN_A_ROW.search(json[:: characters_max // 2]):
        return False
    outside = _without_strings(_without_escapes(json)).translate(_NUMBERS_AND_SPACES)
    return max(map(len, outside.split()), default=0) > characters_max


def _without_escapes(json: bytes) -> bytes:
    """Without escaped backslashes and quotes: every quote that is left begins or ends a string."""
    return json.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in json else json


def _without_strings(text: bytes) -> bytes:
    return b"".join(text.split(b'"')[::2]) if b'"' in text else text
