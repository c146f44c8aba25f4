"""Who may use which route: each row of the access table × each scope alone × each role × outsiders."""

import json
from typing import Any, get_args

import httpx
import pytest

from statebacked.auth.scopes import ROLE_SCOPES, ROUTES, SCOPES, Row
from statebacked.model.ids import OrgId
from statebacked.model.machine import Role
from tests.api.server import ApiServer

pytestmark = pytest.mark.anyio

ROLES: tuple[Role, ...] = get_args(Role)
HTTP_ROWS = [row for row in ROUTES if row.operation != "realtime"]
IN_ORG = [row for row in HTTP_ROWS if row.access not in {"none", "session"}]
OF_USERS = [row for row in HTTP_ROWS if row.access == "session"]
OPEN = [row for row in HTTP_ROWS if row.access == "none"]

BODIES: dict[str, Any] = {
    "createMachine": {"slug": "another"},
    "createInstance": {"slug": "another"},
    "sendEvent": {"event": "go"},
    "createMigration": {"fromMachineVersionId": "ver_a", "toMachineVersionId": "ver_b"},
    "createKey": {"name": "another", "scopes": ["state.read"]},
    "createOrg": {"name": "another"},
    "dryRunMigration": {"fromMachineVersionId": "ver_a", "toMachineVersionId": "ver_b"},
    "setDesiredVersion": {"targetMachineVersionId": "ver_b"},
    "setInstanceStatus": {"status": "paused"},
    "deleteInstance": {},
}
QUERIES: dict[str, dict[str, str]] = {
    "getLogs": {"from": "2030-01-01T00:00:00.000Z"},
    # A window that has passed and is empty: another stream would not end.
    "streamLogs": {"from": "2001-01-01T00:00:00.000Z", "to": "2001-01-02T00:00:00.000Z"},
}
REFUSALS = {"missing-user", "missing-org", "missing-scope"}


def by_name(row: Row) -> str:
    return row.operation


async def world() -> tuple[ApiServer, OrgId]:
    server = ApiServer()
    org = await server.org()
    await server.machine(org)
    async with server.client(await server.token(org)) as client:
        await client.post("/machines/toggler", json={"slug": "i-1"})
    return server, org


PLACES = {
    "machine": "toggler",
    "index": "by",
    "instance": "i-1",
    "signed": "x",
    "key": "sbk_AAAAAAAAAAAAAAAAAAAAAA",
    "letter": "message-000000000000001",
}


async def call(server: ApiServer, row: Row, token: str | None, **headers: str) -> httpx.Response:
    path = row.path.format(**PLACES)
    async with server.client(token, **headers) as client:
        query = QUERIES.get(row.operation)
        return await client.request(row.method, path, json=BODIES.get(row.operation), params=query)


def is_admitted(response: httpx.Response) -> bool:
    """Past the checks of token, org and scope; what comes after may refuse for other reasons."""
    return response.status_code != 403 or response.json()["code"] not in REFUSALS


@pytest.mark.parametrize("row", IN_ORG, ids=by_name)
async def test_a_key_is_admitted_by_the_rows_scope_and_by_no_other(row: Row) -> None:
    for scope in SCOPES:
        server, org = await world()
        response = await call(server, row, await server.token(org, [scope]))
        # createKey refuses to give what the caller lacks: that is a check of its own, after the row's.
        if row.operation == "createKey" and scope == row.access:
            assert "that you do not have" in response.json()["error"]
            continue
        assert is_admitted(response) == (scope == row.access), (scope, response.text)
        if scope != row.access:
            assert response.json()["code"] == "missing-scope"


@pytest.mark.parametrize("row", IN_ORG, ids=by_name)
async def test_all_other_scopes_together_do_not_admit(row: Row) -> None:
    server, org = await world()
    others = [scope for scope in SCOPES if scope != row.access]
    response = await call(server, row, await server.token(org, others))
    assert response.status_code == 403
    assert response.json()["code"] == "missing-scope"


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("row", IN_ORG, ids=by_name)
async def test_a_session_is_admitted_by_its_role(row: Row, role: Role) -> None:
    server, org = await world()
    response = await call(server, row, await server.session((org, role)))
    assert is_admitted(response) == (row.access in ROLE_SCOPES[role]), response.text


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("row", OF_USERS, ids=by_name)
async def test_routes_of_users_take_a_session_of_any_role_and_no_key(row: Row, role: Role) -> None:
    server, org = await world()
    assert (await call(server, row, await server.session((org, role)))).status_code == 200
    refused = await call(server, row, await server.token(org, SCOPES))
    assert refused.status_code == 403
    assert refused.json()["code"] == "missing-scope"


@pytest.mark.parametrize("row", IN_ORG + OF_USERS, ids=by_name)
async def test_no_token_is_refused(row: Row) -> None:
    server, org = await world()
    key_id, secret = await server.key(org)
    expired = server.sign(key_id, secret, exp=1)
    foreign = server.sign(key_id, "sbsec_of-somebody-else-entirely")
    for token in (None, "", "x", expired, foreign, "sbs_unknown"):
        response = await call(server, row, token)
        assert response.status_code == 403, token
        assert response.json()["code"] == "missing-user", token


@pytest.mark.parametrize("row", IN_ORG, ids=by_name)
async def test_a_key_of_another_org_finds_nothing_here(row: Row) -> None:
    server, org = await world()
    outsider = await server.org()
    token = await server.token(outsider)
    named = await call(server, row, token, x_statebacked_org_id=org)
    assert named.status_code == 403
    assert named.json()["code"] == "missing-org"
    # In its own org it finds the same nothing that an absent thing is.
    own = await call(server, row, token)
    if "{" in row.path and row.operation != "createMachine":
        assert own.status_code == 404, own.text
        assert own.json()["code"] == "not-found"


@pytest.mark.parametrize("row", IN_ORG, ids=by_name)
async def test_another_org_real_or_not_is_the_same_missing_org(row: Row) -> None:
    server, org = await world()
    real = await server.org()
    for token in (await server.token(org), await server.session((org, "admin"))):
        answers = set()
        for other in (real, "org_AAAAAAAAAAAAAAAAAAAAAA", "nonsense"):
            response = await call(server, row, token, x_statebacked_org_id=other)
            answers.add((response.status_code, response.json()["code"], response.json()["error"]))
        assert len(answers) == 1
        assert answers.pop()[:2] == (403, "missing-org")


@pytest.mark.parametrize("row", IN_ORG, ids=by_name)
async def test_only_an_admins_session_acts_as_somebody(row: Row) -> None:
    server, org = await world()
    act = json.dumps({"sub": "somebody"})
    assert is_admitted(await call(server, row, await server.session((org, "admin")), x_statebacked_act=act))
    for token in (
        await server.session((org, "write")),
        await server.session((org, "read")),
        await server.token(org),
    ):
        response = await call(server, row, token, x_statebacked_act=act)
        assert response.status_code == 403
        assert response.json()["code"] == "missing-scope"


@pytest.mark.parametrize("row", IN_ORG, ids=by_name)
async def test_a_user_in_several_orgs_names_one(row: Row) -> None:
    server, org = await world()
    token = await server.session((org, "admin"), (await server.org(), "admin"))
    response = await call(server, row, token)
    assert response.status_code == 400
    assert response.json()["code"] == "specify-org"
    assert is_admitted(await call(server, row, token, x_statebacked_org_id=org))


@pytest.mark.parametrize("row", OPEN, ids=by_name)
async def test_open_routes_ignore_org_and_act_headers(row: Row) -> None:
    server, _ = await world()
    headers = {"x_statebacked_org_id": "nonsense", "x_statebacked_act": "{not json"}
    assert is_admitted(await call(server, row, "x", **headers))


@pytest.mark.parametrize("row", IN_ORG, ids=by_name)
async def test_who_may_not_is_told_before_the_body_is_judged(row: Row) -> None:
    server, org = await world()
    path = row.path.format(**{**PLACES, "machine": "bad name!", "instance": "bad name!"})
    others = [scope for scope in SCOPES if scope != row.access]
    async with server.client(await server.token(org, others)) as client:
        response = await client.request(row.method, path, content=b"{not json" * 1_000_000)
        assert response.json()["code"] == "missing-scope"
