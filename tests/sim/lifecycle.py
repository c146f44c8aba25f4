"""What must hold of envelopes about the instance itself: pause, resume, delete, and a wish for a version."""

from statebacked.core import phases
from statebacked.core.phases import Activation, Settled, Settling
from statebacked.model.envelopes import Control, Delete, Envelope, Forward, Initialize, Pause, Resume, Wish
from statebacked.model.values import Address
from tests.sim.decisions import Decided
from tests.sim.laws import must


def judge(d: Decided, after: Activation) -> None:
    taken = _taken(d, after)
    for envelope in taken:
        a_control_stands_in_a_decision_of_its_own(d, taken)
        must([c.to for c in d.commands if isinstance(c, phases.Reply)][-1:] != [], "a control is answered")
        match envelope.payload:
            case Pause():
                a_pause_stops_everything_and_holds_rows(d, after, envelope)
            case Resume():
                a_resumed_instance_looks_for_what_was_held(d, after)
            case Delete():
                a_deleted_instance_is_gone(d)
            case Wish(version):
                a_wish_is_kept(d, after, version)
            case _:
                pass
    if not taken:
        must(after.status == d.before.status, "nothing else pauses or resumes an instance")
        is_upgraded = d.commit is not None and d.commit.version is not None
        same = after.desired == d.before.desired
        must(same or is_upgraded, "nothing else changes the desired version")
    a_paused_instance_computes_nothing(d, after)
    a_control_does_not_wait(d, after)


def _taken(d: Decided, after: Activation) -> list[Envelope]:
    arriving = [d.signal.envelope] if isinstance(d.signal, phases.Deliver) else []
    refused = {c.to for c in d.commands if isinstance(c, phases.ReplyRefused)}
    left = {e.id for e in after.mailbox} | refused
    return [e for e in (*d.before.mailbox, *arriving) if isinstance(e.payload, Control) and e.id not in left]


def a_control_stands_in_a_decision_of_its_own(d: Decided, taken: list[Envelope]) -> None:
    must(len(taken) == 1 and d.commit is not None, "a control has a commit of its own")
    assert d.commit is not None
    parts = (d.commit.head, d.commit.consumed, d.commit.rejected, d.commit.transitions)
    must(not any(parts), "the commit of a control is for nothing else")
    is_free = isinstance(d.before.phase, Settled | Settling)
    must(is_free and isinstance(d.signal, phases.Tick), "a control is kept on a tick, with nothing under way")
    must(taken[0].id in [c.to for c in d.commands if isinstance(c, phases.Reply)], "a control is answered")
    must(_next_of(d.before) == taken[0], "a control keeps its place in the order of what clients ask")


def _next_of(a: Activation) -> Envelope | None:
    """A control waits for what clients asked before it, and overtakes the rest."""
    if a.status == "paused":
        return next((e for e in a.mailbox if isinstance(e.payload, Control)), None)
    asked = next((e for e in a.mailbox if e.source == "client"), None)
    if asked is not None and isinstance(asked.payload, Control):
        return asked
    return a.mailbox[0] if a.mailbox else None


def a_pause_stops_everything_and_holds_rows(d: Decided, after: Activation, pause: Envelope) -> None:
    assert d.commit is not None
    must(d.commit.status == after.status == "paused", "a paused instance is recorded as paused")
    must(isinstance(after.phase, Settled) and not after.waiting, "a pause settles")
    behind = [e for e in d.before.mailbox if e != pause]
    kept = tuple(e for e in behind if isinstance(e.payload, Control) or e.source == "self")
    must(after.mailbox[-len(kept) :] == kept or not kept, "what only the activation holds stays")
    must(len(after.mailbox) == len(kept), "rows are held in the store, and callers are told")
    told = [c.to for c in d.commands if isinstance(c, phases.ReplyRefused) and c.code == "invalid-state"]
    callers = [e.id for e in behind if e.wants_reply and e not in kept]
    must(told == callers, "who waits behind a pause is told")
    must(d.has(phases.Rescan), "what was on its way to a paused instance is taken back")


def a_resumed_instance_looks_for_what_was_held(d: Decided, after: Activation) -> None:
    assert d.commit is not None
    must(d.commit.status == after.status == "running", "a resumed instance is recorded as running")
    must(d.has(phases.Rescan), "what was held is looked for")


def a_deleted_instance_is_gone(d: Decided) -> None:
    assert d.commit is not None
    must(d.commit.deleted_at == d.now.wall, "a deletion is dated by the wall clock")
    must(not d.commit.services, "nothing of a deleted instance is recorded as running")
    must(isinstance(d.commands[-1], phases.Gone | phases.WakeAt) and d.has(phases.Gone), "it is over")
    must(d.has(phases.Close), "the worker forgets a deleted instance")
    stopped = [run for c in d.commands if isinstance(c, phases.Stop) for run in c.services]
    must(stopped == list(d.before.services), "services of a deleted instance are stopped")
    told = [c.to for c in d.commands if isinstance(c, phases.ReplyRefused) and c.code == "not-found"]
    waiting = [w.to for w in d.before.waiting]
    callers = [e.id for e in d.before.mailbox if e.wants_reply and not isinstance(e.payload, Delete)]
    callers += [e.id for e in d.before.mailbox if isinstance(e.payload, Delete)][1:]
    answered = [c.to for c in d.commands if isinstance(c, phases.Reply)]
    must(set(told) == {*waiting, *callers} - {*answered}, "who waits for a deleted instance is told")


def a_wish_is_kept(d: Decided, after: Activation, version: object) -> None:
    assert d.commit is not None
    wished = None if version == d.before.version else version
    must(d.commit.wish is not None and d.commit.wish.version == wished, "a wish is recorded")
    must(after.desired == wished, "a wish is remembered")


def a_paused_instance_computes_nothing(d: Decided, after: Activation) -> None:
    if d.before.status == after.status == "paused":
        must(not d.begun() and isinstance(after.phase, Settled), "a paused instance computes nothing")
        must(not after.services and not after.waiting, "nothing runs in a paused instance")


def is_kept_here(a: Activation, envelope: Envelope) -> bool:
    """Whether it takes a commit and no worker."""
    if isinstance(envelope.payload, Control):
        return a.view is not None
    if isinstance(envelope.payload, Forward):
        return True
    if isinstance(envelope.payload, Initialize):
        return a.view is not None and envelope.cause is not None
    if a.view is None:
        return envelope.cause is not None
    return not _is_heard(a, envelope)


def _is_heard(a: Activation, envelope: Envelope) -> bool:
    """Of what a child says, or of what tells of one: is it a child of now, under the run of now?"""
    origin = envelope.origin
    if origin is None or origin.link is None:
        return True
    known = {link.run: link.child for link in a.links}
    me = Address(a.key.machine, a.key.name)
    return origin.link in known and origin.sender in (known[origin.link], me)


def _owes_first(a: Activation) -> bool:
    """Errors that are owed come before the next event, and a control is none."""
    return (
        bool(a.owed)
        and a.status == "running"
        and (isinstance(a.phase, Settling) or not isinstance(a.mailbox[0].payload, Control | Forward))
    )


def a_control_does_not_wait(d: Decided, after: Activation) -> None:
    """It is taken by the tick that the activation asks for."""
    if not isinstance(after.phase, Settled | Settling) or after.is_draining or d.has(phases.Gone):
        return
    first = _next_of(after)
    is_next = first is not None and is_kept_here(after, first) and not _owes_first(after)
    must(d.has(phases.GoOn) == is_next, "what takes a commit of its own goes on at once when it is next")
