"""`statebacked dev` against a small server: what it uploads, when, and what it says of instances."""

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.cli.fake_server import URL, FakeServer

from statebacked.cli.api import Api
from statebacked.cli.build import Bundle
from statebacked.cli.credentials import Credentials
from statebacked.cli.deno_tool import bundler_note
from statebacked.cli.errors import CliError
from statebacked.serve.dev import empty_data_folder
from statebacked.serve.dev_deploy import deploy, fingerprint
from statebacked.serve.dev_page import listen_for_page, page_app, page_folder, serve_page
from statebacked.serve.dev_plan import DevFile, Moves, ServerInfo, Staying

CODE = Bundle(code=b"export default 1", xstate="5.33.3")
SIGNED_IN = Credentials(url=URL, token="sbs_admin", org="org_1", source="test")
TOGGLER = DevFile(machine="toggler", file=Path("/x/toggler.ts"))


@pytest.fixture
def server() -> FakeServer:
    fake = FakeServer()
    fake.give("GET /machines/toggler/i", {"instances": []})
    return fake


def connect(server: FakeServer) -> Api:
    return Api(SIGNED_IN, transport=server.transport())


def have_version(server: FakeServer, client_info: str) -> None:
    server.give("GET /machines/toggler", {"currentVersion": {"id": "ver_0", "clientInfo": client_info}})


def test_an_unknown_machine_is_made_and_gets_the_code(server: FakeServer) -> None:
    with connect(server) as api:
        deployment = deploy(api, TOGGLER, CODE)

    assert (deployment.version, deployment.is_new, deployment.moves) == ("ver_1", True, Moves())
    assert server.bodies("POST /machines") == [{"slug": "toggler"}]
    assert server.bodies("POST /machines/toggler/v") == [{"xstate": "5.33.3"}]
    assert server.bodies("PUT /machines/toggler/v/signed.id") == [
        {"clientInfo": f"dev {fingerprint(CODE)}", "makeCurrent": True}
    ]


def test_the_same_code_is_not_deployed_again(server: FakeServer) -> None:
    have_version(server, f"dev {fingerprint(CODE)}")
    with connect(server) as api:
        deployment = deploy(api, TOGGLER, CODE)

    assert (deployment.version, deployment.is_new) == ("ver_0", False)
    assert server.uploads == []


@pytest.mark.parametrize(
    "other",
    [
        Bundle(code=b"export default 2", xstate="5.33.3"),
        Bundle(code=CODE.code, xstate="4.38.3"),
        Bundle(code=CODE.code, xstate="5.33.3", source_map=b"{}"),
    ],
)
def test_other_code_or_another_xstate_is_deployed(server: FakeServer, other: Bundle) -> None:
    have_version(server, f"dev {fingerprint(CODE)}")
    with connect(server) as api:
        assert deploy(api, TOGGLER, other).is_new
    assert len(server.uploads) == 1


def test_instances_on_other_versions_are_named_over_all_pages(server: FakeServer) -> None:
    old, new = {"id": "ver_0"}, {"id": "ver_1"}
    server.give(
        "GET /machines/toggler/i",
        {
            "instances": [{"slug": "a", "machineVersion": old}, {"slug": "b", "machineVersion": new}],
            "cursor": "c",
        },
        {"instances": [{"slug": "c", "machineVersion": old}]},
    )
    with connect(server) as api:
        deployment = deploy(api, TOGGLER, CODE, moves_instances=False)

    assert deployment.moves == Moves(staying=(stays("a"), stays("c")))
    assert not deployment.has_more
    assert "POST /machines/toggler/migrations" not in {asked(request) for request in server.requests}


def stays(name: str, reason: str = "") -> Staying:
    return Staying(instance=name, version="ver_0", reason=reason)


def asked(request: httpx.Request) -> str:
    return f"{request.method} {request.url.path}"


def have_instances(server: FakeServer, *names: str) -> None:
    rows = [{"slug": name, "machineVersion": {"id": "ver_0"}} for name in names]
    server.give("GET /machines/toggler/i", {"instances": rows})


def test_instances_move_to_the_new_code_and_those_whose_state_is_gone_stay_with_the_reason(
    server: FakeServer,
) -> None:
    have_instances(server, "a", "b", "c")
    server.answers["POST /machines/toggler/migrations/dry-run"] = dry_run(
        {"failures": [{"slug": "b", "state": "on", "error": "there is no state on"}], "cursor": "next"},
        {"failures": []},
    )
    server.give("PUT /machines/toggler/i/a/v", {})
    server.refuse("PUT /machines/toggler/i/c/v", 404, {"code": "not-found", "error": "deleted meanwhile"})
    server.give("POST /machines/toggler/migrations", ANNOUNCED)
    server.give("PUT /machines/toggler/migrations/signed.mig", {})
    with connect(server) as api:
        deployment = deploy(api, TOGGLER, CODE)

    assert deployment.moves.moving == ("a",)
    assert deployment.moves.staying == (
        stays("b", "there is no state on"),
        stays("c", "deleted meanwhile (404, not-found)"),
    )
    assert server.bodies("PUT /machines/toggler/i/a/v") == [{"targetMachineVersionId": "ver_1"}]
    # There was no migration: one is made that leaves states as they are.
    versions = {"fromMachineVersionId": "ver_0", "toMachineVersionId": "ver_1"}
    assert server.bodies("POST /machines/toggler/migrations") == [versions]
    assert b"upgradeState = (state) => state" in server.uploads[-1].code


ANNOUNCED = {
    "machineVersionMigrationId": "signed.mig",
    "codeUploadUrl": f"{URL}/uploads/1",
    "codeUploadFields": {},
}


def dry_run(*pages: object) -> Callable[[httpx.Request], httpx.Response]:
    """Refuses until there is a migration; then gives the pages."""
    refusal = httpx.Response(400, json={"code": "no-migration-path", "error": "no migrations lead there"})
    left = [refusal, *(httpx.Response(200, json=page) for page in pages)]
    return lambda _request: left.pop(0)


def test_a_migration_that_somebody_wrote_is_taken(server: FakeServer) -> None:
    have_instances(server, "a")
    server.give("POST /machines/toggler/migrations/dry-run", {"failures": []})
    server.give("PUT /machines/toggler/i/a/v", {})
    with connect(server) as api:
        assert deploy(api, TOGGLER, CODE).moves.moving == ("a",)
    assert server.bodies("POST /machines/toggler/migrations") == []


def test_instances_stay_where_no_migration_can_be_made(server: FakeServer) -> None:
    have_instances(server, "a")
    server.refuse("POST /machines/toggler/migrations/dry-run", 503, {"code": "unavailable", "error": "busy"})
    with connect(server) as api:
        assert deploy(api, TOGGLER, CODE).moves.staying == (stays("a", "busy (503, unavailable)"),)


def test_the_look_at_instances_ends(server: FakeServer) -> None:
    server.give("GET /machines/toggler/i", {"instances": [], "cursor": "for ever"})
    with connect(server) as api:
        assert deploy(api, TOGGLER, CODE).has_more


def test_reset_removes_a_data_folder_and_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / ".statebacked"
    empty_data_folder(data)
    data.mkdir()
    (data / "mine.txt").write_text("not a server's")
    with pytest.raises(CliError, match=r"admin\.json"):
        empty_data_folder(data)
    assert (data / "mine.txt").exists()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        (data / "admin.json").write_text(json.dumps({"url": url, "adminToken": "t", "orgId": "org_1"}))
        with pytest.raises(CliError, match=url):
            empty_data_folder(data)
    empty_data_folder(data)
    assert list(data.iterdir()) == []


@pytest.mark.worker
def test_the_page_knows_its_server_and_carries_the_published_client(tmp_path: Path) -> None:
    file = tmp_path / "toggler.ts"
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<h1>page</h1>")
    folder = page_folder(file)
    assert folder is not None
    info = ServerInfo(url=URL, org_id="org_1", admin_token="sbs_admin", data=tmp_path / "data")
    app = page_app(info, DevFile(machine="toggler", file=file), folder)

    async def ask() -> list[httpx.Response]:
        async with serve_page(app, listen_for_page(0)) as url, httpx.AsyncClient() as client:
            paths = ("", "config.json", "statebacked-client.js", "statebacked-client.js", "favicon.ico")
            answers = [await client.get(url + path, timeout=60) for path in paths]
            return [*answers, await client.get(url, headers={"host": "evil.example"})]

    page, config, script, again, icon, foreign = asyncio.run(ask())
    assert page.text == "<h1>page</h1>"
    assert config.json() == {"orgId": "org_1", "apiHost": URL, "machineName": "toggler"}
    assert "as StateBackedClient" in script.text
    assert script.headers["content-type"].startswith("text/javascript")
    assert again.text == script.text
    assert foreign.status_code == 400
    assert icon.status_code == 204
    assert "sbs_admin" not in page.text + config.text


def test_a_taken_port_is_no_reason_to_go_without_the_page(tmp_path: Path) -> None:
    info = ServerInfo(url=URL, org_id="org_1", admin_token="sbs_admin", data=tmp_path)
    app = page_app(info, TOGGLER, tmp_path)

    async def two() -> tuple[str, str]:
        async with serve_page(app, listen_for_page(0)) as first:
            port = int(first.rsplit(":", 1)[1].rstrip("/"))
            async with serve_page(app, listen_for_page(port)) as second:
                return first, second

    first, second = asyncio.run(two())
    assert first != second


def test_that_the_bundler_is_fetched_is_said_only_where_it_is_not_there_yet(tmp_path: Path) -> None:
    env = {"DENO_DIR": str(tmp_path)}
    assert bundler_note(env) == " (the first time fetches the bundler)"
    (tmp_path / "dl" / "esbuild-0.25.5-1").mkdir(parents=True)
    assert bundler_note(env) == ""
    assert bundler_note({"XDG_CACHE_HOME": str(tmp_path / "other")}) != ""
