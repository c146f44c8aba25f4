"""What `smply machines` and `machine-versions` ask the server. The code is a bundle of the caller's own
(`--js`)."""

from pathlib import Path

import pytest
from tests.cli.conftest import Smply
from tests.cli.fake_server import FakeServer

JS = "export default {}; export const allowRead = () => true; export const allowWrite = allowRead; // ü\n"


@pytest.fixture
def bundle(smply: Smply) -> Path:
    path = smply.folder / "bundle.js"
    path.write_text(JS)
    return path


def test_create_makes_the_machine_and_its_current_version(
    smply: Smply, server: FakeServer, bundle: Path
) -> None:
    outcome = smply("machines", "create", "--machine", "toggler", "--js", "bundle.js")

    assert outcome.json == {"name": "toggler", "currentVersion": {"machineVersionId": "ver_1"}}
    assert [f"{request.method} {request.url.path}" for request in server.requests] == [
        "POST /machines",
        "POST /machines/toggler/v",
        "POST /uploads/1",
        "PUT /machines/toggler/v/signed.id",
    ]
    assert "gzip" in server.requests[1].url.params
    assert server.bodies("POST /machines") == [{"slug": "toggler"}]
    assert server.bodies("PUT /machines/toggler/v/signed.id") == [
        {"clientInfo": "0.0.1", "makeCurrent": True}
    ]


def test_the_upload_carries_the_servers_fields_first_and_the_file_last(
    smply: Smply, server: FakeServer, bundle: Path
) -> None:
    smply("machines", "create", "--machine", "toggler", "--js", str(bundle))

    (upload,) = server.uploads
    assert upload.names == ["signature", "key", "content-type", "content-encoding", "file"]
    assert upload.fields == {
        "signature": "s1",
        "key": "k1",
        "content-type": "application/javascript",
        "content-encoding": "gzip",
    }
    assert (upload.file_name, upload.code) == ("toggler.js", JS.encode())


def test_a_machine_without_code_is_just_a_name(smply: Smply, server: FakeServer) -> None:
    outcome = smply("machines", "create", "-m", "toggler", "--index", "a", "--index", "b")

    assert outcome.json == {"name": "toggler"}
    assert server.bodies("POST /machines") == [{"slug": "toggler", "indexes": ["a", "b"]}]


def test_index_selectors_name_the_indexes_too(smply: Smply, server: FakeServer, bundle: Path) -> None:
    smply(
        "machines",
        "create",
        "-m",
        "toggler",
        "--js",
        "bundle.js",
        "--index-selectors",
        '{"by": "$.public.x"}',
    )

    assert server.bodies("POST /machines") == [{"slug": "toggler", "indexes": ["by"]}]
    assert server.bodies("PUT /machines/toggler/v/signed.id") == [
        {"clientInfo": "0.0.1", "makeCurrent": True, "indexSelectors": {"by": "$.public.x"}}
    ]


def test_an_index_may_wait_for_its_selector(smply: Smply, server: FakeServer, bundle: Path) -> None:
    create = ("machines", "create", "-m", "toggler", "--js", "bundle.js")
    smply(*create, "-i", "later", "-i", "by", "-d", '{"by": "$.public.x"}')

    assert server.bodies("POST /machines") == [{"slug": "toggler", "indexes": ["later", "by"]}]


def test_a_selector_is_taken_away_by_null(smply: Smply, server: FakeServer, bundle: Path) -> None:
    version = ("machine-versions", "create", "-m", "toggler", "-r", "2", "--js", "bundle.js")
    assert smply(*version, "-d", '{"by": null}').code == 0
    assert server.bodies("PUT /machines/toggler/v/signed.id") == [
        {"clientInfo": "2", "makeCurrent": False, "indexSelectors": {"by": None}}
    ]
    assert smply(*version, "-d", '{"by": 5}').code == 1


def test_bad_code_leaves_no_machine_behind(smply: Smply, server: FakeServer) -> None:
    (smply.folder / "bundle.js").write_text("export default {}; export const allowRead = 1")
    outcome = smply("machines", "create", "-m", "toggler", "--js", "bundle.js")

    assert outcome.code == 1
    assert "does not export allowWrite" in outcome.err
    assert server.requests == []


def test_skip_validation_leaves_the_judgement_to_the_server(smply: Smply, server: FakeServer) -> None:
    (smply.folder / "bundle.js").write_text("export default {}")

    assert smply("machines", "create", "-m", "toggler", "--js", "bundle.js", "--skip-validation").code == 0
    assert [upload.code for upload in server.uploads] == [b"export default {}"]


def test_a_taken_name_points_to_machine_versions(smply: Smply, server: FakeServer) -> None:
    server.refuse("POST /machines", 409, {"code": "conflict", "error": "there is a machine toggler"})
    outcome = smply("machines", "create", "-m", "toggler")

    assert outcome.code == 1
    assert "there is a machine toggler (409, conflict)" in outcome.err
    assert "smply machine-versions create" in outcome.err


def test_code_that_the_server_refuses_is_told_with_what_stands_now(
    smply: Smply, server: FakeServer, bundle: Path
) -> None:
    server.refuse(
        "PUT /machines/toggler/v/signed.id", 400, {"code": "invalid-machine", "error": "no machine"}
    )
    outcome = smply("machines", "create", "-m", "toggler", "--js", "bundle.js")

    assert outcome.code == 1
    assert "no machine (400, invalid-machine)" in outcome.err
    assert "exists now, without a version" in outcome.err


@pytest.mark.parametrize("name", ["a b", "a/b", "x" * 129, "é"])
def test_a_name_that_cannot_be_one_is_not_asked_for(smply: Smply, server: FakeServer, name: str) -> None:
    assert smply("machines", "create", "-m", name).code == 1
    assert server.requests == []


def test_a_version_is_current_only_when_asked_for(smply: Smply, server: FakeServer, bundle: Path) -> None:
    created = ("machine-versions", "create", "-m", "toggler", "--js", "bundle.js")

    assert smply(*created, "--version-reference", "abc").json == {"machineVersionId": "ver_1"}
    smply(*created, "-r", "def", "--make-current")
    assert server.bodies("PUT /machines/toggler/v/signed.id") == [
        {"clientInfo": "abc", "makeCurrent": False},
        {"clientInfo": "def", "makeCurrent": True},
    ]


def test_a_version_needs_code(smply: Smply, server: FakeServer) -> None:
    outcome = smply("machine-versions", "create", "-m", "toggler", "-r", "1")
    assert (outcome.code, server.requests) == (1, [])
    assert "--node" in outcome.err


def test_list_calls_a_slug_a_name(smply: Smply, server: FakeServer) -> None:
    server.give(
        "GET /machines", {"machines": [{"slug": "a", "createdAt": "t", "currentVersion": "v"}, {"slug": "b"}]}
    )

    assert smply("machines", "list").json == [
        {"name": "a", "createdAt": "t", "currentVersion": "v"},
        {"name": "b", "createdAt": None},
    ]


def test_get_and_version_list_show_what_came(smply: Smply, server: FakeServer) -> None:
    server.give("GET /machines/toggler", {"machine": {"slug": "toggler"}})
    server.give("GET /machines/toggler/v", {"versions": [{"id": "ver_1"}]})

    assert smply("machines", "get", "-m", "toggler").json == {"machine": {"slug": "toggler"}}
    assert smply("machine-versions", "list", "-m", "toggler").json == [{"id": "ver_1"}]
