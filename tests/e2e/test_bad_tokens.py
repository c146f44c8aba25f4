"""Tokens that are bad, expired, foreign or too weak: refused in words, and nothing changes."""

import json
import time
from collections.abc import Callable

import httpx
import pytest

from tests.e2e.asking import Asker, Json, answered, key_token, refused, sign_token, subscriber
from tests.e2e.servers import E2E, RealServer


@pytest.fixture(scope="module")
def admin(server: RealServer) -> Asker:
    """Of a machine `good` with an instance `one`."""
    asker = Asker(server)
    asker.deploy("good", E2E / "machines" / "faulty.js")
    answered(asker.create("good", "one"))
    return asker


@pytest.fixture
def machine(admin: Asker) -> Callable[[], Json]:
    """What the admin sees of the machine `good`: must be the same before and after."""
    return lambda: {**answered(admin.http.get("/machines/good")), **admin.look("good", "one")}


def bad_tokens(server: RealServer) -> dict[str, str]:
    now = int(time.time())
    admin = server.admin
    head, payload, mac = key_token(server).split(".")
    return {
        "no token": "x",
        "no signature": f"{head}.{payload}.",
        "another's signature": sign_token(admin["keyId"], "sbsec_wrong"),
        "a damaged signature": f"{head}.{payload}.{mac[:-2]}AA",
        "an unknown key": sign_token("sbk_AAAAAAAAAAAAAAAAAAAAAA", admin["secretKey"]),
        "expired": key_token(server, exp=now - 60),
        "never ending": key_token(server, exp=None),
        "not yet": key_token(server, nbf=now + 600),
        "another audience": key_token(server, aud="https://api.example.com/"),
        "act is no object": key_token(server, act="sub"),
        "too long": key_token(server, act={"filler": "x" * 9_000}),
        "an unknown session": "sbs_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    }


def test_a_bad_token_is_nobody(server: RealServer, admin: Asker, machine: Callable[[], Json]) -> None:
    before = machine()
    for what, token in bad_tokens(server).items():
        stranger = Asker(server, token=token)
        for answer in (
            stranger.send("good", "one", "count"),
            stranger.get("good", "one"),
            stranger.create("good", "two"),
            stranger.http.get("/machines"),
        ):
            assert (what, answer.status_code) == (what, 403)
            refused(answer, 403, "missing-user")
    refused(httpx.get(f"{server.url}/machines"), 403, "missing-user")
    refused(httpx.get(f"{server.url}/machines", auth=("admin", "admin")), 403, "missing-user")
    assert machine() == before


def test_a_bad_token_on_a_socket_is_told_to_each_subscribe(server: RealServer, admin: Asker) -> None:
    for token in bad_tokens(server).values():
        with subscriber(Asker(server, token=token)) as listener:
            listener.subscribe("good", "one", "r1")
            listener.subscribe("good", "one", "r2")
            listener.until(lambda m: m["requestId"] == "r2")
        assert listener.heard == [
            {"type": "error", "requestId": request, "status": 403, "code": "missing-user"}
            for request in ("r1", "r2")
        ]


def test_another_orgs_token_finds_nothing(
    server: RealServer, admin: Asker, machine: Callable[[], Json]
) -> None:
    before = machine()
    org = answered(admin.http.post("/orgs", json={"name": "other"}))["id"]
    other = Asker(server, org=org)
    key = answered(other.http.post("/keys", json={"name": "theirs", "use": "production"}))
    stranger = Asker(server, token=sign_token(key["id"], key["key"]), org=org)
    refused(stranger.get("good", "one"), 404, "not-found")
    refused(stranger.send("good", "one", "count"), 404, "not-found")
    refused(stranger.create("good", "two"), 404, "not-found")
    refused(other.http.get("/machines/good/i/one/admin"), 404, "not-found")
    posing = Asker(server, token=sign_token(key["id"], key["key"]))
    refused(posing.get("good", "one"), 403, "missing-org")
    absent = Asker(server, org="org_AAAAAAAAAAAAAAAAAAAAAA")
    refused(absent.http.get("/machines"), 403, "missing-org")
    begun = admin.begin_version("good")
    refused(other.finalize("good", begun), 404, "not-found")
    unnamed = httpx.get(f"{server.url}/machines", headers={"authorization": f"Bearer {admin.token}"})
    refused(unnamed, 400, "specify-org")
    assert machine() == before


def test_a_missing_scope_is_refused_by_name(
    server: RealServer, admin: Asker, machine: Callable[[], Json]
) -> None:
    before = machine()
    key = answered(admin.http.post("/keys", json={"name": "reader", "scopes": ["state.read"]}))
    reader = Asker(server, token=sign_token(key["id"], key["key"]))
    assert answered(reader.get("good", "one"))["state"] == "idle"
    assert "events.write" in refused(reader.send("good", "one", "count"), 403, "missing-scope")
    assert "instances.write" in refused(reader.create("good", "two"), 403, "missing-scope")
    assert "machines.read" in refused(reader.http.get("/machines"), 403, "missing-scope")
    assert "instances.admin" in refused(reader.http.get("/machines/good/i/one/admin"), 403, "missing-scope")
    acting = Asker(server, token=sign_token(key["id"], key["key"]), act={"sub": "admin"})
    assert "x-statebacked-act" in refused(acting.get("good", "one"), 403, "missing-scope")
    assert machine() == before


def test_a_deleted_keys_tokens_end_at_once(server: RealServer, admin: Asker) -> None:
    key = answered(admin.http.post("/keys", json={"name": "short", "scopes": ["state.read"]}))
    holder = Asker(server, token=sign_token(key["id"], key["key"]))
    answered(holder.get("good", "one"))
    with subscriber(holder) as listener:
        listener.subscribe("good", "one")
        listener.until(lambda m: m["type"] == "instance-update")
        assert admin.http.delete(f"/keys/{key['id']}").status_code == 204
        refused(holder.get("good", "one"), 403, "missing-user")
        error = listener.until(lambda m: m["type"] == "error")
    assert (error["status"], error["code"]) == (403, "missing-user")


def test_a_malformed_act_is_refused(server: RealServer, admin: Asker) -> None:
    headers = {"authorization": f"Bearer {admin.token}", "x-statebacked-org-id": admin.org}
    deep = json.dumps({"a": json.loads("[" * 20 + "]" * 20)})
    for act in (
        "sub",
        "[]",
        '"sub"',
        "{",
        deep,
        '{"__proto__": {"admin": true}}',
        json.dumps({"a": "x" * 9_000}),
    ):
        answer = httpx.get(f"{server.url}/machines/good/i/one", headers={**headers, "x-statebacked-act": act})
        refused(answer, 400, "invalid-parameter")


def test_a_request_that_names_another_host_is_misdirected(server: RealServer, admin: Asker) -> None:
    answer = admin.http.get("/machines/good/i/one", headers={"host": "evil.example"})
    refused(answer, 421, "misdirected")
