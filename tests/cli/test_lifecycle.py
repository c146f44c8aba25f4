"""Commands that change an instance as a whole, and those for dead letters."""

import io

import httpx
import pytest
from tests.cli.conftest import Smply
from tests.cli.fake_server import FakeServer

INSTANCE = ("--machine", "toggler", "--instance", "i-1")


def typing(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def accept(server: FakeServer, *routes: str) -> None:
    for route in routes:
        server.answers[route] = lambda _request: httpx.Response(204)


def test_pausing_asks_for_the_name(smply: Smply, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    accept(server, "PUT /machines/toggler/i/i-1/status")
    typing(monkeypatch, "i-2\n")
    assert smply("instances", "set-status", *INSTANCE, "--status", "paused").code == 1
    typing(monkeypatch, "")
    assert smply("instances", "set-status", *INSTANCE, "--status", "paused").code == 1
    assert server.bodies("PUT /machines/toggler/i/i-1/status") == []
    typing(monkeypatch, "i-1\n")
    assert smply("instances", "set-status", *INSTANCE, "--status", "paused").code == 0
    assert smply("instances", "set-status", *INSTANCE, "--status", "running").code == 0
    assert server.bodies("PUT /machines/toggler/i/i-1/status") == [
        {"status": "paused"},
        {"status": "running"},
    ]
    outcome = smply("instances", "set-status", *INSTANCE, "--status", "asleep")
    assert (outcome.code, "running and paused" in outcome.err) == (1, True)


def test_deleting_asks_for_the_name_and_sends_the_proofs(
    smply: Smply, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(server, "DELETE /machines/toggler/i/i-1")
    typing(monkeypatch, "yes\n")
    assert smply("instances", "delete", *INSTANCE).code == 1
    typing(monkeypatch, "i-1\n")
    assert smply("instances", "delete", *INSTANCE).code == 0
    # printf i-1 | openssl dgst -sha256 -hmac toggler -binary | base64, in the alphabet of URLs
    proof = "YS4rqwR1G2w1peHDOrvhELSm1JGCXYDv2ifgTmoAQrY"
    assert server.bodies("DELETE /machines/toggler/i/i-1") == [
        {
            "dangerDataWillBeDeletedForever": True,
            "hmacSha256OfMachineInstanceNameWithMachineNameKey": proof,
        }
    ]


def test_dead_letters_are_listed_redriven_and_discarded(smply: Smply, server: FakeServer) -> None:
    letter = {"id": "message-1", "kind": "event", "reason": "not-found: there is no instance"}
    server.give("GET /dead-letters", {"deadLetters": [letter]})
    accept(server, "DELETE /dead-letters/message-1", "POST /dead-letters/message-1/redrive")
    assert smply("dead-letters", "list", "--machine", "toggler").json == [letter]
    assert server.requests[-1].url.params["machine"] == "toggler"
    assert smply("dead-letters", "redrive", "--id", "message-1").code == 0
    assert smply("dead-letters", "discard", "--id", "message-1").code == 0
    assert [request.method for request in server.requests] == ["GET", "POST", "DELETE"]
