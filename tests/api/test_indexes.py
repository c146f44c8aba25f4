"""Queries of indexes: what is found, in which order, page by page, and by whom."""

from typing import Any

import httpx
import pytest

from statebacked.model.ids import InstanceId, InstanceKey, InstanceName, MachineName, OrgId
from statebacked.model.machine import Machine
from tests.api.server import ApiServer
from tests.api.test_keys import exchange

pytestmark = pytest.mark.anyio

QUERY = "/machines/docs/indexes/by-folder/query"
FOLDERS = {"d1": ["/a"], "d2": ["/b", "/c"], "d3": ["/b"], "d4": []}


async def with_documents(server: ApiServer) -> OrgId:
    org = await server.org()
    now = server.clock.now().wall
    name = MachineName("docs")
    indexes = ("by-folder", "by-tag")
    await server.catalogue.create_machine(
        Machine(org=org, name=name, created_at=now, indexes=indexes, current=None)
    )
    for instance, folders in FOLDERS.items():
        indexed = (("by-folder", tuple(folders)),)
        key = InstanceKey(org, name, InstanceName(instance))
        server.engine.indexes.write(InstanceId(instance), key, indexed)
    return org


async def find(client: httpx.AsyncClient, **parameters: Any) -> list[tuple[str, str]]:
    """All rows, page by page."""
    found: list[tuple[str, str]] = []
    cursor: dict[str, str] = {}
    while True:
        response = await client.get(QUERY, params={**parameters, **cursor})
        assert response.status_code == 200, response.text
        page = response.json()
        found += [(one["indexValue"], one["slug"]) for one in page["instances"]]
        if "cursor" not in page:
            return found
        cursor = {"cursor": page["cursor"]}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, ["/a d1", "/b d2", "/b d3", "/c d2"]),
        ({"dir": "desc"}, ["/c d2", "/b d3", "/b d2", "/a d1"]),
        ({"op": "eq", "value": "/b"}, ["/b d2", "/b d3"]),
        ({"op": "ne", "value": "/b"}, ["/a d1", "/c d2"]),
        ({"op": "gt", "value": "/a"}, ["/b d2", "/b d3", "/c d2"]),
        ({"op": "gte", "value": "/b", "dir": "desc"}, ["/c d2", "/b d3", "/b d2"]),
        ({"op": "lt", "value": "/b"}, ["/a d1"]),
        ({"op": "lte", "value": "/b"}, ["/a d1", "/b d2", "/b d3"]),
        ({"op": "eq", "value": ""}, []),
    ],
)
async def test_instances_are_found_by_a_value_of_their_context(
    server: ApiServer, parameters: dict[str, str], expected: list[str]
) -> None:
    org = await with_documents(server)
    async with server.client(await server.token(org)) as client:
        for limit in (1, 2, 3, 100):
            found = await find(client, limit=limit, **parameters)
            assert [f"{value} {name}" for value, name in found] == expected, limit


@pytest.mark.parametrize(
    ("parameters", "parameter"),
    [
        ({"op": "like", "value": "a"}, "op"),
        ({"op": "", "value": "a"}, "op"),
        ({"value": "a"}, "op"),
        ({"op": "eq"}, "value"),
        ({"dir": "up"}, "dir"),
        ({"limit": 0}, "limit"),
        ({"limit": 1_001}, "limit"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(
    server: ApiServer, parameters: dict[str, Any], parameter: str
) -> None:
    org = await with_documents(server)
    async with server.client(await server.token(org)) as client:
        response = await client.get(QUERY, params=parameters)
        assert (response.status_code, response.json()["code"]) == (400, "invalid-parameter")
        assert response.json()["parameter"] == parameter


async def test_an_unknown_machine_or_index_is_not_found(server: ApiServer) -> None:
    org = await with_documents(server)
    stranger = await server.org()
    async with server.client(await server.token(org)) as client:
        for path in (QUERY.replace("docs", "none"), QUERY.replace("by-folder", "by-none")):
            assert (await client.get(path)).json()["code"] == "not-found"
    async with server.client(await server.token(stranger)) as client:
        assert (await client.get(QUERY)).json()["code"] == "not-found"


async def test_a_cursor_is_good_for_its_own_query_only_and_tells_nothing(server: ApiServer) -> None:
    org = await with_documents(server)
    async with server.client(await server.token(org)) as client:
        asked = {"op": "gte", "value": "/a", "limit": "1"}
        cursor = (await client.get(QUERY, params=asked)).json()["cursor"]
        assert (await client.get(QUERY, params={**asked, "limit": "2", "cursor": cursor})).status_code == 200
        for other in ({"op": "gt"}, {"value": "/b"}, {"dir": "desc"}):
            response = await client.get(QUERY, params={**asked, **other, "cursor": cursor})
            assert response.json()["code"] == "invalid-cursor"
        response = await client.get(QUERY.replace("folder", "tag"), params={**asked, "cursor": cursor})
        assert response.json()["code"] == "invalid-cursor"


async def test_anonymous_callers_see_only_what_allow_read_admits_them_to(server: ApiServer) -> None:
    org = await with_documents(server)
    server.engine.hidden = {InstanceName("d2")}
    async with server.client() as stranger:
        token = (await exchange(stranger, org)).json()["access_token"]
    async with server.client(token) as client:
        for limit in (1, 2, 100):
            assert await find(client, limit=limit) == [("/a", "d1"), ("/b", "d3")]
        page = (await client.get(QUERY, params={"limit": 1, "op": "gt", "value": "/a"})).json()
        assert page["instances"] == []
        assert page["cursor"]
    async with server.client(await server.token(org, ["indexes.read"])) as client:
        assert len(await find(client)) == 4


async def test_the_longest_value_and_name_have_a_cursor(server: ApiServer) -> None:
    org = await with_documents(server)
    for letter in "ab":
        name = InstanceName(letter * 128)
        key = InstanceKey(org, MachineName("docs"), name)
        server.engine.indexes.write(InstanceId(letter), key, (("by-folder", ("é" * 512,)),))
    async with server.client(await server.token(org)) as client:
        found = await find(client, limit=1, op="gt", value="z")
        assert [name[0] for _, name in found] == ["a", "b"]
