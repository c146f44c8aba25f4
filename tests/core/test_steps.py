"""From a computed step to its commit."""

from msgspec.structs import replace
from tests.core import given

from statebacked.core import phases
from statebacked.core.phases import Settled, Stepping
from statebacked.core.policy import Policy
from statebacked.model.envelopes import Cause, Initialize
from statebacked.model.ids import Instant, Seq
from statebacked.model.rows import Birth, Head, StateView, Transition
from statebacked.model.step import Stepped
from statebacked.model.values import Json


def test_an_event_is_computed_on_the_newest_seq() -> None:
    decision = given.deciding(given.loaded(), given.client(), now=5)
    assert decision.commit is None
    assert given.only(decision, phases.Compute) == phases.Compute(1, 1, (given.client().envelope,))  # type: ignore[arg-type]
    assert given.alarm(decision) == phases.WakeAt(5 + given.POLICY.compute_ms)  # type: ignore[arg-type]
    phase = decision.activation.phase
    assert isinstance(phase, Stepping)
    assert (phase.began, phase.settle_by, phase.before) == (5, 5 + given.POLICY.settle_ms, Settled())


def test_computes_are_numbered_within_the_activation() -> None:
    a = given.stepping()
    a = given.after(a, given.stepped(a, given.step()))
    assert given.only(given.deciding(a, given.client("c2")), phases.Compute).number == 2


def test_a_step_is_one_commit_and_then_a_push_and_a_reply() -> None:
    a = given.stepping()
    decision = given.deciding(a, given.stepped(a, given.step()), now=3)
    commit = given.committed(decision)
    assert (commit.instance, commit.epoch, commit.base, commit.birth) == (
        given.INSTANCE,
        given.EPOCH,
        1,
        None,
    )
    view = StateView(
        seq=Seq(2),
        ts=Instant(given.WALL + 3),
        value=Json(b'"b"'),
        tags=Json(b"[]"),
        done=False,
        public=Json(b"2"),
    )
    assert commit.head == Head(view=view, snapshot=b"{2}", context=b"2")  # type: ignore[arg-type]
    assert commit.transitions == (
        Transition(
            seq=view.seq,
            ts=view.ts,
            at=given.at(3).wall,
            event_id=given.client().envelope.id,
            event=b'{"type":"go"}',  # type: ignore[arg-type]
            value=view.value,
            source="client",
            actor=b"{}",  # type: ignore[arg-type]
            version=given.VERSION,
        ),
    )
    assert given.names(decision) == ["Publish", "Reply"]
    assert given.only(decision, phases.Publish).view == view
    assert given.only(decision, phases.Reply) == phases.Reply(given.client().envelope.id, view)
    assert decision.activation.seq == 2
    assert decision.activation.view == view
    assert decision.activation.phase == Settled()
    assert given.alarm(decision) == phases.WakeAt(None)


def test_an_instance_is_born_with_its_first_step() -> None:
    a = given.after(given.unborn(), given.init())
    decision = given.deciding(a, given.stepped(a, given.step()), now=9)
    commit = given.committed(decision)
    assert commit.birth == Birth(key=given.KEY, version=given.VERSION, created_at=given.at(9).wall)
    assert commit.base == 0
    assert commit.transitions[0].event == b'{"type":"xstate.init"}'
    assert given.answered(decision) == [("c0", 1)]


def test_a_second_birth_does_not_happen() -> None:
    a = given.after(given.unborn(), given.init())
    a = given.after(a, given.stepped(a, given.step()))
    a = given.after(a, given.client())
    assert given.committed(given.deciding(a, given.stepped(a, given.step()))).birth is None


def test_a_machine_without_an_initial_state_is_not_born() -> None:
    a = given.after(given.unborn(), given.init())
    for step in (given.UNCHANGED, given.step(context=None)):
        decision = given.deciding(a, given.stepped(a, step))
        assert decision.commit is None
        assert given.told(decision) == [("c0", "machine-error")]


def test_an_event_for_an_instance_that_does_not_exist_is_not_found() -> None:
    decision = given.deciding(given.unborn(), given.client())
    assert given.told(decision) == [("c1", "not-found")]
    assert decision.activation.phase == Settled()
    assert decision.activation.mailbox == ()


def test_nobody_is_told_who_wants_no_reply() -> None:
    quiet = replace(given.client().envelope, wants_reply=False)
    a = given.after(given.loaded(), phases.Deliver(quiet))
    assert given.names(given.deciding(a, given.stepped(a, given.step()))) == ["Publish"]


def test_creating_what_exists_is_a_conflict() -> None:
    decision = given.deciding(given.loaded(), given.init())
    assert given.told(decision) == [("c0", "conflict")]
    assert decision.activation.mailbox == ()


def test_what_comes_behind_a_creation_waits_for_it() -> None:
    a = given.after(given.unborn(), given.init(), given.client(), given.init("c9"))
    decision = given.deciding(a, given.stepped(a, given.step()))
    assert given.computing(decision.activation) == ["c1"]
    a = given.after(decision.activation, given.stepped(decision.activation, given.UNCHANGED))
    assert isinstance(given.init().envelope.payload, Initialize)
    assert a.mailbox == ()
    assert a.phase == Settled()


def test_an_unknown_event_is_answered_and_writes_nothing() -> None:
    a = given.stepping()
    decision = given.deciding(a, given.stepped(a, given.UNCHANGED))
    assert decision.commit is None
    assert given.names(decision) == ["Reply"]
    assert given.answered(decision) == [("c1", 1)]


def test_an_unknown_timer_is_consumed_without_a_transition() -> None:
    a = given.after(given.loaded(timers=(given.pending(),)), given.timer())
    commit = given.committed(given.deciding(a, given.stepped(a, given.UNCHANGED)))
    assert commit.consumed == (Cause("timer", given.pending().key),)
    assert (commit.head, commit.transitions) == (None, ())


def test_the_row_that_caused_a_step_goes_with_it() -> None:
    a = given.after(given.loaded(timers=(given.pending("1.0"), given.pending("1.1"))), given.timer("1.0"))
    decision = given.deciding(a, given.stepped(a, given.step()))
    assert given.committed(decision).consumed == (Cause("timer", given.pending("1.0").key),)
    assert decision.activation.timers == (given.pending("1.1"),)
    assert given.committed(decision).transitions[0].source == "timer"
    assert given.committed(decision).transitions[0].actor is None


def test_ts_rises_when_the_wall_clock_does_not() -> None:
    a = given.stepping()
    a = given.after(a, given.stepped(a, given.step()), now=50)
    a = given.after(a, given.client("c2"), now=40)
    transition = given.committed(given.deciding(a, given.stepped(a, given.step()), now=40)).transitions[0]
    assert transition.ts == given.WALL + 51
    assert transition.at == given.WALL + 40


def test_the_first_ts_is_the_wall_clock_or_the_first_instant_there_is() -> None:
    a = given.after(given.unborn(), given.init())
    born = given.committed(given.deciding(a, given.stepped(a, given.step()), now=-given.WALL))
    assert born.transitions[0].ts == 1


def test_a_context_that_did_not_change_keeps_what_is_public() -> None:
    a = given.stepping()
    commit = given.committed(given.deciding(a, given.stepped(a, given.step(context=None, public=None))))
    assert commit.head is not None
    assert commit.head.context is None
    assert commit.head.view.public == b"1"


def test_the_first_context_says_what_is_public() -> None:
    a = given.after(given.unborn(), given.init())
    commit = given.committed(given.deciding(a, given.stepped(a, given.step(public=None))))
    assert commit.head is not None
    assert commit.head.view.public is None


def test_an_event_that_the_worker_words_stands_in_the_history_as_worded() -> None:
    a = given.stepping()
    commit = given.committed(given.deciding(a, given.stepped(a, given.step(event=b'{"type":"GO"}'))))
    assert commit.transitions[0].event == b'{"type":"GO"}'


def test_tags_and_done_are_shown() -> None:
    a = given.stepping()
    decision = given.deciding(a, given.stepped(a, given.step(tags=b'["x"]', done=True)))
    assert decision.activation.view is not None
    assert (decision.activation.view.tags, decision.activation.view.done) == (b'["x"]', True)


# --- answers that answer nothing ----------------------------------------------------------------------


def test_an_answer_to_another_compute_is_dropped() -> None:
    a = given.stepping()
    for number in (0, 2):
        decision = given.deciding(a, Stepped(number, (given.step(),)))
        assert (decision.activation, decision.commit, decision.commands) == (a, None, ())
    decision = given.deciding(a, Stepped(1, ()))
    assert (decision.activation, decision.commit, decision.commands) == (a, None, ())


def test_an_answer_without_a_compute_is_dropped() -> None:
    a = given.loaded()
    for signal in (Stepped(0, (given.step(),)), given.refused(a), given.performed(1, given.inside(1))):
        decision = given.deciding(a, signal)
        assert (decision.activation, decision.commit, decision.commands) == (a, None, ())


def test_a_worker_that_answers_with_too_many_steps_is_heard_for_those_that_were_asked() -> None:
    a = given.stepping()
    decision = given.deciding(a, given.stepped(a, given.step(), given.step(has_effects=True)))
    assert len(given.committed(decision).transitions) == 1
    assert given.names(decision) == ["Publish", "Reply"]


def test_an_error_that_the_worker_does_not_word_is_recorded_all_the_same() -> None:
    a = given.after(given.loaded(services=(given.run("x", 1),)), given.client())
    commit = given.committed(given.deciding(a, given.stepped(a, given.step())))
    assert commit.transitions[0].event == b'{"type":"statebacked.service-failed"}'


# --- batches -------------------------------------------------------------------------------------------

BATCHES = Policy(batch_max=3)


def batch(*ids: str) -> phases.Activation:
    """c1 is being computed; the others wait behind it."""
    a = given.stepping(policy=BATCHES)
    return given.after(a, *(given.client(id) for id in ids), policy=BATCHES)


def test_events_that_wait_are_computed_together_up_to_the_policy() -> None:
    a = batch("c2", "c3", "c4", "c5")
    a = given.after(a, given.stepped(a, given.step()), policy=BATCHES)
    assert given.computing(a) == ["c2", "c3", "c4"]
    assert given.waiting_in_mailbox(a) == ["c5"]


def test_only_plain_events_of_clients_are_computed_together() -> None:
    a = given.stepping(given.loaded(timers=(given.pending(),)), policy=BATCHES)
    a = given.after(
        a, given.client("c2"), given.timer(), given.client("c3"), given.init("c4"), policy=BATCHES
    )
    order = []
    for _ in range(3):
        a = given.after(a, given.stepped(a, given.step()), policy=BATCHES)
        order.append(given.computing(a))
    assert order == [["c2"], ["timer:1.0"], ["c3"]]


def test_a_batch_is_one_commit_with_a_transition_for_each_step() -> None:
    a = batch("c2", "c3")
    a = given.after(a, given.stepped(a, given.UNCHANGED), policy=BATCHES)
    first = given.step(timers=given.setting("t", "u"))
    second = given.step(context=None, timers=(given.cancelling("t"),), value=b'"c"')
    decision = given.deciding(a, given.stepped(a, first, second), policy=BATCHES)
    commit = given.committed(decision)
    assert [(t.seq, t.event_id, t.value) for t in commit.transitions] == [
        (2, "c2", b'"b"'),
        (3, "c3", b'"c"'),
    ]
    assert commit.head is not None
    assert (commit.base, commit.head.view.seq, commit.head.context) == (1, 3, b"2")
    assert [t.key for t in commit.timers_set] == ["2.1"]
    assert commit.timers_removed == ()
    assert given.answered(decision) == [("c2", 3), ("c3", 3)]
    assert given.only(decision, phases.Publish).view.seq == 3
    assert [due.timer.key for due in given.only(decision, phases.Arm).timers] == ["2.1"]


def test_what_the_worker_leaves_of_a_batch_comes_next() -> None:
    a = batch("c2", "c3")
    a = given.after(a, given.stepped(a, given.UNCHANGED), given.client("c4"), policy=BATCHES)
    decision = given.deciding(a, given.stepped(a, given.step(has_effects=True)), policy=BATCHES)
    assert given.waiting_in_mailbox(decision.activation) == ["c3", "c4"]
    a = given.after(decision.activation, given.performed(2), policy=BATCHES)
    assert given.computing(a) == ["c3", "c4"]


def test_a_refused_batch_loses_only_its_first_event() -> None:
    a = batch("c2", "c3")
    a = given.after(a, given.stepped(a, given.UNCHANGED), given.client("c4"), policy=BATCHES)
    decision = given.deciding(a, given.refused(a), policy=BATCHES)
    assert given.told(decision) == [("c2", "machine-error")]
    assert given.computing(decision.activation) == ["c3", "c4"]


# --- indexes -----------------------------------------------------------------------------------------


OWNED = (("by-owner", ("ann", "bob")),)


def test_the_values_of_the_indexes_are_written_with_the_step_that_says_them() -> None:
    a = given.stepping()
    decision = given.deciding(a, given.stepped(a, replace(given.step(), indexes=OWNED)))
    assert given.committed(decision).indexes == OWNED
    a = given.stepping()
    assert given.committed(given.deciding(a, given.stepped(a, given.step()))).indexes is None


def test_a_batch_writes_the_newest_values_of_the_indexes() -> None:
    a = batch("c2", "c3", "c4")
    a = given.after(a, given.stepped(a, given.UNCHANGED), policy=BATCHES)
    values = (OWNED, (("by-owner", ()),), None)
    steps = [replace(given.step(), indexes=one) for one in values]
    decision = given.deciding(a, given.stepped(a, *steps), policy=BATCHES)
    assert given.committed(decision).indexes == (("by-owner", ()),)
