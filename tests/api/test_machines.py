"""Machines, versions and instances as the catalogue of an org shows them."""

from itertools import chain

import httpx
import pytest

from statebacked.model.limits import MACHINE_INDEXES_MAX, PAGE_ROWS_DEFAULT
from tests.api.server import ApiServer

pytestmark = pytest.mark.anyio


async def test_a_machine_is_created_once_listed_and_found(server: ApiServer) -> None:
    org = await server.org()
    async with server.client(await server.token(org)) as client:
        created = await client.post("/machines", json={"slug": "m-1", "indexes": ["by_user", "by_user"]})
        assert (created.status_code, created.content) == (201, b"")
        again = await client.post("/machines", json={"slug": "m-1"})
        assert (again.status_code, again.json()["code"]) == (409, "conflict")
        found = (await client.get("/machines/m-1")).json()
        assert found == {
            "machine": {"slug": "m-1", "createdAt": "2025-06-15T15:06:40.000Z", "indexes": ["by_user"]}
        }
        assert (await client.get("/machines")).json() == {
            "machines": [{"slug": "m-1", "createdAt": "2025-06-15T15:06:40.000Z"}]
        }


async def test_the_current_version_stands_where_older_scripts_read_it(server: ApiServer) -> None:
    org = await server.org()
    version = await server.machine(org)
    async with server.client(await server.token(org)) as client:
        found = (await client.get("/machines/toggler")).json()
        expected = {"id": version, "createdAt": "2025-06-15T15:06:40.000Z", "clientInfo": "1.0"}
        assert found["currentVersion"] == found["machine"]["currentVersion"] == expected


@pytest.mark.parametrize("slug", ["", "a b", "a/b", "é", "x" * 129, "a.b"])
async def test_a_bad_machine_name_is_refused(server: ApiServer, slug: str) -> None:
    async with server.client(await server.token(await server.org())) as client:
        response = await client.post("/machines", json={"slug": slug})
        assert (response.status_code, response.json()["code"]) == (400, "invalid-name")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"slug":5}', b'{"slug":"a"', b'{"slug":"a","indexes":[5]}']
)
async def test_a_malformed_body_is_refused_and_changes_nothing(server: ApiServer, body: bytes) -> None:
    async with server.client(await server.token(await server.org())) as client:
        response = await client.post("/machines", content=body)
        assert (response.status_code, response.json()["code"]) == (400, "invalid-body")
        assert server.catalogue.machines == {}


async def test_a_machine_of_another_org_is_not_there(server: ApiServer) -> None:
    await server.machine(await server.org())
    async with server.client(await server.token(await server.org())) as client:
        absent = await client.get("/machines/nothing")
        foreign = await client.get("/machines/toggler")
        assert absent.status_code == foreign.status_code == 404
        for path in ("/machines/toggler/v", "/machines/toggler/i"):
            assert (await client.get(path)).status_code == 404


async def pages(client: httpx.AsyncClient, path: str, items: str, **query: str) -> list[list[str]]:
    found: list[list[str]] = []
    cursor = ""
    while True:
        parameters = {**query, **({"cursor": cursor} if cursor else {})}
        page = (await client.get(path, params=parameters)).json()
        found.append([item["slug"] if "slug" in item else item["id"] for item in page[items]])
        if "cursor" not in page:
            return found
        cursor = page["cursor"]


async def test_pages_are_of_a_hundred_and_make_up_the_whole_list(server: ApiServer) -> None:
    org = await server.org()
    for number in range(PAGE_ROWS_DEFAULT + 1):
        await server.machine(org, f"m-{number:03}")
    names = [f"m-{number:03}" for number in range(PAGE_ROWS_DEFAULT + 1)]
    async with server.client(await server.token(org)) as client:
        found = await pages(client, "/machines", "machines")
        assert [len(page) for page in found] == [PAGE_ROWS_DEFAULT, 1]
        assert list(chain(*found)) == names
        for limit in (1, 7, PAGE_ROWS_DEFAULT, PAGE_ROWS_DEFAULT + 1, 1_000):
            found = await pages(client, "/machines", "machines", limit=str(limit))
            assert list(chain(*found)) == names
            assert all(len(page) == limit for page in found[:-1])


async def test_every_list_pages(server: ApiServer) -> None:
    org = await server.org()
    await server.machine(org)
    async with server.client(await server.token(org)) as client:
        for name in ("a", "b", "c"):
            await client.post("/machines/toggler", json={"slug": name})
            await client.post("/machines/toggler/i/a/events", json={"event": "go"})
            await client.post("/keys", json={"name": name, "use": "ci"})
        assert await pages(client, "/machines/toggler/i", "instances", limit="2") == [["a", "b"], ["c"]]
        assert len(await pages(client, "/keys", "keys", limit="3")) == 2
        assert len(await pages(client, "/machines/toggler/v", "versions", limit="1")) == 1
        history = await pages(client, "/machines/toggler/i/a/events", "transitions", limit="1")
        assert len(history) == 4


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1e3", "٣", "9" * 40])
async def test_a_limit_is_1_to_1000(server: ApiServer, limit: str) -> None:
    async with server.client(await server.token(await server.org())) as client:
        response = await client.get("/machines", params={"limit": limit})
        assert (response.status_code, response.json()["code"]) == (400, "invalid-parameter")
        assert response.json()["parameter"] == "limit"


async def test_a_cursor_of_another_list_or_org_is_refused(server: ApiServer) -> None:
    org = await server.org()
    for name in ("m-1", "m-2"):
        await server.machine(org, name)
    async with server.client(await server.token(org)) as client:
        cursor = (await client.get("/machines", params={"limit": 1})).json()["cursor"]
        for path in ("/keys", "/machines/m-1/v", "/machines/m-1/i"):
            response = await client.get(path, params={"cursor": cursor})
            assert (response.status_code, response.json()["code"]) == (400, "invalid-cursor")
    async with server.client(await server.token(await server.org())) as client:
        response = await client.get("/machines", params={"cursor": cursor})
        assert response.json()["code"] == "invalid-cursor"


async def test_a_bad_index_name_is_called_one(server: ApiServer) -> None:
    async with server.client(await server.token(await server.org())) as client:
        refused = await client.post("/machines", json={"slug": "m", "indexes": ["by user"]})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid-name")
        assert refused.json()["error"].startswith("an index name is 1 to 128 characters")
        refused = await client.post("/machines", json={"slug": "a b"})
        assert refused.json()["error"].startswith("a machine name is 1 to 128 characters")


async def test_a_machine_has_a_bounded_number_of_indexes(server: ApiServer) -> None:
    org = await server.org()
    async with server.client(await server.token(org)) as client:
        names = [f"i{n}" for n in range(MACHINE_INDEXES_MAX + 1)]
        refused = await client.post("/machines", json={"slug": "m", "indexes": names})
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid-body")
        assert (await client.post("/machines", json={"slug": "m", "indexes": names[1:]})).status_code == 201
        assert (await client.get("/machines/m")).json()["machine"]["indexes"] == names[1:]
