"""`smply migrations` and `smply instances set-desired-version`."""

import httpx
import pytest
from tests.cli.conftest import Smply
from tests.cli.fake_server import URL, FakeServer

PATHS = ("--machine", "toggler", "--from", "ver_1", "--to", "ver_2")
ROUTE = "POST /machines/toggler/migrations"


def prepare(server: FakeServer) -> None:
    server.give(
        ROUTE,
        {
            "machineVersionMigrationId": "signed.id",
            "codeUploadUrl": f"{URL}/uploads/1",
            "codeUploadFields": {"signature": "s1"},
        },
    )
    made = {"machineVersionMigrationId": "mig_1", "machineVersionId": "mig_1"}
    server.give("PUT /machines/toggler/migrations/signed.id", made)


def test_a_typescript_migration_is_bundled_and_uploaded(smply: Smply, server: FakeServer) -> None:
    prepare(server)
    (smply.folder / "names.ts").write_text("export const names: Record<string, string> = { on: 'lit' };\n")
    (smply.folder / "migrate.ts").write_text(
        "import { names } from './names.ts';\n"
        "export const upgradeState = (path: string[]): string[] => path.map((key) => names[key] ?? key);\n"
    )
    outcome = smply("migrations", "create", *PATHS, "--node", "migrate.ts")
    assert (outcome.code, outcome.json) == (
        0,
        {"machineVersionMigrationId": "mig_1"},
    )
    assert server.bodies(ROUTE) == [{"fromMachineVersionId": "ver_1", "toMachineVersionId": "ver_2"}]
    (upload,) = server.uploads
    assert upload.file_name == "toggler_ver_1_to_ver_2.js"
    assert b"upgradeState" in upload.code
    assert b"lit" in upload.code
    assert server.bodies("PUT /machines/toggler/migrations/signed.id") == [None]


def test_a_javascript_migration_is_uploaded_as_it_is(smply: Smply, server: FakeServer) -> None:
    prepare(server)
    code = "export const upgradeState = (path) => path;\n"
    (smply.folder / "migrate.js").write_text(code)
    assert smply("migrations", "create", *PATHS, "--js", "migrate.js").code == 0
    assert server.uploads[0].code == code.encode()


@pytest.mark.parametrize("file", ["migrate.ts", "migrate.js"])
def test_a_file_that_exports_no_upgrade_is_told_before_it_is_sent(
    smply: Smply, server: FakeServer, file: str
) -> None:
    prepare(server)
    (smply.folder / file).write_text("export const upgrade = 1;\n")
    option = "--node" if file.endswith("ts") else "--js"
    outcome = smply("migrations", "create", *PATHS, option, file)
    assert (outcome.code, outcome.out) == (1, "")
    assert "does not export upgradeState" in outcome.err
    assert "upgradeContext" in outcome.err
    assert server.requests == []


def test_creating_a_migration_takes_one_file(smply: Smply, server: FakeServer) -> None:
    assert "--node FILE or --js FILE" in smply("migrations", "create", *PATHS).err
    both = smply("migrations", "create", *PATHS, "--node", "a.ts", "--js", "a.js")
    assert "not both" in both.err
    assert server.requests == []


def test_a_dry_run_shows_every_failure_and_fails(smply: Smply, server: FakeServer) -> None:
    failure = {"slug": "i-1", "state": "on", "error": "upgradeState threw"}
    server.give(
        f"{ROUTE}/dry-run",
        {"migrationPath": ["mig_1"], "instances": 100, "failures": [], "cursor": "next"},
        {"migrationPath": ["mig_1"], "instances": 3, "failures": [failure]},
    )
    outcome = smply("migrations", "dry-run", *PATHS)
    assert outcome.code == 1
    assert "1 of 103 instances of this version could not be migrated" in outcome.err
    assert '"upgradeState threw"' in outcome.out
    asked = [request.url.params.get("cursor") for request in server.requests]
    assert asked == [None, "next"]


def test_a_dry_run_without_failures_succeeds(smply: Smply, server: FakeServer) -> None:
    server.give(f"{ROUTE}/dry-run", {"migrationPath": ["mig_1"], "instances": 7, "failures": []})
    outcome = smply("migrations", "dry-run", *PATHS)
    assert (outcome.code, outcome.json) == (0, [])
    assert "All 7 instances of this version could be migrated." in outcome.err


def test_a_wished_version_is_sent(smply: Smply, server: FakeServer) -> None:
    server.answers["PUT /machines/toggler/i/i-1/v"] = lambda _request: httpx.Response(201)
    arguments = ("--machine", "toggler", "--instance", "i-1", "--version", "ver_2")
    outcome = smply("instances", "set-desired-version", *arguments)
    assert (outcome.code, outcome.err.strip()) == (0, "Successfully set desired version")
    assert server.bodies("PUT /machines/toggler/i/i-1/v") == [{"targetMachineVersionId": "ver_2"}]
    body = {"code": "no-migration-path", "error": "no migrations lead there"}
    server.refuse("PUT /machines/toggler/i/i-1/v", 400, body)
    refused = smply("instances", "set-desired-version", *arguments)
    assert (refused.code, "no migrations lead there" in refused.err) == (1, True)
