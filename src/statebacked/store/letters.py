"""How much is kept of a delivery that is given up: all of it, its head, or nothing.

A machine whose every timer fails would fill the disk. Within its limits an org's dead letters are kept whole.
Beyond, what is kept says who sent what kind of event to whom and why it failed, which is enough to find the
fault, and not enough to deliver it again. Heads are small, and bounded all the same.
"""

from typing import Literal, NamedTuple

import msgspec

from statebacked.model.limits import (
    DEAD_LETTER_BYTES_PER_ORG_MAX,
    DEAD_LETTER_HEADS_PER_ORG_MAX,
    DEAD_LETTER_TYPE_CHARACTERS_MAX,
    DEAD_LETTERS_PER_ORG_MAX,
)
from statebacked.model.values import Json

Room = Literal["whole", "head", "none"]


class LetterLimits(NamedTuple):
    """Of one org. `bytes` counts the events of those kept whole."""

    letters: int = DEAD_LETTERS_PER_ORG_MAX
    bytes: int = DEAD_LETTER_BYTES_PER_ORG_MAX
    heads: int = DEAD_LETTER_HEADS_PER_ORG_MAX


LETTER_LIMITS = LetterLimits()


class LetterTotals(NamedTuple):
    """What an org has, in the same terms."""

    letters: int
    bytes: int
    heads: int


class _Typed(msgspec.Struct):
    type: str


_decode = msgspec.json.Decoder(_Typed).decode


def room_for(event_bytes: int, totals: LetterTotals, limits: LetterLimits) -> Room:
    """What may be kept of one more."""
    if totals.letters < limits.letters and totals.bytes + event_bytes <= limits.bytes:
        return "whole"
    return "head" if totals.heads < limits.heads else "none"


def head_of(kind: str, event: Json) -> Json:
    """`{"type": …}`, the type cut to its limit; null for what is no event but a child's context or output."""
    if kind not in ("timer", "self", "event"):
        return Json(b"null")
    type = _decode(event).type[:DEAD_LETTER_TYPE_CHARACTERS_MAX]
    return Json(msgspec.json.encode({"type": type}))
