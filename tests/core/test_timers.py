"""Timers and messages of a machine to itself: keys, cancels, retries, order."""

from tests.core import given

from statebacked.core import phases, retry
from statebacked.core.phases import CauseGone, Performing, Settled
from statebacked.core.policy import Policy
from statebacked.model.envelopes import Cause
from statebacked.model.ids import RowKey
from statebacked.model.rows import DueTimer, Rejection, Timer


def test_a_timer_is_set_with_a_key_of_its_own_and_armed() -> None:
    a = given.stepping()
    decision = given.deciding(a, given.stepped(a, given.step(timers=given.setting("t", "t"))), now=7)
    due = given.at(107).wall
    timers = tuple(
        Timer(key=RowKey(key), send_id=given.pending().send_id, due=due, event=b'{"type":"after"}')  # type: ignore[arg-type]
        for key in ("2.0", "2.1")
    )
    assert given.committed(decision).timers_set == timers
    assert decision.activation.timers == (given.pending("2.0", due=due), given.pending("2.1", due=due))
    assert given.only(decision, phases.Arm).timers == tuple(
        DueTimer(instance=given.INSTANCE, key=given.KEY, timer=timer, fire_at=due, attempts=0)
        for timer in timers
    )


def test_cancel_removes_the_newest_of_its_send_id() -> None:
    a = given.stepping(
        given.loaded(timers=(given.pending("1.0"), given.pending("1.1"), given.pending("1.2", "u")))
    )
    decision = given.deciding(a, given.stepped(a, given.step(timers=(given.cancelling("t"),))))
    assert given.committed(decision).timers_removed == ("1.1",)
    assert [t.key for t in decision.activation.timers] == ["1.0", "1.2"]


def test_cancel_of_what_is_not_pending_does_nothing() -> None:
    a = given.stepping(given.loaded(timers=(given.pending("1.0"),)))
    decision = given.deciding(a, given.stepped(a, given.step(timers=(given.cancelling("u"),))))
    assert given.committed(decision).timers_removed == ()
    assert [t.key for t in decision.activation.timers] == ["1.0"]
    assert given.commands(decision, phases.Arm) == []


def test_set_and_cancel_keep_their_order_within_a_step() -> None:
    a = given.stepping(given.loaded(timers=(given.pending("1.0"),)))
    operations = (*given.setting("t"), given.cancelling("t"), given.cancelling("t"), *given.setting("t"))
    decision = given.deciding(a, given.stepped(a, given.step(timers=operations)))
    assert [t.key for t in given.committed(decision).timers_set] == ["2.3"]
    assert given.committed(decision).timers_removed == ("1.0",)
    assert [t.key for t in decision.activation.timers] == ["2.3"]


def test_a_cancelled_timer_that_waits_in_the_mailbox_never_fires() -> None:
    a = given.stepping(given.loaded(timers=(given.pending("1.0"),)))
    a = given.after(a, given.timer("1.0"))
    assert given.waiting_in_mailbox(a) == ["timer:1.0"]
    a = given.after(a, given.stepped(a, given.step(timers=(given.cancelling("t"),))))
    assert a.mailbox == ()
    assert a.phase == Settled()


def test_a_delivery_of_a_timer_that_is_not_pending_is_dropped() -> None:
    decision = given.deciding(given.loaded(), given.timer())
    assert (decision.activation, decision.commands) == (given.loaded(), ())


def test_a_timer_is_not_accepted_twice() -> None:
    a = given.after(given.loaded(timers=(given.pending(),)), given.timer())
    assert given.after(a, given.timer()) == a
    a = given.after(given.stepping(given.loaded(timers=(given.pending(),))), given.timer())
    assert given.after(a, given.timer()) == a


def test_a_final_state_deletes_every_timer() -> None:
    a = given.stepping(given.loaded(timers=(given.pending("1.0"), given.pending("1.1", "u"))))
    decision = given.deciding(a, given.stepped(a, given.step(done=True, timers=given.setting("v"))))
    assert sorted(given.committed(decision).timers_removed) == ["1.0", "1.1"]
    assert given.committed(decision).timers_set == ()
    assert decision.activation.timers == ()


# --- deliveries that fail ------------------------------------------------------------------------------


def test_a_refused_timer_is_retried_with_back_off() -> None:
    a = given.after(given.loaded(timers=(given.pending("1.0"), given.pending("1.1"))), given.timer("1.1"))
    decision = given.deciding(a, given.refused(a), now=5)
    retry_at = given.at(5 + given.POLICY.retry_first_ms).wall
    commit = given.committed(decision)
    assert commit.rejected == Rejection(
        cause=Cause("timer", RowKey("1.1")),
        attempts=1,
        retry_at=retry_at,
        reason="machine-error: no",
        at=given.at(5).wall,
    )
    assert (commit.head, commit.consumed, commit.base) == (None, (), 1)
    armed = given.only(decision, phases.Arm).timers[0]
    assert (armed.timer.key, armed.timer.due, armed.fire_at, armed.attempts) == (
        "1.1",
        given.WALL,
        retry_at,
        1,
    )
    assert (armed.timer.send_id, armed.timer.event) == ("t", b'{"type":"after"}')
    assert [(t.key, t.attempts) for t in decision.activation.timers] == [("1.0", 0), ("1.1", 1)]
    assert given.only(decision, phases.Complain).code == "machine-error"


def test_a_delivery_read_before_it_was_refused_is_stale() -> None:
    a = given.after(given.loaded(timers=(given.pending(),)), given.timer())
    a = given.after(a, given.refused(a))
    assert given.after(a, given.timer(attempts=0)) == a
    assert given.computing(given.after(a, given.timer(attempts=1))) == ["timer:1.0"]


def test_the_last_attempt_leaves_a_dead_letter() -> None:
    a = given.after(
        given.loaded(timers=(given.pending(),)), given.timer(attempts=given.POLICY.attempts_max - 1)
    )
    decision = given.deciding(a, given.refused(a))
    rejected = given.committed(decision).rejected
    assert rejected is not None
    assert (rejected.attempts, rejected.retry_at) == (given.POLICY.attempts_max, None)
    assert given.commands(decision, phases.Arm) == []
    assert decision.activation.timers == ()


def test_back_off_doubles_and_is_bounded() -> None:
    policy = Policy(retry_first_ms=1_000, retry_longest_ms=5_000)
    assert [retry.backoff_ms(n, policy) for n in range(1, 6)] == [1_000, 2_000, 4_000, 5_000, 5_000]


def test_a_refused_message_is_given_up_at_once_and_takes_no_timer_along() -> None:
    a = given.loaded(timers=(given.pending("1.0"),), messages=(given.message("1.0"),))
    a = given.after(a, phases.Tick())
    decision = given.deciding(a, given.refused(a))
    rejected = given.committed(decision).rejected
    assert rejected is not None
    assert (rejected.cause, rejected.retry_at) == (Cause("message", RowKey("1.0")), None)
    assert decision.activation.timers == (given.pending("1.0"),)


def test_a_consumed_message_takes_no_timer_of_the_same_key_along() -> None:
    a = given.loaded(timers=(given.pending("1.0"),), messages=(given.message("1.0"),))
    a = given.after(a, phases.Tick())
    decision = given.deciding(a, given.stepped(a, given.step()))
    assert given.committed(decision).consumed == (Cause("message", RowKey("1.0")),)
    assert decision.activation.timers == (given.pending("1.0"),)


def test_a_row_that_is_gone_ends_without_an_attempt() -> None:
    a = given.loaded(timers=(given.pending("1.0"), given.pending("1.1")))
    a = given.after(a, given.timer("1.0"), given.client())
    decision = given.deciding(a, CauseGone((Cause("timer", RowKey("1.0")),)))
    assert decision.commit is None
    assert given.names(decision) == ["Close", "Compute"]
    assert decision.activation.timers == (given.pending("1.1"),)
    assert given.computing(decision.activation) == ["c1"]


# --- what a machine sends itself -----------------------------------------------------------------------


def test_a_self_send_is_a_message_of_the_same_commit_and_comes_next() -> None:
    a = given.after(given.stepping(), given.client("c2"))
    decision = given.deciding(a, given.stepped(a, given.step(sends=(b"1", b"2"))))
    assert [(m.key, m.event) for m in given.committed(decision).messages] == [("2.0", b"1"), ("2.1", b"2")]
    assert given.answered(decision) == []
    assert given.computing(decision.activation) == ["message:2.0"]
    assert given.waiting_in_mailbox(decision.activation) == ["message:2.1", "c2"]
    first = given.only(decision, phases.Compute).envelopes[0]
    assert (first.source, first.auth, first.wants_reply, first.cause) == (
        "self",
        None,
        False,
        Cause("message", RowKey("2.0")),
    )


def test_self_sends_are_delivered_in_the_order_of_sending() -> None:
    a = given.stepping()
    a = given.after(a, given.stepped(a, given.step(sends=(b"1", b"2"))))
    a = given.after(a, given.stepped(a, given.step(sends=(b"3",))))
    assert given.computing(a) == ["message:2.1"]
    assert given.waiting_in_mailbox(a) == ["message:3.0"]


def test_a_services_event_that_came_during_the_step_does_not_overtake_a_self_send() -> None:
    a = given.after(given.serving("s"), given.client("c2"))
    a = given.after(a, given.chat(5, given.run("s")))
    a = given.after(a, given.stepped(a, given.step(has_effects=True, sends=(b"1",))))
    a = given.after(a, given.chat(6, given.run("s")), given.performed(3, given.inside(7, after=1)))
    assert given.computing(a) == ["message:3.0"]
    assert given.waiting_in_mailbox(a) == ["inside:7:7", "inside:7:5", "inside:7:6"]


def test_callers_wait_for_self_sends() -> None:
    a = given.stepping()
    a = given.after(a, given.stepped(a, given.step(sends=(b"1",))))
    decision = given.deciding(a, given.stepped(a, given.step()))
    assert given.answered(decision) == [("c1", 3)]


def test_a_message_that_is_delivered_again_is_taken() -> None:
    again = given.after(given.loaded(messages=(given.message("1.0"),)), phases.Tick())
    assert isinstance(again.phase, phases.Stepping)
    decision = given.deciding(given.loaded(), phases.Deliver(again.phase.envelopes[0]))
    assert given.computing(decision.activation) == ["message:1.0"]


def test_messages_that_were_not_consumed_are_delivered_after_loading() -> None:
    a = given.loaded(messages=(given.message("1.0"), given.message("1.1")))
    decision = given.deciding(a, given.client())
    assert given.computing(decision.activation) == ["message:1.0"]
    assert given.waiting_in_mailbox(decision.activation) == ["message:1.1", "c1"]


# --- performing ----------------------------------------------------------------------------------------


def test_effects_are_performed_after_the_commit_and_before_anything_else() -> None:
    a = given.after(given.stepping(), given.client("c2"))
    decision = given.deciding(a, given.stepped(a, given.step(has_effects=True)), now=4)
    assert given.names(decision) == ["Perform", "Publish"]
    assert given.only(decision, phases.Perform).seq == 2
    perform_by = 4 + given.POLICY.compute_ms
    assert given.alarm(decision) == phases.WakeAt(perform_by)  # type: ignore[arg-type]
    assert decision.activation.phase == Performing(2, perform_by, given.POLICY.settle_ms, ())  # type: ignore[arg-type]
    decision = given.deciding(decision.activation, given.performed(2))
    assert given.names(decision) == ["Reply", "Compute"]


def test_what_was_sent_while_performing_is_sorted_in_and_comes_next() -> None:
    a = given.after(given.stepping(), given.client("c2"))
    a = given.after(a, given.stepped(a, given.step(has_effects=True, sends=(b"1", b"2", b"3"))))
    sent = (
        given.inside(5, after=0),
        given.inside(6, after=2),
        given.inside(7, after=2),
        given.inside(8, after=9),
    )
    a = given.after(a, given.performed(2, *sent))
    assert given.computing(a) == ["inside:7:5"]
    assert given.waiting_in_mailbox(a) == [
        "message:2.0",
        "message:2.1",
        "inside:7:6",
        "inside:7:7",
        "message:2.2",
        "inside:7:8",
        "c2",
    ]


def test_self_sends_come_when_nothing_was_sent_while_performing() -> None:
    a = given.stepping()
    a = given.after(a, given.stepped(a, given.step(has_effects=True, sends=(b"1",))))
    a = given.after(a, given.performed(2))
    assert given.computing(a) == ["message:2.0"]


def test_performed_of_another_seq_is_dropped() -> None:
    a = given.stepping()
    a = given.after(a, given.stepped(a, given.step(has_effects=True)))
    for seq in (1, 3):
        assert given.after(a, given.performed(seq, given.inside(1))) == a


def test_a_message_is_not_accepted_while_its_step_is_performed() -> None:
    a = given.stepping()
    a = given.after(a, given.stepped(a, given.step(has_effects=True, sends=(b"1",))))
    assert isinstance(a.phase, Performing)
    assert given.after(a, phases.Deliver(a.phase.own[0])) == a
