"""Messages, persistent children, and what is kept without a worker: pause, resume, delete, wishes."""

import json

import pytest
from msgspec.structs import replace
from tests.core import given

from statebacked.core import delivery, phases
from statebacked.core.instance import conceive
from statebacked.core.phases import Activation, CauseGone, Decision, Deliver, Departed, Settled, Tick
from statebacked.core.policy import Policy
from statebacked.model.envelopes import (
    Cause,
    ChildDone,
    Control,
    Delete,
    Envelope,
    Forward,
    Initialize,
    Pause,
    Resume,
    Wish,
)
from statebacked.model.ids import (
    EnvelopeId,
    InstanceId,
    InstanceKey,
    InstanceName,
    Instant,
    MachineName,
    RowKey,
    SendId,
    Seq,
    ServiceId,
    ServiceRun,
    VersionId,
)
from statebacked.model.rows import DueMessage, Message
from statebacked.model.step import SendTo, SetTimer, Spawn, Unlink
from statebacked.model.values import TO_PARENT, Address, Json, Link, Parent

OTHER = Address(MachineName("m"), InstanceName("other"))
KID = Address(MachineName("m"), InstanceName("kid"))
PARENT = Parent(InstanceId("ins_p"), OTHER, ServiceRun(ServiceId("kid"), Seq(4)), 1)
HELLO = Json(b'{"type":"hello"}')


def spawn(id: str = "kid", child: Address = KID) -> Spawn:
    return Spawn(ServiceId(id), child, None, None)


def arriving(
    kind: str = "event",
    *,
    owner: str = "ins_o",
    sender: Address = OTHER,
    link: ServiceRun | None = None,
    event: bytes = HELLO,
    attempts: int = 0,
) -> Deliver:
    message = Message(key=RowKey("9.o0"), event=Json(event), kind=kind, link=link, depth=1)  # type: ignore[arg-type]
    due = DueMessage(
        row=1,
        owner=InstanceId(owner),
        sender=InstanceKey(given.KEY.org, *sender),
        to=given.KEY,
        message=message,
        fire_at=Instant(0),
        attempts=attempts,
    )
    return Deliver(delivery.of_message(due))


def control(payload: Control, id: str = "k1") -> Deliver:
    return Deliver(Envelope(id=EnvelopeId(id), payload=payload, source="client", wants_reply=True))


def stepping_on(*outgoing: object, a: Activation | None = None, **parts: object) -> Decision:
    """The decision on a step that has these things for others."""
    a = given.stepping(a)
    return given.deciding(a, given.stepped(a, given.step(outgoing=outgoing, **parts)))


RUN = given.run("kid", 1)


def with_child(run: ServiceRun = RUN) -> Activation:
    return replace(given.loaded(), links=(Link(run, KID),))


def as_child() -> Activation:
    return replace(given.loaded(), parent=PARENT)


# --- what a step has for others ------------------------------------------------------------------


def test_a_message_is_a_row_of_its_steps_commit_and_posted_after_it() -> None:
    decision = stepping_on(SendTo(OTHER, HELLO), SendTo(KID, HELLO))
    messages = given.committed(decision).messages
    assert [(m.key, m.kind, m.to, m.event) for m in messages] == [
        ("2.o0", "event", OTHER, HELLO),
        ("2.o1", "event", KID, HELLO),
    ]
    assert given.only(decision, phases.Post).messages == messages
    assert decision.activation.undelivered == 2
    assert given.after(decision.activation, Departed(2)).undelivered == 0


def test_a_child_is_created_by_its_parents_commit_and_linked() -> None:
    decision = stepping_on(spawn())
    commit = given.committed(decision)
    (message,) = commit.messages
    run = given.run("kid", 2)
    assert (message.kind, message.to, message.link, message.depth) == ("create", KID, run, 1)
    assert commit.linked == decision.activation.links == (Link(run, KID),)


def test_a_child_takes_the_place_of_one_of_the_same_id() -> None:
    old = given.run("kid", 1)
    commit = given.committed(stepping_on(spawn(child=OTHER), a=with_child(old)))
    assert (commit.unlinked, commit.linked) == ((old,), (Link(given.run("kid", 2), OTHER),))


def test_a_child_that_a_step_spawns_and_gives_up_is_created_and_not_linked() -> None:
    decision = stepping_on(spawn(), Unlink(ServiceId("kid")))
    commit = given.committed(decision)
    assert [m.kind for m in commit.messages] == ["create"]
    assert (commit.linked, commit.unlinked, decision.activation.links) == ((), (), ())


def test_a_machine_that_is_done_gives_up_its_children_and_tells_its_parent() -> None:
    a = replace(with_child(), parent=PARENT)
    commit = given.committed(stepping_on(a=a, done=True, output=b"7"))
    assert commit.unlinked == (given.run("kid", 1),)
    (message,) = commit.messages
    assert (message.kind, message.to, message.link, message.event) == ("done", OTHER, PARENT.link, b"7")


def test_what_is_sent_to_the_parent_carries_the_link_and_without_a_parent_it_is_dropped() -> None:
    (message,) = given.committed(stepping_on(SendTo(TO_PARENT, HELLO), a=as_child())).messages
    assert (message.to, message.link) == (OTHER, PARENT.link)
    decision = stepping_on(SendTo(TO_PARENT, HELLO))
    assert given.committed(decision).messages == ()
    assert given.only(decision, phases.Complain).code == "not-found"


@pytest.mark.parametrize("depth", [63, 64])
def test_children_of_children_end_at_the_depth_that_the_policy_allows(depth: int) -> None:
    a = replace(given.loaded(), parent=Parent(PARENT.instance, OTHER, PARENT.link, depth))
    decision = stepping_on(spawn(), a=a)
    refused = given.told(decision) == [("c1", "too-many-effects")]
    assert refused == (depth + 1 > Policy().spawn_depth_max)


# --- what comes from others ----------------------------------------------------------------------


def test_an_event_of_another_instance_is_judged_by_who_sent_it_and_its_row_goes_with_the_step() -> None:
    a = given.after(given.loaded(), arriving())
    (envelope,) = a.phase.envelopes  # type: ignore[union-attr]
    auth = {"stateBackedSender": {"machineName": "m", "machineInstanceName": "other"}}
    assert envelope.auth is not None
    assert json.loads(envelope.auth) == auth
    decision = given.deciding(a, given.stepped(a, given.step()))
    cause = Cause("message", RowKey("9.o0"), InstanceId("ins_o"))
    assert given.committed(decision).consumed == (cause,)
    assert given.only(decision, phases.Delivered).causes == (cause,)


def test_a_refused_message_comes_again_and_in_the_end_is_kept() -> None:
    a = given.after(given.loaded(), arriving())
    decision = given.deciding(a, given.refused(a))
    again = given.only(decision, phases.Redeliver)
    assert (again.attempts, again.at) == (1, given.WALL + 1_000)
    a = given.after(given.loaded(), arriving(attempts=4))
    decision = given.deciding(a, given.refused(a))
    rejected = given.committed(decision).rejected
    assert rejected is not None
    assert (rejected.retry_at, rejected.attempts) == (None, 5)
    assert given.commands(decision, phases.Redeliver) == []
    given.only(decision, phases.Delivered)


def test_the_end_of_a_child_unlinks_it_and_is_not_authorised() -> None:
    run = given.run("kid", 1)
    a = given.after(with_child(run), arriving("done", sender=KID, link=run, event=b"7"))
    (envelope,) = a.phase.envelopes  # type: ignore[union-attr]
    assert (envelope.payload, envelope.auth, envelope.service) == (ChildDone(Json(b"7")), None, run)
    decision = given.deciding(a, given.stepped(a, given.UNCHANGED))
    assert given.committed(decision).unlinked == (run,)
    assert decision.activation.links == ()


@pytest.mark.parametrize("sender", [KID, OTHER])
@pytest.mark.parametrize("run", [given.run("kid", 1), given.run("kid", 3), given.run("other", 1)])
def test_only_the_child_of_the_link_under_its_run_is_heard(sender: Address, run: ServiceRun) -> None:
    a = given.after(with_child(given.run("kid", 1)), arriving(sender=sender, link=run))
    is_heard = (sender, run) == (KID, given.run("kid", 1))
    assert bool(given.computing(a)) == is_heard
    if not is_heard:
        decision = given.deciding(a, Tick())
        assert len(given.committed(decision).consumed) == 1
        assert given.only(decision, phases.Complain).code == "not-heard"
        assert isinstance(decision.activation.phase, Settled)


def test_a_creation_by_a_parent_makes_a_child_of_it() -> None:
    a = given.after(given.unborn(), arriving("create", link=PARENT.link, owner="ins_p", event=b"null"))
    (envelope,) = a.phase.envelopes  # type: ignore[union-attr]
    assert envelope.payload == Initialize(None)
    decision = given.deciding(a, given.stepped(a, given.step()))
    birth = given.committed(decision).birth
    assert birth is not None
    assert birth.parent == decision.activation.parent == PARENT


def test_the_parent_of_a_child_that_cannot_be_made_is_told_in_the_commit_that_gives_it_up() -> None:
    creation = arriving("create", link=PARENT.link, owner="ins_p", event=b"null", attempts=4)
    a = given.after(given.unborn(), creation)
    decision = given.deciding(a, given.refused(a, "rejected-by-machine-authorizer"))
    commit = given.committed(decision)
    assert (commit.base, commit.birth, commit.head) == (0, None, None)
    (told,) = commit.messages
    assert (told.kind, told.owner, told.link) == ("failed", "ins_p", PARENT.link)
    assert json.loads(told.event) == {"code": "rejected-by-machine-authorizer", "message": "no"}


@pytest.mark.parametrize(("owner", "is_linked"), [("ins_p", True), ("ins_x", False)])
def test_a_name_that_exists_is_linked_again_for_its_own_parent_only(owner: str, is_linked: bool) -> None:
    again = given.run("kid", 9)
    a = given.after(as_child(), arriving("create", link=again, owner=owner, event=b"null"))
    decision = given.deciding(a, Tick())
    commit = given.committed(decision)
    if is_linked:
        assert commit.parent == decision.activation.parent == Parent(InstanceId("ins_p"), OTHER, again, 1)
    else:
        assert commit.rejected is not None
        assert commit.rejected.reason.startswith("conflict")


def test_an_event_to_nobody_is_refused_like_any_other() -> None:
    nobody = conceive(InstanceId("x"), given.KEY, VersionId(""), given.NUMBER, given.EPOCH)
    decision = given.deciding(given.after(nobody, arriving()), Tick())
    rejected = given.committed(decision).rejected
    assert rejected is not None
    assert rejected.reason.startswith("not-found")


def test_a_message_that_cannot_be_delivered_is_retried_and_then_a_dead_letter() -> None:
    nobody = conceive(InstanceId("x"), given.KEY, VersionId(""), given.NUMBER, given.EPOCH)
    first = given.deciding(nobody, phases.Undeliverable(arriving().envelope, "not-found", "no such machine"))
    rejected = given.committed(first).rejected
    assert rejected is not None
    assert rejected.retry_at is not None
    assert rejected.reason == "not-found: no such machine"
    assert given.only(first, phases.Redeliver).attempts == 1
    assert given.only(first, phases.Complain).code == "not-found"
    last = replace(arriving().envelope, attempts=given.POLICY.attempts_max - 1)
    final = given.deciding(nobody, phases.Undeliverable(last, "not-found", "no such machine"))
    rejected = given.committed(final).rejected
    assert rejected is not None
    assert rejected.retry_at is None
    assert given.only(final, phases.Delivered).causes == (last.cause,)


# --- delayed sends to others ---------------------------------------------------------------------


def test_a_delayed_send_to_another_becomes_a_message_when_it_is_due_without_a_worker() -> None:
    a = given.stepping()
    step = given.step(timers=(SetTimer(SendId("t"), 50, HELLO, OTHER),))
    decision = given.deciding(a, given.stepped(a, step))
    (timer,) = given.committed(decision).timers_set
    assert timer.to == OTHER
    due = Deliver(
        Envelope(
            id=EnvelopeId("timer:2.0"),
            payload=Forward(HELLO, OTHER),
            source="timer",
            cause=Cause("timer", timer.key),
        )
    )
    waiting = given.deciding(decision.activation, due)
    assert (waiting.commit, given.names(waiting)) == (None, ["GoOn"])
    forwarded = given.deciding(waiting.activation, Tick())
    commit = given.committed(forwarded)
    assert [(m.key, m.to, m.event) for m in commit.messages] == [("2.0.t", OTHER, HELLO)]
    assert commit.consumed == (Cause("timer", timer.key),)
    assert (forwarded.activation.timers, forwarded.activation.undelivered) == ((), 1)


# --- kept without a worker -----------------------------------------------------------------------


def test_pausing_stops_the_services_answers_who_waits_and_refuses_what_comes() -> None:
    a = given.after(given.serving(), control(Pause()))
    decision = given.deciding(a, Tick())
    assert given.committed(decision).status == "paused"
    assert given.names(decision)[:1] == ["Stop"]
    assert given.answered(decision) == [("c1", 2), ("k1", 2)]
    assert given.owed(decision.activation) == [given.run("s", 2)]
    late = given.deciding(decision.activation, given.client("c2"))
    assert given.told(late) == [("c2", "invalid-state")]
    held = given.deciding(decision.activation, arriving())
    assert (held.commit, held.activation.mailbox) == (None, ())


def test_resuming_looks_for_what_was_held() -> None:
    a = given.after(given.loaded(), control(Pause()), Tick(), control(Resume(), "k2"))
    decision = given.deciding(a, Tick())
    assert given.committed(decision).status == "running"
    assert given.names(decision) == ["Reply", "Rescan"]


def test_deletion_answers_everyone_with_404_and_tells_the_parent() -> None:
    a = replace(given.serving(), parent=PARENT)
    a = given.after(a, control(Delete()))
    a = given.after(a, given.client("c2"))
    decision = given.deciding(a, Tick())
    commit = given.committed(decision)
    assert commit.deleted_at is not None
    assert [(m.kind, m.owner, m.link) for m in commit.messages] == [("failed", "ins_p", PARENT.link)]
    assert given.answered(decision) == [("k1", 2)]
    assert given.told(decision) == [("c1", "not-found"), ("c2", "not-found")]
    given.only(decision, phases.Gone)


@pytest.mark.parametrize(("version", "wished"), [("ver_2", "ver_2"), ("ver_1", None), (None, None)])
def test_wishing_for_the_present_version_clears_the_wish(version: str | None, wished: str | None) -> None:
    wish = Wish(None if version is None else VersionId(version))
    decision = given.deciding(given.after(given.loaded(), control(wish)), Tick())
    assert given.committed(decision).wish == Wish(None if wished is None else VersionId(wished))
    assert decision.activation.desired == wished


def test_what_takes_a_commit_waits_for_a_decision_that_has_none() -> None:
    """A lost race takes along the whole decision: nothing that was heard in it may be lost with it."""
    a = given.after(given.stepping(), control(Pause()))
    decision = given.deciding(a, given.stepped(a, given.step()))
    assert given.committed(decision).status is None
    assert given.waiting_in_mailbox(decision.activation) == ["k1"]
    given.only(decision, phases.GoOn)
    assert given.committed(given.deciding(decision.activation, Tick())).status == "paused"


def test_a_row_that_is_gone_before_it_is_kept_is_forgotten_and_nothing_else() -> None:
    a = given.after(with_child(given.run("kid", 1)), arriving(link=given.run("kid", 3)), given.client("c2"))
    decision = given.deciding(a, Tick())
    gone = given.deciding(a, CauseGone(given.committed(decision).consumed))
    given.only(gone, phases.Delivered)
    assert given.computing(gone.activation) == ["c2"]
