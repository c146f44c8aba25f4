"""Workers that are killed, servers that stop or start badly: nobody loses anything."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.e2e.asking import Asker, Json, answered, subscriber
from tests.e2e.processes import kill_workers
from tests.e2e.servers import BIN, E2E, RealServer, real_server

FAULTY = "faulty"


@pytest.fixture(scope="module")
def admin(server: RealServer) -> Asker:
    asker = Asker(server)
    asker.deploy(FAULTY, E2E / "machines" / "faulty.js")
    asker.deploy("faulty4", E2E / "machines" / "faulty4.js", xstate="4.38.3")
    return asker


@contextmanager
def asked(ask: Callable[[], httpx.Response]) -> Iterator["Queue[httpx.Response]"]:
    """The answer, once it is there, of what is asked while the block runs."""
    answers: Queue[httpx.Response] = Queue()
    thread = threading.Thread(target=lambda: answers.put(ask()))
    thread.start()
    try:
        yield answers
    finally:
        thread.join()


def wait_for_state(admin: Asker, machine: str, instance: str, state: str) -> None:
    """Durable, seen by a subscriber."""
    with subscriber(admin) as listener:
        listener.subscribe(machine, instance)
        listener.until(lambda m: m.get("state") == state)


def types_of(transitions: list[Json]) -> list[str]:
    return [transition["event"]["type"] for transition in transitions]


# --- workers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "error"),
    [(FAULTY, "xstate.error.actor.0.faulty.endless"), ("faulty4", "error.platform.endless")],
)
def test_a_worker_killed_under_a_service_costs_the_service_and_nothing_else(
    admin: Asker, machine: str, error: str
) -> None:
    answered(admin.create(machine, "served"))
    with asked(lambda: admin.send(machine, "served", "serve-for-ever")) as answer:
        wait_for_state(admin, machine, "served", "endless")
        assert kill_workers(admin.server)
        state = answered(answer.get(timeout=20))
    assert state["state"] == "endless"
    assert answered(admin.get(machine, "served")) == state

    after = answered(admin.send(machine, "served", "count"))
    assert (after["state"], after["publicContext"]) == ("lost", {"count": 1, "error": "service-lost"})
    history = types_of(admin.transitions(machine, "served"))
    assert history == ["xstate.init", "serve-for-ever", error, "count"]


def test_an_event_whose_caller_leaves_happens_all_the_same(admin: Asker) -> None:
    answered(admin.create(FAULTY, "left"))
    with subscriber(admin) as listener:
        listener.subscribe(FAULTY, "left")
        with pytest.raises(httpx.ReadTimeout):
            admin.http.post(f"/machines/{FAULTY}/i/left/events", json={"event": "serve"}, timeout=0.1)
        listener.until(lambda m: m["publicContext"] == {"count": 1})
    assert types_of(admin.transitions(FAULTY, "left"))[1:] == ["serve", "xstate.done.actor.0.faulty.serving"]


def test_a_worker_killed_at_rest_costs_nothing(admin: Asker) -> None:
    answered(admin.create(FAULTY, "rested"))
    for count in range(1, 4):
        assert kill_workers(admin.server)
        assert answered(admin.send(FAULTY, "rested", "count"))["publicContext"] == {"count": count}
    kill_workers(admin.server)
    assert answered(admin.get(FAULTY, "rested"))["publicContext"] == {"count": 3}


def test_workers_killed_under_load_lose_no_event(admin: Asker) -> None:
    names = [f"busy-{n}" for n in range(4)]
    answers: Queue[tuple[str, float, httpx.Response]] = Queue()
    is_over = threading.Event()

    def load(name: str, asker: Asker) -> None:
        while not is_over.is_set():
            began = time.monotonic()
            answers.put((name, began, asker.send(FAULTY, name, "count")))

    for name in names:
        answered(admin.create(FAULTY, name))
    threads = [threading.Thread(target=load, args=(name, Asker(admin.server))) for name in names]
    for thread in threads:
        thread.start()
    counts = dict.fromkeys(names, 0)
    try:
        for _ in range(5):
            # What was under way is computed once more. A second kill would find it guilty.
            killed_at, behind = time.monotonic(), set(names)
            while behind:
                name, began, answer = answers.get(timeout=20)
                counts[name] = answered(answer)["publicContext"]["count"]
                if began > killed_at:
                    behind.discard(name)
            kill_workers(admin.server)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    while not answers.empty():
        name, _, answer = answers.get()
        counts[name] = answered(answer)["publicContext"]["count"]
    for name in names:
        assert types_of(admin.transitions(FAULTY, name)) == ["xstate.init"] + ["count"] * counts[name]


# --- stopping ------------------------------------------------------------------------------------


def test_sigterm_answers_everyone_with_the_durable_state_and_closes_last(tmp_path: Path) -> None:
    with real_server(tmp_path / "data", ["--drain-ms", "300"]) as server:
        admin = Asker(server)
        admin.deploy(FAULTY, E2E / "machines" / "faulty.js")
        answered(admin.create(FAULTY, "one"))
        late = Asker(server)
        answered(late.get(FAULTY, "one"))  # and keeps its connection
        with (
            subscriber(admin) as listener,
            asked(lambda: admin.send(FAULTY, "one", "serve-for-ever")) as answer,
        ):
            listener.subscribe(FAULTY, "one")
            listener.until(lambda m: m.get("state") == "endless")
            server.process.send_signal(signal.SIGTERM)
            wait_for_refusal(late)
            state = answered(answer.get(timeout=20))
            with pytest.raises(ConnectionClosed) as closed:
                listener.until(lambda m: False)
        assert state["state"] == "endless"
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert server.process.wait(20) == 0

    with real_server(tmp_path / "data") as server:
        admin = Asker(server)
        assert answered(admin.get(FAULTY, "one")) == state
        assert answered(admin.send(FAULTY, "one", "count"))["state"] == "lost"
        assert types_of(admin.transitions(FAULTY, "one"))[2:] == [
            "xstate.error.actor.0.faulty.endless",
            "count",
        ]


def wait_for_refusal(late: Asker) -> None:
    """A server that ends takes no more connections, and ends those that it has with their answers."""
    try:
        while True:
            answered(late.get(FAULTY, "one"))
    except httpx.TransportError:
        pass


def test_an_idle_server_stops_at_once_and_without_complaint(tmp_path: Path) -> None:
    with real_server(tmp_path / "data") as server:
        assert server.stop(signal.SIGINT) == 0
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
        assert {line["level"] for line in lines} <= {"info"}


# --- starting ------------------------------------------------------------------------------------


def failing_start(*arguments: str, **environment: str) -> str:
    """What a server that does not start says of it."""
    done = subprocess.run(
        [str(BIN / "statebacked"), "serve", "--port", "0", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder that a server has used."""
    folder = tmp_path / "data"
    with real_server(folder):
        pass
    return folder


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = failing_start("--data", str(tmp_path / "data"), "--port", str(port))
    assert f"cannot listen on 127.0.0.1:{port}" in said


def test_a_data_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert str(file) in failing_start("--data", str(file))
    assert "/proc/nowhere" in failing_start("--data", "/proc/nowhere")


DATABASES = pytest.mark.parametrize("name", ["statebacked.sqlite3", "logs.sqlite3"])


@DATABASES
def test_a_damaged_database_is_told(data: Path, name: str) -> None:
    database = data / name
    assert database.is_file()
    database.write_bytes(b"this is no database, and never was one " * 100)
    assert str(database) in failing_start("--data", str(data))


def test_a_server_starts_without_the_log_that_it_had(data: Path) -> None:
    for file in data.glob("logs.sqlite3*"):
        file.unlink()
    with real_server(data) as server:
        answered(Asker(server).http.get("/machines"))


@DATABASES
def test_a_database_of_a_newer_server_is_refused(data: Path, name: str) -> None:
    with sqlite3.connect(data / name) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (9999, 'later', '')")
    connection.close()
    assert "newer" in failing_start("--data", str(data))


def test_a_master_key_that_others_can_read_is_refused(data: Path) -> None:
    key = data / "secrets" / "master.key"
    key.chmod(0o644)
    assert f"chmod 600 {key}" in failing_start("--data", str(data))


def test_a_master_key_that_is_gone_or_another_is_refused(data: Path) -> None:
    key = data / "secrets" / "master.key"
    kept = key.read_text()
    key.unlink()
    assert "--master-key-file" in failing_start("--data", str(data))
    assert "another master key" in failing_start("--data", str(data), STATEBACKED_MASTER_KEY="A" * 43 + "=")
    assert "STATEBACKED_MASTER_KEY" in failing_start("--data", str(data), STATEBACKED_MASTER_KEY="short")
    with real_server(data, environment={"STATEBACKED_MASTER_KEY": kept}) as server:
        answered(Asker(server).http.get("/machines"))


def test_a_bad_setting_is_told(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(BIN / "statebacked"), "serve", "--settle-ms", "soon"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "--settle-ms" in done.stderr
