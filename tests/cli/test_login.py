"""Where `smply` finds its server and its rights."""

import json
import stat
from pathlib import Path

import pytest
from tests.cli.conftest import ADMIN, Smply
from tests.cli.fake_server import URL, FakeServer


def sent(server: FakeServer) -> tuple[str, str, str | None]:
    """Where the last request went, with which token, for which org."""
    request = server.requests[-1]
    headers = request.headers
    return (
        f"{request.url.scheme}://{request.url.netloc.decode()}",
        headers["authorization"],
        headers.get("x-statebacked-org-id"),
    )


def write_admin(folder: Path, **changed: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "admin.json").write_text(json.dumps({**ADMIN, **changed}))
    return folder


def test_the_admin_file_of_this_folder_signs_in(smply: Smply, server: FakeServer) -> None:
    smply("orgs", "list")
    assert sent(server) == (URL, "Bearer sbs_admin", "org_1")


def test_a_folder_above_signs_in_too(smply: Smply, server: FakeServer) -> None:
    deep = smply.folder / "a" / "b"
    deep.mkdir(parents=True)
    smply.folder = deep

    smply("orgs", "list")
    assert sent(server) == (URL, "Bearer sbs_admin", "org_1")


def test_the_named_data_folder_comes_before_the_one_here(
    smply: Smply, server: FakeServer, tmp_path: Path
) -> None:
    smply.env["STATEBACKED_DATA"] = str(write_admin(tmp_path / "data", adminToken="sbs_other"))

    smply("orgs", "list")
    assert sent(server) == (URL, "Bearer sbs_other", "org_1")


@pytest.mark.parametrize("place", ["before", "after"])
def test_options_come_before_everything(smply: Smply, server: FakeServer, place: str) -> None:
    options = ("--api-url", "http://localhost:9999/prefix/", "--access-token=sbs_mine", "--org", "org_2")
    command = ("orgs", "list")
    smply(*(options + command if place == "before" else command + options))

    assert sent(server) == ("http://localhost:9999", "Bearer sbs_mine", "org_2")
    assert server.requests[-1].url.path == "/prefix/orgs"


def test_the_environment_names_server_and_token(stranger: Smply, server: FakeServer) -> None:
    stranger.env |= {"STATEBACKED_API_URL": "http://localhost:1", "STATEBACKED_ACCESS_TOKEN": "sbs_env"}

    stranger("orgs", "list")
    assert sent(server) == ("http://localhost:1", "Bearer sbs_env", None)


def test_a_token_is_never_sent_to_another_server_than_its_own(smply: Smply, server: FakeServer) -> None:
    outcome = smply("--api-url", "http://elsewhere:1", "orgs", "list")

    assert outcome.code == 1
    assert "elsewhere" in outcome.err
    assert server.requests == []


def test_a_stranger_is_told_how_to_sign_in(stranger: Smply, server: FakeServer) -> None:
    outcome = stranger("machines", "list")

    assert outcome.code == 1
    assert "smply login --local" in outcome.err
    assert server.requests == []


def test_login_local_works_from_any_folder_after(stranger: Smply, server: FakeServer, tmp_path: Path) -> None:
    data = write_admin(tmp_path / "elsewhere" / ".statebacked")
    assert stranger("login", "--local", str(data.parent)).code == 0
    # The server has started afresh since: its file holds another token.
    write_admin(data, adminToken="sbs_new")

    stranger("orgs", "list")
    assert sent(server) == (URL, "Bearer sbs_new", "org_1")


def test_what_login_writes_is_readable_by_nobody_else(stranger: Smply, tmp_path: Path) -> None:
    stranger("login", "--local", str(write_admin(tmp_path / "data")))

    (written,) = (stranger.home / ".smply").iterdir()
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert stat.S_IMODE(written.parent.stat().st_mode) == 0o700


ORGS = {"orgs": [{"id": f"org_{n}", "name": f"org {n}", "role": "admin"} for n in (1, 2, 9)]}


def test_the_default_org_is_that_of_one_server(smply: Smply, server: FakeServer, tmp_path: Path) -> None:
    server.give("GET /orgs", ORGS)
    other = write_admin(tmp_path / "data", orgId="org_2")  # at the same address, at another time
    smply("orgs", "default", "set", "--org", "org_9")

    smply("machines", "list")
    assert sent(server)[2] == "org_9"
    smply.env["STATEBACKED_DATA"] = str(other)
    smply("machines", "list")
    assert sent(server)[2] == "org_2"
    assert smply("orgs", "default", "get").out == "No default organization set.\n"
    smply("orgs", "default", "set", "--org", "org_1")
    smply.env.clear()
    assert smply("orgs", "default", "get").out == "org_9\n"


def test_the_default_org_of_a_server_elsewhere_is_kept_by_its_url(
    stranger: Smply, server: FakeServer
) -> None:
    server.give("GET /orgs", ORGS)
    options = ("--access-token", "t", "--api-url")
    stranger(*options, "http://localhost:1/", "orgs", "default", "set", "-o", "org_2")

    stranger(*options, "http://localhost:1", "machines", "list")
    assert sent(server)[2] == "org_2"
    stranger(*options, "http://localhost:2", "machines", "list")
    assert sent(server)[2] is None


def test_an_org_that_one_is_not_in_is_no_default(smply: Smply, server: FakeServer) -> None:
    pages = [{"orgs": ORGS["orgs"][:1], "cursor": "more"}, {"orgs": ORGS["orgs"][1:]}]
    server.give("GET /orgs", *pages)
    assert smply("orgs", "default", "set", "-o", "org_9").code == 0
    server.give("GET /orgs", ORGS)
    outcome = smply("orgs", "default", "set", "-o", "org_nope")

    assert outcome.code == 1
    assert "not in an org org_nope" in outcome.err
    assert "org_1 (org 1)" in outcome.err
    assert "x-statebacked-org-id" not in server.requests[-1].headers
    assert smply("orgs", "default", "get").out == "org_9\n"


def test_legacy_credentials_are_for_an_org_that_one_is_in(smply: Smply, server: FakeServer) -> None:
    outcome = smply("--org", "org_nope", "login", "--legacy-credentials")

    assert (outcome.code, "not in an org org_nope" in outcome.err) == (1, True)
    assert not (smply.home / ".smply").exists()


def test_legacy_credentials_leave_the_default_org_as_it_is(
    smply: Smply, server: FakeServer, tmp_path: Path
) -> None:
    server.give("GET /orgs", ORGS)
    smply("--org", "org_2", "login", "--legacy-credentials")

    assert (smply.home / ".smply" / "default-org").read_text() == "org_2"
    smply.env["STATEBACKED_DATA"] = str(write_admin(tmp_path / "data", orgId="org_9"))
    smply("machines", "list")
    assert sent(server)[2] == "org_9"


def test_the_default_org_of_earlier_versions_counts_until_one_is_set(
    smply: Smply, server: FakeServer
) -> None:
    server.give("GET /orgs", ORGS)
    folder = smply.home / ".smply"
    folder.mkdir()
    (folder / "default-org").write_text("org_9\n")

    smply("machines", "list")
    assert sent(server)[2] == "org_9"
    smply("orgs", "default", "set", "-o", "org_2")
    smply("machines", "list")
    assert sent(server)[2] == "org_2"
    assert (folder / "default-org").read_text() == "org_9\n"


def test_login_ends_the_default_org_of_earlier_versions(
    stranger: Smply, server: FakeServer, tmp_path: Path
) -> None:
    folder = stranger.home / ".smply"
    folder.mkdir()
    (folder / "default-org").write_text("org_old")
    stranger("login", "--local", str(write_admin(tmp_path / "data")))

    stranger("orgs", "list")
    assert sent(server)[2] == "org_1"


@pytest.mark.parametrize("text", ["{", "[]", "\udcff"])
def test_a_damaged_file_of_default_orgs_is_named(smply: Smply, text: str) -> None:
    folder = smply.home / ".smply"
    folder.mkdir()
    (folder / "default-orgs.json").write_text(text, errors="surrogateescape")
    outcome = smply("machines", "list")

    assert outcome.code == 1
    assert "default-orgs.json" in outcome.err


def test_no_store_prints_the_token_and_leaves_nothing(smply: Smply) -> None:
    outcome = smply("login", "--local", "--no-store")

    assert outcome.out == "sbs_admin\n"
    assert not (smply.home / ".smply").exists()


def test_legacy_credentials_are_what_npms_smply_reads(smply: Smply) -> None:
    outcome = smply("login", "--legacy-credentials")

    folder = smply.home / ".smply"
    session = json.loads((folder / "credentials").read_text())
    assert session["access_token"] == "sbs_admin"
    assert session["expires_at"] > 4_000_000_000
    assert stat.S_IMODE((folder / "credentials").stat().st_mode) == 0o600
    assert (folder / "default-org").read_text() == "org_1"
    assert outcome.out == f"smply --api-url {URL} machines list\n"
    assert "typescript@5" in outcome.err


def test_whoami_names_server_org_and_memberships(smply: Smply) -> None:
    assert smply("whoami").json == {
        "url": URL,
        "orgId": "org_1",
        "signedInBy": str(smply.folder / ".statebacked" / "admin.json"),
        "orgs": [{"id": "org_1", "name": "mine", "role": "admin"}],
    }


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": "http://localhost:1"}'])
def test_a_broken_admin_file_is_named(smply: Smply, text: str) -> None:
    (smply.folder / ".statebacked" / "admin.json").write_text(text)
    outcome = smply("orgs", "list")

    assert outcome.code == 1
    assert "admin.json" in outcome.err
