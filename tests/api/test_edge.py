"""The edge: hosts, origins, sizes, paths that do not exist."""

from typing import Any

import pytest

from statebacked.api.application import ApiSettings
from statebacked.model.limits import (
    EVENT_BODY_BYTES_MAX,
    HEADERS_BYTES_MAX,
    JSON_BODY_BYTES_MAX,
    QUERY_PARAMETERS_MAX,
)
from tests.api.server import ApiServer

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:7070", "127.0.0.1:7070", "127.9.9.9", "[::1]:7070", "LOCALHOST:1"]
)
async def test_bound_to_loopback_a_server_answers_to_loopback(server: ApiServer, host: str) -> None:
    async with server.client(host=host) as client:
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "10.0.0.1", "", "127.0.0.1.evil.example", "[1.2]"]
)
async def test_any_other_host_is_misdirected(server: ApiServer, host: str) -> None:
    async with server.client() as client:
        response = await client.get("/healthz", headers=[(b"host", host.encode("latin-1"))])
        assert (response.status_code, response.json()["code"]) == (421, "misdirected")


@pytest.mark.parametrize(
    "host",
    [
        "[",
        "\xff",
        "localhost:evil",
        "localhost:80:80",
        "localhost:99999",
        "localhost:+80",
        "evil.example@localhost",
        "a:b@localhost",
        "localhost/",
        "localhost?x",
        "local host",
        "localhost, evil.example",
        "[::1",
        "[::1]evil",
        "::1",
    ],
)
@pytest.mark.parametrize("bound_to_loopback", [True, False])
async def test_a_host_that_is_none_makes_no_sense(host: str, bound_to_loopback: bool) -> None:
    async with ApiServer(ApiSettings(bound_to_loopback=bound_to_loopback)).client() as client:
        response = await client.get("/healthz", headers=[(b"host", host.encode("latin-1"))])
        assert (response.status_code, response.json()["code"]) == (400, "bad-request")


async def asked(server: ApiServer, headers: list[tuple[bytes, bytes]], **scope: Any) -> int:
    """The status of an answer to exactly these headers."""
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    asked = {"method": "GET", "path": "/healthz", "raw_path": b"/healthz", "query_string": b"", **scope}
    await server.app({"type": "http", "http_version": "1.1", "headers": headers, **asked}, receive, send)
    return int(told[0]["status"])


async def test_a_request_of_http_1_1_names_one_host(server: ApiServer) -> None:
    host = (b"host", b"localhost")
    assert await asked(server, [host]) == 200
    assert await asked(server, [host, host]) == 400
    assert await asked(server, [host, (b"host", b"evil.example")]) == 400
    assert await asked(server, []) == 400
    assert await asked(server, [], http_version="1.0") == 200


@pytest.mark.parametrize(
    "name",
    [b"authorization", b"content-length", b"idempotency-key", b"x-statebacked-org-id", b"x-statebacked-act"],
)
async def test_a_header_that_decides_something_comes_once(server: ApiServer, name: bytes) -> None:
    host = (b"host", b"localhost")
    assert await asked(server, [host, (name, b"1")]) == 200
    assert await asked(server, [host, (name, b"1"), (b"x-forwarded-for", b"1"), (name, b"1")]) == 400
    assert await asked(server, [host, (b"accept", b"a"), (b"accept", b"b")]) == 200


async def test_the_public_urls_host_is_ours() -> None:
    server = ApiServer(ApiSettings(public_url="https://machines.example.com/base"))
    async with server.client(host="machines.example.com") as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/base/healthz")).status_code == 200
    async with server.client(host="other.example.com") as client:
        assert (await client.get("/healthz")).status_code == 421


async def test_bound_elsewhere_any_host_is_taken() -> None:
    server = ApiServer(ApiSettings(bound_to_loopback=False))
    async with server.client(host="anything.example") as client:
        assert (await client.get("/healthz")).status_code == 200


PATHS = (
    "/machines",
    "/machines/m",
    "/machines/m/i/n",
    "/machines/m/i/n/events",
    "/tokens",
    "/uploads/x",
    "/rt",
    "/",
    "/nothing/here",
    "/machines/m/i/bad%20name/events",
)


@pytest.mark.parametrize("path", PATHS)
async def test_a_browser_may_ask_from_any_origin_on_every_path(server: ApiServer, path: str) -> None:
    async with server.client(origin="https://app.example") as client:
        preflight = await client.request("OPTIONS", path)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in preflight.headers
        allowed = preflight.headers["access-control-allow-headers"]
        for name in ("authorization", "content-type", "x-statebacked-org-id", "x-statebacked-act"):
            assert name in allowed
        for method in ("GET", "POST", "PUT", "DELETE"):
            assert method in preflight.headers["access-control-allow-methods"]
            response = await client.request(method, path)
            assert response.headers["access-control-allow-origin"] == "*", (method, response.text)
            assert "x-request-id" in response.headers["access-control-expose-headers"]


async def test_a_success_carries_cors_headers_as_errors_do(server: ApiServer) -> None:
    org = await server.org()
    await server.machine(org)
    async with server.client(await server.token(org), origin="https://app.example") as client:
        created = await client.post("/machines/toggler", json={"slug": "a"})
        sent = await client.post("/machines/toggler/i/a/events", json={"event": "go"})
        for response in (
            created,
            sent,
            await client.get("/machines/toggler/i/a"),
            await client.get("/healthz"),
        ):
            assert response.headers["access-control-allow-origin"] == "*"


async def test_states_never_come_from_a_cache(server: ApiServer) -> None:
    org = await server.org()
    await server.machine(org)
    async with server.client(await server.token(org)) as client:
        await client.post("/machines/toggler", json={"slug": "a"})
        assert (await client.get("/machines/toggler/i/a")).headers["cache-control"] == "no-store"


async def test_each_request_has_an_id_of_its_own(server: ApiServer) -> None:
    async with server.client() as client:
        ids = {(await client.get("/healthz")).headers["x-request-id"] for _ in range(3)}
        assert len(ids) == 3


@pytest.mark.parametrize(
    "path", ["/nothing", "/", "/machines/m/x", "/machines/m/i/n/events/x", "/machines%2Fm"]
)
async def test_a_path_that_is_not_there_is_404(server: ApiServer, path: str) -> None:
    async with server.client() as client:
        response = await client.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "not-found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/machines"),
        ("PATCH", "/machines/m/i/n"),
        ("DELETE", "/machines/m/i/n/events"),
        ("GET", "/tokens"),
    ],
)
async def test_a_method_that_is_not_served_is_405(server: ApiServer, method: str, path: str) -> None:
    async with server.client() as client:
        response = await client.request(method, path)
        assert (response.status_code, response.json()["code"]) == (405, "method-not-allowed")


@pytest.mark.parametrize("path", ["//machines", "/machines/", "///machines//"])
async def test_slashes_too_many_are_forgiven(server: ApiServer, path: str) -> None:
    async with server.client(await server.token(await server.org())) as client:
        response = await client.get("http://localhost" + path)
        assert response.json() == {"machines": []}


async def test_an_empty_body_may_claim_to_be_json(server: ApiServer) -> None:
    org = await server.org()
    await server.machine(org)
    async with server.client(await server.token(org), content_type="application/json") as client:
        assert (await client.get("/machines")).status_code == 200
        assert (await client.post("/machines/toggler/v")).status_code == 200
        assert (await client.delete("/keys/x")).status_code == 404


async def test_a_body_over_its_limit_is_413(server: ApiServer) -> None:
    org = await server.org()
    await server.machine(org)
    async with server.client(await server.token(org)) as client:
        await client.post("/machines/toggler", json={"slug": "a"})
        for path, limit in (
            ("/machines/toggler/i/a/events", EVENT_BODY_BYTES_MAX),
            ("/machines/toggler", EVENT_BODY_BYTES_MAX),
            ("/machines", JSON_BODY_BYTES_MAX),
            ("/keys", JSON_BODY_BYTES_MAX),
        ):
            response = await client.post(path, content=b" " * (limit + 1))
            assert (response.status_code, response.json()["code"]) == (413, "body-too-large")
            within = await client.post(path, content=b" " * limit)
            assert (within.status_code, within.json()["code"]) == (400, "invalid-body")


@pytest.mark.parametrize("length", ["x", "-1", "1, 1"])
async def test_a_content_length_that_is_no_number_is_refused(server: ApiServer, length: str) -> None:
    org = await server.org()
    async with server.client(await server.token(org)) as client:
        response = await client.post("/machines", content=b"{}", headers={"content-length": length})
        assert (response.status_code, response.json()["code"]) == (400, "invalid-body")


async def test_headers_over_their_limit_are_431(server: ApiServer) -> None:
    async with server.client(x_long="x" * HEADERS_BYTES_MAX) as client:
        response = await client.get("/healthz")
        assert (response.status_code, response.json()["code"]) == (431, "headers-too-large")


async def test_repeated_headers_and_their_names_count(server: ApiServer) -> None:
    headers = [(b"host", b"localhost"), *[(b"x-a", b"x" * 61)] * (HEADERS_BYTES_MAX // 64)]
    assert await asked(server, headers[:-1]) == 200
    assert await asked(server, headers) == 431
    assert await asked(server, [(b"host", b"localhost"), (b"x" * HEADERS_BYTES_MAX, b"")]) == 431


async def test_a_query_has_at_most_100_parameters(server: ApiServer) -> None:
    async with server.client(await server.token(await server.org())) as client:
        assert (await client.get("/machines?" + "&".join(["a=1"] * QUERY_PARAMETERS_MAX))).status_code == 200
        for path in ("/machines", "/logs", "/logs/stream", "/keys"):
            response = await client.get(path + "?" + "&".join(["a=1"] * (QUERY_PARAMETERS_MAX + 1)))
            assert (response.status_code, response.json()["code"]) == (400, "bad-request"), path


async def test_get_rt_without_an_upgrade_says_what_to_do(server: ApiServer) -> None:
    async with server.client() as client:
        response = await client.get("/rt")
        assert response.status_code == 400
        assert "WebSocket" in response.json()["error"]


async def test_head_is_get_without_the_body(server: ApiServer) -> None:
    async with server.client(await server.token(await server.org())) as client:
        assert (await client.head("/machines/m/i/n")).status_code == 404
        assert (await client.head("/machines")).status_code == 200
