"""What is promised of events, services, timers and history, on a real server that settles for a second."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count, pairwise
from pathlib import Path

import pytest

from tests.e2e.asking import Asker, Json, answered, key_token, refused, subscriber
from tests.e2e.servers import E2E, RealServer, real_server

PATIENT = "patient"
NUMBERS = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    arguments = ["--settle-ms", "1000", "--log-level", "debug"]
    with real_server(tmp_path_factory.mktemp("server"), arguments) as running:
        yield running


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


def seen(admin: Asker, instance: str) -> list[str | int]:
    listed: list[str | int] = admin.admin_state(PATIENT, instance)["context"]["seen"]
    return listed


def types(admin: Asker, instance: str) -> list[str]:
    return [transition["event"]["type"] for transition in admin.transitions(PATIENT, instance)]


def wait_until(admin: Asker, instance: str, claim: Callable[[], bool]) -> None:
    """Looks whenever a subscriber hears of a new state."""
    with subscriber(admin) as listener:
        listener.subscribe(PATIENT, instance)
        listener.until(lambda _: claim())


# --- services ------------------------------------------------------------------------------------


def test_a_reply_waits_until_the_service_is_done(admin: Asker, instance: str) -> None:
    state = answered(admin.send(PATIENT, instance, {"type": "work", "ms": 200}))
    assert (state["state"], state["tags"]) == ("idle", ["free", "calm"])
    assert seen(admin, instance) == ["worked"]
    assert types(admin, instance) == ["xstate.init", "work", "xstate.done.actor.work"]


def test_a_service_that_fails_is_an_event_of_the_machine(admin: Asker, instance: str) -> None:
    assert answered(admin.send(PATIENT, instance, {"type": "work", "fails": True}))["state"] == "idle"
    assert seen(admin, instance) == ["work failed"]


def test_a_read_does_not_wait_for_the_service(admin: Asker, instance: str) -> None:
    reader = Asker(admin.server)
    with ThreadPoolExecutor() as pool:
        reply = pool.submit(admin.send, PATIENT, instance, {"type": "work", "ms": 600})
        wait_until(reader, instance, lambda: True)
        while answered(reader.get(PATIENT, instance))["state"] == "idle":
            assert not reply.done()
        state = answered(reader.get(PATIENT, instance))
        assert (state["state"], state["tags"]) == ("working", ["busy"])
        assert not reply.done()
        assert answered(reply.result())["state"] == "idle"


def test_a_service_past_the_deadline_is_stopped_and_owed_its_error(admin: Asker, instance: str) -> None:
    state = answered(admin.send(PATIENT, instance, {"type": "work", "ms": 60_000}))
    assert state["state"] == "working"
    assert types(admin, instance) == ["xstate.init", "work"]

    after = answered(admin.send(PATIENT, instance, "see"))
    assert after["state"] == "idle"
    assert seen(admin, instance) == ["service-stopped", "see"]
    assert types(admin, instance) == ["xstate.init", "work", "xstate.error.actor.work", "see"]


def test_a_caller_is_answered_after_its_own_time_though_the_services_run_on(
    admin: Asker, instance: str
) -> None:
    """The second event, half a second later, gives the service the time that it needs."""
    other, clock = Asker(admin.server), f"{instance}-clock"
    answered(admin.create(PATIENT, clock))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(admin.send, PATIENT, instance, {"type": "work", "ms": 1_300})
        answered(other.send(PATIENT, clock, {"type": "later", "ms": 500}))
        wait_until(other, clock, lambda: seen(other, clock) == ["later"])
        second = pool.submit(other.send, PATIENT, instance, "see")
        assert answered(first.result())["state"] == "working"
        assert not second.done()
        assert answered(second.result())["state"] == "idle"
    assert seen(admin, instance) == ["see", "worked"]


# --- timers --------------------------------------------------------------------------------------


def test_after_fires_and_is_pushed(admin: Asker, instance: str) -> None:
    assert answered(admin.send(PATIENT, instance, "wait"))["state"] == "waiting"
    wait_until(admin, instance, lambda: seen(admin, instance) == ["waited"])
    last = admin.transitions(PATIENT, instance)[-1]
    assert (last["event"]["type"], last["source"]) == ("xstate.after.200.patient.waiting", "timer")


def test_after_of_a_state_that_was_left_does_not_fire(admin: Asker, instance: str) -> None:
    answered(admin.send(PATIENT, instance, "wait"))
    answered(admin.send(PATIENT, instance, "leave"))
    wait_until(admin, instance, lambda: "left" in seen(admin, instance))
    assert types(admin, instance) == ["xstate.init", "wait", "leave", "rang"]


def test_cancel_takes_the_newest_of_a_name(admin: Asker, instance: str) -> None:
    answered(admin.send(PATIENT, instance, "twice"))
    wait_until(admin, instance, lambda: "last" in seen(admin, instance))
    assert seen(admin, instance) == ["first", "last"]


def test_a_final_state_forgets_the_timers(admin: Asker, instance: str) -> None:
    witness = f"{instance}-witness"
    answered(admin.create(PATIENT, witness))
    answered(admin.send(PATIENT, instance, {"type": "later", "ms": 200}))
    answered(admin.send(PATIENT, instance, "finish"))
    answered(admin.send(PATIENT, witness, {"type": "later", "ms": 300}))
    wait_until(admin, witness, lambda: seen(admin, witness) == ["later"])
    assert types(admin, instance) == ["xstate.init", "later", "finish"]


def test_timers_survive_a_kill_and_fire_once_in_order(tmp_path: Path) -> None:
    with real_server(tmp_path / "data") as server:
        admin = Asker(server)
        admin.deploy(PATIENT, E2E / "machines" / "patient.js")
        answered(admin.create(PATIENT, "one"))
        answered(admin.create(PATIENT, "two"))
        answered(admin.send(PATIENT, "one", "many"))
        answered(admin.send(PATIENT, "two", {"type": "later", "ms": 30 * 24 * 3_600_000}))
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()

    with real_server(tmp_path / "data") as server:
        admin = Asker(server)
        wait_until(admin, "one", lambda: len(seen(admin, "one")) == 3)
        assert seen(admin, "one") == [100, 200, 300]

    with real_server(tmp_path / "data") as server:
        admin = Asker(server)
        answered(admin.send(PATIENT, "one", {"type": "later", "ms": 0}))
        wait_until(admin, "one", lambda: "later" in seen(admin, "one"))
        assert seen(admin, "one") == [100, 200, 300, "later"]
        assert seen(admin, "two") == []


# --- events --------------------------------------------------------------------------------------


def test_what_a_machine_sends_itself_comes_next_and_in_order(admin: Asker, instance: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        others = [pool.submit(Asker(admin.server).send, PATIENT, instance, "see") for _ in range(20)]
        answered(admin.send(PATIENT, instance, "burst"))
        for other in others:
            answered(other.result())
    heard = seen(admin, instance)
    at = heard.index("burst")
    assert heard[at : at + 6] == ["burst", "now", "a", "b", "c", "d"]
    assert len(heard) == 26


MACROSTEP = """
import { assign, createMachine, raise } from "xstate";
const step = (word) => assign({ steps: ({ context }) => [...context.steps, word] });
export const allowRead = () => true;
export const allowWrite = () => true;
export default createMachine({ initial: "a", context: { steps: [] }, states: {
  a: { on: { go: { target: "b", actions: [raise({ type: "raised" }), step("go")] } } },
  b: { always: { target: "c", actions: step("always") } },
  c: { on: { raised: { target: "d", actions: step("raised") } } },
  d: { always: { target: "e", actions: step("again") } },
  e: {} } });
"""


def test_what_an_event_raises_and_what_always_holds_is_one_transition_with_it(admin: Asker) -> None:
    admin.deploy("macrostep", MACROSTEP)
    answered(admin.create("macrostep", "one"))
    assert answered(admin.send("macrostep", "one", "go"))["state"] == "e"
    context = admin.admin_state("macrostep", "one")["context"]
    assert context == {"steps": ["go", "always", "raised", "again"]}
    transitions = admin.transitions("macrostep", "one")
    assert [(t["event"]["type"], t["state"]) for t in transitions] == [("xstate.init", "a"), ("go", "e")]


def test_many_events_at_once_are_one_history(admin: Asker, instance: str) -> None:
    askers = [Asker(admin.server) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        replies = [pool.submit(askers[n % 8].send, PATIENT, instance, "see") for n in range(80)]
        stamps = [answered(reply.result())["ts"] for reply in replies]
    assert len(set(stamps)) == 80
    transitions = admin.transitions(PATIENT, instance)
    assert [transition["seq"] for transition in transitions] == list(range(1, 82))
    assert seen(admin, instance) == ["see"] * 80
    assert answered(admin.get(PATIENT, instance))["ts"] == max(stamps)


def test_an_unknown_or_forbidden_event_is_no_transition_and_a_selected_one_is(
    admin: Asker, instance: str
) -> None:
    before = answered(admin.get(PATIENT, instance))
    assert answered(admin.send(PATIENT, instance, "nobody-knows-it")) == before
    assert answered(admin.send(PATIENT, instance, "forbidden")) == before
    after = answered(admin.send(PATIENT, instance, "touch"))
    assert after == {**before, "ts": after["ts"]}
    assert after["ts"] > before["ts"]
    assert types(admin, instance) == ["xstate.init", "touch"]


def test_a_final_state_is_done_and_stays_though_the_authorizer_is_asked(admin: Asker, instance: str) -> None:
    done = answered(admin.send(PATIENT, instance, "finish"))
    assert (done["state"], done["done"]) == ("finished", True)
    assert answered(admin.send(PATIENT, instance, "see")) == done
    stranger = Asker(admin.server, act={"write": False})
    refused(stranger.send(PATIENT, instance, "see"), 403, "rejected-by-machine-authorizer")
    assert types(admin, instance) == ["xstate.init", "finish"]


def test_an_event_of_a_client_keeps_its_data_in_the_history(admin: Asker, instance: str) -> None:
    event = {"type": "see", "text": 'q"uo\\te ☃ \U0001f600', "n": 1e21, "deep": {"a": [None, True, {}]}}
    answered(admin.send(PATIENT, instance, event))
    assert admin.transitions(PATIENT, instance)[-1]["event"] == event


def test_a_push_is_sent_to_every_subscription_until_its_own_end(admin: Asker, instance: str) -> None:
    with subscriber(admin) as listener, subscriber(admin) as other:
        for request in ("r1", "r2"):
            listener.subscribe(PATIENT, instance, request)
        other.subscribe(PATIENT, instance, "r1")
        first = listener.until(lambda m: True)
        assert first == {
            "type": "instance-update",
            "machineName": PATIENT,
            "machineInstanceName": instance,
            **answered(admin.get(PATIENT, instance)),
        }
        listener.unsubscribe(PATIENT, instance, "r1")
        listener.unsubscribe(PATIENT, instance, "unknown")
        listener.socket.send('{"type":"ping"}')
        state = answered(admin.send(PATIENT, instance, "see"))
        listener.until(lambda m: m["ts"] == state["ts"])
        other.until(lambda m: m["ts"] == state["ts"])


# --- what an admin sees --------------------------------------------------------------------------


def test_the_admin_state_has_the_fields_of_the_contract(admin: Asker) -> None:
    answered(admin.create(PATIENT, "looked-at", {"public": {"a": 1}, "secret": 2}))
    state = admin.admin_state(PATIENT, "looked-at")
    assert set(state) == {
        "state", "context", "status", "tags", "done", "machineVersion", "createdAt", "ts",
    }  # fmt: skip
    assert (state["state"], state["status"], state["done"]) == ("idle", "running", False)
    assert state["context"] == {"seen": [], "public": {"a": 1}, "secret": 2}
    assert state["machineVersion"]["clientInfo"] == "test"
    public = answered(admin.get(PATIENT, "looked-at"))
    assert set(public) == {"state", "publicContext", "tags", "done", "ts"}
    assert public["publicContext"] == {"a": 1}


def test_transitions_are_listed_oldest_first_over_all_pages(admin: Asker, instance: str) -> None:
    caller = Asker(admin.server, act={"sub": "ann"})
    for _ in range(4):
        answered(caller.send(PATIENT, instance, "see"))
    whole = admin.transitions(PATIENT, instance)
    assert whole[0]["event"] == {"type": "xstate.init"}
    assert [(t["seq"], t["state"], t["source"]) for t in whole] == [
        (n, "idle", "client") for n in range(1, 6)
    ]
    assert whole[0]["actor"] == {}
    assert whole[1]["actor"] == {"sub": "ann"}
    assert all(a["createdAt"] <= b["createdAt"] for a, b in pairwise(whole))

    paged: list[Json] = []
    query = {"limit": "2"}
    while True:
        page = answered(admin.http.get(f"/machines/{PATIENT}/i/{instance}/events", params=query))
        paged += page["transitions"]
        if "cursor" not in page:
            break
        assert len(page["transitions"]) == 2
        query["cursor"] = page["cursor"]
    assert paged == whole


def test_authorizers_are_asked_with_what_the_contract_says(admin: Asker, server: RealServer) -> None:
    caller = Asker(server, token=key_token(server, act={"role": "user"}, sub="ann"))
    answered(caller.create(PATIENT, "asked", {"extra": 1}))
    answered(caller.send(PATIENT, "asked", {"type": "see", "n": 1}))
    common = {"machineInstanceName": "asked", "authContext": {"role": "user", "sub": "ann"}}
    wait_for_line(server, "asked", 2)
    assert asked_of(server, "asked") == [
        {"type": "initialization", **common, "given": {"extra": 1}},
        {"type": "event", **common, "state": "idle", "seen": [], "event": {"type": "see", "n": 1}},
    ]


def asked_of(server: RealServer, instance: str) -> list[Json]:
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    texts = [line["line"] for line in lines if line["event"] == "machine"]
    asked = [json.loads(text.removeprefix("allowWrite ")) for text in texts if text.startswith("allowWrite ")]
    return [one for one in asked if one["machineInstanceName"] == instance]


def wait_for_line(server: RealServer, instance: str, lines: int) -> None:
    for _ in range(200):
        if len(asked_of(server, instance)) >= lines:
            return
        threading.Event().wait(0.05)
    raise AssertionError(server.log.read_text()[-2_000:])
