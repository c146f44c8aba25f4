"""Keys, orgs and tokens: who gets which, and for how long."""

import base64
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest
from joserfc import jws

from statebacked.auth.exchange import GRANT_TYPE
from statebacked.auth.jwt import import_secret
from statebacked.model.ids import Instant, OrgId
from statebacked.model.limits import ANONYMOUS_TOKEN_S, FORM_BODY_BYTES_MAX, TOKEN_CACHE_MS, TOKEN_LEEWAY_S
from tests.api.server import ApiServer

pytestmark = pytest.mark.anyio


async def test_a_new_keys_tokens_are_taken_and_a_deleted_ones_refused_at_once(server: ApiServer) -> None:
    org = await server.org()
    async with server.client(await server.session((org, "admin"))) as admin:
        made = (await admin.post("/keys", json={"name": "backend", "use": "ci"})).json()
        token = server.sign(made["id"], made["key"])
        async with server.client(token) as client:
            assert (await client.get("/machines")).status_code == 200
            assert (await client.get("/machines")).status_code == 200
            assert (await admin.delete(f"/keys/{made['id']}")).status_code == 204
            assert (await client.get("/machines")).json()["code"] == "missing-user"
        assert (await admin.delete(f"/keys/{made['id']}")).status_code == 404


async def test_a_secret_is_shown_once_and_stored_sealed(server: ApiServer) -> None:
    org = await server.org()
    async with server.client(await server.session((org, "admin"))) as client:
        made = (await client.post("/keys", json={"name": "backend", "use": "production"})).json()
        listed = (await client.get("/keys")).json()["keys"]
        assert listed == [
            {
                "id": made["id"],
                "name": "backend",
                "scopes": ["events.write", "state.read", "instances.write", "indexes.read"],
                "createdAt": "2025-06-15T15:06:40.000Z",
            }
        ]
        stored = server.catalogue.keys[made["id"]]
        assert made["key"].encode() not in stored.sealed_secret


async def test_a_key_is_for_production_unless_it_says_otherwise(server: ApiServer) -> None:
    org = await server.org()
    async with server.client(await server.session((org, "admin"))) as client:
        await client.post("/keys", json={"name": "k"})
        scopes = (await client.get("/keys")).json()["keys"][0]["scopes"]
        assert sorted(scopes) == ["events.write", "indexes.read", "instances.write", "state.read"]


async def test_scopes_win_over_use(server: ApiServer) -> None:
    org = await server.org()
    async with server.client(await server.session((org, "admin"))) as client:
        body = {"name": "k", "use": "production", "scopes": ["org-keys.write", "logs.read"]}
        await client.post("/keys", json=body)
        assert (await client.get("/keys")).json()["keys"][0]["scopes"] == ["org.keys.write", "logs.read"]


@pytest.mark.parametrize(
    ("body", "parameter"),
    [
        ({"name": "k", "use": "staging"}, "use"),
        ({"name": "k", "scopes": []}, "scopes"),
        ({"name": "k", "scopes": ["everything"]}, "scopes"),
        ({"name": "", "use": "ci"}, "name"),
        ({"name": "x" * 256, "use": "ci"}, "name"),
        ({"name": "a\x1b[31m", "use": "ci"}, "name"),
    ],
)
async def test_a_key_without_sense_is_refused(server: ApiServer, body: Any, parameter: str) -> None:
    org = await server.org()
    async with server.client(await server.session((org, "admin"))) as client:
        response = await client.post("/keys", json=body)
        assert (response.status_code, response.json()["code"]) == (400, "invalid-parameter")
        assert response.json()["parameter"] == parameter
        assert server.catalogue.keys == {}


async def test_nobody_gives_what_they_lack(server: ApiServer) -> None:
    org = await server.org()
    async with server.client(await server.token(org, ["org.keys.write", "state.read"])) as client:
        response = await client.post("/keys", json={"name": "k", "scopes": ["state.read", "events.write"]})
        assert (response.status_code, response.json()["code"]) == (403, "missing-scope")
        assert (await client.post("/keys", json={"name": "k", "scopes": ["state.read"]})).status_code == 200


async def test_a_key_of_another_org_cannot_be_deleted(server: ApiServer) -> None:
    org = await server.org()
    key_id, _ = await server.key(org)
    async with server.client(await server.session((await server.org(), "admin"))) as client:
        assert (await client.delete(f"/keys/{key_id}")).status_code == 404
    assert key_id in server.catalogue.keys


async def test_what_another_process_changed_is_seen_within_a_second(server: ApiServer) -> None:
    org = await server.org()
    key_id, secret = await server.key(org)
    async with server.client(server.sign(key_id, secret)) as client:
        assert (await client.get("/machines")).status_code == 200
        await server.catalogue.delete_key(org, key_id)
        server.clock.pass_ms(1_000)
        assert (await client.get("/machines")).json()["code"] == "missing-user"


async def test_a_token_seen_before_costs_no_read_of_the_catalogue(server: ApiServer) -> None:
    org = await server.org()
    async with server.client(await server.token(org)) as client:
        await client.get("/machines/m/i/n")
        reads = server.catalogue.reads
        for _ in range(3):
            await client.get("/machines/m/i/n")
        assert server.catalogue.reads == reads
        # Once a second the org's revision is read again; the signature is not judged again.
        server.clock.pass_ms(1_000)
        await client.get("/machines/m/i/n")
        assert server.catalogue.reads == reads + 1


async def test_a_cached_token_ends_when_it_expires(server: ApiServer) -> None:
    org = await server.org()
    key = await server.key(org)
    token = server.sign(*key, exp=server.clock.wall // 1000 + 10)
    async with server.client(token) as client:
        assert (await client.get("/machines")).status_code == 200
        for _ in range(TOKEN_LEEWAY_S + 9):
            server.clock.pass_ms(1_000)
            assert (await client.get("/machines")).status_code == 200
        server.clock.pass_ms(1_001)
        assert (await client.get("/machines")).json()["code"] == "missing-user"
        assert server.clock.wall < 1_750_000_000_000 + TOKEN_CACHE_MS


async def test_a_session_ends_when_it_expires(server: ApiServer) -> None:
    org = await server.org()
    token = await server.session((org, "read"), expires_at=Instant(server.clock.wall + 1_000))
    async with server.client(token) as client:
        assert (await client.get("/machines")).status_code == 200
        server.clock.pass_ms(1_000)
        assert (await client.get("/machines")).json()["code"] == "missing-user"


# --- orgs ----------------------------------------------------------------------------------------


async def test_a_new_org_has_its_maker_as_admin(server: ApiServer) -> None:
    async with server.client(await server.session()) as client:
        assert (await client.get("/orgs")).json() == {"orgs": []}
        assert (await client.get("/machines")).json()["code"] == "missing-org"
        org = (await client.post("/orgs", json={"name": "Änne & Söhne"})).json()["id"]
        assert (await client.get("/orgs")).json()["orgs"] == [
            {
                "id": org,
                "name": "Änne & Söhne",
                "role": "admin",
                "createdAt": "2025-06-15T15:06:40.000Z",
                "limits": {
                    "monthlyEventsLimit": 9007199254740991,
                    "monthlyReadsLimit": 9007199254740991,
                },
            }
        ]
        assert (await client.get("/machines")).json() == {"machines": []}


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb"])
async def test_an_orgs_name_is_printable(server: ApiServer, name: str) -> None:
    async with server.client(await server.session()) as client:
        assert (await client.post("/orgs", json={"name": name})).json()["parameter"] == "name"


# --- anonymous sessions --------------------------------------------------------------------------


async def exchange(client: httpx.AsyncClient, org: OrgId, sid: str = "s-1", **fields: str) -> httpx.Response:
    """As the published client does it, headers included."""
    provider = f"https://{org}.anonymous.auth.statebacked.dev"
    claims = {"aud": provider, "iss": provider, "iat": 1, "exp": 2, "sid": sid, "did": sid}
    subject = jws.serialize_compact(
        {"alg": "HS256", "typ": "JWT"}, json.dumps(claims), import_secret(org.encode())
    )
    form = {
        "grant_type": GRANT_TYPE,
        "audience": f"https://tokens.statebacked.dev/{org}/anonymous-statebacked-dev",
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token": subject,
        **fields,
    }
    return await client.post("/tokens", data=form)


async def test_an_anonymous_session_creates_reads_and_writes_as_itself(server: ApiServer) -> None:
    org = await server.org()
    await server.machine(org)
    async with server.client() as stranger:
        given = (await exchange(stranger, org)).json()
    assert given["expires_in"] == ANONYMOUS_TOKEN_S
    async with server.client(given["access_token"]) as client:
        assert (await client.post("/machines/toggler", json={"slug": "s-1"})).status_code == 200
        assert (await client.get("/machines/toggler/i/s-1")).status_code == 200
        assert (await client.post("/machines/toggler/i/s-1/events", json={"event": "go"})).status_code == 200
        assert json.loads(server.engine.events[-1][2]) == {"sid": "s-1", "did": "s-1", "auth": "anonymous"}
        assert (await client.get("/machines")).json()["code"] == "missing-scope"
        assert (await client.get("/orgs")).json()["code"] == "missing-scope"
    payload = given["access_token"].split(".")[1]
    assert (
        json.loads(base64.b64decode(payload + "=" * (-len(payload) % 4)))["exp"] > server.clock.wall // 1000
    )


async def test_an_anonymous_token_ends_with_its_day_and_leeway(server: ApiServer) -> None:
    org = await server.org()
    async with server.client() as stranger:
        token = (await exchange(stranger, org)).json()["access_token"]
    async with server.client(token) as client:
        server.clock.pass_ms((ANONYMOUS_TOKEN_S + TOKEN_LEEWAY_S) * 1000)
        assert (await client.get("/machines/m/i/n")).status_code == 404
        server.clock.pass_ms(1_000)
        assert (await client.get("/machines/m/i/n")).json()["code"] == "missing-user"


async def test_an_anonymous_token_is_of_its_org_only(server: ApiServer) -> None:
    org, other = await server.org(), await server.org()
    async with server.client() as stranger:
        token = (await exchange(stranger, org)).json()["access_token"]
    head, payload, mac = token.split(".")
    forged = (
        base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": other}).encode()).rstrip(b"=").decode()
    )
    async with server.client(f"{forged}.{payload}.{mac}") as client:
        assert (await client.get("/machines/m/i/n")).json()["code"] == "missing-user"
    assert head != forged


async def test_where_anonymous_access_is_off_there_is_no_such_service(server: ApiServer) -> None:
    closed = await server.org(allow_anonymous=False)
    async with server.client() as stranger:
        for org in (closed, OrgId("org_AAAAAAAAAAAAAAAAAAAAAA")):
            response = await exchange(stranger, org)
            assert response.status_code == 400
            assert response.json()["error"].startswith("invalid_target: there is no org with that orgId here")
            assert response.json()["error_code"] == "invalid_target"
            assert response.json()["code"] == "invalid-target"


async def test_switching_anonymous_access_off_ends_its_tokens(server: ApiServer) -> None:
    org = await server.org()
    async with server.client() as stranger:
        token = (await exchange(stranger, org)).json()["access_token"]
    async with server.client(token) as client:
        assert (await client.get("/machines/m/i/n")).status_code == 404
        server.catalogue.orgs[org] = replace(
            server.catalogue.orgs[org], allow_anonymous=False, auth_revision=9
        )
        server.clock.pass_ms(1_000)
        assert (await client.get("/machines/m/i/n")).json()["code"] == "missing-user"


async def test_a_bad_exchange_is_told_in_the_standards_words(server: ApiServer) -> None:
    org = await server.org()
    async with server.client() as stranger:
        bad_subject = await exchange(stranger, org, subject_token="x.y.z")
        assert bad_subject.json()["error_code"] == "invalid_request"
        bad_grant = await exchange(stranger, org, grant_type="password")
        assert bad_grant.json()["error_code"] == "unsupported_grant_type"
        assert (await stranger.post("/tokens")).json()["error_code"] == "unsupported_grant_type"
        many = "&".join(f"a{n}=1" for n in range(50))
        assert (await stranger.post("/tokens", content=many)).json()["error_code"] == "invalid_request"
        assert (await stranger.post("/tokens", content=b"\xff")).json()["error_code"] == "invalid_request"
        huge = await stranger.post("/tokens", content=b"x" * (FORM_BODY_BYTES_MAX + 1))
        assert (huge.status_code, huge.json()["code"]) == (413, "body-too-large")
