"""Which envelopes an activation accepts, keeps, and takes next."""

from collections.abc import Sequence

from msgspec.structs import replace

from statebacked.core.phases import (
    Activation,
    Arm,
    Command,
    Complain,
    Performing,
    Phase,
    Redriven,
    ReplyRefused,
    Settling,
    Stepping,
    Stop,
)
from statebacked.core.policy import Policy
from statebacked.model.envelopes import Cause, Control, Envelope, External, Forward, Internal, ServiceFailed
from statebacked.model.ids import ActivationNumber, EnvelopeId, RowKey, ServiceRun
from statebacked.model.rows import Message, PendingTimer
from statebacked.model.step import Sent


def is_inside(envelope: Envelope) -> bool:
    """From the machine itself; anything else is an outside event and buys time to settle."""
    return envelope.source in ("service", "self")


def failed_service(run: ServiceRun, code: str, message: str) -> Envelope:
    """The error event that is owed for a service which can no longer answer."""
    return Envelope(
        id=EnvelopeId(f"failed:{run.seq}:{run.id}"),
        payload=ServiceFailed(code, message),
        source="service",
        service=run,
        ends_service=True,
    )


def own_message(message: Message) -> Envelope:
    """A message row of the machine to itself, ready for delivery."""
    return Envelope(
        id=EnvelopeId(f"message:{message.key}"),
        payload=External(message.event),
        source="self",
        cause=Cause("message", message.key),
        is_prompt=True,
    )


def sent_envelope(sent: Sent, number: ActivationNumber, *, is_prompt: bool) -> Envelope:
    """An event of running machine code; its id lives as long as the activation."""
    return Envelope(
        id=EnvelopeId(f"inside:{number}:{sent.internal.token}"),
        payload=sent.internal,
        source="self" if sent.service is None else "service",
        service=sent.service,
        ends_service=sent.ends_service,
        is_prompt=is_prompt,
    )


def without_row(a: Activation, cause: Cause) -> Activation:
    """The row is gone. A message may have the key of a timer: they are rows of different tables."""
    if cause.table == "message":
        return a
    for n, timer in enumerate(a.timers):  # nearly always one of the first: it was due
        if timer.key == cause.key:
            return replace(a, timers=(*a.timers[:n], *a.timers[n + 1 :]))
    return a


def is_control(envelope: Envelope) -> bool:
    """About the instance, not for the machine."""
    return isinstance(envelope.payload, Control)


def accept(a: Activation, envelope: Envelope, policy: Policy, out: list[Command]) -> Activation:
    """Put an arriving envelope at the end of the mailbox, unless it is stale, known or too much."""
    if a.status == "paused" and not is_control(envelope):
        return refuse_paused(a, envelope, out)
    if envelope.cause is None:
        return _accept_client(a, envelope, policy, out)
    return _accept_row(a, envelope, envelope.cause, policy)


def _accept_client(a: Activation, envelope: Envelope, policy: Policy, out: list[Command]) -> Activation:
    if _is_full(a.mailbox, envelope, policy) and not is_control(envelope):  # an administrator gets through
        out.append(ReplyRefused(envelope.id, "mailbox-full", "too many events wait for this instance"))
        return a
    return replace(a, mailbox=(*a.mailbox, envelope))


def refuse_paused(a: Activation, envelope: Envelope, out: list[Command]) -> Activation:
    """Clients are told; rows are held in the store."""
    if envelope.wants_reply:
        out.append(ReplyRefused(envelope.id, "invalid-state", "the instance is paused"))
    return a


def _is_full(mailbox: Sequence[Envelope], envelope: Envelope, policy: Policy) -> bool:
    if len(mailbox) >= policy.mailbox_max or _is_too_heavy(mailbox, envelope, policy):
        return True
    if len(mailbox) < policy.mailbox_per_auth_max:
        return False
    return sum(e.auth == envelope.auth for e in mailbox) >= policy.mailbox_per_auth_max


def _is_too_heavy(mailbox: Sequence[Envelope], envelope: Envelope, policy: Policy) -> bool:
    """Events that are small are bounded by their number: only a large one is worth adding up."""
    payload = envelope.payload
    if not mailbox or not isinstance(payload, External):
        return False
    if len(payload.event) * policy.mailbox_max <= policy.mailbox_bytes_max:
        return False
    waiting = sum([len(e.payload.event) for e in mailbox if isinstance(e.payload, External)])
    return waiting + len(payload.event) > policy.mailbox_bytes_max


def _accept_row(a: Activation, envelope: Envelope, cause: Cause, policy: Policy) -> Activation:
    """A durable row can always be delivered again, so one that is not welcome now is just dropped."""
    if cause.table == "timer" and not any(
        t.key == cause.key and t.attempts <= envelope.attempts for t in a.timers
    ):
        return a  # cancelled, consumed, or refused since it was read
    known = under_way(a.phase)
    if len(a.mailbox) >= policy.mailbox_max or any(e.id == envelope.id for e in (*known, *a.mailbox)):
        return a
    return replace(a, mailbox=(*a.mailbox, envelope))


def revive(a: Activation, redriven: Redriven, out: list[Command]) -> Activation:
    """A dead letter of its own lives again. One for another instance is on its way as any that it sends."""
    row = redriven.row
    if isinstance(row, Message) and row.kind != "self":
        is_its_own = row.kind != "failed"  # which tells it of a child
        return replace(a, undelivered=a.undelivered + 1) if is_its_own else a
    if isinstance(row, Message):
        envelope = own_message(row)
        is_known = any(e.id == envelope.id for e in (*under_way(a.phase), *a.mailbox))
        return a if is_known else replace(a, mailbox=(*a.mailbox, envelope))
    out.append(Arm((row,)))
    timer = row.timer
    if any(t.key == timer.key for t in a.timers):
        return a
    return replace(a, timers=(*a.timers, PendingTimer(timer.key, timer.send_id, timer.due)))


def accept_inside(a: Activation, envelope: Envelope, policy: Policy, out: list[Command]) -> Activation:
    """What a running service says. An inside event without a service comes with *performed* only."""
    run = envelope.service
    if run not in a.services:
        return a  # stopped, restarted, lost or owed an error
    assert run is not None
    if any(e.service == run and e.ends_service for e in (*under_way(a.phase), *a.mailbox)):
        return a  # it is over already
    is_share_full = sum(e.service == run for e in a.mailbox) >= policy.mailbox_per_service_max
    if not is_share_full and _inside_bytes(a.mailbox, envelope) <= policy.inside_bytes_max:
        return replace(a, mailbox=(*a.mailbox, envelope))
    out.append(Stop((run,)))
    out.append(Complain(envelope, "service-flooded", "the service sent more events than the mailbox holds"))
    return replace(
        a,
        services=tuple(s for s in a.services if s != run),
        owed=(*a.owed, failed_service(run, "service-flooded", "it sent too many events and was stopped")),
        mailbox=tuple(e for e in a.mailbox if e.service != run),
    )


def fitting(
    a: Activation, sent: Sequence[tuple[int, Envelope]], policy: Policy, out: list[Command]
) -> list[tuple[int, Envelope]]:
    """Of the events sent while performing, which cannot be refused any more, those that the mailbox may hold;
    the end of a service always."""
    count, size = len(a.mailbox), _inside_bytes(a.mailbox)
    fit: list[tuple[int, Envelope]] = []
    dropped: list[Envelope] = []
    for after, envelope in sent:
        size += _inside_bytes((), envelope)
        is_too_much = count + len(fit) >= policy.undelivered_max or size > policy.inside_bytes_max
        if is_too_much and not envelope.ends_service:
            dropped.append(envelope)
        else:
            fit.append((after, envelope))
    if dropped:
        text = f"{len(dropped)} sent events were dropped: more wait than an instance may have"
        out.append(Complain(dropped[0], "too-many-effects", text))
    return fit


def _inside_bytes(mailbox: Sequence[Envelope], *more: Envelope) -> int:
    """How much the worker's own events take, of which it may hold one copy for all."""
    return sum([len(e.payload.event) for e in (*mailbox, *more) if isinstance(e.payload, Internal)])


def under_way(phase: Phase) -> tuple[Envelope, ...]:
    """Envelopes that are neither in the mailbox nor done with."""
    match phase:
        case Stepping(envelopes=envelopes):
            return envelopes
        case Performing(own=own):
            return own
        case _:
            return ()


def put_first(a: Activation, sent: tuple[Envelope, ...]) -> Activation:
    """What was sent in the machine's own turn comes before everything that arrived meanwhile, the events of
    its services included, and behind what had been sent so before: xstate empties that queue first too."""
    if not sent:
        return a
    n = 0
    while n < len(a.mailbox) and a.mailbox[n].is_prompt:
        n += 1
    return replace(a, mailbox=(*a.mailbox[:n], *sent, *a.mailbox[n:]))


def take(a: Activation, policy: Policy) -> tuple[tuple[Envelope, ...], Activation] | None:
    """The next envelopes to compute, and the activation without them. None when nothing may begin.

    Owed errors come first, but do not wake a settled instance: its next event does.
    """
    if a.status == "paused":
        return _take_control(a)
    if a.owed and (isinstance(a.phase, Settling) or (a.mailbox and not _is_no_event(a.mailbox[0]))):
        return a.owed[:1], replace(a, owed=a.owed[1:])
    if not a.mailbox:
        return None
    if a.mailbox[0].source != "client" and (control := _take_overtaking(a)):
        return control
    count, limit = 1, min(policy.batch_max, len(a.mailbox))
    while count < limit and _is_plain(a.mailbox[0]) and _is_plain(a.mailbox[count]):
        count += 1
    return a.mailbox[:count], replace(a, mailbox=a.mailbox[count:])


def _is_no_event(envelope: Envelope) -> bool:
    """The machine does not hear of it."""
    return isinstance(envelope.payload, Control | Forward)


def _take_control(a: Activation) -> tuple[tuple[Envelope, ...], Activation] | None:
    """A paused instance hears of nothing else; what it has sent itself waits."""
    for n, envelope in enumerate(a.mailbox):
        if is_control(envelope):
            return (envelope,), replace(a, mailbox=(*a.mailbox[:n], *a.mailbox[n + 1 :]))
    return None


def _take_overtaking(a: Activation) -> tuple[tuple[Envelope, ...], Activation] | None:
    """Pause, resume, delete and wish wait for the events of clients that came before them, and for nothing
    else: a machine that sends itself events for ever could never be stopped."""
    for n, envelope in enumerate(a.mailbox):
        if envelope.source == "client":
            if not is_control(envelope):
                return None
            return (envelope,), replace(a, mailbox=(*a.mailbox[:n], *a.mailbox[n + 1 :]))
    return None


def _is_plain(envelope: Envelope) -> bool:
    return envelope.source == "client" and isinstance(envelope.payload, External)


def purge(a: Activation) -> Activation:
    """Take envelopes out whose service does not run any more, or whose timer is cancelled."""
    if not a.mailbox:
        return a
    timers = {timer.key for timer in a.timers}
    return replace(a, mailbox=tuple(e for e in a.mailbox if _is_live(e, a, timers)))


def _is_live(envelope: Envelope, a: Activation, timers: set[RowKey]) -> bool:
    if envelope.service is not None and envelope.origin is None:
        return envelope.service in a.services
    if envelope.cause is not None and envelope.cause.table == "timer":
        return envelope.cause.key in timers
    return True


def without_worker(a: Activation, code: str, message: str) -> Activation:
    """The worker's copy is gone: each service is owed its error, and what only the worker held is dropped."""
    if isinstance(a.phase, Performing):
        a = put_first(a, a.phase.own)
    owed = tuple(failed_service(run, code, message) for run in a.services)
    mailbox = tuple(e for e in a.mailbox if not isinstance(e.payload, Internal))
    return replace(a, services=(), owed=(*a.owed, *owed), mailbox=mailbox)


def merge_sent(own: Sequence[Envelope], sent: Sequence[tuple[int, Envelope]]) -> tuple[Envelope, ...]:
    """The step's own sends and those made while it was performed, in the order of sending: (n, envelope)
    was sent when n of the own ones had been."""
    merged: list[Envelope] = []
    position = 0
    for after, envelope in sent:
        while position < min(after, len(own)):
            merged.append(own[position])
            position += 1
        merged.append(envelope)
    return (*merged, *own[position:])
