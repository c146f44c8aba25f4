"""Deliveries that fail: tried again, kept, redriven by hand. On a real server that tries twice."""

import json
from pathlib import Path

import pytest

from tests.e2e.asking import Asker, Json, answered, subscriber
from tests.e2e.servers import E2E, RealServer, real_server

MOODY = "moody"
SERVER_FLAGS = ["--delivery-attempts", "2", "--retry-ms", "20"]


@pytest.fixture(scope="module")
def admin(server: RealServer) -> Asker:
    asker = Asker(server)
    asker.deploy(MOODY, E2E / "machines" / "moody.js")
    return asker


def letters(server: RealServer, *filters: str, count: int = 1) -> list[Json]:
    """What `smply dead-letters list` shows, once there are as many."""
    for _ in range(200):
        listed: list[Json] = json.loads(server.smply("dead-letters", "list", *filters) or "[]")
        if len(listed) >= count:
            return listed
    raise AssertionError("the dead letter never came")


def seen(admin: Asker, instance: str) -> list[str]:
    listed: list[str] = admin.admin_state(MOODY, instance)["context"]["seen"]
    return listed


def test_a_timer_that_is_refused_twice_is_kept_and_can_be_redriven(server: RealServer, admin: Asker) -> None:
    answered(admin.create(MOODY, "waiter"))
    answered(admin.send(MOODY, "waiter", "wait"))
    (letter,) = letters(server, "--machine", MOODY, "--instance", "waiter")
    assert (letter["kind"], letter["event"], letter["attempts"]) == ("timer", {"type": "ring"}, 2)
    assert "not in the mood" in letter["reason"]
    answered(admin.send(MOODY, "waiter", "cheer"))
    assert seen(admin, "waiter") == []
    with subscriber(admin) as listener:
        listener.subscribe(MOODY, "waiter")
        server.smply("dead-letters", "redrive", "--id", letter["id"])
        listener.until(lambda _: seen(admin, "waiter") == ["ring"])
    assert json.loads(server.smply("dead-letters", "list", "--instance", "waiter") or "[]") == []


def test_a_message_that_is_refused_twice_lets_the_next_one_go(server: RealServer, admin: Asker) -> None:
    for name in ("sender", "receiver"):
        answered(admin.create(MOODY, name))
    answered(admin.send(MOODY, "sender", {"type": "greet", "to": "receiver"}))
    (letter,) = letters(server, "--machine", MOODY, "--instance", "sender")
    assert letter["to"] == {"machine": MOODY, "instance": "receiver"}
    answered(admin.send(MOODY, "receiver", "cheer"))
    with subscriber(admin) as listener:
        listener.subscribe(MOODY, "receiver")
        answered(admin.send(MOODY, "sender", {"type": "greet", "to": "receiver"}))
        listener.until(lambda _: seen(admin, "receiver") == ["hello"])
    server.smply("dead-letters", "discard", "--id", letter["id"])
    assert "no such dead letter" in server.failing_smply("dead-letters", "discard", "--id", letter["id"])


def test_a_message_to_nobody_is_kept_until_somebody_is_there(server: RealServer, admin: Asker) -> None:
    answered(admin.create(MOODY, "early"))
    answered(admin.send(MOODY, "early", {"type": "greet", "to": "late"}))
    (letter,) = letters(server, "--instance", "early")
    assert letter["reason"].startswith("not-found")
    answered(admin.create(MOODY, "late"))
    answered(admin.send(MOODY, "late", "cheer"))
    with subscriber(admin) as listener:
        listener.subscribe(MOODY, "late")
        server.smply("dead-letters", "redrive", "--id", letter["id"])
        listener.until(lambda _: seen(admin, "late") == ["hello"])


def test_by_default_a_delivery_is_tried_five_times(tmp_path: Path) -> None:
    with real_server(tmp_path / "data", ["--retry-ms", "20"]) as server:
        admin = Asker(server)
        admin.deploy(MOODY, E2E / "machines" / "moody.js")
        for name in ("a", "b"):
            answered(admin.create(MOODY, name))
        answered(admin.send(MOODY, "a", "wait"))
        answered(admin.send(MOODY, "a", {"type": "greet", "to": "b"}))
        tried = {letter["kind"]: letter["attempts"] for letter in letters(server, count=2)}
        assert tried == {"timer": 5, "event": 5}


def test_what_was_refused_before_is_delivered_once_when_it_is_taken(tmp_path: Path) -> None:
    with real_server(tmp_path / "data") as server:
        admin = Asker(server)
        admin.deploy(MOODY, E2E / "machines" / "moody.js")
        for name in ("a", "b"):
            answered(admin.create(MOODY, name))
        answered(admin.send(MOODY, "a", "wait"))
        answered(admin.send(MOODY, "a", {"type": "greet", "to": "b"}))
        with subscriber(admin) as listener:
            for name, heard in (("a", ["ring"]), ("b", ["hello"])):
                was_refused(server, name)
                answered(admin.send(MOODY, name, "cheer"))
                listener.subscribe(MOODY, name, name)
                listener.until(lambda _, n=name, h=heard: seen(admin, n) == h)  # type: ignore[misc]
        assert json.loads(server.smply("dead-letters", "list") or "[]") == []


def was_refused(server: RealServer, instance: str) -> None:
    """Waits until the log of the instance says so."""
    for _ in range(100):
        if "not in the mood" in server.smply("logs", "get", "--from", "-1h", "--instance", instance):
            return
    raise AssertionError("nothing was refused")


def test_a_message_stays_in_its_org(server: RealServer, admin: Asker) -> None:
    org = answered(admin.http.post("/orgs", json={"name": "other"}))["id"]
    other = Asker(server, org=org)
    other.deploy(MOODY, E2E / "machines" / "moody.js")
    answered(other.create(MOODY, "abroad"))
    answered(other.send(MOODY, "abroad", "cheer"))
    answered(admin.create(MOODY, "at-home"))
    answered(admin.send(MOODY, "at-home", {"type": "greet", "to": "abroad"}))
    (letter,) = letters(server, "--instance", "at-home")
    assert letter["reason"].startswith("not-found")
    assert seen(other, "abroad") == []
