"""What an administrator does to an instance, and what a repeated request does, on a real server."""

import signal
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from statebacked.api.lifecycle import proof_of
from tests.e2e.asking import Asker, Json, answered, refused, sign_token, subscriber
from tests.e2e.servers import E2E, RealServer, real_server, start_server

PATIENT = "patient"
NUMBERS = count()
SERVER_FLAGS = ["--settle-ms", "5000"]


@pytest.fixture(scope="module")
def admin(server: RealServer) -> Asker:
    asker = Asker(server)
    asker.deploy(PATIENT, E2E / "machines" / "patient.js")
    return asker


@pytest.fixture
def instance(admin: Asker) -> str:
    name = f"p{next(NUMBERS)}"
    answered(admin.create(PATIENT, name))
    return name


def set_status(admin: Asker, instance: str, status: str) -> None:
    response = admin.http.put(f"/machines/{PATIENT}/i/{instance}/status", json={"status": status})
    assert response.status_code == 204, response.text


def delete(admin: Asker, instance: str) -> None:
    proofs = {
        "dangerDataWillBeDeletedForever": True,
        "hmacSha256OfMachineInstanceNameWithMachineNameKey": proof_of(PATIENT, instance),
    }
    response = admin.http.request("DELETE", f"/machines/{PATIENT}/i/{instance}", json=proofs)
    assert response.status_code == 204, response.text


def seen(admin: Asker, instance: str) -> list[str | int]:
    listed: list[str | int] = admin.admin_state(PATIENT, instance)["context"]["seen"]
    return listed


def test_a_paused_instance_holds_its_timers_until_it_is_resumed(admin: Asker, instance: str) -> None:
    answered(admin.create(PATIENT, f"{instance}-twin"))
    with subscriber(admin) as listener:
        listener.subscribe(PATIENT, f"{instance}-twin", "twin")
        listener.subscribe(PATIENT, instance, "self")
        for name in (instance, f"{instance}-twin"):
            answered(admin.send(PATIENT, name, {"type": "later", "ms": 200}))
        set_status(admin, instance, "paused")
        refused(admin.send(PATIENT, instance, "see"), 409, "invalid-state")
        assert admin.admin_state(PATIENT, instance)["status"] == "paused"
        # The twin's timer was set after the instance's own: when it has rung, that one was due.
        listener.until(lambda _: seen(admin, f"{instance}-twin") == ["later"])
        assert seen(admin, instance) == []
        set_status(admin, instance, "running")
        listener.until(lambda _: seen(admin, instance) == ["later"])


def test_pausing_stops_the_services_as_the_deadline_does(admin: Asker, instance: str) -> None:
    with subscriber(admin) as listener:
        listener.subscribe(PATIENT, instance)
        caller = Caller(admin, instance, {"type": "work", "ms": 60_000})
        listener.until(lambda heard: heard.get("state") == "working")
        set_status(admin, instance, "paused")
        assert caller.answer()["state"] == "working"
        set_status(admin, instance, "running")
    answered(admin.send(PATIENT, instance, "see"))
    assert seen(admin, instance) == ["service-stopped", "see"]


def test_a_deleted_instance_is_gone_and_its_name_is_free(admin: Asker, instance: str) -> None:
    answered(admin.send(PATIENT, instance, {"type": "later", "ms": 3_600_000}))
    last = answered(admin.get(PATIENT, instance))
    with subscriber(admin) as listener:
        listener.subscribe(PATIENT, instance)
        listener.until(lambda heard: heard["type"] == "instance-update")
        delete(admin, instance)
        error = listener.until(lambda heard: heard["type"] == "error")
        assert (error["status"], error["code"]) == (404, "not-found")
    refused(admin.get(PATIENT, instance), 404, "not-found")
    refused(admin.send(PATIENT, instance, "see"), 404, "not-found")
    again = answered(admin.create(PATIENT, instance))
    assert again["ts"] > last["ts"]
    assert [t["event"]["type"] for t in admin.transitions(PATIENT, instance)] == ["xstate.init"]


def test_nothing_is_deleted_without_both_proofs_and_the_right_scope(admin: Asker, instance: str) -> None:
    flag, proof = "dangerDataWillBeDeletedForever", "hmacSha256OfMachineInstanceNameWithMachineNameKey"
    good = {flag: True, proof: proof_of(PATIENT, instance)}
    path = f"/machines/{PATIENT}/i/{instance}"
    for wrong, parameter in (
        ({**good, flag: False}, flag),
        ({**good, proof: proof_of(PATIENT, "another")}, proof),
    ):
        answer = admin.http.request("DELETE", path, json=wrong)
        refused(answer, 400, "invalid-parameter")
        assert answer.json()["parameter"] == parameter
    key = answered(admin.http.post("/keys", json={"name": "app", "use": "production"}))
    app = Asker(admin.server, token=sign_token(key["id"], key["key"]))
    refused(app.http.request("DELETE", path, json=good), 403, "missing-scope")
    assert answered(admin.get(PATIENT, instance))["state"] == "idle"


def test_a_repeat_after_a_crash_gets_the_first_answer_and_happens_once(tmp_path: Path) -> None:
    headers = {"idempotency-key": "order-17"}
    with real_server(tmp_path / "server") as running:
        asker = Asker(running)
        asker.deploy(PATIENT, E2E / "machines" / "patient.js")
        answered(asker.create(PATIENT, "a"))
        path, body = f"/machines/{PATIENT}/i/a/events", {"event": "see"}
        first = answered(asker.http.post(path, json=body, headers=headers))
        running.stop(signal.SIGKILL)
    again = start_server(tmp_path / "server")
    try:
        asker = Asker(again)
        assert answered(asker.http.post(path, json=body, headers=headers)) == first
        assert seen(asker, "a") == ["see"]
        other = asker.http.post(path, json={"event": "touch"}, headers=headers)
        refused(other, 409, "idempotency-key-reused")
    finally:
        again.stop()


class Caller:
    """Sends an event on a thread of its own and keeps the answer."""

    def __init__(self, admin: Asker, instance: str, event: Json) -> None:
        self._pool = ThreadPoolExecutor(1)
        self._reply = self._pool.submit(admin.send, PATIENT, instance, event)

    def answer(self) -> Json:
        with self._pool:
            return answered(self._reply.result(timeout=30))
