"""What a step has for other instances: messages and persistent children, resolved to rows and links."""

from msgspec.structs import replace

from statebacked.core.phases import Activation
from statebacked.model.envelopes import Envelope, Forward
from statebacked.model.ids import RowKey, Seq, ServiceId, ServiceRun
from statebacked.model.rows import Message
from statebacked.model.step import SendTo, Spawn, Step, Unlink
from statebacked.model.values import Json, Link, Parent, Target, ToParent

NOTHING = Json(b"null")


class Family:
    """What the steps of one commit do to the links and the outbox of an instance."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.linked: dict[ServiceRun, Link] = {}
        self.unlinked: list[ServiceRun] = []
        self.without_parent: list[Json] = []  # events to a parent that the instance does not have
        self.depth = 0  # of the deepest child to be made

    def follow(self, a: Activation, step: Step, seq: Seq) -> Activation:
        """The activation after what the step sends, spawns and gives up."""
        before = len(self.messages)
        links = {link.run.id: link for link in a.links}
        for n, item in enumerate(step.outgoing):
            key = RowKey(f"{seq}.o{n}")
            match item:
                case SendTo(to, event):
                    self._send(key, a.parent, to, event)
                case Unlink(service):
                    self._unlink(links, service)
                case Spawn():
                    self._unlink(links, item.service)
                    self._spawn(links, key, item, seq, 1 + (a.parent.depth if a.parent is not None else 0))
        if step.done:
            for service in list(links):
                self._unlink(links, service)
            if a.parent is not None:
                self.messages.append(_done(a.parent, step, seq))
        undelivered = a.undelivered + len(self.messages) - before
        return replace(a, links=tuple(links.values()), undelivered=undelivered)

    def forget_child(self, a: Activation, envelope: Envelope) -> Activation:
        """The child that the envelope tells of is done, or was never made."""
        if envelope.service is None:
            return a
        links = {link.run.id: link for link in a.links}  # it is one of them, or nobody would have heard it
        self._unlink(links, envelope.service.id)
        return replace(a, links=tuple(links.values()))

    def _send(self, key: RowKey, parent: Parent | None, to: Target, event: Json) -> None:
        message = message_to(key, parent, to, event)
        if message is None:
            self.without_parent.append(event)
        else:
            self.messages.append(message)

    def _spawn(self, links: dict[ServiceId, Link], key: RowKey, spawn: Spawn, seq: Seq, depth: int) -> None:
        run = ServiceRun(spawn.service, seq)
        links[spawn.service] = self.linked[run] = Link(run, spawn.child)
        self.depth = max(self.depth, depth)
        self.messages.append(
            Message(
                key=key,
                kind="create",
                to=spawn.child,
                event=spawn.context or NOTHING,
                link=run,
                version=spawn.version,
                depth=depth,
            )
        )

    def _unlink(self, links: dict[ServiceId, Link], service: ServiceId) -> None:
        link = links.pop(service, None)
        if link is not None and self.linked.pop(link.run, None) is None:
            self.unlinked.append(link.run)


def message_to(key: RowKey, parent: Parent | None, to: Target, event: Json) -> Message | None:
    """An event for another instance; None when it is for a parent and there is none."""
    if not isinstance(to, ToParent):
        return Message(key=key, kind="event", to=to, event=event)
    if parent is None:
        return None
    return Message(key=key, kind="event", to=parent.address, event=event, link=parent.link)


def forwarded(a: Activation, key: RowKey, forward: Forward) -> Message | None:
    """The message that a delayed send becomes when it is due. No other timer makes its key."""
    return message_to(RowKey(f"{key}.t"), a.parent, forward.to, forward.event)


def is_heard(a: Activation, envelope: Envelope) -> bool:
    """Whether what comes from a child comes from one of now, under the run of now. That a child could not be
    made, or is gone, is told by a row of the parent's own."""
    origin = envelope.origin
    if origin is None or origin.link is None:
        return True
    me = (a.key.machine, a.key.name)
    return any(link.run == origin.link and origin.sender in (link.child, me) for link in a.links)


def _done(parent: Parent, step: Step, seq: Seq) -> Message:
    return Message(
        key=RowKey(f"{seq}.done"),
        kind="done",
        to=parent.address,
        event=step.output or NOTHING,
        link=parent.link,
    )
