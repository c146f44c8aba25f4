"""Logs of a real server: what is captured of real machine code, and who is told."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.e2e.servers import BIN, E2E, RealServer, real_server
from tests.e2e.test_disasters import server_with_a_clock

TALKER = E2E / "machines" / "talker.js"
LISTENS_TO_CTRL_C = (
    "env",
    "--default-signal=INT",
)  # also when the tests run in the background, where nobody does


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with real_server(tmp_path_factory.mktemp("server"), ["--step-ms", "1000"]) as running:
        running.smply("machines", "create", "--machine", "talker", "--node", str(TALKER))
        yield running


def create(server: RealServer, instance: str, auth: str = "{}") -> None:
    named = ("--machine", "talker", "--instance", instance, "--auth-context", auth)
    server.smply("instances", "create", *named)


def send(server: RealServer, instance: str, event: str, auth: str = "{}") -> None:
    named = ("--machine", "talker", "--instance", instance, "--auth-context", auth)
    server.smply("instances", "send-event", *named, "--event", event)


def refused(server: RealServer, instance: str, event: str) -> str:
    named = ("--machine", "talker", "--instance", instance, "--auth-context", "{}")
    return server.failing_smply("instances", "send-event", *named, "--event", event)


def lines_of(server: RealServer, instance: str) -> list[tuple[str, str]]:
    shown = server.smply("logs", "get", "--from", "-1h", "--machine", "talker", "--instance", instance)
    return [
        (entry["outputType"], line)
        for entry in json.loads(shown)["logs"]
        for line in entry["log"].split("\n")
    ]


def client(server: RealServer) -> httpx.Client:
    headers = {"authorization": f"Bearer {server.admin['adminToken']}"}
    return httpx.Client(base_url=server.url, headers=headers, timeout=30)


def test_guards_assigns_actions_services_and_authorizers_speak_in_their_instances_log(
    server: RealServer,
) -> None:
    loud = '{"loud": true}'
    create(server, "all", loud)
    send(server, "all", "work", loud)
    act = {"x-statebacked-act": '{"loud": true, "fails": 1}'}
    with client(server) as http:
        assert http.get("/machines/talker/i/all", headers=act).status_code == 403
    said = lines_of(server, "all")
    assert said[:-1] == [
        ("stdout", "allowWrite"),
        ("stdout", "allowWrite"),
        ("stdout", "guard"),
        ("stdout", "assign"),
        ("stderr", "service"),
        ("stdout", "allowRead"),
    ]
    assert said[-1][0] == "stderr"
    assert "allowRead threw: " in said[-1][1]


def test_the_modules_own_lines_belong_to_the_machine(server: RealServer) -> None:
    create(server, "module")
    entries = json.loads(server.smply("logs", "get", "--from", "-1h", "--machine", "talker"))["logs"]
    assert {entry["instanceName"] for entry in entries if entry["log"] == "the module loads"} == {""}


def test_what_throws_is_told_with_its_place(server: RealServer) -> None:
    create(server, "bad")
    assert "no good" in refused(server, "bad", "bad")
    send(server, "bad", "late")
    said = lines_of(server, "bad")
    assert said[0] == ("stderr", "an event is refused: no good")
    assert said[1][1].strip().startswith("at ")
    assert any("after the commit" in line for _, line in said)


def test_the_death_of_a_worker_is_told(server: RealServer) -> None:
    create(server, "loop")
    assert "machine-fault" in refused(server, "loop", "loop")
    own = [line for _, line in lines_of(server, "loop")]
    assert any(line.startswith("the worker in which this instance was did not answer") for line in own), own
    assert any(line.startswith("an event is refused with machine-fault") for line in own), own
    entries = json.loads(server.smply("logs", "get", "--from", "-1h", "--machine", "talker"))["logs"]
    whole = [entry["log"] for entry in entries if not entry["instanceName"]]
    assert any("the worker did not answer" in text for text in whole), whole


def test_a_flood_is_cut_short_and_the_machine_goes_on(server: RealServer) -> None:
    create(server, "flood")
    for _ in range(12):
        send(server, "flood", "flood")
    send(server, "flood", "work")
    with client(server) as http:
        texts: list[str] = []
        start = "2001-01-01T00:00:00.000Z"
        while True:
            query = {"from": start, "machine": "talker", "instance": "flood"}
            batch = http.get("/logs", params=query).json()
            if batch["maxTimestamp"] == start:
                break
            texts += [line for entry in batch["logs"] for line in entry["log"].split("\n")]
            start = batch["maxTimestamp"]
    kept = [text for text in texts if text.startswith("x")]
    assert 0 < sum(map(len, kept)) <= 2_000_000  # a minute may have ended in between
    assert sum("lines are dropped until the next minute" in text for text in texts) in (1, 2)


def test_the_log_of_a_deleted_instance_is_gone_and_that_of_its_successor_is_there(
    server: RealServer,
) -> None:
    create(server, "mortal")
    send(server, "mortal", '{"type": "say", "text": "old life"}')
    subprocess.run(
        [BIN / "smply", "instances", "delete", "--machine", "talker", "--instance", "mortal"],
        env=server.environment(),
        input="mortal\nmortal\ny\n",
        text=True,
        check=True,
        capture_output=True,
    )
    create(server, "mortal")
    send(server, "mortal", '{"type": "say", "text": "new life"}')
    assert lines_of(server, "mortal") == [("stdout", "new life")]


def test_watch_shows_a_line_as_it_is_written_and_goes_on_over_a_restart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with real_server(data) as first:
        port = first.url.rsplit(":", 1)[1]
        first.smply("machines", "create", "--machine", "talker", "--node", str(TALKER))
        create(first, "one")
        watching = subprocess.Popen(
            [
                *LISTENS_TO_CTRL_C,
                BIN / "smply",
                "logs",
                "watch",
                "--from",
                "-1m",
                "--instance",
                "one",
                "--clean",
            ],
            env={**first.environment(), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert watching.stdout is not None
        try:
            send(first, "one", '{"type": "say", "text": "before"}')
            assert until(watching.stdout, "before")
            first.stop()
            with real_server(data, ["--port", port]) as second:
                send(second, "one", '{"type": "say", "text": "after"}')
                assert until(watching.stdout, "after")
            watching.send_signal(signal.SIGINT)
            assert watching.wait(30) == 130
        finally:
            watching.kill()
            watching.wait()
            watching.stdout.close()


def test_watch_shows_each_line_once_though_the_server_is_killed_and_stopped(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with real_server(data) as first:
        port = ["--port", first.url.rsplit(":", 1)[1]]
        first.smply("machines", "create", "--machine", "talker", "--node", str(TALKER))
        create(first, "one")
        command: list[str] = [*LISTENS_TO_CTRL_C, str(BIN / "smply"), "logs", "watch", "--from", "-1m"]
        command += ["--clean", "--instance", "one"]
        watching = subprocess.Popen(
            command,
            env={**first.environment(), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert watching.stdout is not None
        assert watching.stderr is not None
        try:
            send(first, "one", '{"type": "say", "text": "a"}')
            shown = lines_until(watching.stdout, "a")
            first.stop(signal.SIGKILL)
            assert any("the stream broke off" in line for line in watching.stderr)  # after headings
            with real_server(data, port) as second:
                send(second, "one", '{"type": "say", "text": "b"}')
                second.stop()  # at once: the line is stored, and perhaps not sent yet
            with real_server(data, port) as third:
                send(third, "one", '{"type": "say", "text": "c"}')
                shown += lines_until(watching.stdout, "c")
            watching.send_signal(signal.SIGINT)
            assert watching.wait(30) == 130
        finally:
            watching.kill()
            watching.communicate()
    assert [line for line in shown if line in {"a", "b", "c"}] == ["a", "b", "c"]


def lines_until(lines: Iterator[str], wanted: str) -> list[str]:
    """Up to and with the first line of that text."""
    shown: list[str] = []
    for line in lines:
        shown.append(line.rstrip("\n"))
        if shown[-1] == wanted:
            return shown
    raise AssertionError(shown)


def until(lines: Iterator[str], wanted: str) -> bool:
    """A line of that text was shown."""
    return any(line.rstrip("\n") == wanted for line in lines)


def test_the_stream_sends_a_line_at_once_and_ends_when_the_server_stops(tmp_path: Path) -> None:
    with real_server(tmp_path / "data") as own:
        own.smply("machines", "create", "--machine", "talker", "--node", str(TALKER))
        create(own, "one")
        with client(own) as http, http.stream("GET", "/logs/stream?instance=one") as stream:
            assert stream.headers["content-type"] == "text/event-stream"
            lines = stream.iter_lines()
            send(own, "one", '{"type": "say", "text": "streamed"}')
            told = {name: value for name, _, value in (next(lines).partition(": ") for _ in range(2))}
            assert json.loads(told["data"])["log"] == "streamed"
            assert len(told["id"]) > 20
            own.process.send_signal(signal.SIGTERM)
            assert "".join(lines) == ""
        assert own.process.wait(30) == 0


def test_a_server_that_is_killed_keeps_what_could_be_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with real_server(data) as first:
        first.smply("machines", "create", "--machine", "talker", "--node", str(TALKER))
        create(first, "one")
        send(first, "one", '{"type": "say", "text": "kept"}')
        assert ("stdout", "kept") in lines_of(first, "one")
        first.process.kill()
        first.process.wait(30)
    with real_server(data) as second:
        send(second, "one", '{"type": "say", "text": "and more"}')
        assert [line for _, line in lines_of(second, "one")] == ["kept", "and more"]


def test_lines_are_kept_for_the_days_that_are_set(tmp_path: Path) -> None:
    with real_server(tmp_path / "data") as first:
        first.smply("machines", "create", "--machine", "talker", "--node", str(TALKER))
        create(first, "one")
        send(first, "one", '{"type": "say", "text": "kept"}')
    with server_with_a_clock(tmp_path, "+3d", ["--log-days", "4"]) as (second, _):
        assert lines_of(second, "one") == [("stdout", "kept")]
    with server_with_a_clock(tmp_path, "+3d", ["--log-days", "2"]) as (third, _):
        assert any(lines_of(third, "one") == [] for _ in range(50))


def test_the_published_client_retrieves_and_watches(server: RealServer) -> None:
    server.node("logs.test.mjs", {"MACHINE": "talker"})


def test_npms_smply_gets_and_watches(server: RealServer, tmp_path: Path) -> None:
    create(server, "npm")
    begun = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    for text in ("one", "two"):
        send(server, "npm", json.dumps({"type": "say", "text": text}))
    env = {**server.environment(), "HOME": str(tmp_path)}
    subprocess.run([BIN / "smply", "login", "--legacy-credentials"], env=env, check=True, stdout=-3)

    def npm(*arguments: str) -> str:
        done = subprocess.run(
            [E2E / "node_modules" / ".bin" / "smply", "--api-url", server.url, "logs", *arguments],
            env={
                "HOME": str(tmp_path),
                "PATH": os.environ["PATH"],
                "NODE_OPTIONS": "--experimental-websocket",
            },
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    window = ("--from", begun, "--machine", "talker", "--instance", "npm")
    batch = json.loads(npm("get", *window))
    assert [entry["log"] for entry in batch["logs"]] == ["one", "two"]
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    # It ends by itself: the window has passed.
    shown = npm("watch", *window, "--to", now, "--clean").split("\n")
    assert [line for line in shown if line in ("one", "two")] == ["one", "two"]


MIGRATION = """
console.log("the migration loads");
export const upgradeState = (state) => { console.log("upgradeState"); return state; };
export const upgradeContext = (before, after, context) => {
  console.error("upgradeContext");
  return context;
};
"""


def test_migrations_speak_in_the_log_of_the_instance_that_they_move(
    server: RealServer, tmp_path: Path
) -> None:
    create(server, "moved")
    machine = json.loads(server.smply("machines", "get", "--machine", "talker"))
    old = machine["currentVersion"]["id"]
    versions = ("machine-versions", "create", "--machine", "talker", "--version-reference", "2")
    made = server.smply(*versions, "--node", str(TALKER))
    new = json.loads(made)["machineVersionId"]
    file = tmp_path / "migration.js"
    file.write_text(MIGRATION)
    server.smply(
        "migrations", "create", "--machine", "talker", "--from", old, "--to", new, "--node", str(file)
    )
    named = ("--machine", "talker", "--instance", "moved")
    server.smply("instances", "set-desired-version", *named, "--version", new)
    send(server, "moved", '{"type": "say", "text": "moved"}')
    assert lines_of(server, "moved") == [
        ("stdout", "upgradeState"),
        ("stderr", "upgradeContext"),
        ("stdout", "moved"),
    ]
