"""`smply` beside a server whose public address cannot be reached from its own machine."""

import json
from pathlib import Path

from tests.e2e.servers import real_server

MACHINE = """
import { createMachine } from "xstate";
const allowRead = () => true, allowWrite = () => true;
export { allowRead, allowWrite };
export default createMachine({ initial: "off", context: {}, states: { off: { on: { go: "on" } }, on: {} } });
"""


def test_smply_uses_the_servers_address_on_this_machine(tmp_path: Path) -> None:
    (tmp_path / "machine.js").write_text(MACHINE)
    with real_server(
        tmp_path / "data", ["--public-url", "https://sb.invalid/api", "--host", "0.0.0.0"]
    ) as server:
        held = json.loads((tmp_path / "data" / "admin.json").read_text())
        assert held["url"] == "https://sb.invalid/api"
        assert held["localUrl"].startswith("http://127.0.0.1:")
        create = ("machines", "create", "-m", "m", "--js", "machine.js")
        made = json.loads(server.smply(*create, cwd=tmp_path))
        assert made["currentVersion"]["machineVersionId"].startswith("ver_")
        act = ("-m", "m", "-i", "i", "--auth-context", "{}")
        server.smply("instances", "create", *act)
        state = json.loads(server.smply("instances", "send-event", *act, "--event", "go"))
        assert state["state"] == "on"
