"""Making a version: reserve, upload, finalize."""

import gzip
import json
from typing import Any

import httpx
import pytest

from statebacked.api.application import ApiSettings
from statebacked.model.ids import MachineName, OrgId, VersionId
from statebacked.model.limits import (
    BUNDLE_BYTES_MAX,
    BUNDLE_GZIPPED_BYTES_MAX,
    UPLOAD_EXPIRES_MS,
    UPLOAD_FIELD_BYTES_MAX,
    UPLOADS_PENDING_MAX,
)
from statebacked.model.machine import Machine
from tests.api.server import ApiServer

pytestmark = pytest.mark.anyio

CODE = "export default 'é';".encode()


async def new_machine(
    server: ApiServer, name: str = "m", *, indexes: tuple[str, ...] = ("by_user",)
) -> OrgId:
    org = await server.org()
    await server.catalogue.create_machine(
        Machine(
            org=org,
            name=MachineName(name),
            created_at=server.clock.now().wall,
            indexes=indexes,
            current=None,
        )
    )
    return org


async def reserve(client: httpx.AsyncClient, query: str = "", **body: Any) -> dict[str, Any]:
    response = await client.post(f"/machines/m/v{query}", json=body or None)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def upload(
    client: httpx.AsyncClient, reserved: dict[str, Any], code: bytes, *, zipped: bool = False, **more: str
) -> httpx.Response:
    """As the published client does it."""
    fields = {**reserved["codeUploadFields"], "content-type": "application/javascript", **more}
    if zipped:
        fields["content-encoding"] = "gzip"
    file = ("m.js", code, "application/javascript")
    return await client.post(reserved["codeUploadUrl"], data=fields, files={"file": file})


async def finalize(client: httpx.AsyncClient, reserved: dict[str, Any], **body: Any) -> httpx.Response:
    return await client.put(f"/machines/m/v/{reserved['machineVersionId']}", json=body)


@pytest.mark.parametrize("zipped", [False, True])
async def test_three_steps_make_a_version(server: ApiServer, zipped: bool) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client, server.client() as stranger:
        reserved = await reserve(client, "?gzip" if zipped else "", xstate="5.19.2")
        code = gzip.compress(CODE, mtime=0) if zipped else CODE
        taken = await upload(stranger, reserved, code, zipped=zipped)
        assert (taken.status_code, taken.content) == (204, b"")
        final = await finalize(client, reserved, clientInfo="v1", makeCurrent=True)
        version = VersionId(final.json()["machineVersionId"])
        assert server.catalogue.bundles[version] == CODE
        assert server.catalogue.versions[version].xstate == "5.19.2"
        assert server.machines.hints == ["5.19.2"]
        versions = (await client.get("/machines/m/v")).json()["versions"]
        assert versions == [{"id": version, "createdAt": "2025-06-15T15:06:40.000Z", "clientInfo": "v1"}]
        assert (await client.get("/machines/m")).json()["currentVersion"]["id"] == version


async def test_a_version_is_current_only_when_asked_for(server: ApiServer) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        reserved = await reserve(client)
        await upload(client, reserved, CODE)
        response = await client.put(f"/machines/m/v/{reserved['machineVersionId']}")
        assert response.status_code == 200
        assert "currentVersion" not in (await client.get("/machines/m")).json()
        assert (await client.get("/machines/m/v")).json()["versions"][0]["clientInfo"] == ""


async def test_the_upload_url_is_where_the_client_reached_us(server: ApiServer) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org), host="127.0.0.1:7070") as client:
        assert (await reserve(client))["codeUploadUrl"].startswith("http://127.0.0.1:7070/uploads/ver_")


async def test_the_upload_url_is_the_public_one_when_there_is_one() -> None:
    server = ApiServer(ApiSettings(public_url="https://machines.example.com/base/"))
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        url = (await reserve(client))["codeUploadUrl"]
        assert url.startswith("https://machines.example.com/base/uploads/ver_")


async def test_broken_code_is_found_at_finalize_and_told_in_full(server: ApiServer) -> None:
    org = await new_machine(server)
    ci = await server.token(org, ["machine-versions.write"])
    async with server.client(ci) as client:
        reserved = await reserve(client)
        await upload(client, reserved, b"broken(")
        response = await finalize(client, reserved)
        assert (response.status_code, response.json()["code"]) == (400, "invalid-machine")
        assert "SyntaxError: Unexpected token" in response.json()["error"]
        assert server.catalogue.versions == {}
        assert (await upload(client, reserved, CODE)).status_code == 404
        assert (await finalize(client, reserved)).status_code == 404


async def test_mistakes_do_not_fill_up_what_may_be_pending(server: ApiServer) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org, ["machine-versions.write"])) as client:
        for _ in range(UPLOADS_PENDING_MAX + 1):
            reserved = await reserve(client)
            await upload(client, reserved, b"broken(")
            assert (await finalize(client, reserved)).status_code == 400


async def test_a_version_is_finalized_once(server: ApiServer) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        reserved = await reserve(client)
        await upload(client, reserved, CODE)
        assert (await finalize(client, reserved)).status_code == 200
        for response in (await finalize(client, reserved), await upload(client, reserved, b"other")):
            assert (response.status_code, response.json()["code"]) == (409, "already-finalized")
        assert list(server.catalogue.bundles.values()) == [CODE]


async def test_finalize_needs_an_upload_first(server: ApiServer) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        response = await finalize(client, await reserve(client))
        assert (response.status_code, response.json()["code"]) == (409, "invalid-state")


async def test_a_signed_id_is_good_for_one_step_of_one_version(server: ApiServer) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        first, second = await reserve(client), await reserve(client)
        signed, url = first["machineVersionId"], first["codeUploadUrl"]
        # The finalize id does not upload, the upload id does not finalize.
        crossed = {**first, "codeUploadUrl": url.rpartition("/")[0] + "/" + signed}
        assert (await upload(client, crossed, CODE)).status_code == 404
        assert (await finalize(client, {"machineVersionId": url.rpartition("/")[2]})).status_code == 404
        # Another version's signature, a longer life, another machine.
        mac, expiry = second["machineVersionId"].rpartition(".")[2], signed.split(".")[1]
        forged = [
            signed.rpartition(".")[0] + "." + mac,
            signed.replace(expiry, str(int(expiry) + 1)),
            signed[:-1],
            "ver_AAAAAAAAAAAAAAAAAAAAAA" + signed[26:],
        ]
        for other in forged:
            assert (await finalize(client, {"machineVersionId": other})).status_code == 404
            assert (await client.post(f"/uploads/{other}", files={"file": b"x"})).status_code == 404
        await client.post("/machines", json={"slug": "other"})
        assert (await client.put(f"/machines/other/v/{signed}", json={})).status_code == 404


async def test_another_orgs_signed_id_is_not_there(server: ApiServer) -> None:
    org, other = await new_machine(server), await new_machine(server)
    async with server.client(await server.token(org)) as client:
        reserved = await reserve(client)
        await upload(client, reserved, CODE)
    async with server.client(await server.token(other)) as client:
        assert (await finalize(client, reserved)).status_code == 404
    assert server.catalogue.versions == {}


async def test_an_upload_expires(server: ApiServer) -> None:
    org = await new_machine(server)
    key = await server.key(org)
    async with server.client(server.sign(*key)) as client:
        early, late = await reserve(client), await reserve(client)
        server.clock.pass_ms(UPLOAD_EXPIRES_MS - 1)
        assert (await upload(client, early, CODE)).status_code == 204
        server.clock.pass_ms(1)
        for response in (await upload(client, late, CODE), await finalize(client, early)):
            assert response.status_code == 404
            assert "expired" in response.json()["error"]


async def test_an_org_has_a_limited_number_of_unfinished_uploads(server: ApiServer) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        for _ in range(UPLOADS_PENDING_MAX):
            await reserve(client)
        response = await client.post("/machines/m/v")
        assert (response.status_code, response.json()["code"]) == (429, "rate-limited")
        assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("hint", ["5", "latest", "5.x", "5.19.2-beta", "../x", ""])
async def test_an_xstate_hint_is_an_exact_version(server: ApiServer, hint: str) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        response = await client.post("/machines/m/v", json={"xstate": hint})
        assert (response.status_code, response.json()["parameter"]) == (400, "xstate")


async def test_selectors_are_of_the_machines_indexes_and_default_to_the_current_ones(
    server: ApiServer,
) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        first = await reserve(client)
        await upload(client, first, CODE)
        response = await finalize(client, first, indexSelectors={"by_none": "$.a"})
        assert (response.status_code, response.json()["parameter"]) == (400, "indexSelectors")
        await finalize(client, first, indexSelectors={"by_user": "$.user"}, makeCurrent=True)
        second = await reserve(client)
        await upload(client, second, CODE)
        final = await finalize(client, second)
        version = server.catalogue.versions[VersionId(final.json()["machineVersionId"])]
        assert version.index_selectors == (("by_user", "$.user"),)


async def test_a_selector_that_is_asked_for_takes_the_place_of_the_current_versions(
    server: ApiServer,
) -> None:
    org = await new_machine(server, indexes=("by_user", "by_tag"))
    async with server.client(await server.token(org)) as client:
        for asked, expected in (
            ({"by_tag": "$.tags[*]", "by_user": "$.user"}, (("by_user", "$.user"), ("by_tag", "$.tags[*]"))),
            ({"by_user": "$.owner"}, (("by_user", "$.owner"), ("by_tag", "$.tags[*]"))),
            ({"by_tag": None}, (("by_user", "$.owner"),)),
            ({}, (("by_user", "$.owner"),)),
        ):
            reserved = await reserve(client)
            await upload(client, reserved, CODE)
            final = await finalize(client, reserved, indexSelectors=asked, makeCurrent=True)
            version = server.catalogue.versions[VersionId(final.json()["machineVersionId"])]
            assert version.index_selectors == expected


@pytest.mark.parametrize("path", ["", "user", "$..user", "$.users[?(@.a)]", "$." + "a" * 255])
async def test_a_selector_that_is_no_path_is_refused_and_the_upload_stays(
    server: ApiServer, path: str
) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        reserved = await reserve(client)
        await upload(client, reserved, CODE)
        response = await finalize(client, reserved, indexSelectors={"by_user": path})
        assert (response.status_code, response.json()["code"]) == (400, "invalid-parameter")
        assert response.json()["parameter"] == "indexSelectors"
        assert (await finalize(client, reserved)).status_code == 200


# --- the form ------------------------------------------------------------------------------------


async def test_code_over_the_limits_is_too_large(server: ApiServer) -> None:
    org = await new_machine(server)
    bomb = gzip.compress(b" " * (BUNDLE_BYTES_MAX + 1))
    plain_max = b" " * BUNDLE_BYTES_MAX
    async with server.client(await server.token(org)) as client:
        plain, zipped = await reserve(client), await reserve(client, "?gzip")
        for reserved, code, says in (
            (plain, plain_max + b" ", False),
            (zipped, bomb, True),
            (zipped, b"x" * (BUNDLE_GZIPPED_BYTES_MAX + 1), True),
            (zipped, b"x" * (BUNDLE_GZIPPED_BYTES_MAX + 1), False),
        ):
            response = await upload(client, reserved, code, zipped=says)
            assert (response.status_code, response.json()["code"]) == (413, "bundle-too-large")
        assert (await upload(client, plain, plain_max)).status_code == 204
        assert (
            await upload(client, zipped, gzip.compress(plain_max, mtime=0), zipped=True)
        ).status_code == 204


@pytest.mark.parametrize(
    "data",
    [
        CODE,
        b"",
        gzip.compress(CODE, mtime=0)[:-1],
        gzip.compress(CODE, mtime=0)[:10],
        gzip.compress(CODE, mtime=0) + b"x",
        gzip.compress(CODE, mtime=0) + gzip.compress(CODE, mtime=0),
        gzip.compress(CODE, mtime=0)[:-8] + b"\0" * 8,
    ],
)
async def test_a_wrong_gzip_is_refused(server: ApiServer, data: bytes) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        reserved = await reserve(client, "?gzip")
        response = await upload(client, reserved, data, zipped=True)
        assert (response.status_code, response.json()["code"]) == (400, "invalid-body")
        assert server.catalogue.uploads[VersionId(reserved["machineVersionId"][:26])].bundle is None


async def test_gzip_that_does_not_say_so_is_refused(server: ApiServer) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        response = await upload(client, await reserve(client), gzip.compress(CODE, mtime=0))
        assert (response.status_code, response.json()["code"]) == (400, "invalid-body")
        assert "gzip" in response.json()["error"]


def multipart(*parts: bytes, end: bytes = b"--b--\r\n") -> bytes:
    return b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + end


def part(name: str, value: bytes) -> bytes:
    return f'content-disposition: form-data; name="{name}"\r\n\r\n'.encode() + value


FORM = "multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("application/json", b"{}", "invalid-body"),
        ("multipart/form-data", multipart(part("file", CODE)), "invalid-body"),
        ("multipart/form-data; boundary=" + "b" * 300, multipart(part("file", CODE)), "invalid-body"),
        (FORM, b"", "invalid-body"),
        (FORM, b"nonsense", "invalid-body"),
        (FORM, multipart(part("file", CODE), end=b""), "invalid-body"),
        (FORM, multipart(part("code", CODE)), "invalid-body"),
        (FORM, multipart(part("file", b"\xff\xfe")), "invalid-body"),
        (
            FORM,
            multipart(part("a", b"x" * (UPLOAD_FIELD_BYTES_MAX + 1)), part("file", CODE)),
            "body-too-large",
        ),
        (FORM, multipart(*[part(f"a{n}", b"") for n in range(20)], part("file", CODE)), "body-too-large"),
        (FORM, b"--b\r\n" + b"x: y\r\n" * 10_000 + multipart(part("file", CODE)), "invalid-body"),
        (FORM, b"--b\r\n" + b"x" * 1_000_000, "invalid-body"),
    ],
)
async def test_a_form_that_is_none_is_refused(
    server: ApiServer, content_type: str, body: bytes, code: str
) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        reserved = await reserve(client)
        response = await client.post(
            reserved["codeUploadUrl"], content=body, headers={"content-type": content_type}
        )
        assert response.json()["code"] == code, response.text
        assert server.catalogue.uploads[VersionId(reserved["machineVersionId"][:26])].bundle is None


async def test_a_form_may_come_in_pieces_of_any_size(server: ApiServer) -> None:
    org = await new_machine(server)
    body = multipart(part("content-encoding", b"gzip"), part("file", gzip.compress(CODE, mtime=0)))
    async with server.client(await server.token(org)) as client:
        for size in (1, 2, 7, 64):
            reserved = await reserve(client)
            pieces = (body[at : at + size] for at in range(0, len(body), size))

            async def stream(pieces: Any = pieces) -> Any:
                for piece in pieces:
                    yield piece

            response = await client.post(
                reserved["codeUploadUrl"], content=stream(), headers={"content-type": FORM}
            )
            assert response.status_code == 204
            assert server.catalogue.uploads[VersionId(reserved["machineVersionId"][:26])].bundle == CODE


async def test_the_noise_that_clients_send_along_is_ignored(server: ApiServer) -> None:
    org = await new_machine(server)
    async with server.client(await server.token(org)) as client:
        response = await client.post("/machines/m/v?gzip=&x=1", content=json.dumps({"code": "x", "a": [1]}))
        assert response.status_code == 200
