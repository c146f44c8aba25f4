"""From a message row to the envelope that its recipient gets."""

from statebacked.core import wording
from statebacked.model.envelopes import (
    Cause,
    ChildDone,
    Envelope,
    External,
    Forward,
    Initialize,
    Origin,
    Payload,
)
from statebacked.model.ids import EnvelopeId
from statebacked.model.rows import DueMessage, DueTimer
from statebacked.model.values import Address, Parent


def of_message(due: DueMessage) -> Envelope:
    """Judged by the sender's identity, but for what tells a parent of its own child."""
    message, link = due.message, due.message.link
    sender = Address(due.sender.machine, due.sender.name)
    parent = None
    if message.kind == "create":
        assert link is not None
        parent = Parent(due.owner, sender, link, message.depth)
    tells_of_child = message.kind in ("done", "failed")
    return Envelope(
        id=EnvelopeId(f"message:{due.owner}:{message.key}"),
        payload=_payload(due),
        source="instance",
        auth=None if tells_of_child else wording.sender_auth(sender),
        cause=Cause("message", message.key, due.owner),
        service=link if tells_of_child else None,
        attempts=due.attempts,
        origin=Origin(sender, link, parent),
    )


def of_timer(due: DueTimer) -> Envelope:
    timer = due.timer
    return Envelope(
        id=EnvelopeId(f"timer:{timer.key}"),
        payload=External(timer.event) if timer.to is None else Forward(timer.event, timer.to),
        source="timer",
        cause=Cause("timer", timer.key),
        attempts=due.attempts,
    )


def _payload(due: DueMessage) -> Payload:
    event = due.message.event
    match due.message.kind:
        case "create":
            return Initialize(None if event == b"null" else event)
        case "done":
            return ChildDone(event)
        case "failed":
            return wording.read_failure(event)
        case _:
            return External(event)
