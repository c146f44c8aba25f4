"""One instance as a pure state machine: `decide(activation, signal, now, policy) -> Decision`.

Theory of operation
===================

An *activation* is an instance while its one owner has it loaded. Its phase is always one of

    Settled      nothing runs, nobody waits
    Stepping     the worker authorises and computes one envelope; every other signal waits
    Performing   the worker performs the effects of a durable step; every other signal waits
    Upgrading    the state is migrated to another version; every other signal waits
    Settling     ephemeral services may run and callers wait, until `settle_by`

A decision carries at most one commit and a list of commands, and the one rule of the engine is that no
command of a decision is executed before its commit is durable. The core cannot break that rule, because it
performs nothing, and the driver keeps it in one line.

A service is (id, seq that started it). What comes from a run that is not running now (stopped, restarted,
lost, owed an error) is dropped. A service that can no longer answer is *owed* its error event, which comes
before the next event. If a commit fails, the activation ends and is loaded again: start-up, take-over and
recovery are one path, `activate`.

This module knows no clock, no chance, no I/O and no asyncio: every history can be replayed from its signals.
"""

from typing import assert_never

from msgspec.structs import replace

from statebacked.core import bookkeeping, bounds, fairness, mailbox, rejections, steps, upgrade
from statebacked.core.phases import (
    SETTLED,
    Activation,
    Arm,
    CauseGone,
    Close,
    Command,
    Complain,
    Compute,
    Decision,
    Deliver,
    Delivered,
    Departed,
    Drain,
    GoOn,
    Perform,
    Performing,
    Post,
    Publish,
    Redriven,
    Reply,
    ReplyRefused,
    Settled,
    Settling,
    Signal,
    Stepping,
    Stop,
    Tick,
    Undeliverable,
    Upgraded,
    UpgradeFailed,
    Upgrading,
    Waiting,
    WakeAt,
)
from statebacked.core.policy import Policy
from statebacked.core.wording import NO_INSTANCE
from statebacked.model.envelopes import Cause, Envelope, Initialize, Internal, Pause, ServiceFailed
from statebacked.model.ids import (
    NEVER,
    ActivationNumber,
    Epoch,
    InstanceId,
    InstanceKey,
    Instant,
    Monotonic,
    Seq,
    VersionId,
)
from statebacked.model.rows import Commit, InstanceRecord
from statebacked.model.step import Chattered, Performed, Refused, Stepped, WorkerLost
from statebacked.model.values import Now

LOST = ("service-lost", "the service was interrupted")
STOPPED = ("service-stopped", "the service ran past the deadline and was stopped")


# --- the three entry points ------------------------------------------------------------------------


def activate(record: InstanceRecord, number: ActivationNumber, epoch: Epoch) -> Activation:
    """Load an instance. Services that are recorded as running are lost: their errors come before the next
    event. Messages that it had sent itself are delivered next."""
    return Activation(
        instance=record.id,
        key=record.key,
        number=number,
        epoch=epoch,
        version=record.version,
        seq=record.view.seq,
        view=record.view,
        owed=tuple(mailbox.failed_service(run, *LOST) for run in record.services),
        timers=record.timers,
        mailbox=tuple(mailbox.own_message(m) for m in record.messages),
        status=record.status,
        desired=record.desired,
        parent=record.parent,
        links=record.links,
        undelivered=record.undelivered,
    )


def conceive(
    instance: InstanceId,
    key: InstanceKey,
    version: VersionId,
    number: ActivationNumber,
    epoch: Epoch,
    ts_floor: Instant = NEVER,
) -> Activation:
    """An instance that does not exist yet: only an Initialize envelope can change that. `ts_floor` is the
    last ts of an earlier life of the name."""
    return Activation(
        instance=instance,
        key=key,
        number=number,
        epoch=epoch,
        version=version,
        seq=Seq(0),
        view=None,
        ts_floor=ts_floor,
    )


def decide(a: Activation, signal: Signal, now: Now, policy: Policy) -> Decision:
    """What follows from one signal. Never raises for anything that a worker or a caller may say."""
    out: list[Command] = []
    commit: Commit | None = None
    match signal:
        case Deliver(envelope):
            after = mailbox.accept(a, envelope, policy, out)
        case Undeliverable(envelope, code, message):
            after, commit = rejections.reject(a, envelope, code, message, now, policy, out)
        case Stepped():
            after, commit = _stepped(a, signal, now, policy, out)
        case Performed():
            after = _performed(a, signal, policy, out)
        case Chattered(sent):
            after = mailbox.accept_inside(
                a, mailbox.sent_envelope(sent, a.number, is_prompt=False), policy, out
            )
        case Refused():
            after, commit = _refused(a, signal, now, policy, out)
        case WorkerLost():
            after, commit = _worker_lost(a, signal, now, policy, out)
        case Upgraded() | UpgradeFailed():
            after, commit = upgrade.answered(a, signal, now, policy, out)
        case CauseGone(causes):
            after = _cause_gone(a, causes, out)
        case Tick():
            after, commit = _tick(a, now, policy, out)
        case Redriven() | Departed() | Drain():
            after = _told(a, signal, out)
        case _:
            assert_never(signal)
    may_keep = isinstance(signal, Tick) and after.phase == a.phase  # one that commits has left its phase
    after, kept = _advance(after, may_keep, now, policy, out)
    return Decision(_set_alarm(after, out), commit or kept, tuple(out))


# --- one function per signal -----------------------------------------------------------------------


def _stepped(
    a: Activation, signal: Stepped, now: Now, policy: Policy, out: list[Command]
) -> tuple[Activation, Commit | None]:
    phase = a.phase
    if not isinstance(phase, Stepping) or phase.number != signal.number or not signal.steps:
        return a, None
    if a.view is None and signal.steps[0].context is None:
        nothing = Refused(signal.number, "machine-error", "the machine has no initial state")
        return _refused(a, nothing, now, policy, out)
    draft = steps.Draft()
    after = a
    answer_by = Monotonic(phase.began + policy.settle_ms)
    computed = signal.steps[: len(phase.envelopes)]
    for envelope, step in zip(phase.envelopes, computed, strict=False):
        after = steps.apply(after, envelope, step, now, draft)
        if envelope.wants_reply:
            caller = Waiting(envelope.id, answer_by, not step.changed)
            after = replace(after, waiting=(*after.waiting, caller))
    left = phase.envelopes[len(computed) :]
    if reason := bounds.excess(after, draft, left, policy):
        if len(computed) > 1:  # the first of a batch alone; the others are computed again
            return _stepped(a, Stepped(signal.number, signal.steps[:1]), now, policy, out)
        return _refused(a, Refused(signal.number, "too-many-effects", reason), now, policy, out)
    if draft.family is not None or draft.consumed:
        _tell_others(phase.envelopes[: len(computed)], draft, out)
    own = tuple([mailbox.own_message(m) for m in draft.messages])
    if left:
        after = replace(after, mailbox=(*left, *after.mailbox))
    if computed[-1].has_effects:
        perform_by = Monotonic(now.mono + policy.compute_ms)
        after = replace(after, phase=Performing(after.seq, perform_by, phase.settle_by, own))
        out.append(Perform(after.seq))
    else:
        after = replace(mailbox.put_first(after, own), phase=Settling(phase.settle_by))
    if draft.head is not None:
        out.append(Publish(draft.head.view))
    if draft.timers_set:
        out.append(
            Arm(tuple(rejections.due_timer(a, timer, timer.due, 0) for timer in draft.timers_set.values()))
        )
    return after, None if draft.is_empty() else draft.commit(a, after, now)


def _tell_others(envelopes: tuple[Envelope, ...], draft: steps.Draft, out: list[Command]) -> None:
    if draft.family is not None and draft.family.messages:
        out.append(Post(tuple(draft.family.messages)))
    foreign = tuple([cause for cause in draft.consumed if cause.owner is not None])
    if foreign:
        out.append(Delivered(foreign))
    if draft.family is not None and draft.family.without_parent:
        reason = "an event was sent to a parent, and there is none"
        out.append(Complain(envelopes[-1], "not-found", reason))


def _performed(a: Activation, signal: Performed, policy: Policy, out: list[Command]) -> Activation:
    """What was sent while performing comes next, in the order of sending."""
    phase = a.phase
    if not isinstance(phase, Performing) or phase.seq != signal.seq:
        return a
    sent = [
        (s.after, mailbox.sent_envelope(s, a.number, is_prompt=True))
        for s in signal.sent
        if s.service is None or s.service in a.services
    ]
    if sent:
        sent = mailbox.fitting(a, sent, policy, out)
    front = mailbox.merge_sent(phase.own, sent) if sent else phase.own
    return replace(mailbox.put_first(a, front), phase=Settling(phase.settle_by))


def _refused(
    a: Activation, signal: Refused, now: Now, policy: Policy, out: list[Command]
) -> tuple[Activation, Commit | None]:
    phase = a.phase
    if not isinstance(phase, Stepping) or phase.number != signal.number:
        return a, None
    envelope, left = phase.envelopes[0], phase.envelopes[1:]
    back = replace(a, phase=phase.before, mailbox=(*left, *a.mailbox))
    return rejections.reject(back, envelope, signal.code, signal.message, now, policy, out)


def _worker_lost(
    a: Activation, signal: WorkerLost, now: Now, policy: Policy, out: list[Command]
) -> tuple[Activation, Commit | None]:
    """Every service is lost. What was being computed comes once more behind the errors, in a new worker."""
    phase = a.phase
    a = replace(_answer_all(mailbox.without_worker(a, *LOST), out), phase=SETTLED)
    if not isinstance(phase, Stepping):
        return a, None
    first, left = phase.envelopes[0], phase.envelopes[1:]
    if isinstance(first.payload, Internal):
        return a, None  # only the worker held it; a service that it ended is owed its error like the others
    if signal.guilty or first.losses + 1 >= policy.losses_max:
        a = replace(a, mailbox=(*left, *a.mailbox))
        reason = "computing this event ended the worker: it ran too long, or took too much memory"
        return rejections.reject(a, first, "machine-fault", reason, now, policy, out)
    again = replace(first, losses=first.losses + 1)
    if isinstance(first.payload, ServiceFailed) and first.cause is None:
        return replace(a, owed=(again, *a.owed)), None
    return replace(a, mailbox=(again, *left, *a.mailbox)), None


def _cause_gone(a: Activation, causes: tuple[Cause, ...], out: list[Command]) -> Activation:
    """The row was consumed before: the envelope ends without an attempt. If it was a step's, the worker's
    copy is one step ahead of the truth, so it is closed."""
    foreign = tuple([cause for cause in causes if cause.owner is not None])
    if foreign:
        out.append(Delivered(foreign))
    for cause in causes:
        a = mailbox.without_row(a, cause)
    if isinstance(a.phase, Stepping):
        return _abandon_copy(a, out)
    if isinstance(a.phase, Upgrading):  # it failed, and refused what is gone
        a = replace(a, phase=SETTLED)
    return replace(a, mailbox=tuple(e for e in a.mailbox if e.cause not in causes))


def _told(a: Activation, signal: Redriven | Departed | Drain, out: list[Command]) -> Activation:
    match signal:
        case Redriven():
            return mailbox.revive(a, signal, out)
        case Departed(count):
            return replace(a, undelivered=max(0, a.undelivered - count))
        case Drain():
            return replace(a, is_draining=True)
        case _:
            assert_never(signal)


def _tick(a: Activation, now: Now, policy: Policy, out: list[Command]) -> tuple[Activation, Commit | None]:
    phase = a.phase
    match phase:
        case Stepping() if now.mono >= phase.compute_by:
            first, left = phase.envelopes[0], phase.envelopes[1:]
            back = _abandon_copy(replace(a, mailbox=(*left, *a.mailbox)), out)
            reason = "the machine did not answer in time"
            if isinstance(first.payload, Internal):  # gone with the copy; its service is owed an error
                out.append(Complain(first, "machine-timeout", reason))
                return back, None
            return rejections.reject(back, first, "machine-timeout", reason, now, policy, out)
        case Performing() if now.mono >= phase.perform_by:
            return _abandon_copy(a, out), None
        case Upgrading() if now.mono >= phase.upgrade_by:
            late = UpgradeFailed(phase.number, "migration-failed", "the migration did not end in time")
            return upgrade.fail(a, late, now, policy, out)
        case Stepping() | Settling():
            return _answer_overdue(a, now, out), None
        case _:
            pass
    return a, None


# --- what follows from where we are ----------------------------------------------------------------


def _advance(
    a: Activation, may_keep: bool, now: Now, policy: Policy, out: list[Command]
) -> tuple[Activation, Commit | None]:
    """Begin the next envelope if one may; otherwise settle, or keep settling. What is kept here without a
    worker takes a commit, so it waits for a decision that has none and that may be lost with it."""
    kept: Commit | None = None
    if a.is_draining:
        a = _refuse_callers(a, out)
    while isinstance(a.phase, Settled | Settling):
        if isinstance(a.phase, Settling):
            if a.is_draining or now.mono >= a.phase.settle_by:
                a = _reach_deadline(a, out)
                continue
            if not a.services and not a.owed and not [e for e in a.mailbox if mailbox.is_inside(e)]:
                a = replace(_answer_all(a, out), phase=SETTLED)
                continue
        taken = None if a.is_draining else mailbox.take(a, policy)
        if taken is None:
            return replace(a, throttled_until=None) if a.throttled_until is not None else a, kept
        envelopes, rest = taken
        if bookkeeping.is_kept_here(a, envelopes[0]):
            if not may_keep:
                out.append(GoOn())
                return a, kept
            if isinstance(envelopes[0].payload, Pause):
                rest = _reach_deadline(rest, out)
            may_keep = False
            a, kept = bookkeeping.keep(rest, envelopes[0], now, policy, out)
            continue
        throttled = fairness.hold_back(a, envelopes[0], now, policy, out)
        if throttled is not None:
            return throttled, kept
        if upgrade.is_due(a, envelopes[0]):
            return upgrade.begin(a, now, policy, out), kept
        a = _begin(fairness.spend(rest, envelopes[0], now, policy), envelopes, now, policy, out)
    return a, kept


def _begin(
    a: Activation, envelopes: tuple[Envelope, ...], now: Now, policy: Policy, out: list[Command]
) -> Activation:
    first = envelopes[0]
    exists = a.view is not None
    if exists == isinstance(first.payload, Initialize):
        assert len(envelopes) == 1 or not exists
        out.extend(_misplaced(e) for e in envelopes)
        return a
    assert isinstance(a.phase, Settled | Settling)
    settle_by = Monotonic(now.mono + policy.settle_ms)
    if isinstance(a.phase, Settling) and mailbox.is_inside(first):
        settle_by = a.phase.settle_by
    number = a.computes + 1
    stepping = Stepping(
        number=number,
        envelopes=envelopes,
        compute_by=Monotonic(now.mono + policy.compute_ms),
        settle_by=settle_by,
        began=now.mono,
        before=a.phase,
    )
    out.append(Compute(number, a.seq, envelopes))
    return replace(a, phase=stepping, computes=number, throttled_until=None)


def _refuse_callers(a: Activation, out: list[Command]) -> Activation:
    """Callers whose event has not begun, or has to begin again. Rows stay in the store."""
    refused = [e for e in a.mailbox if e.wants_reply]
    out.extend(ReplyRefused(e.id, "unavailable", "the server is going down; try again") for e in refused)
    return replace(a, mailbox=tuple(e for e in a.mailbox if not e.wants_reply))


def _misplaced(envelope: Envelope) -> ReplyRefused:
    if isinstance(envelope.payload, Initialize):
        return ReplyRefused(envelope.id, "conflict", "an instance of that name exists")
    return ReplyRefused(envelope.id, "not-found", NO_INSTANCE)


def _reach_deadline(a: Activation, out: list[Command]) -> Activation:
    """Stop the services, owe their errors, and answer everyone with the state as it is."""
    if a.services:
        out.append(Stop(a.services))
        owed = tuple(mailbox.failed_service(run, *STOPPED) for run in a.services)
        a = mailbox.purge(replace(a, services=(), owed=(*a.owed, *owed)))
    return replace(_answer_all(a, out), phase=SETTLED)


def _abandon_copy(a: Activation, out: list[Command]) -> Activation:
    """Have the worker forget what it holds; what was under way is the caller's to put back."""
    out.append(Close())
    return replace(_answer_all(mailbox.without_worker(a, *LOST), out), phase=SETTLED)


def _answer_all(a: Activation, out: list[Command]) -> Activation:
    if not a.waiting:
        return a
    assert a.view is not None, "nobody waits before the first commit"
    view = a.view
    out.extend([Reply(w.to, replace(view, is_unchanged=True) if w.is_unchanged else view) for w in a.waiting])
    return replace(a, waiting=())


def _answer_overdue(a: Activation, now: Now, out: list[Command]) -> Activation:
    overdue = tuple(w for w in a.waiting if w.answer_by <= now.mono)
    in_time = tuple(w for w in a.waiting if w.answer_by > now.mono)
    return replace(_answer_all(replace(a, waiting=overdue), out), waiting=in_time)


def _set_alarm(a: Activation, out: list[Command]) -> Activation:
    match a.phase:
        case Settled():
            return _wake(a, a.throttled_until, out)
        case Performing(perform_by=by) | Upgrading(upgrade_by=by):
            return _wake(a, by, out)
        case Stepping(compute_by=by) | Settling(settle_by=by):
            for caller in a.waiting:
                by = min(by, caller.answer_by)
            if a.throttled_until is not None:
                by = min(by, a.throttled_until)
            return _wake(a, by, out)
        case _:
            assert_never(a.phase)


def _wake(a: Activation, at: Monotonic | None, out: list[Command]) -> Activation:
    if at == a.alarm:
        return a
    out.append(WakeAt(at))
    return replace(a, alarm=at)
