"""Migrations on a real server, within a major of XState and from one to the other."""

import gzip
import json
import signal
from itertools import count
from pathlib import Path

import httpx
import pytest

from tests.e2e.asking import Asker, Json, answered, refused, subscriber
from tests.e2e.servers import ROOT, RealServer, real_server
from tests.e2e.test_named_kills import Point, wrapper

EXAMPLE = ROOT / "examples" / "migrations"
VERSIONS = {4: "4.38.3", 5: "5.33.3"}
NUMBERS = count()


def test_the_example_works_through_the_published_client(server: RealServer) -> None:
    machine = ("--machine", "membership")
    server.smply("machines", "create", *machine)
    ids = {}
    for name, file in (("FIRST", "membership-1.ts"), ("SECOND", "membership-2.ts")):
        made = server.smply("machine-versions", "create", *machine, "-r", name, "--node", str(EXAMPLE / file))
        ids[name] = json.loads(made)["machineVersionId"]
    to_2 = str(EXAMPLE / "to-2.ts")
    server.node("migrations.test.mjs", {"MACHINE": "membership", "TO_2": to_2, **ids})


# --- what the example leaves out -------------------------------------------------------------------

HEAD = """
export const allowRead = () => true;
export const allowWrite = () => true;
"""
FIRST = """createMachine({ predictableActionArguments: true, id: "m", initial: "idle", context: { seen: [] },
  on: { see: { actions: "see" } },
  states: {
    idle: { on: { wait: "waiting", work: "working" } },
    waiting: { after: { 2000: "over" } },
    working: { invoke: { id: "work", src: "work", onError: { target: "idle", actions: "see" } } },
    over: {} } }"""
SECOND = """createMachine({ predictableActionArguments: true, id: "n", initial: "calm", context: { seen: [] },
  on: { see: { actions: "see" } },
  states: {
    calm: {},
    nested: { initial: "patient", states: { patient: { after: { 3600000: "#rung" } } } },
    rung: { id: "rung", entry: "see" } } }"""
NEVER = "new Promise((resolve) => setTimeout(resolve, 60_000))"
OPTIONS = {
    4: f"""{{ services: {{ work: () => {NEVER} }},
  actions: {{ see: assign({{ seen: ({{ seen }}, {{ type }}) => [...seen, VERSION + type] }}) }} }}""",
    5: f"""{{ actors: {{ work: fromPromise(() => {NEVER}) }}, actions: {{
  see: assign({{ seen: ({{ context, event }}) => [...context.seen, VERSION + event.type] }}) }} }}""",
}
IMPORTS = {
    4: 'import { assign, createMachine } from "xstate";\n',
    5: 'import { assign, createMachine, fromPromise } from "xstate";\n',
}
MIGRATION = """
const moved = { idle: ["calm"], waiting: ["nested"], over: ["rung"] };
export const upgradeState = ([state], context) => moved[state];
"""
FAILING = "export const upgradeState = () => { throw new Error('not yet'); };"
ERRORS = {4: "error.platform.work", 5: "xstate.error.actor.work"}
RUNG = {4: "xstate.after(3600000)#n.nested.patient", 5: "xstate.after.3600000.n.nested.patient"}


def machine_of(major: int, version: int) -> str:
    machine = FIRST if version == 1 else SECOND
    constant = f'const VERSION = "{version} ";\n'
    return f"{IMPORTS[major]}{HEAD}{constant}export default {machine}, {OPTIONS[major]});"


def add_migration(admin: Asker, machine: str, start: str, goal: str, code: str) -> str:
    """Its id."""
    path = f"/machines/{machine}/migrations"
    body = {"fromMachineVersionId": start, "toMachineVersionId": goal}
    begun = answered(admin.http.post(f"{path}?gzip", json=body))
    assert admin.upload(begun, gzip.compress(code.encode()), says_gzip=True).is_success
    made = answered(admin.http.put(f"{path}/{begun['machineVersionMigrationId']}"))
    return str(made["machineVersionMigrationId"])


class Versions:
    """A machine with two versions, of which the first is of the first major and new instances have it."""

    def __init__(self, server: RealServer, majors: tuple[int, int] = (5, 5)) -> None:
        self.admin = Asker(server)
        self.machine = f"versions{next(NUMBERS)}"
        first, second = majors
        self.first = self.admin.deploy(self.machine, machine_of(first, 1), xstate=VERSIONS[first])
        added = self.admin.add_version(self.machine, machine_of(second, 2), xstate=VERSIONS[second])
        self.second = str(answered(added)["machineVersionId"])

    def restarted(self, server: RealServer) -> None:
        self.admin = Asker(server)

    def add_migration(self, code: str = MIGRATION) -> str:
        return add_migration(self.admin, self.machine, self.first, self.second, code)

    def create(self, *events: str) -> str:
        """An instance of the first version."""
        name = f"i{next(NUMBERS)}"
        body = {"slug": name, "machineVersionId": self.first}
        answered(self.admin.http.post(f"/machines/{self.machine}", json=body))
        for event in events:
            answered(self.send(name, event))
        return name

    def send(self, name: str, event: str) -> httpx.Response:
        return self.admin.send(self.machine, name, event)

    def wish(self, name: str, version: str) -> httpx.Response:
        body = {"targetMachineVersionId": version}
        return self.admin.http.put(f"/machines/{self.machine}/i/{name}/v", json=body)

    def look(self, name: str) -> Json:
        return self.admin.admin_state(self.machine, name)

    def types(self, name: str) -> list[str]:
        return [transition["event"]["type"] for transition in self.admin.transitions(self.machine, name)][1:]


@pytest.mark.parametrize(
    "majors", [(5, 5), (4, 4), (4, 5), (5, 4)], ids=lambda majors: "to".join(map(str, majors))
)
def test_a_timer_keeps_its_due_time_and_brings_the_migration(
    server: RealServer, majors: tuple[int, int]
) -> None:
    versions = Versions(server, majors)
    migration = versions.add_migration()
    name = versions.create("wait")
    assert versions.wish(name, versions.second).status_code == 201
    with subscriber(versions.admin) as listener:
        listener.subscribe(versions.machine, name)
        # After two seconds, where the new version alone would wait for an hour.
        listener.until(lambda heard: heard.get("state") == "rung")
    assert versions.types(name) == ["wait", "statebacked.upgrade", RUNG[majors[1]]]
    upgrade = versions.admin.transitions(versions.machine, name)[2]
    assert upgrade["event"]["migrationPath"] == [migration]
    assert upgrade["state"] == {"nested": "patient"}
    state = versions.look(name)
    assert (state["done"], state["context"]) == (False, {"seen": [f"2 {RUNG[majors[1]]}"]})


@pytest.mark.parametrize("major", [4, 5])
def test_a_wish_outlives_a_crash_and_the_old_version_hears_of_its_lost_service(
    tmp_path: Path, major: int
) -> None:
    with real_server(tmp_path / "data", ["--settle-ms", "60000"]) as server:
        versions = Versions(server, (major, major))
        versions.add_migration()
        name = versions.create()
        with subscriber(versions.admin) as listener:
            listener.subscribe(versions.machine, name)
            pending = versions.admin.http.build_request(
                "POST", f"/machines/{versions.machine}/i/{name}/events", json={"event": "work"}, timeout=1
            )
            with pytest.raises(httpx.ReadTimeout):
                versions.admin.http.send(pending)
            listener.until(lambda heard: heard.get("state") == "working")
        assert versions.wish(name, versions.second).status_code == 201
        server.stop(signal.SIGKILL)
    with real_server(tmp_path / "data") as server:
        versions.restarted(server)
        assert versions.look(name)["desiredMachineVersion"]["id"] == versions.second
        answered(versions.send(name, "see"))
        assert versions.types(name) == ["work", ERRORS[major], "statebacked.upgrade", "see"]
        state = versions.look(name)
        assert (state["state"], state["context"]) == ("calm", {"seen": [f"1 {ERRORS[major]}", "2 see"]})


def test_a_migration_that_fails_changes_nothing_until_a_newer_one_works(server: RealServer) -> None:
    versions = Versions(server)
    name = versions.create()
    refused(versions.wish(name, versions.second), 400, "no-migration-path")
    versions.add_migration(FAILING)
    assert versions.wish(name, versions.second).status_code == 201
    before = versions.look(name)
    assert "not yet" in refused(versions.send(name, "see"), 400, "migration-failed")
    assert (versions.look(name), versions.types(name)) == (before, [])
    versions.add_migration()
    answered(versions.send(name, "see"))
    assert versions.types(name) == ["statebacked.upgrade", "see"]


def test_a_migration_that_does_not_end_is_stopped(tmp_path: Path) -> None:
    with real_server(tmp_path / "data", ["--step-ms", "300"]) as server:
        versions = Versions(server)
        versions.add_migration("export const upgradeState = () => { for (;;); };")
        stuck, other = versions.create(), versions.create()
        assert versions.wish(stuck, versions.second).status_code == 201
        refused(versions.send(stuck, "see"), 400, "migration-failed")
        answered(versions.send(other, "see"))
        assert versions.look(stuck)["machineVersion"]["id"] == versions.first


# Three versions in a row: what was `on` is called `lit` and then `shining`. Each is paused with a history.
CHAIN = """
import { createMachine } from "xstate";
export const allowRead = () => true;
export const allowWrite = () => true;
export default createMachine({ predictableActionArguments: true, id: "c", initial: "work", context: { n: 0 },
  states: {
    work: { type: "parallel", on: { pause: "paused" }, states: {
      lamp: { initial: "off", states: { off: { on: { toggle: "ON" } }, ON: { on: { toggle: "off" } } } },
      door: { initial: "shut", states: { shut: {}, open: {} } },
      back: { type: "history", history: "deep" } } },
    paused: { on: { resume: "work.back" } } } });
"""
STEP = """
const paths = [];
export const upgradeState = (path, context) => {
  paths.push(path.join("."));
  return path.map((name) => name === "FROM" ? "TO" : name);
};
export const upgradeContext = (before, after, context) => ({
  n: context.n + 1, asked: paths.splice(0),
  before: before.map((path) => path.join(".")), after: after.map((path) => path.join(".")) });
"""


@pytest.mark.parametrize("major", [4, 5])
def test_a_chain_of_migrations_maps_each_leaf_and_what_history_remembers_and_another_leads_back(
    server: RealServer, major: int
) -> None:
    admin, machine, words = Asker(server), f"chain{major}", ("on", "lit", "shining")
    code = [CHAIN.replace("ON", word) for word in words]
    ids = [admin.deploy(machine, code[0], xstate=VERSIONS[major])]
    added = [admin.add_version(machine, text, xstate=VERSIONS[major]) for text in code[1:]]
    ids += [answered(one)["machineVersionId"] for one in added]
    answered(admin.http.post(f"/machines/{machine}", json={"slug": "a", "machineVersionId": ids[0]}))
    for event in ("toggle", "pause"):
        answered(admin.send(machine, "a", event))

    def migration(start: int, goal: int) -> str:
        text = STEP.replace("FROM", words[start]).replace("TO", words[goal])
        return add_migration(admin, machine, ids[start], ids[goal], text)

    def wish(version: int) -> httpx.Response:
        body = {"targetMachineVersionId": ids[version]}
        return admin.http.put(f"/machines/{machine}/i/a/v", json=body)

    forth = [migration(0, 1), migration(1, 2)]
    assert wish(2).status_code == 201
    lamp = {"lamp": "shining", "door": "shut"}
    assert answered(admin.send(machine, "a", "resume"))["state"] == {"work": lamp}
    upgrade = admin.transitions(machine, "a")[-2]
    assert upgrade["event"] == {
        "type": "statebacked.upgrade",
        "migrationPath": forth,
        "fromMachineVersionId": ids[0],
        "toMachineVersionId": ids[2],
    }
    context = admin.admin_state(machine, "a")["context"]
    assert context["n"] == 2
    assert sorted(context["asked"]) == ["paused", "work.door.shut", "work.lamp.lit"]
    assert (context["before"], context["after"]) == (["paused"], ["paused"])

    refused(wish(0), 400, "no-migration-path")
    back = migration(2, 0)
    assert wish(0).status_code == 201
    assert answered(admin.send(machine, "a", "toggle"))["state"] == {"work": {**lamp, "lamp": "off"}}
    assert admin.transitions(machine, "a")[-2]["event"]["migrationPath"] == [back]
    assert admin.admin_state(machine, "a")["machineVersion"]["id"] == ids[0]


# Where an upgrade is when a frame does not arrive.
POINTS = [
    Point("leaving", "in", "leave", has_happened=False),
    Point("left", "out", "outlined", has_happened=False),
    Point("migrating", "in", "migrate", has_happened=False),
    Point("arriving", "in", "arrive", has_happened=False),
    Point("arrived", "out", "arrived", has_happened=False),
    Point("going on", "in", "compute", has_happened=True),
]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.name)
@pytest.mark.parametrize("victim", ["server", "worker"])
def test_whatever_dies_in_an_upgrade_it_happens_once(tmp_path: Path, point: Point, victim: str) -> None:
    environment = wrapper(tmp_path / "wrapper", victim, point)
    with real_server(tmp_path / "data", environment=environment) as server:
        versions = Versions(server)
        versions.add_migration()
        name = versions.create("see")
        assert versions.wish(name, versions.second).status_code == 201
        (tmp_path / "wrapper" / "fuse").touch()
        if victim == "server":
            with pytest.raises(httpx.TransportError):
                versions.send(name, "see")
        else:
            assert versions.send(name, "see").status_code in {200, 503}
        assert not (tmp_path / "wrapper" / "fuse").exists()
    with real_server(tmp_path / "data") as server:
        versions.restarted(server)
        sent = versions.types(name).count("see")
        if victim == "server":
            has_happened = "statebacked.upgrade" in versions.types(name)
            assert (sent, has_happened) == (1, point.has_happened)
        answered(versions.send(name, "see"))
        assert versions.types(name) == ["see", "statebacked.upgrade", *["see"] * sent]
        assert versions.look(name)["context"] == {"seen": ["1 see", *["2 see"] * sent]}
