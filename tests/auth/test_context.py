"""build_auth_context: what an authContext may be."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statebacked.auth.context import InvalidAuthContext, build_auth_context
from statebacked.model.limits import AUTH_CONTEXT_BYTES_MAX, AUTH_CONTEXT_DEPTH_MAX

REFUSED = ("__proto__", "constructor", "prototype")


def nested(depth: int) -> object:
    value: object = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


def test_claims_come_out_as_compact_json_in_their_order() -> None:
    assert build_auth_context({"sub": "u", "a": [1, None, True]}) == b'{"sub":"u","a":[1,null,true]}'


@pytest.mark.parametrize("claims", [None, [], "x", 1, True])
def test_an_auth_context_is_an_object(claims: object) -> None:
    with pytest.raises(InvalidAuthContext):
        build_auth_context(claims)


@pytest.mark.parametrize("key", REFUSED)
@pytest.mark.parametrize("wrap", [lambda c: c, lambda c: {"a": c}, lambda c: {"a": [{"b": [c]}]}])
def test_no_key_reaches_a_prototype_at_any_depth(key: str, wrap: "object") -> None:
    assert callable(wrap)
    with pytest.raises(InvalidAuthContext):
        build_auth_context(wrap({key: 1}))


def test_only_the_server_says_who_sent_a_message_or_a_webhook() -> None:
    claims = {
        "stateBackedSender": {"a": 1},
        "sub": "u",
        "stateBackedWebhook": 1,
        "deep": {"stateBackedSender": 1},
    }
    assert msgspec.json.decode(build_auth_context(claims)) == {"sub": "u", "deep": {"stateBackedSender": 1}}


def test_depth_and_size_have_a_limit() -> None:
    build_auth_context(nested(AUTH_CONTEXT_DEPTH_MAX))
    with pytest.raises(InvalidAuthContext):
        build_auth_context(nested(AUTH_CONTEXT_DEPTH_MAX + 1))
    build_auth_context({"a": "x" * (AUTH_CONTEXT_BYTES_MAX - 8)})
    with pytest.raises(InvalidAuthContext):
        build_auth_context({"a": "x" * (AUTH_CONTEXT_BYTES_MAX - 7)})


def test_a_number_has_a_limit() -> None:
    build_auth_context({"a": [10**999]})
    with pytest.raises(InvalidAuthContext, match="1000 characters"):
        build_auth_context({"a": [10**1000]})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4))
def test_what_is_admitted_is_the_claims_and_nothing_else(claims: dict[str, object]) -> None:
    try:
        context = build_auth_context(claims)
    except InvalidAuthContext:
        return
    assert msgspec.json.decode(context) == claims
