"""JSON in and out."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statebacked.api.wire import (
    CreateInstance,
    FinalizeVersion,
    error_body,
    iso,
    parse_body,
    parse_context,
    parse_event,
    state_body,
    update_frame,
)
from statebacked.model.errors import InvalidBody, InvalidParameter, NotFound
from statebacked.model.ids import InstanceKey, InstanceName, Instant, MachineName, OrgId, Seq
from statebacked.model.limits import EVENT_BODY_DEPTH_MAX, NUMBER_CHARACTERS_MAX
from statebacked.model.rows import StateView
from statebacked.model.values import Json
from tests.api.contract import named

KEY = InstanceKey(OrgId("org_1"), MachineName("m"), InstanceName("auth0|a@b.c:+~-_"))


def view(public: bytes | None = b'{"n":1}', value: bytes = b'{"a":"b"}') -> StateView:
    return StateView(
        seq=Seq(3),
        ts=Instant(1_750_000_000_123),
        value=Json(value),
        tags=Json(b'["x"]'),
        done=True,
        public=None if public is None else Json(public),
    )


def test_a_state_is_written_as_the_client_reads_it() -> None:
    assert state_body(view()) == (
        b'{"ts":1750000000123,"state":{"a":"b"},"publicContext":{"n":1},"tags":["x"],"done":true}'
    )


def test_a_missing_public_context_is_left_out_and_a_null_one_is_not() -> None:
    assert b"publicContext" not in state_body(view(None))
    assert json.loads(state_body(view(b"null")))["publicContext"] is None


def test_a_push_is_the_state_with_its_address() -> None:
    frame = json.loads(update_frame(KEY, view()))
    assert frame == {
        "type": "instance-update",
        "machineName": "m",
        "machineInstanceName": KEY.name,
        **json.loads(state_body(view())),
    }
    named("SocketMessage").validate(frame)


def test_an_event_that_is_a_string_becomes_an_object() -> None:
    assert parse_event(b'{"event": "toggle"}') == b'{"type":"toggle"}'
    assert parse_event('{"event":"a\\"\\u00e9é"}'.encode()) == '{"type":"a\\"\\u00e9é"}'.encode()


def test_an_event_that_is_an_object_passes_as_it_is() -> None:
    event = b'{ "type": "a", "n": 1e999, "big": 123456789012345678901, "deep": [{"x": [1]}] }'
    assert parse_event(b'{"other": 1, "event": ' + event + b" }") == event


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"event":null}',
        b'{"event":5}',
        b'{"event":["go"]}',
        b'{"event":{}}',
        b'{"event":{"type":5}}',
        b'{"event":""}',
        b'{"event":{"type":""}}',
        b'{"event":{"type":null}}',
        b'{"event":{"Type":"go"}}',
        b'{"event":{"type":"go"}',
        b'{"event":{"type":"go"}}}',
        b'{"event":{"type":"go",}}',
        b'{"event":"go"} x',
        b"{'event':'go'}",
        b'{"event":"\xff"}',
        b'{"event":{"type":"go","x":"\xc3"}}',
        b'{"event":{"type":"go","x":"\xed\xa0\x80"}}',
        b'{"event":{"type":"\\ud800"}}',
        b'{"event":"\\ud800"}',
        b'{"event":{"type":"go","x":NaN}}',
        b'{"event":{"type":"go","x":01}}',
        b"\xef\xbb\xbf" + b'{"event":"go"}',
        b'{"event":' + b"[" * 100_000,
    ],
)
def test_what_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidBody):
        parse_event(body)


def test_of_two_equal_keys_the_last_counts_as_in_javascript() -> None:
    assert parse_event(b'{"event":"a","event":"b"}') == b'{"type":"b"}'
    parse_event(b'{"event":{"type":"a","type":"b"}}')


@pytest.mark.parametrize(
    "types", [b'"type":"a","type":5', b'"type":5,"type":"a"', b'"type":"a","\\u0074ype":5']
)
def test_no_second_type_slips_by(types: bytes) -> None:
    with pytest.raises(InvalidBody):
        parse_event(b'{"event":{' + types + b"}}")


def nested(depth: int) -> bytes:
    """A body whose deepest array stands `depth` deep."""
    inner = depth - 2
    return b'{"event":{"type":"go","a":' + b"[" * inner + b"]" * inner + b"}}"


def test_a_body_is_at_most_64_deep() -> None:
    parse_event(nested(EVENT_BODY_DEPTH_MAX))
    with pytest.raises(InvalidBody, match="deep"):
        parse_event(nested(EVENT_BODY_DEPTH_MAX + 1))


@pytest.mark.parametrize("number", ["9" * 1001, "-" + "9" * 1000, "0." + "0" * 999, "1e" + "0" * 999])
def test_a_number_has_at_most_1000_characters(number: str) -> None:
    assert len(number) == NUMBER_CHARACTERS_MAX + 1
    event = f'{{"event":{{"type":"go","n":{number}}}}}'
    creation = f'{{"slug":"a","context":{{"n":[{number}]}}}}'
    parse_event(event.replace(number, number[:-1]).encode())
    parse_body(creation.replace(number, number[:-1]).encode(), CreateInstance)
    with pytest.raises(InvalidBody, match="1,000 characters"):
        parse_event(event.encode())
    with pytest.raises(InvalidBody, match="1,000 characters"):
        parse_body(creation.encode(), CreateInstance)


def test_brackets_in_strings_and_side_by_side_are_not_depth() -> None:
    wide = json.dumps({"event": {"type": "go", "a": [{}] * 500, "b": '[{"\\' * 500}}).encode()
    assert parse_event(wide)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('ab[{\\"', max_size=3), inner, max_size=3)
    ),
    max_leaves=60,
)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


@given(json_values, st.integers(0, 70))
def test_depth_is_judged_as_a_parser_sees_it(value: object, more: int) -> None:
    for _ in range(more):
        value = [value]
    event = {"type": "go", "value": value}
    body = json.dumps({"event": event}).encode()
    if depth_of({"event": event}) > EVENT_BODY_DEPTH_MAX:
        with pytest.raises(InvalidBody, match="deep"):
            parse_event(body)
    else:
        assert json.loads(parse_event(body)) == event


def test_a_context_is_an_object_and_an_empty_one_when_there_is_none() -> None:
    def context(body: bytes) -> Json:
        return parse_context(parse_body(body, CreateInstance).context)

    assert context(b'{"slug":"a"}') == b"{}"
    assert context(b'{"slug":"a","context":null}') == b"{}"
    assert context(b'{"slug":"a","context": {"b": 1} }') == b'{"b": 1}'
    for wrong in (b"[]", b'"x"', b"5", b"true"):
        with pytest.raises(InvalidBody):
            context(b'{"slug":"a","context":' + wrong + b"}")


def test_unknown_fields_of_a_body_are_ignored() -> None:
    body = parse_body(b'{"clientInfo":"1","makeCurrent":true,"code":"noise"}', FinalizeVersion)
    assert body == FinalizeVersion(client_info="1", make_current=True)


def test_an_error_names_its_parameter_only_when_it_has_one() -> None:
    assert msgspec.json.decode(error_body(NotFound("gone"), "req-1")) == {
        "code": "not-found",
        "error": "gone",
        "requestId": "req-1",
    }
    body = msgspec.json.decode(error_body(InvalidParameter("bad", "limit"), "req-1"))
    assert body["parameter"] == "limit"


def test_times_are_iso_with_milliseconds() -> None:
    assert iso(Instant(0)) == "1970-01-01T00:00:00.000Z"
    assert iso(Instant(1_750_000_000_007)) == "2025-06-15T15:06:40.007Z"
