"""Which selectors an index may have, and from a query to the rows it means, page by page."""

import re
from typing import assert_never

from statebacked.model.indexes import BEHIND, IndexRow, Op, Order, Place, Range
from statebacked.model.limits import INDEX_SELECTOR_CHARACTERS_MAX

# JSONPath (RFC 9535) of names, positions and wildcards. Worker processes read paths by the same rules
# (runtime/js/selectors.ts). Filters, slices and descent are left out: what they cost depends on the context.
_SELECTOR = re.compile(
    r"""\$(?:
        \.[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*
        | \[\s*'(?:[^'\\]|\\['\\])*'\s*\]
        | \[\s*"(?:[^"\\]|\\["\\])*"\s*\]
        | \[\s*-?\d{1,9}\s*\]
        | \.\*
        | \[\s*\*\s*\]
    )*""",
    re.VERBOSE | re.ASCII,
)


def is_selector(path: str) -> bool:
    """Whether an index can be read from a context by this path."""
    return len(path) <= INDEX_SELECTOR_CHARACTERS_MAX and _SELECTOR.fullmatch(path) is not None


def ranges(op: Op | None, value: str, order: Order, after: Place | None) -> tuple[Range, ...]:
    """Where the rows of a query stand, in its order; `op` None: all rows. `after`: the last row of the page
    before this one."""
    found = _ranges(op, value)
    if order == "desc":
        found = found[::-1]
    if after is None:
        return found
    return tuple(_rest(one, order, after) for one in found)


def _ranges(op: Op | None, value: str) -> tuple[Range, ...]:
    first, last = Place(value, ""), Place(value, BEHIND)
    match op:
        case None:
            return (Range(None, None),)
        case "eq":
            return (Range(first, last),)
        case "ne":
            return (Range(None, first), Range(last, None))
        case "gt":
            return (Range(last, None),)
        case "gte":
            return (Range(first, None),)
        case "lt":
            return (Range(None, first),)
        case "lte":
            return (Range(None, last),)
        case _:
            assert_never(op)


def _rest(one: Range, order: Order, after: Place) -> Range:
    """What of a range comes after that row: a range without rows, when that is nothing."""
    if order == "asc":
        return Range(after if one.above is None else max(one.above, after), one.below)
    return Range(one.above, after if one.below is None else min(one.below, after))


def position(row: Place | IndexRow) -> str:
    """A row as text, for a cursor."""
    return f"{row.name}\n{row.value}"


def parse_position(text: str) -> Place:
    """Raises ValueError for what is no row."""
    name, separator, value = text.partition("\n")
    if not separator:
        raise ValueError("no place of an index")
    return Place(value, name)
