"""The nouns that every layer shares. Frozen, slotted; no behaviour beyond what a value itself means.

JSON that belongs to users (contexts, events, snapshots) travels as `Json`: UTF-8 bytes of exactly one
JSON value, made and read by the worker, stored and sent as they are, never parsed on the way.
"""

from enum import Enum
from typing import Literal, NamedTuple, NewType

from msgspec import Struct

from statebacked.model.ids import (
    EnvelopeId,
    Epoch,
    InstanceId,
    InstanceKey,
    Instant,
    Monotonic,
    RowKey,
    SendId,
    Seq,
    ServiceId,
    ServiceRun,
    VersionId,
)

Json = NewType("Json", bytes)


class Now(NamedTuple):
    """One reading of both clocks: wall time for what users see, monotonic time for deadlines."""

    wall: Instant
    mono: Monotonic


# --- envelopes: one event on its way to one instance --------------------------------------------


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


Payload = Initialize | External | Internal | ServiceFailed

Source = Literal["client", "timer", "self", "service"]
# "client": outside. "timer": a durable delay came due (outside: it buys time to settle). "self": the machine
# sent it to itself, as a message row (with a cause) or while performing. "service": an ephemeral service.


class Cause(NamedTuple):
    """The durable row that an envelope came from, deleted by the commit that consumes it."""

    table: Literal["timer", "message"]
    key: RowKey


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


# --- a step: what the machine decided for one envelope, computed and not yet performed -----------


class SetTimer(Struct, frozen=True, gc=False):
    """A delayed send of the machine to itself (`after` included). `delay_ms` is finite and >= 0."""

    send_id: SendId
    delay_ms: int
    event: Json


class CancelTimer(Struct, frozen=True, gc=False):
    """Cancels the newest pending timer of that send id, or nothing."""

    send_id: SendId


class Step(Struct, frozen=True, kw_only=True, gc=False):
    """All transitions that one envelope causes. With `changed` false no transition was selected and every
    other field is empty.

    `event` replaces the envelope's in the history where the worker worded it. `context` None: its JSON
    equals that of the seq before. `public` is context.public, read only together with `context`.
    `starts` and `stops` are applied stops first. `has_effects`: the worker holds something to perform.
    """

    changed: bool
    event: Json | None = None
    value: Json = Json(b"null")
    tags: Json = Json(b"[]")
    done: bool = False
    snapshot: Json = Json(b"null")
    context: Json | None = None
    public: Json | None = None
    timers: tuple[SetTimer | CancelTimer, ...] = ()
    sends: tuple[Json, ...] = ()
    starts: tuple[ServiceId, ...] = ()
    stops: tuple[ServiceId, ...] = ()
    indexes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    has_effects: bool = False


class StateView(Struct, frozen=True, kw_only=True, gc=False):
    """What readers may see of one seq. `public` is None when the context has no `public`."""

    seq: Seq
    ts: Instant
    value: Json
    tags: Json
    done: bool
    public: Json | None


# --- durable rows --------------------------------------------------------------------------------


class Timer(Struct, frozen=True, kw_only=True, gc=False):
    """A durable delay. `key` is unique in its instance and rises in the order of setting."""

    key: RowKey
    send_id: SendId
    due: Instant
    event: Json


class PendingTimer(NamedTuple):
    """What an activation remembers of a timer row, in the order of setting. `attempts`: refused deliveries
    that it has seen itself; a delivery that was read before them is stale."""

    key: RowKey
    send_id: SendId
    due: Instant
    attempts: int = 0


class Message(Struct, frozen=True, kw_only=True, gc=False):
    """An undelayed event that the machine sends itself, delivered next and exactly once."""

    key: RowKey
    event: Json


class Transition(Struct, frozen=True, kw_only=True, gc=False):
    """One row of history. `actor` says who caused it: the authContext for a client's event."""

    seq: Seq
    ts: Instant
    at: Instant
    event_id: EnvelopeId
    event: Json
    value: Json
    source: Source
    actor: Json | None
    version: VersionId


class Birth(Struct, frozen=True, kw_only=True, gc=False):
    """What a first commit writes besides the head: the instance's identity."""

    key: InstanceKey
    version: VersionId
    created_at: Instant


class Head(Struct, frozen=True, kw_only=True, gc=False):
    """The newest durable state. `context` None: unchanged, keep the stored one."""

    view: StateView
    snapshot: Json
    context: Json | None


class Rejection(Struct, frozen=True, kw_only=True, gc=False):
    """A delivery of a timer or message row failed: keep it with one attempt more, retried at `retry_at`
    (wall time), or as a dead letter when `retry_at` is None."""

    cause: Cause
    attempts: int
    retry_at: Instant | None
    reason: str
    at: Instant


class Commit(Struct, frozen=True, kw_only=True, gc=False):
    """The whole write-set of one decision, durable at once or not at all.

    It applies only if the lease's epoch is `epoch`, the instance's seq is `base` (absent, with `birth`)
    and every row of `consumed` exists. With `head` None only the rows named here and `services` change;
    `services` are all runs that are recorded as running or owed an error after it.
    """

    instance: InstanceId
    epoch: Epoch
    base: Seq
    birth: Birth | None = None
    head: Head | None = None
    transitions: tuple[Transition, ...] = ()
    services: tuple[ServiceRun, ...] = ()
    consumed: tuple[Cause, ...] = ()
    timers_set: tuple[Timer, ...] = ()
    timers_removed: tuple[RowKey, ...] = ()
    messages: tuple[Message, ...] = ()
    rejected: Rejection | None = None


class Outcome(Enum):
    """How a commit ended. Losing a race is an outcome, not an exception; nothing was written then."""

    COMMITTED = "committed"
    FENCED = "fenced"  # another epoch owns the instance, or its seq is not `base`
    CAUSE_GONE = "cause-gone"  # a consumed row is gone: the envelope was consumed before
    NAME_TAKEN = "name-taken"  # birth of a name that exists


class InstanceRecord(Struct, frozen=True, kw_only=True, gc=False):
    """An instance as the store holds it. `timers` in the order of setting, dead letters left out."""

    id: InstanceId
    key: InstanceKey
    version: VersionId
    status: Literal["running", "paused"]
    created_at: Instant
    view: StateView
    snapshot: Json
    context: Json
    services: tuple[ServiceRun, ...] = ()
    timers: tuple[PendingTimer, ...] = ()
    messages: tuple[Message, ...] = ()


class DueTimer(Struct, frozen=True, kw_only=True, gc=False):
    """A timer row that is due, with the address to deliver it to."""

    instance: InstanceId
    key: InstanceKey
    timer: Timer
    fire_at: Instant  # `due`, or later after a refused delivery
    attempts: int


# --- what comes from a worker --------------------------------------------------------------------


class Stepped(Struct, frozen=True, gc=False):
    """The worker's answer to compute number `number`: a step for each of its first envelopes."""

    number: int
    steps: tuple[Step, ...]


class Refused(Struct, frozen=True, gc=False):
    """The answer to a compute: the event never happened. `code` is a key of errors.REFUSAL_STATUS."""

    number: int
    code: str
    message: str


class Sent(Struct, frozen=True, kw_only=True, gc=False):
    """An event that machine code sent to its own instance while it was performed.

    `after` says how many of the step's own `sends` come before it, so that the order of sending is kept.
    `service` is the sender, None for the machine's own actions.
    """

    internal: Internal
    after: int = 0
    service: ServiceRun | None = None
    ends_service: bool = False


class Performed(Struct, frozen=True, gc=False):
    """The worker has run the effects of seq, and this is what they sent synchronously.

    A service that failed to start is in `sent` with `ends_service`.
    """

    seq: Seq
    sent: tuple[Sent, ...]


class Chattered(Struct, frozen=True, gc=False):
    """A running service sent an event to its instance, later than its start."""

    sent: Sent


class WorkerLost(Struct, frozen=True, gc=False):
    """The worker process is gone, and every service and computed step in it.

    `guilty`: it was killed while only this activation's item was under way.
    """

    guilty: bool = False


WorkerSignal = Stepped | Refused | Performed | Chattered | WorkerLost
