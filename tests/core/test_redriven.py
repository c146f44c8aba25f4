"""A dead letter that lives again is told to the activation of its sender."""

from msgspec.structs import replace
from tests.core import given

from statebacked.core import phases
from statebacked.core.phases import Arm, Redriven, Tick
from statebacked.model.ids import Instant, RowKey, SendId
from statebacked.model.rows import DueTimer, Message, Timer
from statebacked.model.values import Json

TIMER = Timer(key=RowKey("1.0"), send_id=SendId("t"), due=Instant(7), event=Json(b'{"type":"after"}'))


def due(a: phases.Activation) -> DueTimer:
    return DueTimer(instance=a.instance, key=a.key, timer=TIMER, fire_at=Instant(900), attempts=0)


def test_a_timer_is_pending_and_armed_again() -> None:
    a = given.loaded()
    decision = given.deciding(a, Redriven(due(a)))
    assert given.only(decision, Arm).timers == (due(a),)
    assert decision.activation.timers == (given.pending(due=7),)


def test_a_timer_that_was_loaded_alive_is_pending_once() -> None:
    a = given.loaded(timers=(given.pending(due=7),))
    assert given.after(a, Redriven(due(a))).timers == a.timers


def test_a_message_to_itself_comes_behind_what_waits() -> None:
    a = given.after(given.stepping(), given.client("c2"), Redriven(given.message()))
    assert given.waiting_in_mailbox(a) == ["c2", "message:1.0"]
    assert given.waiting_in_mailbox(given.after(a, Redriven(given.message()))) == ["c2", "message:1.0"]
    assert given.computing(given.after(given.loaded(), Redriven(given.message()))) == ["message:1.0"]


def test_a_paused_instance_keeps_it() -> None:
    a = given.after(replace(given.loaded(), status="paused"), Redriven(given.message()), Tick())
    assert given.waiting_in_mailbox(a) == ["message:1.0"]


def test_a_message_to_another_instance_is_on_its_way_again() -> None:
    a = replace(given.loaded(), undelivered=2)
    for kind, count in (("event", 3), ("create", 3), ("done", 3), ("failed", 2)):
        letter = Message(key=RowKey("1.o0"), event=Json(b"null"), kind=kind)  # type: ignore[arg-type]
        assert given.after(a, Redriven(letter)).undelivered == count
