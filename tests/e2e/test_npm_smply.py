"""npm's smply 0.1.18, unmodified, after `smply login --legacy-credentials`. It puts XState into bundles."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.servers import BIN, E2E, ROOT, RealServer

ACT = ("--auth-context", '{"sid": "s1"}')
Npm = Callable[..., str]


@pytest.fixture(scope="module")
def npm_smply(server: RealServer, tmp_path_factory: pytest.TempPathFactory) -> Npm:
    """Calls npm's smply with a home in which ours has signed it in."""
    home = tmp_path_factory.mktemp("home")
    env = {**server.environment(), "HOME": str(home)}
    told = subprocess.run(
        [BIN / "smply", "login", "--legacy-credentials"], env=env, check=True, text=True, stdout=-1
    )
    assert told.stdout == f"smply --api-url {server.url} machines list\n"

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [E2E / "node_modules" / ".bin" / "smply", "--api-url", server.url, *arguments],
            # Node 20 has no WebSocket of its own, and a library of theirs asks for one at start.
            env={"HOME": str(home), "PATH": os.environ["PATH"], "NODE_OPTIONS": "--experimental-websocket"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr + server.log.read_text()[-2000:]
        return done.stdout

    return call


@pytest.mark.parametrize("major", ["5", "4"])
def test_npms_smply_deploys_creates_and_sends(npm_smply: Npm, tmp_path: Path, major: str) -> None:
    folder = "toggler" if major == "5" else "toggler-xstate4"
    text = (ROOT / "examples" / folder / "toggler.ts").read_text()
    file = tmp_path / "toggler.ts"
    file.write_text(text if major == "5" else text.replace('from "xstate"', 'from "xstate4"'))
    (tmp_path / "node_modules").symlink_to(E2E / "node_modules")
    machine = ("--machine", f"npm{major}")
    instance = ("--instance", "s1")

    npm_smply("machines", "create", *machine, "--node", str(file))
    assert json.loads(npm_smply("instances", "create", *machine, *instance, *ACT))["state"] == "off"
    sent = json.loads(npm_smply("instances", "send-event", *machine, *instance, *ACT, "--event", "toggle"))
    assert (sent["state"], sent["publicContext"]) == ("on", {"toggleCount": 1})

    seen = json.loads(npm_smply("instances", "get", *machine, *instance))
    assert (seen["state"], seen["context"]) == ("on", {"public": {"toggleCount": 1}})
    transitions = json.loads(npm_smply("instances", "list-transitions", *machine, *instance))
    assert [row["state"] for row in transitions] == ["off", "on"]
    assert [row["name"] for row in json.loads(npm_smply("instances", "list", *machine))] == ["s1"]


def test_npms_smply_migrates(server: RealServer, npm_smply: Npm) -> None:
    machine, instance = ("--machine", "membership"), ("--instance", "ann")
    act = ("--auth-context", '{"sid": "ann"}')
    example = ROOT / "examples" / "migrations"
    npm_smply("machines", "create", *machine)
    ids = []
    for number in (1, 2):
        file = str(example / f"membership-{number}.ts")  # with our command: theirs wants node_modules there
        made = server.smply("machine-versions", "create", *machine, "-r", str(number), "-c", "--node", file)
        ids.append(json.loads(made)["machineVersionId"])
        if number == 1:
            context = ("--context", '{"email": "ann@example.com"}')
            npm_smply("instances", "create", *machine, *instance, *act, *context)
    between = ("--from", ids[0], "--to", ids[1])
    made = npm_smply("migrations", "create", *machine, *between, "--node", str(example / "to-2.ts"))
    assert '"mig_' in made
    npm_smply("instances", "set-desired-version", *machine, *instance, "--version", ids[1])
    npm_smply("instances", "send-event", *machine, *instance, *act, "--event", "join")
    seen = json.loads(npm_smply("instances", "get", *machine, *instance))
    assert (seen["state"], seen["context"]["contacts"]) == ({"member": "monthly"}, ["ann@example.com"])


def test_npms_smply_adds_versions_and_keys(npm_smply: Npm, tmp_path: Path) -> None:
    machine = ("--machine", "versions")
    npm_smply("machines", "create", *machine)
    made = npm_smply(
        "machine-versions", "create", *machine, "--node", str(E2E / "machines" / "counter.ts"),
        "--version-reference", "first", "--make-current",
    )  # fmt: skip
    version = json.loads(made.removeprefix("Valid bundle\n"))["machineVersionId"]

    assert json.loads(npm_smply("machine-versions", "list", *machine))[0]["clientInfo"] == "first"
    held = json.loads(npm_smply("machines", "get", *machine))
    assert held["currentVersion"]["id"] == version
    assert "versions" in {row["name"] for row in json.loads(npm_smply("machines", "list"))}

    npm_smply("keys", "create", "--name", "mine")
    keys = {row["name"]: row["id"] for row in json.loads(npm_smply("keys", "list"))}
    npm_smply("keys", "delete", "--key", keys["mine"])
    assert "mine" not in npm_smply("keys", "list")
    assert len(json.loads(npm_smply("orgs", "list"))) == 1
