"""What must hold of one decision: what it tells, keeps and drops, by the activation before and after it.

A decision is judged when the next one begins or when the activation rests, so its commit is durable by then.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import NamedTuple

from statebacked.core import phases
from statebacked.core.phases import Activation, Performing, Settled, Settling, Stepping, Upgrading
from statebacked.core.policy import Policy
from statebacked.model.envelopes import (
    Control,
    Envelope,
    External,
    Forward,
    Initialize,
    Internal,
    ServiceFailed,
)
from statebacked.model.ids import EnvelopeId, SendId, ServiceRun
from statebacked.model.rows import Commit, DueTimer, Message
from statebacked.model.step import (
    Chattered,
    Performed,
    Refused,
    SendTo,
    Sent,
    SetTimer,
    Spawn,
    Step,
    Stepped,
    Unlink,
    WorkerLost,
)
from statebacked.model.values import Now, ToParent
from tests.sim.laws import Broken, must

OF_PLACES = (
    "conflict",
    "not-found",
    "unavailable",
    "invalid-state",
)  # what an envelope hears before a worker is asked


@dataclass(slots=True)
class Decided:
    """One decision, from outside. `losses`: workers that the first envelope under way has ended before.
    `answer_by`: when the time is over for what the worker does. `alarm`: as it was set last."""

    before: Activation
    signal: phases.Signal
    now: Now
    policy: Policy
    losses: int
    answer_by: float
    alarm: int | None
    commit: Commit | None = None
    commands: list[phases.Command] = field(default_factory=list)

    def begun(self) -> tuple[Envelope, ...]:
        """What was asked of a worker."""
        return tuple(e for c in self.commands if isinstance(c, phases.Compute) for e in c.envelopes)

    def has(self, kind: type[phases.Command]) -> bool:
        return any(isinstance(command, kind) for command in self.commands)


class Due(NamedTuple):
    """A refusal that must be told, to its caller or to the log."""

    envelope: EnvelopeId
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Where a decision has left its activation. `began`: ids of what was computed, in the order of the newest
    time of each. `allowance`: thousandths of steps that no client causes, left at the decision."""

    after: Activation
    began: Sequence[EnvelopeId]
    answer_by: float
    alarm: int | None
    allowance: int


def judge(d: Decided, outcome: Outcome) -> None:
    after = outcome.after
    due = refusal_due(d)
    a_refusal_is_told_once(d, due)
    what_is_welcome_waits(d, after, due)
    what_the_machine_computed_happens(d)
    owed_errors_keep_their_order(d, after)
    an_owed_error_does_not_wait_while_it_settles(d, after)
    services_stand_in_the_order_of_their_start(d, after)
    callers_are_answered_in_the_order_of_their_events(d, outcome.began)
    a_copy_is_closed_only_when_it_is_late_or_wrong(d)
    what_waits_waits_for_its_bucket(d, outcome)
    a_redriven_timer_is_armed(d)
    keys_of_repeatable_requests_are_kept(d)
    the_alarm_is_set_only_when_it_changes(d)
    if not d.has(phases.Gone):
        the_alarm_is_at_what_comes_next(outcome)


# --- refusals ----------------------------------------------------------------------------------------


def refusal_due(d: Decided) -> Due | None:
    match d.signal:
        case phases.Undeliverable(envelope, code):
            return Due(envelope.id, code)
        case phases.Deliver(envelope) if d.before.status == "paused" and not _is_control(envelope):
            return Due(envelope.id, "invalid-state") if envelope.wants_reply else None
        case phases.Deliver(envelope) if envelope.cause is None:
            is_refused = is_full(d, envelope) and not _is_control(envelope)
            return Due(envelope.id, "mailbox-full") if is_refused else None
        case Chattered(sent):
            return Due(_inside_id(d, sent), "service-flooded") if has_flooded(d, sent) else None
        case Performed():
            dropped = [sent for sent in sent_then(d) if sent not in kept_of(d)]
            return Due(_inside_id(d, dropped[0]), "too-many-effects") if dropped else None
        case _ if isinstance(d.before.phase, Upgrading):
            return _upgrade_due(d)
        case phases.Tick() if not isinstance(d.before.phase, Stepping | Performing) and d.commit is not None:
            return _kept_due(d)
        case _:
            return _answer_due(d) if isinstance(d.before.phase, Stepping) else None


def _kept_due(d: Decided) -> Due | None:
    """Of what takes a commit and no worker."""
    assert d.commit is not None
    first = d.before.mailbox[0]
    is_control = d.commit.status or d.commit.wish or d.commit.deleted_at is not None
    if is_control or _is_control(first) or d.before.status == "paused":
        return None
    if d.before.view is None:
        return Due(first.id, "not-found")
    if isinstance(first.payload, Initialize):
        parent = first.origin.parent if first.origin is not None else None
        known = d.before.parent
        is_its_child = parent is not None and known is not None and known.instance == parent.instance
        return None if is_its_child else Due(first.id, "conflict")
    if isinstance(first.payload, Forward):
        has_target = not isinstance(first.payload.to, ToParent) or d.before.parent is not None
        return None if has_target else Due(first.id, "not-found")
    return Due(first.id, "not-heard")


def sent_to_nobody(d: Decided) -> list[Due]:
    """Of steps that send to a parent which the instance does not have."""
    happen = steps_due(d)
    items = [item for step in happen for item in step.outgoing]
    orphaned = [item for item in items if isinstance(item, SendTo) and isinstance(item.to, ToParent)]
    if not orphaned or _depth(d) > 0:
        return []
    return [Due(_under_way(d.before)[len(happen) - 1].id, "not-found")]


def _answer_due(d: Decided) -> Due | None:
    phase = d.before.phase
    assert isinstance(phase, Stepping)
    first = phase.envelopes[0]
    match d.signal:
        case Refused(number, code) if number == phase.number:
            return Due(first.id, code)
        case Stepped(number, steps) if number == phase.number and steps and not steps_due(d):
            is_nothing = d.before.view is None and steps[0].context is None
            return Due(first.id, "machine-error" if is_nothing else "too-many-effects")
        case phases.Tick() if d.now.mono >= d.answer_by:
            return Due(first.id, "machine-timeout")
        case WorkerLost(guilty) if not isinstance(first.payload, Internal):
            is_fatal = guilty or d.losses + 1 >= d.policy.losses_max
            return Due(first.id, "machine-fault") if is_fatal else None
        case _:
            return None


def _upgrade_due(d: Decided) -> Due | None:
    """A failed upgrade refuses the envelope that it was for, if that is still there."""
    phase = d.before.phase
    assert isinstance(phase, Upgrading)
    match d.signal:
        case phases.UpgradeFailed(number, code) if number == phase.number:
            pass
        case phases.Upgraded(number) if number == phase.number and not upgrade_is_due(d):
            code = "migration-failed"
        case phases.Tick() if d.now.mono >= d.answer_by:
            code = "migration-failed"
        case _:
            return None
    first = next(iter(d.before.mailbox), None)
    return None if first is None or first.id != phase.due else Due(first.id, code)


def upgrade_is_due(d: Decided) -> bool:
    """The new state is there, and no more timers and messages than may be."""
    phase = d.before.phase
    if not isinstance(phase, Upgrading) or not isinstance(d.signal, phases.Upgraded):
        return False
    if d.signal.number != phase.number:
        return False
    arrival = d.signal.arrival
    names = {moved.key: moved.send_id for moved in arrival.moved}
    left = [timer for timer in d.before.timers if timer.key not in arrival.removed]
    is_set = arrival.step.timers or any(names.get(t.key, t.send_id) != t.send_id for t in left)
    is_too_much = is_set and len(left) + len(arrival.step.timers) > d.policy.timers_max
    if not arrival.step.done:
        return not is_too_much
    return d.before.parent is None or d.before.undelivered < d.policy.undelivered_max  # which is told


def a_refusal_is_told_once(d: Decided, due: Due | None) -> None:
    """To its caller, or else to the log."""
    told = [Due(c.to, c.code) for c in d.commands if isinstance(c, phases.ReplyRefused)]
    told = [one for one in told if one.code not in OF_PLACES or one == due]
    logged = [Due(c.envelope.id, c.code) for c in d.commands if isinstance(c, phases.Complain)]
    has_caller = due is not None and due.envelope in _callers(d)
    must(told == ([due] if has_caller else []), "a caller is told of a refusal once, and of no other")
    silent = [due] if due is not None and not has_caller else []
    must(logged == [*silent, *sent_to_nobody(d)], "a silent refusal is logged once")
    if isinstance(d.signal, Refused):
        messages = [c.message for c in d.commands if isinstance(c, phases.ReplyRefused | phases.Complain)]
        must(due is None or messages[0] == d.signal.message, "a refusal is told in the machine's words")


def is_owed_error(envelope: Envelope) -> bool:
    """Not one that comes from the row of a child."""
    return isinstance(envelope.payload, ServiceFailed) and envelope.cause is None


def _is_control(envelope: Envelope) -> bool:
    return isinstance(envelope.payload, Control)


def _callers(d: Decided) -> set[EnvelopeId]:
    arriving = [d.signal.envelope] if isinstance(d.signal, phases.Deliver) else []
    behind = d.before.mailbox if isinstance(d.before.phase, Upgrading) else ()
    return {e.id for e in (*_under_way(d.before), *arriving, *behind) if e.wants_reply}


# --- the mailbox -------------------------------------------------------------------------------------


def is_full(d: Decided, envelope: Envelope) -> bool:
    waiting = d.before.mailbox
    of_caller = [e for e in waiting if e.auth == envelope.auth]
    is_too_many = len(waiting) >= d.policy.mailbox_max or len(of_caller) >= d.policy.mailbox_per_auth_max
    return is_too_many or _is_too_heavy(d, envelope)


def _is_too_heavy(d: Decided, envelope: Envelope) -> bool:
    """One alone always fits, and so does one of no more than its share of the bytes."""
    size = _size_of(envelope)
    if not d.before.mailbox or size * d.policy.mailbox_max <= d.policy.mailbox_bytes_max:
        return False
    return sum(_size_of(e) for e in d.before.mailbox) + size > d.policy.mailbox_bytes_max


def _size_of(envelope: Envelope) -> int:
    return len(envelope.payload.event) if isinstance(envelope.payload, External) else 0


def has_flooded(d: Decided, sent: Sent) -> bool:
    waiting = [e for e in d.before.mailbox if e.service == sent.service]
    is_too_much = _bytes_waiting(d) + len(sent.internal.event) > d.policy.inside_bytes_max
    return is_heard(d, sent) and (len(waiting) >= d.policy.mailbox_per_service_max or is_too_much)


def is_heard(d: Decided, sent: Sent) -> bool:
    """It runs, and its last word is not said yet."""
    over = [e.service for e in (*_under_way(d.before), *d.before.mailbox) if e.ends_service]
    return sent.service in d.before.services and sent.service not in over


def sent_then(d: Decided) -> list[Sent]:
    """What the machine and the services that run have sent while the step was performed."""
    phase = d.before.phase
    if not isinstance(phase, Performing) or not isinstance(d.signal, Performed) or d.signal.seq != phase.seq:
        return []
    return [sent for sent in d.signal.sent if sent.service is None or sent.service in d.before.services]


def kept_of(d: Decided) -> list[Sent]:
    """Those of them that the mailbox may hold; the end of a service always."""
    kept: list[Sent] = []
    size = _bytes_waiting(d)
    for sent in sent_then(d):
        size += len(sent.internal.event)
        has_room = len(d.before.mailbox) + len(kept) < d.policy.undelivered_max
        if sent.ends_service or (has_room and size <= d.policy.inside_bytes_max):
            kept.append(sent)
    return kept


def _bytes_waiting(d: Decided) -> int:
    return sum(len(e.payload.event) for e in d.before.mailbox if isinstance(e.payload, Internal))


def known_ids(d: Decided) -> list[EnvelopeId]:
    return [e.id for e in (*_under_way(d.before), *d.before.mailbox)]


def is_row_welcome(d: Decided, envelope: Envelope) -> bool:
    assert envelope.cause is not None
    if len(d.before.mailbox) >= d.policy.mailbox_max or envelope.id in known_ids(d):
        return False
    pending = {t.key: t.attempts for t in d.before.timers}
    attempts = pending.get(envelope.cause.key)
    is_timely = attempts is not None and attempts <= envelope.attempts
    return envelope.cause.table == "message" or is_timely


def what_is_welcome_waits(d: Decided, after: Activation, due: Due | None) -> None:
    """While something is under way whatever arrives waits behind it, or is turned away."""
    if not isinstance(d.before.phase, Stepping | Performing | Upgrading):
        return
    waiting = [e.id for e in d.before.mailbox]
    match d.signal:
        case phases.Deliver(envelope) if envelope.cause is not None:
            if is_row_welcome(d, envelope):
                waiting.append(envelope.id)
        case phases.Deliver(envelope):
            if due is None and not d.before.is_draining:
                waiting.append(envelope.id)
        case Chattered(sent) if due is not None:
            waiting = [e.id for e in d.before.mailbox if e.service != sent.service]
        case Chattered(sent):
            if is_heard(d, sent):
                waiting.append(_inside_id(d, sent))
        case phases.Redriven(Message(kind="self", key=key)):
            if f"message:{key}" not in known_ids(d):
                waiting.append(EnvelopeId(f"message:{key}"))
        case _:
            return
    must([e.id for e in after.mailbox] == waiting, "what is welcome waits, what is too much does not")


def _under_way(a: Activation) -> tuple[Envelope, ...]:
    match a.phase:
        case Stepping(envelopes=envelopes):
            return envelopes
        case Performing(own=own):
            return own
        case _:
            return ()


def _inside_id(d: Decided, sent: Sent) -> EnvelopeId:
    return EnvelopeId(f"inside:{d.before.number}:{sent.internal.token}")


# --- what was computed -------------------------------------------------------------------------------


def steps_due(d: Decided) -> Sequence[Step]:
    """Those of the worker's steps that must happen now: all, the first alone, or none."""
    phase = d.before.phase
    if (
        not isinstance(phase, Stepping)
        or not isinstance(d.signal, Stepped)
        or d.signal.number != phase.number
    ):
        return ()
    steps = d.signal.steps[: len(phase.envelopes)]
    if d.before.view is None and steps and steps[0].context is None:
        return ()
    if not leaves_too_much(d, steps):
        return steps
    return () if leaves_too_much(d, steps[:1]) else steps[:1]


def leaves_too_much(d: Decided, steps: Sequence[Step]) -> bool:
    phase = d.before.phase
    assert isinstance(phase, Stepping)
    fired = [e.cause.key for e in phase.envelopes if e.cause is not None and e.cause.table == "timer"]
    pending: list[tuple[SendId, bool]] = [(t.send_id, False) for t in d.before.timers if t.key not in fired]
    for step in steps:
        _follow_timers(pending, step)
    has_set = any(is_new for _, is_new in pending)
    unheard = [e for e in (*phase.envelopes[1:], *d.before.mailbox) if e.cause and e.cause.table == "message"]
    sends = sum(len(step.sends) for step in steps)
    outgoing = family_messages(d, steps)
    has_spawned = any(isinstance(item, Spawn) for step in steps for item in step.outgoing)
    return (
        (has_set and len(pending) > d.policy.timers_max)
        or (sends > 0 and sends + len(unheard) > d.policy.undelivered_max)
        or (outgoing > 0 and d.before.undelivered + outgoing > d.policy.undelivered_max)
        or (has_spawned and _depth(d) + 1 > d.policy.spawn_depth_max)
    )


def family_messages(d: Decided, steps: Sequence[Step]) -> int:
    """How many messages to others these steps leave."""
    is_child = _depth(d) > 0
    items = [item for step in steps for item in step.outgoing if not isinstance(item, Unlink)]
    to_nobody = [i for i in items if isinstance(i, SendTo) and isinstance(i.to, ToParent) and not is_child]
    return len(items) - len(to_nobody) + (sum(step.done for step in steps) if is_child else 0)


def _depth(d: Decided) -> int:
    """Of the instance in its family; 0: a client has made it."""
    origins = [e.origin for e in _under_way(d.before) if e.origin is not None]
    made = [origin.parent for origin in origins if origin.parent is not None]
    parent = made[0] if made else d.before.parent
    return 0 if parent is None else parent.depth


def _follow_timers(pending: list[tuple[SendId, bool]], step: Step) -> None:
    for operation in step.timers:
        if isinstance(operation, SetTimer):
            pending.append((operation.send_id, True))
            continue
        for n in range(len(pending) - 1, -1, -1):
            if pending[n][0] == operation.send_id:
                del pending[n]
                break
    if step.done:
        pending.clear()


def what_the_machine_computed_happens(d: Decided) -> None:
    happen = steps_due(d)
    changed = [step for step in happen if step.changed]
    found = d.commit.transitions if d.commit is not None and d.commit.version is None else ()
    must(len(found) == len(changed), "what the machine computed happens, as far as it is not too much")
    performs = bool(happen) and happen[-1].has_effects
    must(d.has(phases.Perform) == performs, "what has effects is performed")


# --- services ----------------------------------------------------------------------------------------


def owed_errors_keep_their_order(d: Decided, after: Activation) -> None:
    """New ones come last, in the order in which the services were started, but for the result that the
    machine has just refused: its error comes next."""
    failed = [e for e in _under_way(d.before) if is_owed_error(e)]
    begun = [e for e in _under_way(after) if is_owed_error(e)]
    known = [e.service for e in (*failed, *d.before.owed)]
    owed = [e.service for e in (*begun, *after.owed)]
    kept = [run for run in known if run in owed]
    lost = [run for run in (*d.before.services, *_started(d)) if run in owed]
    refused = _refused_result(d)
    first = [refused] if refused in lost else []
    others = [run for run in lost if run != refused]
    must(owed == [*first, *kept, *others], "errors that are owed keep their order")
    if d.commit is not None:
        recorded = [*owed, *after.services]
        must(list(d.commit.services) == recorded, "services are recorded in the order of their errors")


def _refused_result(d: Decided) -> ServiceRun | None:
    phase = d.before.phase
    if not isinstance(phase, Stepping) or not isinstance(d.signal, Refused | Stepped):
        return None
    first = phase.envelopes[0]
    is_result = first.ends_service and not is_owed_error(first)
    return first.service if is_result and refusal_due(d) is not None else None


def _started(d: Decided) -> Iterator[ServiceRun]:
    if isinstance(d.signal, Stepped) and d.commit is not None and d.commit.head is not None:
        last = [step for step in steps_due(d) if step.changed][-1]
        for id in dict.fromkeys(last.starts):
            yield ServiceRun(id, d.commit.head.view.seq)


def services_stand_in_the_order_of_their_start(d: Decided, after: Activation) -> None:
    order = (*d.before.services, *_started(d))
    must(after.services == tuple(run for run in order if run in after.services), "services stand in order")
    runs = [e.service for e in after.mailbox if e.service is not None and e.origin is None]
    must(set(runs) <= set(after.services), "nothing waits of a service that does not run")


def an_owed_error_does_not_wait_while_it_settles(d: Decided, after: Activation) -> None:
    if not isinstance(after.phase, Settled) or isinstance(d.before.phase, Settled) or not after.owed:
        return
    back: phases.Phase = d.before.phase
    if isinstance(back, Stepping) and refusal_due(d) is not None:
        back = back.before
    is_lost = isinstance(d.signal, WorkerLost) or d.has(phases.Close) or isinstance(back, Settled)
    is_lost = is_lost or after.status == "paused"
    if isinstance(back, Upgrading):
        raise Broken("nothing is owed while a settled state is migrated")
    is_late = not isinstance(back, Settled) and d.now.mono >= back.settle_by
    must(is_lost or is_late or after.is_draining, "an error that is owed comes before the instance settles")


def keys_of_repeatable_requests_are_kept(d: Decided) -> None:
    happen = zip(_under_way(d.before), steps_due(d), strict=False)
    keys = [(e.repeatable, e.id) for e, _ in happen if e.repeatable is not None]
    must(list(d.commit.repeatables if d.commit else ()) == keys, "the key of a repeatable request is kept")


def a_redriven_timer_is_armed(d: Decided) -> None:
    if isinstance(d.signal, phases.Redriven) and isinstance(d.signal.row, DueTimer):
        armed = [due for c in d.commands if isinstance(c, phases.Arm) for due in c.timers]
        must(armed == [d.signal.row], "a timer that lives again rings again")


def what_waits_waits_for_its_bucket(d: Decided, o: Outcome) -> None:
    a = o.after
    if isinstance(a.phase, Stepping | Performing):
        must(a.throttled_until is None, "nothing is held back while something is under way")
    if _begins_elsewhere(d, a):
        return
    first = _next_of(a)
    if first is None:
        must(a.throttled_until is None, "nothing is held back where nothing waits")
        return
    must(first.source != "client" and o.allowance < 1_000, "what may begin begins")
    pause_ms = ceil((1_000 - o.allowance) / d.policy.unasked_per_s)
    must(a.throttled_until == d.now.mono + pause_ms, "what is held back begins when its bucket has a step")


def is_held_back(d: Decided, after: Activation) -> bool:
    """Something waits for its bucket, and for nothing else."""
    return not _begins_elsewhere(d, after) and _next_of(after) is not None


def _begins_elsewhere(d: Decided, a: Activation) -> bool:
    is_busy = isinstance(a.phase, Stepping | Performing | Upgrading)
    return is_busy or a.is_draining or d.has(phases.GoOn) or d.has(phases.Gone)


def _next_of(a: Activation) -> Envelope | None:
    if a.status == "paused":
        return None
    return next(iter((*a.owed, *a.mailbox) if isinstance(a.phase, Settling) or a.mailbox else ()), None)


# --- answers and alarms ------------------------------------------------------------------------------


def callers_are_answered_in_the_order_of_their_events(d: Decided, began: Sequence[EnvelopeId]) -> None:
    told = [c.to for c in d.commands if isinstance(c, phases.Reply)]
    told = [id for id in told if id in began]  # others are answered for themselves
    must(told == [id for id in began if id in told], "callers are answered in the order of their events")


def a_copy_is_closed_only_when_it_is_late_or_wrong(d: Decided) -> None:
    is_late = isinstance(d.signal, phases.Tick) and d.now.mono >= d.answer_by
    is_late = is_late and not isinstance(d.before.phase, Upgrading)
    is_wrong = isinstance(d.signal, phases.CauseGone) and any(
        e.cause in d.signal.causes for e in _under_way(d.before)
    )
    is_wrong = is_wrong or d.has(phases.Gone)
    must(d.has(phases.Close) == (is_late or is_wrong), "a copy is closed when it is late or wrong, not else")


def the_alarm_is_set_only_when_it_changes(d: Decided) -> None:
    alarms = [c.at for c in d.commands if isinstance(c, phases.WakeAt)]
    must(len(alarms) <= 1 and d.alarm not in alarms, "the alarm is set only when it changes")


def the_alarm_is_at_what_comes_next(o: Outcome) -> None:
    times: list[int] = []
    if not isinstance(o.after.phase, Performing):
        times += [w.answer_by for w in o.after.waiting]
    if isinstance(o.after.phase, Settling):
        times.append(o.after.phase.settle_by)
    elif isinstance(o.after.phase, Stepping | Performing | Upgrading):
        times.append(int(o.answer_by))
    if o.after.throttled_until is not None:
        times.append(o.after.throttled_until)
    must(o.alarm == min(times, default=None), "the alarm is at what comes next")
