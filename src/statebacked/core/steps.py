"""From computed steps to one commit: sequence numbers, keys, timers, services, history."""

from dataclasses import dataclass, field

from msgspec.structs import replace

from statebacked.core import mailbox
from statebacked.core.family import Family
from statebacked.core.phases import Activation
from statebacked.model.envelopes import (
    Cause,
    ChildDone,
    Delete,
    Envelope,
    External,
    Forward,
    Initialize,
    Internal,
    Pause,
    Repeatable,
    Resume,
    ServiceFailed,
    Wish,
)
from statebacked.model.ids import EnvelopeId, Instant, RowKey, Seq, ServiceRun
from statebacked.model.rows import Birth, Commit, Head, Message, PendingTimer, StateView, Timer, Transition
from statebacked.model.step import CancelTimer, SetTimer, Step
from statebacked.model.values import Indexed, Json, Now

INITIAL_EVENT = Json(b'{"type":"xstate.init"}')
UNWORDED_DONE = Json(b'{"type":"statebacked.child-done"}')
UNWORDED_ERROR = Json(b'{"type":"statebacked.service-failed"}')  # a worker words it better


@dataclass(slots=True)
class Draft:
    """The write-set under construction; lives only within one decision."""

    transitions: list[Transition] = field(default_factory=list)
    consumed: list[Cause] = field(default_factory=list)
    timers_set: dict[RowKey, Timer] = field(default_factory=dict)
    timers_removed: list[RowKey] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    repeatables: list[tuple[Repeatable, EnvelopeId]] = field(default_factory=list)
    family: Family | None = None  # made when a step first has something for others: few have
    head: Head | None = None
    indexes: Indexed | None = None
    has_ended_service: bool = False

    def is_empty(self) -> bool:
        return self.head is None and not self.consumed and not self.has_ended_service and not self.repeatables

    def kin(self) -> Family:
        if self.family is None:
            self.family = Family()
        return self.family

    def commit(self, before: Activation, after: Activation, now: Now) -> Commit:
        family = self.family
        birth = None
        if before.seq == 0:
            birth = Birth(key=before.key, version=before.version, created_at=now.wall, parent=after.parent)
        return Commit(
            instance=before.instance,
            epoch=before.epoch,
            base=before.seq,
            birth=birth,
            head=self.head,
            transitions=tuple(self.transitions),
            services=recorded_services(after),
            consumed=tuple(self.consumed),
            timers_set=tuple(self.timers_set.values()),
            timers_removed=tuple(self.timers_removed),
            indexes=self.indexes,
            messages=tuple(self.messages) if family is None else (*self.messages, *family.messages),
            linked=() if family is None else tuple(family.linked.values()),
            unlinked=() if family is None else tuple(family.unlinked),
            repeatables=tuple(self.repeatables),
        )


def recorded_services(a: Activation) -> tuple[ServiceRun, ...]:
    """Owed an error or running: after a crash each of them is owed its error, in this order."""
    owed = [e.service for e in a.owed if e.service is not None]
    return (*owed, *a.services)


def apply(a: Activation, envelope: Envelope, step: Step, now: Now, draft: Draft) -> Activation:
    """The activation after the step, its writes added to the draft."""
    a = end_service(a, envelope, draft)
    if envelope.cause is not None:
        draft.consumed.append(envelope.cause)
        a = mailbox.without_row(a, envelope.cause)
    if envelope.origin is not None:
        a = _from_another(a, envelope, draft)
    if envelope.repeatable is not None:
        draft.repeatables.append((envelope.repeatable, envelope.id))
    if not step.changed:
        return mailbox.purge(a) if envelope.ends_service else a
    seq = Seq(a.seq + 1)
    view = _view(a, step, seq, now)
    services, owed = _services(a, step, seq)
    timers = _timers(a, step, seq, now, draft)
    _add_messages(step, seq, draft)
    draft.transitions.append(_transition(a, envelope, step, view, now))
    context = step.context
    if context is None and draft.head is not None:
        context = draft.head.context
    draft.head = Head(view=view, snapshot=step.snapshot, context=context)
    if step.indexes is not None:
        draft.indexes = step.indexes
    after = replace(a, seq=seq, view=view, services=services, owed=owed, timers=timers)
    if step.outgoing or step.done:
        after = draft.kin().follow(after, step, seq)
    if envelope.ends_service or step.starts or step.stops or step.done or draft.timers_removed:
        return mailbox.purge(after)  # what waits may be of a service that ended, or of a cancelled timer
    return after


def _from_another(a: Activation, envelope: Envelope, draft: Draft) -> Activation:
    """Another instance made this one, or tells that a child of this one is over."""
    assert envelope.origin is not None
    if envelope.origin.parent is not None:
        return replace(a, parent=envelope.origin.parent)
    return draft.kin().forget_child(a, envelope)


def end_service(a: Activation, envelope: Envelope, draft: Draft) -> Activation:
    if not envelope.ends_service or envelope.service is None:
        return a
    draft.has_ended_service = True
    return replace(a, services=tuple(s for s in a.services if s != envelope.service))


def _view(a: Activation, step: Step, seq: Seq, now: Now) -> StateView:
    last = a.view.ts if a.view is not None else a.ts_floor
    public = step.public
    if step.context is None:
        assert a.view is not None, "an instance is born with a context"
        public = a.view.public
    return StateView(
        seq=seq,
        ts=Instant(max(now.wall, last + 1)),
        value=step.value,
        tags=step.tags,
        done=step.done,
        public=public,
    )


def _services(a: Activation, step: Step, seq: Seq) -> tuple[tuple[ServiceRun, ...], tuple[Envelope, ...]]:
    if not step.starts and not step.stops and not step.done:
        return a.services, a.owed
    if step.done:
        return (), ()
    ended = {*step.stops, *step.starts}  # a service that starts anew under an id replaces the one before
    running = [s for s in a.services if s.id not in ended]
    started = [ServiceRun(id, seq) for id in dict.fromkeys(step.starts)]
    owed = tuple(e for e in a.owed if e.service is None or e.service.id not in ended)
    return (*running, *started), owed


def _timers(a: Activation, step: Step, seq: Seq, now: Now, draft: Draft) -> tuple[PendingTimer, ...]:
    """Resolve set and cancel, in their order, to keys. Cancel takes the newest of its send id."""
    if not step.timers and not step.done:
        return a.timers
    pending = list(a.timers)
    for n, operation in enumerate(step.timers):
        match operation:
            case SetTimer(send_id, delay_ms, event, to):
                key = RowKey(f"{seq}.{n}")
                due = Instant(now.wall + delay_ms)
                pending.append(PendingTimer(key, send_id, due))
                draft.timers_set[key] = Timer(key=key, send_id=send_id, due=due, event=event, to=to)
            case CancelTimer(send_id):
                _cancel_newest(pending, send_id, draft)
    if step.done:
        while pending:
            _remove(pending, -1, draft)
    return tuple(pending)


def _cancel_newest(pending: list[PendingTimer], send_id: str, draft: Draft) -> None:
    for index in range(len(pending) - 1, -1, -1):
        if pending[index].send_id == send_id:
            _remove(pending, index, draft)
            return


def _remove(pending: list[PendingTimer], index: int, draft: Draft) -> None:
    key = pending.pop(index).key
    if draft.timers_set.pop(key, None) is None:
        draft.timers_removed.append(key)


def _add_messages(step: Step, seq: Seq, draft: Draft) -> None:
    for n, event in enumerate(step.sends):
        draft.messages.append(Message(key=RowKey(f"{seq}.{n}"), event=event))


def _transition(a: Activation, envelope: Envelope, step: Step, view: StateView, now: Now) -> Transition:
    return Transition(
        seq=view.seq,
        ts=view.ts,
        at=now.wall,
        event_id=envelope.id,
        event=_recorded_event(envelope, step),
        value=step.value,
        source=envelope.source,
        actor=envelope.auth,
        version=a.version,
    )


def _recorded_event(envelope: Envelope, step: Step) -> Json:
    if step.event is not None:
        return step.event
    match envelope.payload:
        case External(event) | Internal(event=event):
            return event
        case Initialize():
            return INITIAL_EVENT
        case ServiceFailed():
            return UNWORDED_ERROR
        case ChildDone():
            return UNWORDED_DONE
        case Forward() | Pause() | Resume() | Delete() | Wish():
            raise AssertionError("no worker is asked about these")
