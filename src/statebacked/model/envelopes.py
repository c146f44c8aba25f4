"""Envelopes: one event, or one control, on its way to one instance."""

from typing import Literal, NamedTuple

from msgspec import Struct

from statebacked.model.ids import EnvelopeId, InstanceId, Instant, RowKey, ServiceRun, VersionId
from statebacked.model.values import Address, Json, Parent, Target


class Initialize(Struct, frozen=True, gc=False):
    """Create the instance. `context` is the caller's object, or None."""

    context: Json | None


class External(Struct, frozen=True, gc=False):
    """An event from a client, a timer or a message: a JSON object with a string `type`."""

    event: Json


class Internal(Struct, frozen=True, gc=False):
    """An event that running machine code sent. The worker still holds the very object under `token`."""

    event: Json
    token: int


class ServiceFailed(Struct, frozen=True, gc=False):
    """Made by the core: the service was lost, stopped, or its result refused. The worker words the event."""

    code: str
    message: str


class ChildDone(Struct, frozen=True, gc=False):
    """A persistent child has reached its final state. The worker words the event."""

    output: Json


class Forward(Struct, frozen=True, gc=False):
    """A delayed send to another instance came due: it becomes a message. No worker is asked."""

    event: Json
    to: Target


class Pause(Struct, frozen=True, gc=False):
    """Stop the services and take no events until Resume. No worker is asked, as for the three below."""


class Resume(Struct, frozen=True, gc=False):
    """Go on, with the timers and messages that were held."""


class Delete(Struct, frozen=True, gc=False):
    """Remove the instance and everything that is its own."""


class Wish(Struct, frozen=True, gc=False):
    """Run this version from the next event on; None: stay with the present one."""

    version: VersionId | None


Control = Pause | Resume | Delete | Wish
Payload = Initialize | External | Internal | ServiceFailed | ChildDone | Forward | Control
Source = Literal["client", "timer", "self", "service", "instance", "upgrade"]
# "client": outside. "timer": a durable delay came due. "instance": another instance sent it (its parent, when
# it creates this one). These three are outside: they buy time to settle. "self": the machine sent it to
# itself, as a message row (with a cause) or while performing. "service": an ephemeral service. "upgrade":
# stands in histories only.


class Cause(NamedTuple):
    """The durable row that an envelope came from, deleted by the commit that consumes it. `owner` is who sent
    the message, None when it is the very instance that consumes it; a timer is always its instance's own."""

    table: Literal["timer", "message"]
    key: RowKey
    owner: InstanceId | None = None


class Origin(Struct, frozen=True, gc=False):
    """What is known of an envelope that another instance sent: the sender, and the parent–child link that it
    belongs to. With `parent` it is the creation of this instance by that parent."""

    sender: Address
    link: ServiceRun | None = None
    parent: Parent | None = None


class Repeatable(Struct, frozen=True, gc=False):
    """An idempotency key with what it is bound to. `scope` is the SHA-256 of method, path and principal; `at`
    is when the request came."""

    scope: bytes
    key: str
    body_sha256: bytes
    at: Instant


class Envelope(Struct, frozen=True, kw_only=True, gc=False):
    """One event on its way to one instance. A reply, when one is wanted, goes to the envelope's id.

    `auth` is the authContext to judge it by; None means that it is not authorised (timers, its own sends,
    services). `is_prompt`: sent in the machine's own turn, by a step or while it was performed. `attempts`
    counts refused deliveries of its row; `losses` workers that died computing it.
    """

    id: EnvelopeId
    payload: Payload
    source: Source
    auth: Json | None = None
    wants_reply: bool = False
    cause: Cause | None = None
    service: ServiceRun | None = None
    ends_service: bool = False
    is_prompt: bool = False
    attempts: int = 0
    losses: int = 0
    origin: Origin | None = None
    repeatable: Repeatable | None = None
