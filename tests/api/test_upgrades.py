"""Wishing another version, and trying it out, over HTTP, with the real engine on the memory store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest

from statebacked.model.ids import VersionId
from statebacked.model.rows import PendingTimer
from statebacked.ports.machines import MigrationFailed, Migrator
from tests.api.server import ApiServer
from tests.engine.world import MACHINE, ORG, VERSION, World, add_migration, add_version, world

pytestmark = pytest.mark.anyio

V2, FAR = VersionId("ver_" + "2" * 22), VersionId("ver_" + "f" * 22)
MIGRATION = "mig_" + "a" * 22
INSTANCE = f"/machines/{MACHINE}/i/a"
DRY_RUN = f"/machines/{MACHINE}/migrations/dry-run"


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[World, httpx.AsyncClient, ApiServer]]:
    """A server over a started engine, an instance `a`, a second version with a migration to it, a third
    without, and the admin's client."""
    async with world() as w:
        await add_version(w.store, V2)
        await add_version(w.store, FAR)
        await add_migration(w.store, MIGRATION, VERSION, V2)
        server = await over(w, w.migrator)
        async with server.client(await server.session((ORG, "admin"))) as client:
            await w.create("a")
            yield w, client, server


async def over(w: World, migrator: object) -> ApiServer:
    """A server over that engine, with its machine in the catalogue."""
    server = ApiServer(engine=w.engine, store=w.store, migrator=cast("Migrator", migrator))
    await server.org(org_id=ORG)
    machine = await w.store.find_machine(ORG, MACHINE)
    assert machine is not None
    server.catalogue.machines[ORG, MACHINE] = machine
    server.catalogue.versions.update(w.store.versions)
    server.catalogue.migrations += w.store.migrations.values()
    return server


async def wish(client: httpx.AsyncClient, version: str) -> httpx.Response:
    return await client.put(INSTANCE + "/v", json={"targetMachineVersionId": version})


async def send(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post(INSTANCE + "/events", json={"event": {"type": "go"}})


async def admin(client: httpx.AsyncClient) -> dict[str, Any]:
    return dict((await client.get(INSTANCE + "/admin")).json())


async def test_a_wish_is_shown_until_it_comes_true() -> None:
    async with serving() as (_, client, _):
        assert "desiredMachineVersion" not in await admin(client)
        wished = await wish(client, V2)
        assert (wished.status_code, wished.content) == (201, b"")
        state = await admin(client)
        assert (state["machineVersion"]["id"], state["desiredMachineVersion"]["id"]) == (VERSION, V2)
        assert (await send(client)).json()["publicContext"] == {"count": 1}
        state = await admin(client)
        assert (state["machineVersion"]["id"], "desiredMachineVersion" in state) == (V2, False)
        _, upgrade, _ = (await client.get(INSTANCE + "/events")).json()["transitions"]
        assert upgrade["event"] == {
            "type": "statebacked.upgrade",
            "migrationPath": [MIGRATION],
            "fromMachineVersionId": VERSION,
            "toMachineVersionId": V2,
        }
        assert (upgrade["source"], upgrade["machineVersionId"]) == ("upgrade", V2)


async def test_the_present_version_takes_a_wish_back() -> None:
    async with serving() as (_, client, _):
        await wish(client, V2)
        assert (await wish(client, VERSION)).status_code == 201
        assert "desiredMachineVersion" not in await admin(client)


async def test_a_wish_that_cannot_come_true_is_refused() -> None:
    async with serving() as (_, client, server):
        refused = await wish(client, FAR)
        assert (refused.status_code, refused.json()["code"]) == (400, "no-migration-path")
        assert (await wish(client, "ver_" + "0" * 22)).status_code == 404
        body = {"targetMachineVersionId": V2}
        assert (await client.put(f"/machines/{MACHINE}/i/none/v", json=body)).status_code == 404
        assert (await client.put(INSTANCE + "/v", json={})).json()["code"] == "invalid-body"
        key = await server.token(ORG, ["instances.write", "machine-versions.write"])
        async with server.client(key) as other:
            assert (await wish(other, V2)).json()["code"] == "missing-scope"
        assert "desiredMachineVersion" not in await admin(client)


async def test_what_a_failing_migration_throws_is_for_its_owners() -> None:
    async with serving() as (w, client, server):
        await wish(client, V2)
        w.migrator.reason = "upgradeState threw: secret is undefined"
        told = (await send(client)).json()
        assert (told["code"], told["error"]) == ("migration-failed", w.migrator.reason)
        async with server.client(await server.token(ORG, ["events.write"])) as stranger:
            hidden = await send(stranger)
            assert (hidden.status_code, hidden.json()["code"]) == (400, "migration-failed")
            assert "secret" not in hidden.json()["error"]


class Picky:
    """Migrates whoever is not called `bad…`."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def migrate(self, route: Any, key: Any, saved: Any, timers: list[PendingTimer]) -> Any:
        if key.name.startswith("bad"):
            raise MigrationFailed("upgradeContext threw: no total")
        return await self._inner.migrate(route, key, saved, timers)


async def dry_run(client: httpx.AsyncClient, goal: str = V2, **query: str) -> httpx.Response:
    body = {"fromMachineVersionId": VERSION, "toMachineVersionId": goal}
    return await client.post(DRY_RUN, json=body, params=query)


async def test_a_dry_run_names_who_would_fail_and_changes_nothing() -> None:
    async with serving() as (w, client, _):
        for name in ("bad-1", "bad-2", "good"):
            await w.create(name)
        await client.put(f"/machines/{MACHINE}/i/good/v", json={"targetMachineVersionId": V2})
        await w.send("good", "go")
        picky = await over(w, Picky(w.migrator))
        before = [row.head for row in w.store.instances.instances.values()]
        async with picky.client(await picky.session((ORG, "admin"))) as owner:
            whole = (await dry_run(owner)).json()
            assert whole == {
                "migrationPath": [MIGRATION],
                "instances": 3,
                "failures": [
                    {"slug": name, "state": "on", "error": "upgradeContext threw: no total"}
                    for name in ("bad-1", "bad-2")
                ],
            }
            pages: list[tuple[int, list[str]]] = []
            cursor: dict[str, str] = {}
            while True:
                page = (await dry_run(owner, limit="1", **cursor)).json()
                pages.append((page["instances"], [one["slug"] for one in page["failures"]]))
                if "cursor" not in page:
                    break
                cursor = {"cursor": page["cursor"]}
            assert pages == [(1, []), (1, ["bad-1"]), (1, ["bad-2"]), (0, [])]
        assert [row.head for row in w.store.instances.instances.values()] == before


async def test_a_dry_run_is_refused_like_a_wish() -> None:
    async with serving() as (_, client, server):
        for goal, status, code in (
            (FAR, 400, "no-migration-path"),
            ("ver_none", 400, "invalid-parameter"),
        ):
            refused = await dry_run(client, goal)
            assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert (await dry_run(client, limit="101")).json()["parameter"] == "limit"
        first = (await dry_run(client, limit="1")).json()
        assert "cursor" not in first
        async with server.client(await server.token(ORG, ["machine-versions.write"])) as other:
            assert (await dry_run(other)).json()["code"] == "missing-scope"
