"""Machine code that throws, loops, hangs or allocates without end: refused, nothing changes, others go on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import httpx
import pytest

from tests.e2e.asking import Asker, Json, answered, refused, sign_token, subscriber
from tests.e2e.servers import E2E, RealServer, real_server

FAULTY = "faulty"
NUMBERS = count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """A second is all the time that a step or an authorizer has."""
    with real_server(tmp_path_factory.mktemp("server"), ["--step-ms", "1000"]) as running:
        yield running


@pytest.fixture(scope="module")
def admin(server: RealServer) -> Asker:
    asker = Asker(server)
    asker.deploy(FAULTY, E2E / "machines" / "faulty.js")
    asker.deploy("faulty4", E2E / "machines" / "faulty4.js", xstate="4.38.3")
    asker.deploy("neighbour", E2E / "machines" / "faulty.js")
    answered(asker.create("neighbour", "next-door"))
    return asker


@pytest.fixture
def machine() -> str:
    """Tests that are marked `both_majors` run with each."""
    return FAULTY


both_majors = pytest.mark.parametrize("machine", [FAULTY, "faulty4"])


@pytest.fixture
def instance(admin: Asker, machine: str) -> str:
    """One of its own for each test."""
    name = f"i{next(NUMBERS)}"
    answered(admin.create(machine, name, {"filler": "x"}))
    answered(admin.send(machine, name, "count"))
    return name


@contextmanager
def nothing_changes(admin: Asker, instance: str, machine: str = FAULTY) -> Iterator[None]:
    """Not in the store, not for a subscriber, and not in memory: the next event meets the state of before."""
    before = admin.look(machine, instance)
    counted = before["context"]["public"]["count"]
    with subscriber(admin) as listener:
        listener.subscribe(machine, instance)
        listener.until(lambda m: m.get("ts") == before["ts"])
        yield
        assert admin.look(machine, instance) == before
        after = answered(admin.send(machine, instance, "count"))
        listener.until(lambda m: m.get("ts") == after["ts"])
        assert [m["ts"] for m in listener.heard] == [before["ts"], after["ts"]]
    assert after["publicContext"] == {"count": counted + 1}


@contextmanager
def others_go_on(admin: Asker, instance: str) -> Iterator[None]:
    """Throughout, another machine is answered; an instance of the same one loses no event and no read."""
    is_over = threading.Event()
    neighbour, sibling = Asker(admin.server), Asker(admin.server)
    answered(sibling.create(FAULTY, f"{instance}-sibling"))
    answers: dict[str, list[httpx.Response]] = {"neighbour": [], FAULTY: []}
    reads: list[httpx.Response] = []

    def ask(asker: Asker, machine: str, name: str) -> None:
        while not is_over.is_set():
            answers[machine].append(asker.send(machine, name, "count"))
            reads.append(asker.get(machine, name))
            is_over.wait(0.05)

    threads = [
        threading.Thread(target=ask, args=(neighbour, "neighbour", "next-door")),
        threading.Thread(target=ask, args=(sibling, FAULTY, f"{instance}-sibling")),
    ]
    for thread in threads:
        thread.start()
    try:
        yield
        count_of_neighbour = len(answers["neighbour"])
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert count_of_neighbour > 0, "nobody else was answered while it went on"
    assert {r.status_code for r in (*answers["neighbour"], *answers[FAULTY], *reads)} == {200}
    state = answered(sibling.get(FAULTY, f"{instance}-sibling"))
    assert state["publicContext"]["count"] == len(answers[FAULTY])


THROWN = [
    ("guard-throws", "machine-error", "the guard says no"),
    ("assign-throws", "machine-error", "the assign says no"),
    ("assign-mutates-and-throws", "machine-error", "too late"),
    ("context-is-no-json", "machine-error", "BigInt"),
    ("context-is-circular", "machine-error", "circular"),
    ("always-again", "machine-error", ""),
    ({"type": "context-grows", "size": 400_000}, "context-too-large", "400000"),
    ("timers-without-end", "too-many-effects", "1000"),
    ("sends-without-end", "too-many-effects", "1000"),
    ("sends-too-much", "step-too-large", "4000000"),
]


@both_majors
@pytest.mark.parametrize(("event", "code", "reason"), THROWN)
def test_what_throws_or_is_too_much_never_happened(
    admin: Asker, machine: str, instance: str, event: str | Json, code: str, reason: str
) -> None:
    with nothing_changes(admin, instance, machine):
        assert reason in refused(admin.send(machine, instance, event), 400, code)


@both_majors
def test_a_context_up_to_the_limit_is_taken(admin: Asker, machine: str, instance: str) -> None:
    state = answered(admin.send(machine, instance, {"type": "context-grows", "size": 399_900}))
    assert state["state"] == "elsewhere"


@both_majors
def test_an_instance_that_cannot_begin_does_not_exist(admin: Asker, machine: str) -> None:
    message = refused(admin.create(machine, "stillborn", {"fails": True}), 400, "machine-error")
    assert "the context says no" in message
    refused(admin.create(machine, "stillborn", {"filler": "x" * 400_000}), 400, "context-too-large")
    refused(admin.get(machine, "stillborn"), 404, "not-found")
    assert answered(admin.create(machine, "stillborn"))["publicContext"] == {"count": 0}


@pytest.mark.parametrize("event", ["guard-loops", "assign-loops", "heap-fills", "buffers-fill"])
def test_what_ends_its_worker_ends_nothing_else(admin: Asker, instance: str, event: str) -> None:
    with nothing_changes(admin, instance), others_go_on(admin, instance):
        message = refused(admin.send(FAULTY, instance, event), 400, "machine-fault")
    assert "too long" in message
    assert "memory" in message


# --- authorizers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["no", "truthy", "throws", "rejects", "never"])
def test_an_authorizer_that_does_not_say_true_refuses(admin: Asker, instance: str, how: str) -> None:
    caller = Asker(admin.server, act={"write": how, "read": how})
    with nothing_changes(admin, instance):
        refused(caller.send(FAULTY, instance, "count"), 403, "rejected-by-machine-authorizer")
        refused(caller.get(FAULTY, instance), 403, "rejected-by-machine-authorizer")
    refused(caller.create(FAULTY, f"{instance}-new"), 403, "rejected-by-machine-authorizer")
    refused(admin.get(FAULTY, f"{instance}-new"), 404, "not-found")


@pytest.mark.parametrize("kind", ["write", "read"])
def test_an_authorizer_that_loops_ends_nothing_else(admin: Asker, instance: str, kind: str) -> None:
    caller = Asker(admin.server, act={kind: "loops"})
    with nothing_changes(admin, instance), others_go_on(admin, instance):
        answer = caller.send(FAULTY, instance, "count") if kind == "write" else caller.get(FAULTY, instance)
        refused(answer, 400, "machine-fault")


def test_only_its_owners_read_what_machine_code_threw(
    admin: Asker, server: RealServer, instance: str
) -> None:
    key = answered(admin.http.post("/keys", json={"name": "app", "use": "production"}))
    assert key["id"].startswith("sbk_")
    stranger = Asker(server, token=sign_token(key["id"], key["key"]))
    message = refused(stranger.send(FAULTY, instance, "guard-throws"), 400, "machine-error")
    assert "says no" not in message
    assert "log" in message


# --- after the commit ----------------------------------------------------------------------------


@both_majors
def test_an_action_that_throws_after_the_commit_leaves_the_transition(
    admin: Asker, machine: str, instance: str
) -> None:
    state = answered(admin.send(machine, instance, "action-throws"))
    assert state["state"] == "elsewhere"
    assert state["publicContext"] == {"count": 2}
    assert answered(admin.get(machine, instance)) == state
    assert admin.transitions(machine, instance)[-1]["event"] == {"type": "action-throws"}


def test_an_action_that_loops_after_the_commit_leaves_the_transition(admin: Asker, instance: str) -> None:
    with others_go_on(admin, instance):
        state = answered(admin.send(FAULTY, instance, "action-loops"))
    assert state["state"] == "elsewhere"
    assert answered(admin.send(FAULTY, instance, "count"))["publicContext"] == {"count": 3}


@both_majors
def test_a_result_that_the_machine_refuses_becomes_the_services_error(
    admin: Asker, machine: str, instance: str
) -> None:
    state = answered(admin.send(machine, instance, "serve-refused"))
    assert state["state"] == "lost"
    last = admin.transitions(machine, instance)[-1]
    assert last["event"]["type"].startswith(("xstate.error.actor.", "error.platform."))
    assert state["publicContext"]["error"] == "machine-error"


# --- events --------------------------------------------------------------------------------------


@both_majors
@pytest.mark.parametrize(
    "event",
    [
        "xstate.init",
        "xstate.done.actor.slow",
        "done.invoke.slow",
        "error.platform.slow",
        "statebacked.upgrade",
    ],
)
def test_a_reserved_event_is_refused(admin: Asker, machine: str, instance: str, event: str) -> None:
    with nothing_changes(admin, instance, machine):
        refused(admin.send(machine, instance, event), 400, "reserved-event")
        refused(admin.send(machine, instance, {"type": event, "output": 1}), 400, "reserved-event")


@both_majors
def test_an_unknown_event_is_answered_and_changes_nothing(admin: Asker, machine: str, instance: str) -> None:
    with nothing_changes(admin, instance, machine):
        assert answered(admin.send(machine, instance, "never-heard-of")) == answered(
            admin.get(machine, instance)
        )
