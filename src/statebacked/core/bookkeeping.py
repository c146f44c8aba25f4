"""Envelopes that no worker is asked about: what they commit changes rows, not the machine's state.

A commit of this kind stands in a decision of its own, made on a Tick: if it loses its race (a row is gone),
nothing else of the decision is lost with it. `instance` sees to that.
"""

from msgspec.structs import replace

from statebacked.core import family, mailbox, rejections
from statebacked.core.phases import (
    Activation,
    Close,
    Command,
    Complain,
    Delivered,
    Gone,
    Post,
    Reply,
    ReplyRefused,
    Rescan,
    Stop,
)
from statebacked.core.policy import Policy
from statebacked.core.wording import NO_INSTANCE
from statebacked.model.envelopes import Delete, Envelope, External, Forward, Initialize, Pause, Resume, Wish
from statebacked.model.ids import RowKey
from statebacked.model.rows import Commit, Message, StateView
from statebacked.model.values import Now

Kept = tuple[Activation, Commit | None]


def is_kept_here(a: Activation, envelope: Envelope) -> bool:
    """Whether the envelope takes a commit and no worker."""
    if type(envelope.payload) is External and envelope.origin is None:
        return a.view is None and envelope.cause is not None
    match envelope.payload:
        case Pause() | Resume() | Delete() | Wish():
            return a.view is not None
        case Forward():
            return True
        case Initialize():
            return a.view is not None and envelope.cause is not None
        case _:
            if a.view is None:
                return envelope.cause is not None
            return not family.is_heard(a, envelope)


def keep(a: Activation, envelope: Envelope, now: Now, policy: Policy, out: list[Command]) -> Kept:
    """What follows from an envelope that is kept here. The activation no longer holds it."""
    match envelope.payload:
        case Pause():
            return _pause(a, envelope, out)
        case Resume():
            out += [Reply(envelope.id, _view(a)), Rescan()]
            return replace(a, status="running"), _commit(a, status="running")
        case Delete():
            return _delete(a, envelope, now, out)
        case Wish(version):
            out.append(Reply(envelope.id, _view(a)))
            wished = None if version == a.version else version
            return replace(a, desired=wished), _commit(a, wish=Wish(wished))
        case Forward():
            return _forward(a, envelope, envelope.payload, out)
        case Initialize() if a.view is not None:
            return _link_again(a, envelope, now, policy, out)
        case _ if a.view is None:
            reason = NO_INSTANCE
            return rejections.reject(a, envelope, "not-found", reason, now, policy, out)
        case _:
            out.append(Complain(envelope, "not-heard", "it comes from a child that the machine is done with"))
            return _consume(a, envelope, out)


def _pause(a: Activation, envelope: Envelope, out: list[Command]) -> Kept:
    """Services have been stopped, as at the deadline. Rows are held in the store; what the machine has sent
    itself stays here, since nothing would bring it again. What was on its way here is taken back."""
    out += [Reply(envelope.id, _view(a)), Rescan()]
    kept = []
    for waiting in a.mailbox:
        if mailbox.is_control(waiting) or waiting.source == "self":
            kept.append(waiting)
        else:
            mailbox.refuse_paused(a, waiting, out)
    return replace(a, status="paused", mailbox=tuple(kept)), _commit(a, status="paused")


def _delete(a: Activation, envelope: Envelope, now: Now, out: list[Command]) -> Kept:
    gone = "the instance was deleted"
    if a.services:
        out.append(Stop(a.services))
    out += [Close(), Reply(envelope.id, _view(a))]
    out += [ReplyRefused(w.to, "not-found", gone) for w in a.waiting]
    out += [ReplyRefused(e.id, "not-found", gone) for e in a.mailbox if e.wants_reply]
    messages: tuple[Message, ...] = ()
    if a.parent is not None:
        messages = (rejections.failure(a.parent, RowKey(f"gone.{a.instance}"), "not-found", gone),)
        out.append(Post(messages))
    out.append(Gone())
    left = replace(a, services=(), owed=(), waiting=(), mailbox=())
    return left, _commit(left, deleted_at=now.wall, messages=messages)


def _forward(a: Activation, envelope: Envelope, forward: Forward, out: list[Command]) -> Kept:
    assert envelope.cause is not None
    message = family.forwarded(a, envelope.cause.key, forward)
    a, commit = _consume(a, envelope, out)
    if message is None:
        out.append(Complain(envelope, "not-found", "it was sent to a parent, and there is none"))
        return a, commit
    out.append(Post((message,)))
    return replace(a, undelivered=a.undelivered + 1), replace(commit, messages=(message,))


def _link_again(a: Activation, envelope: Envelope, now: Now, policy: Policy, out: list[Command]) -> Kept:
    """The parent spawns under a name that exists: linked again when it is a child of that very parent."""
    parent = envelope.origin.parent if envelope.origin is not None else None
    if parent is None or a.parent is None or a.parent.instance != parent.instance:
        reason = "an instance of that name exists"
        return rejections.reject(a, envelope, "conflict", reason, now, policy, out)
    a, commit = _consume(a, envelope, out)
    return replace(a, parent=parent), replace(commit, parent=parent)


def _consume(a: Activation, envelope: Envelope, out: list[Command]) -> tuple[Activation, Commit]:
    cause = envelope.cause
    assert cause is not None
    a = mailbox.without_row(a, cause)
    if cause.owner is not None:
        out.append(Delivered((cause,)))
    return a, _commit(a, consumed=(cause,))


def _view(a: Activation) -> StateView:
    assert a.view is not None
    return a.view


def _commit(a: Activation, **changes: object) -> Commit:
    return replace(rejections.row_commit(a), **changes)
