"""The protocol of one socket, without a socket."""

import json

import pytest

from statebacked.api.realtime import (
    POLICY_VIOLATED,
    Action,
    Ask,
    HangUp,
    Push,
    RealtimeSession,
    Say,
    Unwatch,
    Watch,
)
from statebacked.model.errors import MissingUser, NotFound, RejectedByAuthorizer
from statebacked.model.ids import InstanceKey, InstanceName, MachineName, OrgId
from statebacked.model.limits import SOCKET_MALFORMED_FRAMES_MAX, SOCKET_SUBSCRIPTIONS_MAX
from tests.api.contract import named


def key(name: str = "i", machine: str = "m") -> InstanceKey:
    return InstanceKey(OrgId("org_1"), MachineName(machine), InstanceName(name))


def message(kind: str, request_id: str, name: str = "i", machine: str = "m") -> str:
    return json.dumps(
        {"type": kind, "requestId": request_id, "machineName": machine, "machineInstanceName": name}
    )


def subscribe(session: RealtimeSession, request_id: str, name: str = "i") -> list[Action]:
    """Ask, and be admitted."""
    asked = session.receive(message("subscribe-to-instance", request_id, name))
    assert asked == [Ask(request_id, MachineName("m"), InstanceName(name))]
    return session.admit(request_id, key(name))


def unsubscribe(session: RealtimeSession, request_id: str, name: str = "i") -> list[Action]:
    return session.receive(message("unsubscribe-from-instance", request_id, name))


def errors(actions: list[Action]) -> list[tuple[str, int, str]]:
    frames = [json.loads(action.frame) for action in actions if isinstance(action, Say)]
    for frame in frames:
        named("SocketMessage").validate(frame)
    return [(frame["requestId"], frame["status"], frame["code"]) for frame in frames]


def test_the_first_subscription_watches_and_the_last_to_leave_unwatches() -> None:
    session = RealtimeSession()
    assert subscribe(session, "1") == [Watch(key())]
    assert subscribe(session, "2") == []
    assert session.update(key(), "s1") == [Push(key(), "s1")]
    assert unsubscribe(session, "1") == []
    assert session.update(key(), "s2") == [Push(key(), "s2")]
    assert unsubscribe(session, "2") == [Unwatch(key())]
    assert session.update(key(), "s3") == []


def test_who_comes_later_is_sent_the_state_that_was_pushed_last() -> None:
    session = RealtimeSession()
    subscribe(session, "1")
    session.update(key(), "s1")
    session.update(key(), "s2")
    assert subscribe(session, "2") == [Push(key(), "s2")]


def test_a_subscription_sent_again_is_the_same_one_with_its_present_state() -> None:
    session = RealtimeSession()
    subscribe(session, "1")
    again = message("subscribe-to-instance", "1")
    assert session.receive(again) == []
    session.update(key(), "s1")
    assert session.receive(again) == [Push(key(), "s1")]
    assert unsubscribe(session, "1") == [Unwatch(key())]


def test_a_request_id_names_one_instance() -> None:
    session = RealtimeSession()
    subscribe(session, "1")
    refused = session.receive(message("subscribe-to-instance", "1", "other"))
    assert errors(refused) == [("1", 400, "invalid-body")]
    assert session.update(key(), "s") == [Push(key(), "s")]


def test_unsubscribing_what_is_not_subscribed_is_ignored() -> None:
    session = RealtimeSession()
    assert unsubscribe(session, "never") == []
    subscribe(session, "1")
    assert unsubscribe(session, "never") == []
    assert session.update(key(), "s") == [Push(key(), "s")]


def test_who_leaves_before_it_is_admitted_is_not_subscribed() -> None:
    session = RealtimeSession()
    session.receive(message("subscribe-to-instance", "1"))
    assert unsubscribe(session, "1") == []
    assert session.admit("1", key()) == []
    assert session.deny("1", NotFound()) == []
    assert session.update(key(), "s") == []


def test_a_denied_request_is_told_so_and_may_ask_again() -> None:
    session = RealtimeSession()
    session.receive(message("subscribe-to-instance", "1"))
    assert errors(session.deny("1", MissingUser())) == [("1", 403, "missing-user")]
    assert subscribe(session, "1") == [Watch(key())]


def test_a_refused_instance_is_told_to_each_request_once() -> None:
    session = RealtimeSession()
    subscribe(session, "1")
    subscribe(session, "2")
    subscribe(session, "3", "other")
    told = errors(session.refuse(key(), RejectedByAuthorizer()))
    assert told == [
        ("1", 403, "rejected-by-machine-authorizer"),
        ("2", 403, "rejected-by-machine-authorizer"),
    ]
    assert session.refuse(key(), NotFound()) == []
    assert unsubscribe(session, "1") == []
    assert session.update(key("other"), "s") == [Push(key("other"), "s")]
    assert subscribe(session, "1") == [Watch(key())]


def test_when_the_token_ends_every_subscription_does() -> None:
    session = RealtimeSession()
    subscribe(session, "1")
    subscribe(session, "2", "other")
    subscribe(session, "3", "other")
    ended = session.end(MissingUser())
    assert [action for action in ended if isinstance(action, Unwatch)] == [
        Unwatch(key()),
        Unwatch(key("other")),
    ]
    assert errors(ended) == [(n, 403, "missing-user") for n in ("1", "2", "3")]
    assert session.end(MissingUser()) == []


@pytest.mark.parametrize(("name", "machine"), [("a b", "m"), ("i", "a/b"), ("", "m"), ("i", ""), ("..", "m")])
def test_a_bad_name_is_told_to_its_request(name: str, machine: str) -> None:
    told = RealtimeSession().receive(message("subscribe-to-instance", "1", name, machine))
    assert errors(told) == [("1", 400, "invalid-name")]


def test_a_socket_has_a_limited_number_of_subscriptions() -> None:
    session = RealtimeSession()
    for number in range(SOCKET_SUBSCRIPTIONS_MAX - 1):
        subscribe(session, f"r{number}", f"i{number % 7}")
    session.receive(message("subscribe-to-instance", "asked"))
    refused = session.receive(message("subscribe-to-instance", "more"))
    assert errors(refused) == [("more", 429, "rate-limited")]
    unsubscribe(session, "r0")
    assert session.receive(message("subscribe-to-instance", "more")) != refused


def test_a_ping_asks_for_nothing() -> None:
    assert RealtimeSession().receive('{"type":"ping"}') == []
    assert RealtimeSession().receive('{"type":"ping","more":[1]}') == []


MALFORMED = [
    None,
    "",
    "x",
    "[]",
    "null",
    "{}",
    '{"type":"other"}',
    '{"type":"subscribe-to-instance"}',
    '{"type":"subscribe-to-instance","requestId":""}',
    '{"type":"subscribe-to-instance","requestId":5,"machineName":"m","machineInstanceName":"i"}',
    '{"type":"unsubscribe-from-instance"}',
    json.dumps({"type": "subscribe-to-instance", "requestId": "x" * 129}),
    json.dumps({"type": "ping", "more": "x" * 20_000}),
    "[" * 10_000,
]


@pytest.mark.parametrize("text", MALFORMED)
def test_the_tenth_malformed_frame_hangs_up(text: str | None) -> None:
    session = RealtimeSession()
    for _ in range(SOCKET_MALFORMED_FRAMES_MAX - 1):
        assert session.receive(text) == []
        assert session.receive('{"type":"ping"}') == []
    assert session.receive(text) == [HangUp(POLICY_VIOLATED)]
