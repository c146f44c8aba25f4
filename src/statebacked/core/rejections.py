"""What becomes of an envelope that was refused: it never happened. Who is told, and what is kept, depends on
where it came from."""

from msgspec.structs import replace

from statebacked.core import mailbox, retry, steps, wording
from statebacked.core.phases import (
    Activation,
    Arm,
    Command,
    Complain,
    Delivered,
    Post,
    Redeliver,
    ReplyRefused,
)
from statebacked.core.policy import Policy
from statebacked.model.envelopes import Envelope, External, ServiceFailed
from statebacked.model.ids import Instant, RowKey
from statebacked.model.rows import Commit, DueTimer, Message, PendingTimer, Rejection, Timer
from statebacked.model.values import Now, Parent


def reject(
    a: Activation,
    envelope: Envelope,
    code: str,
    message: str,
    now: Now,
    policy: Policy,
    out: list[Command],
) -> tuple[Activation, Commit | None]:
    if envelope.wants_reply:
        out.append(ReplyRefused(envelope.id, code, message))
        return a, None
    if envelope.cause is not None:
        return _reject_row(a, envelope, code, message, now, policy, out)
    out.append(Complain(envelope, code, message))
    if envelope.service is None or not envelope.ends_service:
        return a, None
    return _reject_ending(a, envelope, code, message)


def _reject_row(
    a: Activation,
    envelope: Envelope,
    code: str,
    message: str,
    now: Now,
    policy: Policy,
    out: list[Command],
) -> tuple[Activation, Commit | None]:
    assert envelope.cause is not None
    attempts = envelope.attempts + 1
    rejection = retry.reject(envelope.cause, attempts, f"{code}: {message}", now, policy)
    out.append(Complain(envelope, code, message))
    if rejection.retry_at is None:
        return _bury(a, envelope, rejection, out)
    if rejection.cause.table == "message":
        out.append(Redeliver(rejection.cause, attempts, rejection.retry_at))
    else:
        a = _retry_timer(a, envelope, attempts, rejection.retry_at, out)
    return a, replace(row_commit(a), rejected=rejection)


def _bury(
    a: Activation, envelope: Envelope, rejection: Rejection, out: list[Command]
) -> tuple[Activation, Commit]:
    """A dead letter. The parent of a child that could not be made is told in the same commit."""
    a = mailbox.without_row(a, rejection.cause)
    commit = replace(row_commit(a), rejected=rejection)
    if rejection.cause.owner is not None:
        out.append(Delivered((rejection.cause,)))
    parent = envelope.origin.parent if envelope.origin is not None else None
    if parent is not None:
        key = RowKey(f"failed.{rejection.cause.key}.{rejection.at}")
        code, _, reason = rejection.reason.partition(": ")
        messages = (failure(parent, key, code, reason),)
        out.append(Post(messages))
        commit = replace(commit, messages=messages)
    return a, commit


def failure(parent: Parent, key: RowKey, code: str, message: str) -> Message:
    """What tells a parent that its child could not be made, or is gone."""
    told = wording.failure(code, message)
    return Message(key=key, kind="failed", event=told, link=parent.link, owner=parent.instance)


def _retry_timer(
    a: Activation, envelope: Envelope, attempts: int, retry_at: Instant, out: list[Command]
) -> Activation:
    assert envelope.cause is not None
    assert isinstance(envelope.payload, External)
    n = next(n for n, timer in enumerate(a.timers) if timer.key == envelope.cause.key)
    key, send_id, due, _ = a.timers[n]
    timer = Timer(key=key, send_id=send_id, due=due, event=envelope.payload.event)
    out.append(Arm((due_timer(a, timer, retry_at, attempts),)))
    return replace(a, timers=(*a.timers[:n], PendingTimer(key, send_id, due, attempts), *a.timers[n + 1 :]))


def due_timer(a: Activation, timer: Timer, fire_at: Instant, attempts: int) -> DueTimer:
    return DueTimer(instance=a.instance, key=a.key, timer=timer, fire_at=fire_at, attempts=attempts)


def _reject_ending(
    a: Activation, envelope: Envelope, code: str, message: str
) -> tuple[Activation, Commit | None]:
    """A result that the machine refuses becomes that service's error event; a refused error event is over."""
    run = envelope.service
    assert run is not None
    a = mailbox.purge(replace(a, services=tuple(s for s in a.services if s != run)))
    if isinstance(envelope.payload, ServiceFailed):
        return a, row_commit(a)
    return replace(a, owed=(mailbox.failed_service(run, code, message), *a.owed)), None


def row_commit(a: Activation) -> Commit:
    """A commit that changes no state: rows and recorded services only."""
    return Commit(instance=a.instance, epoch=a.epoch, base=a.seq, services=steps.recorded_services(a))
