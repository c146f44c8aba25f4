"""Making a migration: reserve, upload, finalize."""

import gzip
import json
from typing import Any

import httpx
import pytest

from statebacked.model.ids import MachineName
from statebacked.model.limits import MIGRATION_BODY_BYTES_MAX, UPLOAD_EXPIRES_MS, UPLOADS_PENDING_MAX
from tests.api.server import ApiServer
from tests.api.test_versions import finalize as finalize_version
from tests.api.test_versions import new_machine, reserve, upload

pytestmark = pytest.mark.anyio

CODE = b"export const upgradeState = (path) => path;"


async def new_versions(client: httpx.AsyncClient) -> tuple[str, str]:
    """Two versions of machine m."""
    made = []
    for _ in range(2):
        reserved = await reserve(client)
        await upload(client, reserved, b"export default 1;")
        made.append((await finalize_version(client, reserved)).json()["machineVersionId"])
    return made[0], made[1]


async def announce(
    client: httpx.AsyncClient, start: str, goal: str, query: str = "", **noise: Any
) -> httpx.Response:
    body = {"fromMachineVersionId": start, "toMachineVersionId": goal, **noise}
    return await client.post(f"/machines/m/migrations{query}", json=body)


async def finalize(client: httpx.AsyncClient, reserved: dict[str, Any]) -> httpx.Response:
    # As the published client does it: no body, and a content type all the same.
    path = f"/machines/m/migrations/{reserved['machineVersionMigrationId']}"
    return await client.put(path, headers={"content-type": "application/json"})


@pytest.mark.parametrize("zipped", [False, True])
async def test_three_steps_make_a_migration(server: ApiServer, zipped: bool) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client, server.client() as stranger:
        start, goal = await new_versions(client)
        reserved = (await announce(client, start, goal, "?gzip" if zipped else "")).json()
        code = gzip.compress(CODE, mtime=0) if zipped else CODE
        assert (await upload(stranger, reserved, code, zipped=zipped)).status_code == 204
        final = await finalize(client, reserved)
        assert final.status_code == 200
        (migration,) = await server.catalogue.list_migrations(org, MachineName("m"))
        assert final.json() == {
            "machineVersionMigrationId": migration.id, "machineVersionId": migration.id
        }  # fmt: skip
        assert (migration.from_version, migration.to_version) == (start, goal)
        assert await server.catalogue.load_bundle(migration.id) == CODE
        assert (await finalize(client, reserved)).json()["code"] == "already-finalized"


async def test_the_code_may_come_along_as_noise_in_the_first_request(server: ApiServer) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        start, goal = await new_versions(client)
        noise = {str(n): n % 256 for n in range(900_000)}  # what JSON makes of a Uint8Array
        assert len(json.dumps(noise)) > 11_000_000
        reserved = await announce(client, start, goal, "?gzip", gzippedCode=noise, code=None)
        assert reserved.status_code == 200
        too_large = await announce(client, start, goal, noise="x" * MIGRATION_BODY_BYTES_MAX)
        assert (too_large.status_code, too_large.json()["code"]) == (413, "body-too-large")


async def test_a_migration_is_between_two_versions_of_its_machine(server: ApiServer) -> None:
    org = await new_machine(server)
    other = await server.machine(org)
    async with server.client(await server.token(org)) as client:
        start, goal = await new_versions(client)
        for (one, another), parameter in (
            ((start, start), "toMachineVersionId"),
            ((start, "ver_none"), "toMachineVersionId"),
            ((other, goal), "fromMachineVersionId"),
            (("", goal), "fromMachineVersionId"),
        ):
            refused = await announce(client, one, another)
            assert (refused.status_code, refused.json()["parameter"]) == (400, parameter)
        unknown = await client.post(
            "/machines/none/migrations", json={"fromMachineVersionId": start, "toMachineVersionId": goal}
        )
        assert unknown.status_code == 404
        assert (await client.post("/machines/m/migrations")).json()["code"] == "invalid-body"
    assert server.catalogue.uploads.keys() == server.catalogue.versions.keys() - {other}


async def test_code_that_is_no_migration_is_told_in_full_and_does_not_stay_pending(server: ApiServer) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        start, goal = await new_versions(client)
        for _ in range(UPLOADS_PENDING_MAX + 1):
            reserved = (await announce(client, start, goal)).json()
            await upload(client, reserved, b"broken")
            refused = await finalize(client, reserved)
            assert (refused.status_code, refused.json()["code"]) == (400, "invalid-machine")
            assert "upgradeState" in refused.json()["error"]
        assert await server.catalogue.list_migrations(org, MachineName("m")) == []


async def test_finalize_needs_an_upload_of_the_own_org_in_time(server: ApiServer) -> None:
    org, stranger = await new_machine(server), await server.org()
    async with (
        server.client(await server.token(org)) as client,
        server.client(await server.token(stranger)) as other,
    ):
        start, goal = await new_versions(client)
        reserved = (await announce(client, start, goal)).json()
        assert (await finalize(client, reserved)).json()["code"] == "invalid-state"
        await upload(client, reserved, CODE)
        assert (await finalize(other, reserved)).status_code == 404
        server.clock.pass_ms(UPLOAD_EXPIRES_MS)
        assert (await finalize(client, reserved)).status_code == 404


async def test_a_migration_is_no_version_and_a_version_no_migration(server: ApiServer) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        start, goal = await new_versions(client)
        migration, version = (await announce(client, start, goal)).json(), await reserve(client)
        for reserved in (migration, version):
            await upload(client, reserved, CODE)
        signed = migration["machineVersionMigrationId"], version["machineVersionId"]
        assert (await client.put(f"/machines/m/v/{signed[0]}")).status_code == 404
        assert (await client.put(f"/machines/m/migrations/{signed[1]}")).status_code == 404
        assert (await finalize(client, migration)).status_code == 200
        assert (await finalize_version(client, version)).status_code == 200


async def test_what_is_created_without_the_scope_is_nothing(server: ApiServer) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        start, goal = await new_versions(client)
    before = dict(server.catalogue.uploads)
    async with server.client(await server.token(org, ["machine-versions.read"])) as client:
        assert (await announce(client, start, goal)).json()["code"] == "missing-scope"
    assert server.catalogue.uploads == before
