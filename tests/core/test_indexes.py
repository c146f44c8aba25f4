"""From a selector to whether it is taken, and from a query to the rows it means."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statebacked.core.indexes import is_selector, parse_position, position, ranges
from statebacked.model.indexes import Op, Order, Place, Range
from statebacked.model.limits import INDEX_SELECTOR_CHARACTERS_MAX

PATHS = json.loads((Path(__file__).parents[1] / "runtime" / "golden" / "selectors.json").read_text())

values = st.text("ab\x00é\uffff😀", max_size=2)
names = st.text("aA~", min_size=1, max_size=2)
rows = st.builds(Place, values, names)
ops = st.sampled_from([None, "eq", "ne", "gt", "gte", "lt", "lte"])
orders = st.sampled_from(["asc", "desc"])


@pytest.mark.parametrize("path", PATHS["taken"])
def test_a_selector_is_a_path_of_names_positions_and_wildcards(path: str) -> None:
    assert is_selector(path)


@pytest.mark.parametrize("path", PATHS["refused"])
def test_any_other_path_is_none(path: str) -> None:
    assert not is_selector(path)


def test_a_selector_is_short() -> None:
    longest = "$." + "a" * (INDEX_SELECTOR_CHARACTERS_MAX - 2)
    assert is_selector(longest)
    assert not is_selector(longest + "a")


def find(held: set[Place], asked: tuple[Range, ...], order: Order) -> list[Place]:
    """What a store gives for ranges."""
    return [
        row
        for one in asked
        for row in sorted(held, reverse=order == "desc")
        if (one.above is None or row > one.above) and (one.below is None or row < one.below)
    ]


MEANS = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}


@given(st.sets(rows, max_size=12), ops, values, orders)
def test_a_query_is_a_filter_over_all_rows(held: set[Place], op: Op | None, value: str, order: Order) -> None:
    expected = [row for row in held if op is None or MEANS[op](row.value, value)]
    assert find(held, ranges(op, value, order, None), order) == sorted(expected, reverse=order == "desc")


@given(st.sets(rows, max_size=12), ops, values, orders, st.integers(1, 4))
def test_the_pages_of_a_query_are_the_whole_of_it(
    held: set[Place], op: Op | None, value: str, order: Order, limit: int
) -> None:
    whole = find(held, ranges(op, value, order, None), order)
    paged: list[Place] = []
    after = None
    while page := find(held, ranges(op, value, order, after), order)[:limit]:
        paged += page
        after = parse_position(position(page[-1]))
        assert len(paged) <= len(whole)
    assert paged == whole


@given(rows)
def test_a_position_is_read_as_the_row_that_it_was_made_of(row: Place) -> None:
    assert parse_position(position(row)) == row


def test_a_position_without_a_row_is_none() -> None:
    with pytest.raises(ValueError, match="no place"):
        parse_position("name")
