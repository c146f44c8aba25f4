"""What must hold between instances: what a step sends to others, its persistent children, and who is told."""

import json
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from typing import NamedTuple

from statebacked.core import phases
from statebacked.core.phases import Activation
from statebacked.core.policy import Policy
from statebacked.model.envelopes import (
    Cause,
    ChildDone,
    Envelope,
    External,
    Initialize,
    Origin,
    ServiceFailed,
)
from statebacked.model.ids import InstanceId, Instant, ServiceRun, VersionId
from statebacked.model.rows import Commit, DueMessage, Message, Transition
from statebacked.model.step import SendTo, Spawn, Unlink
from statebacked.model.values import Address, Json, Link, Parent, Target, ToParent
from statebacked.store.memory_instances import MemoryInstances
from statebacked.store.memory_rows import MessageRow
from tests.sim.decisions import Decided
from tests.sim.laws import Life, Row, must
from tests.sim.machine import Reaction

Rows = Mapping[Cause, MessageRow]
Steps = Sequence[tuple[Transition, Reaction]]


class Sending(NamedTuple):
    """A message, without its key."""

    kind: str
    to: Address | None
    event: Json
    link: ServiceRun | None = None
    version: VersionId | None = None
    depth: int = 0
    owner: InstanceId | None = None


def is_delivered_as_it_was_sent(due: DueMessage, envelope: Envelope) -> None:
    message, sender = due.message, Address(due.sender.machine, due.sender.name)
    parent = None
    auth = {"stateBackedSender": {"machineName": sender.machine, "machineInstanceName": sender.name}}
    tells_of_child = message.kind in ("done", "failed")
    match message.kind:
        case "create":
            must(envelope.payload == Initialize(context_of(message)), "a child gets the context it was given")
            assert message.link is not None
            parent = Parent(due.owner, sender, message.link, message.depth)
        case "done":
            must(envelope.payload == ChildDone(message.event), "a parent gets what its child came to")
        case "failed":
            told = json.loads(message.event)
            must(envelope.payload == ServiceFailed(told["code"], told["message"]), "a parent is told why")
        case _:
            must(envelope.payload == External(message.event), "a message arrives as it was sent")
    must(envelope.origin == Origin(sender, message.link, parent), "a message says who has sent it")
    if tells_of_child:
        must(envelope.auth is None, "what the platform tells is not judged")
    else:
        must(envelope.auth is not None and json.loads(envelope.auth) == auth, "a message is its sender's")
    must(envelope.service == (message.link if tells_of_child else None), "a run is told of its own child")
    is_of_row = envelope.cause == Cause("message", message.key, due.owner)
    must(is_of_row and envelope.attempts == due.attempts, "a message is delivered for its row")
    must(envelope.source == "instance" and not envelope.wants_reply, "nobody waits for a message")


def context_of(message: Message) -> Json | None:
    return None if message.event == b"null" else message.event


def foreign_rows(rows: MemoryInstances, commit: Commit) -> Rows:
    """The rows of other instances' messages that a commit is about, as they are before it."""
    rejected = () if commit.rejected is None else (commit.rejected.cause,)
    causes = [c for c in (*commit.consumed, *rejected) if c.owner is not None]
    found = {c: rows.messages.get((c.owner, c.key)) for c in causes if c.owner is not None}
    return {c: copy(row) for c, row in found.items() if row is not None}


def gone(foreign: Rows, after: MemoryInstances) -> list[Cause]:
    """Which of them are consumed or given up now."""
    now = {cause: after.messages.get((cause.owner, cause.key)) for cause in foreign if cause.owner}
    return [cause for cause, row in now.items() if row is None or row.dead_at is not None]


def follow(life: Life, commit: Commit, steps: Steps, rows: Rows, fired: Sequence[Row]) -> None:
    """Check what a commit that the store has just accepted does for others, and take it over."""
    sendings: list[Sending] = []
    links = dict(life.links)
    for cause in commit.consumed:
        if cause in rows:
            _consume(life, commit, rows[cause], links)
    for row in fired:
        if row.to is not None:
            sendings += _send(life.parent, row.to, row.event)
    for transition, reaction in steps:
        _follow_step(life, transition, reaction, links, sendings)
    if commit.deleted_at is not None:
        links.clear()
        if life.parent is not None:
            sendings.append(_failure(life.parent, "not-found"))
    compare_messages(commit, [*sendings, *rejected_creations(commit, rows)])
    if commit.deleted_at is None:
        new = {link for service, link in links.items() if life.links.get(service) != link}
        must(set(commit.linked) == new, "the children of an instance are recorded")
        gone = {link.run for link in life.links.values()} - {link.run for link in links.values()}
        must(set(commit.unlinked) == gone, "children that an instance is done with are not its own any more")
    life.links = links


def _consume(life: Life, commit: Commit, row: MessageRow, links: dict[str, Link]) -> None:
    message = row.message
    if message.kind == "event" and commit.transitions:
        must(commit.transitions[0].event == message.event, "a message is the event of its transition")
    if message.kind == "create":
        assert message.link is not None
        sender = Address(row.sender.machine, row.sender.name)
        parent = Parent(row.instance, sender, message.link, message.depth)
        must(life.parent is None or life.parent.instance == row.instance, "a child has one parent")
        found = commit.birth.parent if commit.birth is not None else commit.parent
        must(found == parent, "a child knows who has made it, and for which run")
        life.parent = parent
    elif message.kind in ("done", "failed") and message.link is not None:
        link = links.get(message.link.id)
        tellers = () if link is None else (link.child, Address(life.key.machine, life.key.name))
        is_theirs = Address(row.sender.machine, row.sender.name) in tellers
        if link is not None and link.run == message.link and is_theirs:
            del links[message.link.id]


def _follow_step(
    life: Life, t: Transition, reaction: Reaction, links: dict[str, Link], sendings: list[Sending]
) -> None:
    for item in reaction.outgoing:
        match item:
            case SendTo(to, event):
                sendings += _send(life.parent, to, event)
            case Unlink(service):
                links.pop(service, None)
            case Spawn(service, child, version, context):
                run = ServiceRun(service, t.seq)
                links.pop(service, None)
                links[service] = Link(run, child)
                depth = 1 if life.parent is None else 1 + life.parent.depth
                event = context or Json(b"null")
                sendings.append(Sending("create", child, event, run, version, depth))
    if reaction.state.snapshot.done:
        links.clear()
        if life.parent is not None:
            output = reaction.output or Json(b"null")
            sendings.append(Sending("done", life.parent.address, output, life.parent.link))


def _send(parent: Parent | None, to: Target, event: Json) -> list[Sending]:
    if not isinstance(to, ToParent):
        return [Sending("event", to, event)]
    return [] if parent is None else [Sending("event", parent.address, event, parent.link)]


def _failure(parent: Parent, code: str) -> Sending:
    return Sending("failed", None, Json(code.encode()), parent.link, owner=parent.instance)


def rejected_creations(commit: Commit, rows: Rows) -> list[Sending]:
    """A parent whose child could not be made is told with the refusal that was the last."""
    rejection = commit.rejected
    if rejection is None or rejection.retry_at is not None or rejection.cause not in rows:
        return []
    message = rows[rejection.cause].message
    if message.kind != "create":
        return []
    code = Json(rejection.reason.split(":")[0].encode())
    return [Sending("failed", None, code, message.link, owner=rejection.cause.owner)]


def compare_messages(commit: Commit, sendings: Sequence[Sending]) -> None:
    found = [_sending(message) for message in commit.messages if message.kind != "self"]
    must(found == list(sendings), "what is for others is stored with its step")


def _sending(m: Message) -> Sending:
    event = Json(json.loads(m.event)["code"].encode()) if m.kind == "failed" else m.event
    return Sending(m.kind, m.to, event, m.link, m.version, m.depth, m.owner)


def first_of_pairs(rows: MemoryInstances, foreign: Rows) -> dict[Cause, int]:
    """What comes first of the pairs that a commit is about, as they are before it."""
    return {
        c: next(r.row for r in rows.messages.values() if _is_of_pair(r, row)) for c, row in foreign.items()
    }


def order_of_a_pair_is_kept(foreign: Rows, firsts: Mapping[Cause, int], redriven: Collection[Cause]) -> None:
    """A delivery that was under way when its message died and was redriven may come before its new turn."""
    for cause, row in foreign.items():
        must(
            firsts[cause] == row.row or cause in redriven,
            "what one instance sends to another is heard in the order of sending",
        )


def nobody_was_there(commit: Commit, rows: Rows) -> None:
    """An instance that does not exist refuses what comes for it."""
    must(commit.rejected is not None and commit.rejected.cause in rows, "who does not exist only refuses")
    must(not commit.services and commit.head is None, "who does not exist has no state")
    compare_messages(commit, rejected_creations(commit, rows))


def refusals_are_counted(
    commit: Commit, rows: Rows, at: Instant, policy: Policy, redriven: Collection[Cause]
) -> None:
    """A delivery that comes twice counts the same attempt; one older than a redrive counts its own."""
    rejection = commit.rejected
    if rejection is None or rejection.cause not in rows:
        return
    attempts, before = rejection.attempts, rows[rejection.cause].attempts
    is_counted = attempts in (before, before + 1) or rejection.cause in redriven
    must(attempts > 0 and is_counted and rejection.at == at, "every refused delivery counts one attempt")
    pause = min(policy.retry_first_ms * 2 ** (attempts - 1), policy.retry_longest_ms)
    retry_at = None if attempts >= policy.attempts_max else at + pause
    must(rejection.retry_at == retry_at, "a refused message comes again with back-off, and not for ever")


def _is_of_pair(one: MessageRow, other: MessageRow) -> bool:
    if one is other or one.row == other.row:
        return True
    is_living = one.dead_at is None and one.message.kind != "self"
    return is_living and (one.instance, one.to) == (other.instance, other.to)


def messages_are_counted(a: Activation, rows: MemoryInstances, uncounted: int) -> None:
    """Never too few: what has just been consumed may not be known yet. `uncounted`: how many were redriven
    while it was being loaded."""
    must(a.undelivered + uncounted >= on_their_way(a.instance, rows), "messages on their way are counted")


def on_their_way(instance: InstanceId, rows: MemoryInstances) -> int:
    own = [r.message.kind for r in rows.messages.values() if r.instance == instance and r.dead_at is None]
    return sum(kind not in ("self", "failed") for kind in own)


# --- one decision ------------------------------------------------------------------------------------


def judge(d: Decided, after: Activation) -> None:
    messages = tuple(m for m in d.commit.messages if m.kind != "self") if d.commit is not None else ()
    posted = [m for c in d.commands if isinstance(c, phases.Post) for m in c.messages]
    must(posted == list(messages), "what is stored for others is posted")
    must(all(c.messages for c in d.commands if isinstance(c, phases.Post)), "nothing is no post")
    senders_hear_what_is_done(d)
    refused_messages_come_again(d)
    left = d.before.undelivered
    if isinstance(d.signal, phases.Departed):
        left = max(0, left - d.signal.count)
    left += sum(m.owner is None for m in messages)
    if isinstance(d.signal, phases.Redriven) and isinstance(d.signal.row, Message):
        left += d.signal.row.kind not in ("self", "failed")
    if not d.has(phases.Gone):
        must(after.undelivered == left, "messages on their way are counted")


def senders_hear_what_is_done(d: Decided) -> None:
    done: list[Cause] = list(d.signal.causes) if isinstance(d.signal, phases.CauseGone) else []
    if d.commit is not None:
        done += d.commit.consumed
        if d.commit.rejected is not None and d.commit.rejected.retry_at is None:
            done.append(d.commit.rejected.cause)
    told = [cause for c in d.commands if isinstance(c, phases.Delivered) for cause in c.causes]
    must(told == [cause for cause in done if cause.owner is not None], "senders hear of what is done with")


def refused_messages_come_again(d: Decided) -> None:
    rejected = d.commit.rejected if d.commit is not None else None
    again = [(c.cause, c.attempts, c.at) for c in d.commands if isinstance(c, phases.Redeliver)]
    due = []
    if rejected is not None and rejected.cause.owner is not None and rejected.retry_at is not None:
        due.append((rejected.cause, rejected.attempts, rejected.retry_at))
    must(again == due, "a refused message of another instance comes again")
