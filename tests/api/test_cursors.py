"""Cursors: good for their own list and for nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statebacked.api.cursors import Cursors
from statebacked.auth.secrets import Keyring
from statebacked.model.errors import InvalidCursor
from tests.api.doubles import CountedBytes, keyring

CURSORS = Cursors(keyring())
LIST = {"org": "org_1", "route": "/machines", "query": "q"}


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=128))
def test_a_cursor_gives_its_position_again(position: str) -> None:
    cursor = CURSORS.seal(position, **LIST)
    assert CURSORS.open(cursor, **LIST) == position
    assert set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize("name", LIST)
def test_another_lists_cursor_is_refused(name: str) -> None:
    cursor = CURSORS.seal("a", **LIST)
    with pytest.raises(InvalidCursor):
        CURSORS.open(cursor, **{**LIST, name: "another"})


def test_another_servers_cursor_is_refused() -> None:
    other = Cursors(Keyring(b"z" * 32, CountedBytes()))
    with pytest.raises(InvalidCursor):
        CURSORS.open(other.seal("a", **LIST), **LIST)


@given(st.text(max_size=80))
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        CURSORS.open(text, **LIST)


def test_a_damaged_cursor_is_refused() -> None:
    cursor = CURSORS.seal("machine-1", **LIST)
    for at in range(len(cursor)):
        other = "B" if cursor[at] == "A" else "A"
        with pytest.raises(InvalidCursor):
            CURSORS.open(cursor[:at] + other + cursor[at + 1 :], **LIST)
    with pytest.raises(InvalidCursor):
        CURSORS.open(cursor + "A" * 2_000, **LIST)
