"""How JSON text is measured without a parse, and that worst inputs cost a fixed number of passes."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.counting import count_calls

from statebacked.model.json_text import depth_of, has_number_longer_than, is_deeper_than

TEXT = st.text(st.sampled_from('[]{}"\\a\n1.e\U0001f422'), max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=30,
)


def nesting(value: Any) -> int:  # Any: JSON
    if isinstance(value, dict):
        return 1 + max(map(nesting, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(nesting, value), default=0)
    return 0


def longest(value: Any) -> int:  # Any: JSON
    if isinstance(value, dict):
        return max(map(longest, value.values()), default=0)
    if isinstance(value, list):
        return max(map(longest, value), default=0)
    return len(json.dumps(value)) if type(value) in (int, float) else 0


@given(JSON, st.integers(0, 40), st.booleans())
def test_depth_is_that_of_the_value(value: Any, wraps: int, is_ascii: bool) -> None:  # Any: JSON
    for _ in range(wraps):
        value = [value, "]"] if wraps % 2 else {"[": value}
    text = json.dumps(value, ensure_ascii=is_ascii).encode()
    assert depth_of(text) == nesting(value)
    assert not is_deeper_than(nesting(value), text)
    assert nesting(value) == 0 or is_deeper_than(nesting(value) - 1, text)


@given(JSON, st.integers(0, 60), st.sampled_from([2, 3, 5, 8, 16, 40]))
def test_the_longest_number_is_found_wherever_it_stands(value: Any, digits: int, limit: int) -> None:
    text = json.dumps([value, {"n": 10**digits}, "9" * digits]).encode()
    assert has_number_longer_than(limit, text) == (longest([value, 10**digits]) > limit)


@pytest.mark.parametrize("number", ["1" * 1001, "-" + "1" * 1000, "0." + "1" * 999, "1e" + "1" * 999])
@pytest.mark.parametrize("before", [0, 1, 499, 500, 501, 10_000])
def test_a_number_is_judged_by_all_its_characters(number: str, before: int) -> None:
    for text in (f'{{"a":"{"x" * before}","n":{number}}}', f"[{'1,' * before}{number}]", f"{number}"):
        assert has_number_longer_than(1000, text.encode()), (before, number[:3])
        shorter = text.replace(number, number[:-1]).encode()
        assert not has_number_longer_than(1000, shorter), (before, number[:3])


def test_digits_in_a_string_are_no_number() -> None:
    assert not has_number_longer_than(1000, json.dumps({"\\" + "1" * 5000: '"' + "2" * 5000}).encode())


WORST: list[Callable[[int], bytes]] = [
    lambda size: b"[" * 70 + b'"' + b'\\"' * (size // 2),
    lambda size: b'{"event":"' + b'\\"' * (size // 2),
    lambda size: b'"' * size,
    lambda size: b"\\" * size,
    lambda size: b'["' + b"\\\\" * (size // 2) + b'"]',
    lambda size: b"[" * (size // 2) + b"]" * (size // 2),
    lambda size: b"[" + b"[]," * (size // 3),
    lambda size: (b"[" * 62 + b"]" * 62 + b",") * (size // 125),
    lambda size: b'"[",' * (size // 4),
    lambda size: b"[" + b"1," * (size // 2) + b"1" * 1001,
    lambda size: b"9" * size,
    lambda size: (b"9" * 1000 + b",") * (size // 1001),
]


@pytest.mark.parametrize("worst", WORST, ids=range(len(WORST)))
def test_the_worst_text_is_measured_in_as_many_passes_as_a_short_one(worst: Callable[[int], bytes]) -> None:
    def passes(text: bytes) -> int:
        return count_calls(lambda: (is_deeper_than(64, text), has_number_longer_than(1000, text)))

    assert passes(worst(1_000_000)) <= passes(worst(10_000)) < 40
