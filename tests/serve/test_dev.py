"""`statebacked dev` against a small server: what it uploads, when, and what it says of instances."""

import asyncio
import contextlib
import json
import socket
from pathlib import Path

import httpx
import pytest
from tests.cli.fake_server import URL, FakeServer
from tests.cli.machine_texts import JAVASCRIPT

from statebacked.cli.api import Api
from statebacked.cli.build import Bundle
from statebacked.cli.credentials import Credentials
from statebacked.cli.errors import CliError
from statebacked.serve.dev import Workshop, deploy, empty_data_folder, fingerprint
from statebacked.serve.dev_page import listen_for_page, page_app, page_folder, serve_page
from statebacked.serve.dev_plan import DevFile, ServerInfo

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

    assert (deployment.version, deployment.is_new, deployment.staying) == ("ver_1", True, ())
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
    "other", [Bundle(code=b"export default 2", xstate="5.33.3"), Bundle(code=CODE.code, xstate="4.38.3")]
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
        deployment = deploy(api, TOGGLER, CODE)

    assert deployment.staying == (("a", "ver_0"), ("c", "ver_0"))
    assert not deployment.has_more


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


async def watched(server: FakeServer, file: Path) -> None:
    loop = asyncio.get_running_loop()
    uploaded = asyncio.Event()

    def answer(_request: httpx.Request) -> httpx.Response:
        loop.call_soon_threadsafe(uploaded.set)
        return httpx.Response(200, json={"machineVersionId": "ver_1"})

    server.answers["PUT /machines/toggler/v/signed.id"] = answer
    workshop = Workshop([DevFile(machine="toggler", file=file)], lambda: connect(server))
    await workshop.deploy_all()
    assert uploaded.is_set()
    uploaded.clear()
    watching = asyncio.create_task(workshop.watch())
    try:
        for number in range(20):
            # Written until it is seen: the watch says nowhere that it has begun.
            changed = JAVASCRIPT + f"export const change = {number};\n"
            await asyncio.to_thread(file.write_text, changed)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(uploaded.wait(), 1)
                break
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    assert uploaded.is_set()


@pytest.mark.worker
def test_a_change_is_deployed_and_a_mistake_is_survived(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "toggler.js"
    file.write_text(JAVASCRIPT)

    asyncio.run(watched(server, file))
    assert len(server.uploads) >= 2
    assert b"change" in server.uploads[-1].code

    file.write_text("export default (;")
    asyncio.run(Workshop([DevFile(machine="toggler", file=file)], lambda: connect(server)).deploy_all())
    assert "toggler: not deployed: toggler.js cannot be bundled" in capsys.readouterr().err


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
            paths = ("", "config.json", "statebacked-client.js", "statebacked-client.js")
            answers = [await client.get(url + path, timeout=60) for path in paths]
            return [*answers, await client.get(url, headers={"host": "evil.example"})]

    page, config, script, again, foreign = asyncio.run(ask())
    assert page.text == "<h1>page</h1>"
    assert config.json() == {"orgId": "org_1", "apiHost": URL, "machineName": "toggler"}
    assert "as StateBackedClient" in script.text
    assert script.headers["content-type"].startswith("text/javascript")
    assert again.text == script.text
    assert foreign.status_code == 400
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
