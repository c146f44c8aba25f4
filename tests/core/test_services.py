"""Services: runs, what they say, how they end, what they are owed."""

from msgspec.structs import replace
from tests.core import given

from statebacked.core import phases
from statebacked.core.phases import Settled, Settling, Tick
from statebacked.core.policy import Policy
from statebacked.model.envelopes import Cause, Envelope, Origin, ServiceFailed
from statebacked.model.ids import EnvelopeId, InstanceName, RowKey
from statebacked.model.step import WorkerLost
from statebacked.model.values import Address, Link

SERVICE = given.run("s")
OTHER = given.run("t")
DEADLINE = given.POLICY.settle_ms


def failure(a: phases.Activation, n: int = 0) -> tuple[str, object]:
    envelope = a.owed[n]
    assert isinstance(envelope.payload, ServiceFailed)
    assert (envelope.source, envelope.ends_service, envelope.auth) == ("service", True, None)
    return envelope.payload.code, envelope.service


def test_a_service_is_recorded_with_the_seq_that_started_it() -> None:
    a = given.stepping()
    decision = given.deciding(a, given.stepped(a, given.starting("s", "t")))
    assert given.committed(decision).services == (SERVICE, OTHER)
    assert decision.activation.services == (SERVICE, OTHER)


def test_a_service_that_is_named_twice_starts_once() -> None:
    a = given.stepping()
    assert given.after(a, given.stepped(a, given.starting("s", "s"))).services == (SERVICE,)


def test_a_caller_waits_while_a_service_runs() -> None:
    a = given.serving("s")
    assert a.phase == Settling(DEADLINE)  # type: ignore[arg-type]
    assert [(w.to, w.answer_by) for w in a.waiting] == [("c1", DEADLINE)]


def test_the_end_of_a_service_settles_the_instance() -> None:
    a = given.after(given.serving("s"), given.chat(1, SERVICE, ends=True))
    assert given.computing(a) == ["inside:7:1"]
    decision = given.deciding(a, given.stepped(a, given.step()))
    assert given.committed(decision).services == ()
    assert given.committed(decision).transitions[0].source == "service"
    assert given.answered(decision) == [("c1", 3)]
    assert decision.activation.phase == Settled()


def test_an_end_that_changes_nothing_is_recorded_all_the_same() -> None:
    a = given.after(given.serving("s", "t"), given.chat(1, SERVICE, ends=True))
    decision = given.deciding(a, given.stepped(a, given.UNCHANGED))
    assert given.committed(decision).services == (OTHER,)
    assert given.committed(decision).head is None
    assert decision.activation.services == (OTHER,)


def test_what_a_service_says_behind_its_end_is_dropped() -> None:
    a = given.after(given.serving("s"), given.chat(1, SERVICE, ends=True))
    assert given.after(a, given.chat(2, SERVICE)) == a
    b = given.after(given.serving("s"), given.chat(1, SERVICE), given.chat(2, SERVICE, ends=True))
    assert given.after(b, given.chat(3, SERVICE)) == b
    a = given.after(given.serving("s", "t"), given.chat(1, SERVICE), given.chat(2, SERVICE))
    a = given.after(a, given.chat(3, SERVICE, ends=True), given.stepped(a, given.UNCHANGED))
    a = given.after(a, given.stepped(a, given.UNCHANGED))
    assert given.computing(a) == ["inside:7:3"]


def test_waiting_events_of_a_service_go_with_its_end() -> None:
    a = given.stepping()
    a = given.after(a, given.stepped(a, given.starting("s", "t")))
    sent = (given.inside(1, service=SERVICE, ends=True), given.inside(2, service=SERVICE))
    a = given.after(a, given.performed(2, *sent, given.inside(3, service=OTHER)))
    assert given.computing(a) == ["inside:7:1"]
    assert given.computing(given.after(a, given.stepped(a, given.UNCHANGED))) == ["inside:7:3"]
    assert given.computing(given.after(a, given.stepped(a, given.step()))) == ["inside:7:3"]


def test_a_run_that_does_not_run_is_not_heard() -> None:
    a = given.serving("s")
    for service in (given.run("s", 1), OTHER, None):
        assert given.after(a, given.chat(1, service)) == a


def test_a_service_that_is_stopped_or_started_anew_is_another_run() -> None:
    a = given.after(given.serving("s", "t"), given.chat(1, SERVICE), given.chat(2, SERVICE))
    a = given.after(a, given.chat(3, OTHER))
    again = given.deciding(a, given.stepped(a, given.starting("s")))
    assert again.activation.services == (OTHER, given.run("s", 3))
    assert given.waiting_in_mailbox(again.activation) == ["inside:7:3"]
    stopped = given.deciding(a, given.stepped(a, given.step(stops=("s",))))
    assert stopped.activation.services == (OTHER,)
    assert given.committed(stopped).services == (OTHER,)
    assert given.computing(stopped.activation) == ["inside:7:3"]


def test_a_final_state_ends_every_service() -> None:
    a = given.after(given.loaded(services=(given.run("x", 1),)), given.client())
    a = given.after(a, given.stepped(a, given.UNCHANGED))
    a = given.after(a, given.stepped(a, given.starting("s")))
    a = given.after(a, given.performed(2, given.inside(1, service=SERVICE), given.inside(2, service=SERVICE)))
    decision = given.deciding(a, given.stepped(a, given.step(done=True)))
    assert given.committed(decision).services == ()
    assert (decision.activation.services, decision.activation.owed) == ((), ())
    assert decision.activation.mailbox == ()
    assert given.answered(decision) == [("c1", 3)]


def test_a_service_that_fails_to_start_says_so_at_once() -> None:
    a = given.stepping()
    a = given.after(a, given.stepped(a, given.starting("s")))
    stray = given.inside(2, service=given.run("x"), ends=True)
    a = given.after(a, given.performed(2, stray, given.inside(1, service=SERVICE, ends=True)))
    assert given.computing(a) == ["inside:7:1"]
    assert a.mailbox == ()


# --- refused results -----------------------------------------------------------------------------------


def test_a_refused_result_becomes_the_error_of_its_service_at_once() -> None:
    a = given.after(given.serving("s"), given.client("c2"), given.chat(1, SERVICE, ends=True))
    a = given.after(a, given.stepped(a, given.UNCHANGED))
    decision = given.deciding(a, given.refused(a, "context-too-large"))
    assert decision.commit is None
    assert given.names(decision) == ["Complain", "Compute"]
    assert given.computing(decision.activation) == ["failed:2:s"]
    payload = given.only(decision, phases.Compute).envelopes[0].payload
    assert payload == ServiceFailed("context-too-large", "no")
    assert decision.activation.services == ()


def test_a_refused_error_is_over() -> None:
    a = given.after(given.serving("s"), given.chat(1, SERVICE, ends=True))
    a = given.after(a, given.refused(a))
    decision = given.deciding(a, given.refused(a))
    commit = given.committed(decision)
    assert (commit.services, commit.head, commit.base) == ((), None, 2)
    assert given.names(decision) == ["Complain", "Reply"]
    assert decision.activation.owed == ()


def test_the_error_of_a_refused_result_comes_before_others_that_are_owed() -> None:
    a = given.after(given.serving("s", "t"), given.chat(1, SERVICE, ends=True), policy=CHATTY)
    a = given.after(a, *(given.chat(n, OTHER) for n in (2, 3, 4)), policy=CHATTY)
    assert given.owed(a) == [OTHER]
    a = given.after(a, given.refused(a))
    assert given.computing(a) == ["failed:2:s"]
    assert given.owed(a) == [OTHER]


def test_an_end_that_names_no_service_ends_nothing() -> None:
    a = given.after(given.serving("s"), given.client("c2"))
    a = given.after(a, given.stepped(a, given.step(has_effects=True)))
    a = given.after(a, given.performed(3, given.inside(1, ends=True)))
    for decision in (
        given.deciding(a, given.refused(a)),
        given.deciding(a, given.stepped(a, given.UNCHANGED)),
    ):
        assert decision.commit is None
        assert decision.activation.services == (SERVICE,)


def test_an_error_that_changes_nothing_is_over() -> None:
    a = given.after(given.loaded(services=(given.run("x", 1),)), given.client())
    decision = given.deciding(a, given.stepped(a, given.UNCHANGED))
    assert given.committed(decision).services == ()
    assert given.computing(decision.activation) == ["c1"]


def test_another_refused_event_of_a_service_is_logged_and_dropped() -> None:
    a = given.after(given.serving("s"), given.chat(1, SERVICE), given.chat(2, SERVICE))
    decision = given.deciding(a, given.refused(a))
    assert decision.commit is None
    assert given.names(decision) == ["Complain", "Compute"]
    assert decision.activation.services == (SERVICE,)
    assert given.computing(decision.activation) == ["inside:7:2"]


def test_a_refused_self_send_of_running_code_is_logged_and_dropped() -> None:
    a = given.stepping()
    a = given.after(a, given.stepped(a, given.step(has_effects=True)))
    a = given.after(a, given.performed(2, given.inside(1)))
    decision = given.deciding(a, given.refused(a))
    assert decision.commit is None
    assert given.names(decision) == ["Complain", "Reply"]


# --- the deadline --------------------------------------------------------------------------------------


def test_at_the_deadline_services_are_stopped_and_everyone_is_answered() -> None:
    a = given.serving("s", "t")
    early = given.deciding(a, Tick(), now=DEADLINE - 1)
    assert (early.activation, early.commands) == (a, ())
    decision = given.deciding(a, Tick(), now=DEADLINE)
    assert decision.commit is None
    assert given.names(decision) == ["Reply", "Stop"]
    assert given.only(decision, phases.Stop).services == (SERVICE, OTHER)
    assert decision.activation.phase == Settled()
    assert decision.activation.services == ()
    assert [failure(decision.activation, n) for n in (0, 1)] == [
        ("service-stopped", SERVICE),
        ("service-stopped", OTHER),
    ]
    assert given.alarm(decision) == phases.WakeAt(None)


def test_errors_that_are_owed_wait_for_the_next_event_and_come_before_it() -> None:
    a = given.after(given.serving("s", "t"), Tick(), now=DEADLINE)
    assert given.deciding(a, Tick(), now=DEADLINE + 1).commands == ()
    a = given.after(a, given.client("c2"), now=DEADLINE + 5)
    assert given.computing(a) == ["failed:2:s"]
    decision = given.deciding(a, given.stepped(a, given.step(event=b'{"type":"error"}')), now=DEADLINE + 5)
    assert given.committed(decision).services == (OTHER,)
    assert given.computing(decision.activation) == ["failed:2:t"]
    a = given.after(decision.activation, given.stepped(decision.activation, given.UNCHANGED))
    assert given.computing(a) == ["c2"]


def test_the_deadline_is_checked_before_an_inside_event_begins() -> None:
    decision = given.deciding(given.serving("s"), given.chat(1, SERVICE), now=DEADLINE)
    assert given.names(decision) == ["Stop", "Reply"]
    assert decision.activation.mailbox == ()
    assert given.computing(decision.activation) == []


def test_an_inside_event_does_not_move_the_deadline() -> None:
    a = given.after(given.serving("s"), given.chat(1, SERVICE), now=500)
    a = given.after(a, given.stepped(a, given.step()), now=500)
    assert a.phase == Settling(DEADLINE)  # type: ignore[arg-type]


def test_an_outside_event_moves_the_deadline_and_a_refused_one_does_not() -> None:
    a = given.after(given.serving("s"), given.client("c2"), now=500)
    accepted = given.after(a, given.stepped(a, given.UNCHANGED), now=600)
    assert accepted.phase == Settling(DEADLINE + 500)  # type: ignore[arg-type]
    assert given.after(a, given.refused(a), now=600).phase == Settling(DEADLINE)  # type: ignore[arg-type]


def test_a_self_send_past_the_deadline_still_happens() -> None:
    a = given.stepping()
    a = given.after(a, given.stepped(a, given.starting("s", sends=(b"1", b"2"))))
    a = given.after(a, given.performed(2))
    decision = given.deciding(a, given.stepped(a, given.step()), now=DEADLINE)
    assert given.names(decision) == ["Publish", "Stop", "Reply", "Compute"]
    assert given.computing(decision.activation) == ["failed:2:s"]
    assert given.waiting_in_mailbox(decision.activation) == ["message:2.1"]
    phase = decision.activation.phase
    assert isinstance(phase, phases.Stepping)
    assert phase.settle_by == 2 * DEADLINE


def test_a_caller_is_answered_settle_ms_after_its_own_event_began() -> None:
    a = given.after(given.serving("s"), given.client("c2"), now=500)
    a = given.after(a, given.stepped(a, given.step()), now=600)
    assert a.alarm == DEADLINE
    decision = given.deciding(a, Tick(), now=DEADLINE)
    assert given.answered(decision) == [("c1", 3)]
    assert given.alarm(decision) == phases.WakeAt(DEADLINE + 500)  # type: ignore[arg-type]
    assert decision.activation.services == (SERVICE,)


def test_a_caller_is_answered_in_time_while_another_event_is_computed() -> None:
    a = given.after(given.serving("s"), given.client("c2"), now=DEADLINE - 10)
    assert a.alarm == DEADLINE
    decision = given.deciding(a, Tick(), now=DEADLINE)
    assert given.answered(decision) == [("c1", 2)]
    assert given.computing(decision.activation) == ["c2"]
    assert given.alarm(decision) == phases.WakeAt(DEADLINE - 10 + given.POLICY.compute_ms)  # type: ignore[arg-type]


def test_nobody_is_answered_while_effects_are_performed() -> None:
    a = given.after(given.serving("s"), given.client("c2"), now=DEADLINE - 10)
    a = given.after(a, given.stepped(a, given.step(has_effects=True)), now=DEADLINE - 5)
    assert a.alarm == DEADLINE - 5 + given.POLICY.compute_ms
    assert given.deciding(a, Tick(), now=DEADLINE).commands == ()


# --- a service that says too much ----------------------------------------------------------------------

CHATTY = Policy(mailbox_per_service_max=2)


def test_a_service_that_floods_the_mailbox_is_stopped_and_owed_an_error() -> None:
    a = given.after(given.serving("s", "t"), *(given.chat(n, SERVICE) for n in (1, 2, 3)), policy=CHATTY)
    a = given.after(a, given.chat(4, OTHER), policy=CHATTY)
    decision = given.deciding(a, given.chat(5, SERVICE), policy=CHATTY)
    assert decision.commit is None
    assert given.names(decision) == ["Stop", "Complain"]
    assert given.only(decision, phases.Stop).services == (SERVICE,)
    assert given.only(decision, phases.Complain).code == "service-flooded"
    assert decision.activation.services == (OTHER,)
    assert failure(decision.activation) == ("service-flooded", SERVICE)
    assert given.waiting_in_mailbox(decision.activation) == ["inside:7:4"]


def test_errors_are_owed_in_the_order_in_which_their_services_ended() -> None:
    a = given.after(given.serving("s", "t", "u"), given.client("c2"), policy=CHATTY)
    a = given.after(a, *(given.chat(n, OTHER) for n in (1, 2, 3)), policy=CHATTY)
    assert given.owed(a) == [OTHER]
    lost = given.after(a, WorkerLost(), policy=CHATTY)
    assert given.computing(lost) == ["failed:2:t"]
    assert given.owed(lost) == [SERVICE, given.run("u")]
    late = given.after(a, given.stepped(a, given.UNCHANGED), now=2 * DEADLINE, policy=CHATTY)
    assert given.owed(late) == [OTHER, SERVICE, given.run("u")]
    more = given.after(a, *(given.chat(n, SERVICE) for n in (4, 5, 6)), policy=CHATTY)
    assert given.owed(more) == [OTHER, SERVICE]
    commit = given.committed(given.deciding(more, given.stepped(more, given.step()), policy=CHATTY))
    assert commit.services == (OTHER, SERVICE, given.run("u"))
    assert given.owed(given.loaded(services=commit.services)) == [OTHER, SERVICE, given.run("u")]


def test_a_service_that_is_over_is_not_flooded_out_as_well() -> None:
    a = given.after(given.serving("s"), given.chat(1, SERVICE, ends=True), policy=CHATTY)
    for n in range(2, 6):
        assert given.after(a, given.chat(n, SERVICE), policy=CHATTY) == a


# --- loss ----------------------------------------------------------------------------------------------


def test_services_that_ran_when_the_instance_was_loaded_are_lost() -> None:
    a = given.loaded(services=(given.run("x", 1),))
    assert failure(a) == ("service-lost", given.run("x", 1))
    assert a.services == ()
    assert given.deciding(a, Tick()).commands == ()


def test_an_error_that_is_owed_goes_when_its_state_is_left_or_entered_again() -> None:
    lost = (given.run("x", 1), given.run("y", 1), given.run("z", 1))
    a = given.after(given.loaded(services=lost), given.client())
    decision = given.deciding(a, given.stepped(a, given.starting("y", stops=("z",), event=b"{}")))
    assert given.committed(decision).services == (given.run("y", 2),)
    assert decision.activation.owed == ()


def test_a_lost_worker_owes_every_error_and_answers_everyone() -> None:
    a = given.after(given.serving("s"), given.chat(1, SERVICE), given.chat(2, SERVICE))
    a = given.after(a, given.stepped(a, given.UNCHANGED))
    decision = given.deciding(a, WorkerLost())
    assert decision.commit is None
    assert given.names(decision) == ["Reply"]
    assert failure(decision.activation) == ("service-lost", SERVICE)
    assert (decision.activation.services, decision.activation.mailbox) == ((), ())
    assert decision.activation.phase == Settled()


def test_what_was_being_computed_comes_again_behind_the_errors() -> None:
    a = given.after(given.serving("s"), given.client("c2"), given.client("c3"))
    decision = given.deciding(a, WorkerLost())
    assert given.computing(decision.activation) == ["failed:2:s"]
    assert given.waiting_in_mailbox(decision.activation) == ["c2", "c3"]
    assert [e.losses for e in decision.activation.mailbox] == [1, 0]


def test_an_error_that_was_being_computed_comes_again_first() -> None:
    a = given.after(given.loaded(services=(given.run("x", 1), given.run("y", 1))), given.client())
    a = given.after(a, WorkerLost())
    assert given.computing(a) == ["failed:1:x"]
    assert given.owed(a) == [given.run("y", 1)]
    assert isinstance(a.phase, phases.Stepping)
    assert a.phase.envelopes[0].losses == 1


def test_what_tells_of_a_child_is_a_message_when_its_worker_is_lost_and_no_error_that_is_owed() -> None:
    child = given.run("kid", 1)
    told = Envelope(
        id=EnvelopeId("message:ins_1:failed.1"),
        payload=ServiceFailed("not-found", "the instance was deleted"),
        source="instance",
        cause=Cause("message", RowKey("failed.1"), given.INSTANCE),
        service=child,
        origin=Origin(Address(given.KEY.machine, given.KEY.name), child),
    )
    kid = Address(given.KEY.machine, InstanceName("kid"))
    a = replace(given.serving("s"), links=(Link(child, kid),))
    a = given.after(a, phases.Deliver(told), given.client("c2"))
    assert given.computing(a) == [told.id]
    lost = given.after(a, WorkerLost())
    assert (given.computing(lost), given.owed(lost)) == (["failed:2:s"], [])
    assert given.waiting_in_mailbox(lost) == [told.id, "c2"]


def test_an_event_that_ends_its_worker_again_and_again_is_refused() -> None:
    a = given.stepping()
    for _ in range(given.POLICY.losses_max - 1):
        a = given.after(a, WorkerLost())
        assert given.computing(a) == ["c1"]
    decision = given.deciding(given.after(a, given.client("c2")), WorkerLost())
    assert given.told(decision) == [("c1", "machine-fault")]
    assert given.computing(decision.activation) == ["c2"]


def test_a_guilty_event_is_refused_at_once() -> None:
    decision = given.deciding(given.stepping(), WorkerLost(guilty=True))
    assert given.told(decision) == [("c1", "machine-fault")]
    a = given.after(given.loaded(timers=(given.pending(),)), given.timer())
    rejected = given.committed(given.deciding(a, WorkerLost(guilty=True))).rejected
    assert rejected is not None
    assert rejected.reason.startswith("machine-fault: ")


def test_an_inside_event_goes_with_its_worker() -> None:
    a = given.after(given.serving("s"), given.chat(1, SERVICE, ends=True))
    decision = given.deciding(a, WorkerLost(guilty=True))
    assert (decision.commit, given.names(decision)) == (None, ["Reply"])
    assert failure(decision.activation) == ("service-lost", SERVICE)
    assert given.computing(decision.activation) == []


def test_a_worker_lost_while_performing_keeps_the_self_sends() -> None:
    a = given.after(given.stepping(), given.client("c2"))
    a = given.after(a, given.stepped(a, given.starting("s", sends=(b"1",))))
    decision = given.deciding(a, WorkerLost())
    assert given.answered(decision) == [("c1", 2)]
    assert given.computing(decision.activation) == ["failed:2:s"]
    assert given.waiting_in_mailbox(decision.activation) == ["message:2.0", "c2"]


# --- answers that do not come --------------------------------------------------------------------------

LATE = given.POLICY.compute_ms


def test_a_compute_that_takes_too_long_is_refused_and_the_copy_closed() -> None:
    a = given.stepping()
    assert given.deciding(a, Tick(), now=LATE - 1).commands == ()
    decision = given.deciding(given.after(a, given.client("c2")), Tick(), now=LATE)
    assert given.names(decision) == ["Close", "ReplyRefused", "Compute"]
    assert given.told(decision) == [("c1", "machine-timeout")]
    assert given.computing(decision.activation) == ["c2"]


def test_a_time_out_loses_the_services_and_answers_who_waited() -> None:
    a = given.after(given.serving("s"), given.client("c2"))
    decision = given.deciding(a, Tick(), now=LATE)
    assert given.names(decision) == ["Close", "Reply", "ReplyRefused"]
    assert failure(decision.activation) == ("service-lost", SERVICE)
    assert decision.activation.phase == Settled()


def test_a_timer_whose_compute_takes_too_long_has_failed_once() -> None:
    a = given.after(given.loaded(timers=(given.pending(),)), given.timer())
    rejected = given.committed(given.deciding(a, Tick(), now=LATE)).rejected
    assert rejected is not None
    assert rejected.attempts == 1


def test_an_inside_event_whose_compute_takes_too_long_is_logged() -> None:
    a = given.after(given.serving("s"), given.chat(1, SERVICE, ends=True))
    decision = given.deciding(a, Tick(), now=LATE)
    assert (decision.commit, given.names(decision)) == (None, ["Close", "Reply", "Complain"])
    assert given.owed(decision.activation) == [SERVICE]


def test_what_is_left_of_a_batch_survives_a_time_out() -> None:
    policy = Policy(batch_max=3)
    a = given.after(given.stepping(policy=policy), given.client("c2"), given.client("c3"), policy=policy)
    a = given.after(a, given.stepped(a, given.UNCHANGED), given.client("c4"), policy=policy)
    assert given.computing(a) == ["c2", "c3"]
    assert given.computing(given.after(a, Tick(), now=LATE, policy=policy)) == ["c3", "c4"]
    assert given.computing(given.after(a, WorkerLost(guilty=True), policy=policy)) == ["c3", "c4"]
    lost = given.after(a, WorkerLost(), policy=policy)
    assert given.computing(lost) == ["c2", "c3", "c4"]


def test_performing_that_takes_too_long_closes_the_copy_and_keeps_the_self_sends() -> None:
    a = given.stepping()
    a = given.after(a, given.stepped(a, given.starting("s", sends=(b"1",))))
    assert given.deciding(a, Tick(), now=LATE - 1).commands == ()
    decision = given.deciding(a, Tick(), now=LATE)
    assert given.names(decision) == ["Close", "Reply", "Compute"]
    assert given.computing(decision.activation) == ["failed:2:s"]
    assert given.waiting_in_mailbox(decision.activation) == ["message:2.0"]
