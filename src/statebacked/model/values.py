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
    InstanceName,
    Instant,
    MachineName,
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


# --- other instances ----------------------------------------------------------------------------


class Address(NamedTuple):
    """Another instance of the same org."""

    machine: MachineName
    name: InstanceName


class ToParent(Struct, frozen=True, gc=False):
    """The instance that spawned this one; nobody, when a client made it."""


TO_PARENT = ToParent()
Target = Address | ToParent


class Parent(Struct, frozen=True, gc=False):
    """Who spawned a persistent child, and for which run of which of its services. `depth` is the child's own:
    1 for a child of an instance that a client made."""

    instance: InstanceId
    address: Address
    link: ServiceRun
    depth: int


class Link(NamedTuple):
    """A persistent child, as its parent has it: what comes from it under another run is not heard."""

    run: ServiceRun
    child: Address


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


# --- a step: what the machine decided for one envelope, computed and not yet performed -----------


class SetTimer(Struct, frozen=True, gc=False):
    """A delayed send of the machine, to itself (`after` included) or to another instance. `delay_ms` is
    finite and >= 0."""

    send_id: SendId
    delay_ms: int
    event: Json
    to: Target | None = None


class CancelTimer(Struct, frozen=True, gc=False):
    """Cancels the newest pending timer of that send id, or nothing."""

    send_id: SendId


class SendTo(Struct, frozen=True, gc=False):
    """An undelayed event to another instance."""

    to: Target
    event: Json


class Spawn(Struct, frozen=True, gc=False):
    """A persistent child: create that instance, or link it again when it is a child of this one already.
    `version` None: the current one. It takes the place of a child of the same service id."""

    service: ServiceId
    child: Address
    version: VersionId | None
    context: Json | None


class Unlink(Struct, frozen=True, gc=False):
    """The machine is done with that persistent child, which lives on."""

    service: ServiceId


Outgoing = SendTo | Spawn | Unlink


Indexed = tuple[tuple[str, tuple[str, ...]], ...]  # each index of a version, with the values of an instance


class Step(Struct, frozen=True, kw_only=True, gc=False):
    """All transitions that one envelope causes. With `changed` false no transition was selected and every
    other field is empty.

    `event` replaces the envelope's in the history where the worker worded it. `context` None: its JSON
    equals that of the seq before. `public` is context.public, read only together with `context`.
    `starts` and `stops` are applied stops first. `outgoing`, in order, is for other instances. `output`: the
    final data of a machine that is done. `indexes` None: they are those of the seq before, or the version has
    none. `has_effects`: the worker holds something to perform.
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
    outgoing: tuple[Outgoing, ...] = ()
    output: Json | None = None
    indexes: Indexed | None = None
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
    to: Target | None = None


class PendingTimer(NamedTuple):
    """What an activation remembers of a timer row, in the order of setting. `attempts`: refused deliveries
    that it has seen itself; a delivery that was read before them is stale."""

    key: RowKey
    send_id: SendId
    due: Instant
    attempts: int = 0


MessageKind = Literal["self", "event", "create", "done", "failed"]


class Message(Struct, frozen=True, kw_only=True, gc=False):
    """An undelayed event on its way, delivered exactly once, and in order to one recipient.

    | kind     | to            | event                         | link          |
    |----------|---------------|-------------------------------|---------------|
    | `self`   | None: itself  | the event, delivered next     | None          |
    | `event`  | the recipient | the event                     | of a child's event to its parent |
    | `create` | the child     | its context, `null` for none  | of the parent |
    | `done`   | the parent    | the child's output            | of the parent |
    | `failed` | None: itself  | {"code", "message"}: the child was not made, or is gone | of the parent |

    `key` is unique among the messages of its owner: the committing instance, or `owner`.
    """

    key: RowKey
    event: Json
    kind: MessageKind = "self"
    to: Address | None = None
    link: ServiceRun | None = None
    version: VersionId | None = None
    depth: int = 0
    owner: InstanceId | None = None


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
    parent: Parent | None = None


Status = Literal["running", "paused"]


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
    `services` are all runs that are recorded as running or owed an error after it. An instance that does not
    exist yet may still reject the message that was to create it: `base` 0, no birth, no head. `indexes`: all
    that the instance is found by from now on, None when that stays. `parent`: the child is linked again.
    `deleted_at`: then it was deleted; nothing of it is left but the messages that it has sent, and the record
    that its log is to be erased. `version`: the one that it runs from now on.
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
    indexes: Indexed | None = None
    linked: tuple[Link, ...] = ()
    unlinked: tuple[ServiceRun, ...] = ()
    parent: Parent | None = None
    status: Status | None = None
    wish: Wish | None = None
    repeatables: tuple[tuple[Repeatable, EnvelopeId], ...] = ()
    deleted_at: Instant | None = None
    version: VersionId | None = None


class Outcome(Enum):
    """How a commit ended. Losing a race is an outcome, not an exception; nothing was written then."""

    COMMITTED = "committed"
    FENCED = "fenced"  # another epoch owns the instance, or its seq is not `base`
    CAUSE_GONE = "cause-gone"  # a consumed row is gone: the envelope was consumed before
    NAME_TAKEN = "name-taken"  # birth of a name that exists


class InstanceRecord(Struct, frozen=True, kw_only=True, gc=False):
    """An instance as the store holds it. `timers` in the order of setting, `messages` to itself in the order
    of sending; dead letters are left out of both. `desired`: the version that it is to run.
    `undelivered`: how many of its messages to others wait; what tells it of a child is not its own."""

    id: InstanceId
    key: InstanceKey
    version: VersionId
    status: Status
    created_at: Instant
    view: StateView
    snapshot: Json
    context: Json
    services: tuple[ServiceRun, ...] = ()
    timers: tuple[PendingTimer, ...] = ()
    messages: tuple[Message, ...] = ()
    links: tuple[Link, ...] = ()
    parent: Parent | None = None
    desired: VersionId | None = None
    undelivered: int = 0


class TimerPlace(NamedTuple):
    """Where a timer stands in the order of the store: behind all that fire earlier or were set before it."""

    fire_at: Instant
    row: int


class DueTimer(Struct, frozen=True, kw_only=True, gc=False):
    """A timer row that is due, with the address to deliver it to. `row` rises in the order of setting; 0 when
    it is not known."""

    instance: InstanceId
    key: InstanceKey
    timer: Timer
    fire_at: Instant  # `due`, or later after a refused delivery
    attempts: int
    row: int = 0


class DueMessage(Struct, frozen=True, kw_only=True, gc=False):
    """A message row with what its delivery needs: who sent it, and to whom. `row` rises in the order of
    sending; a message is delivered only when no earlier one of its (owner, to) is left."""

    row: int
    owner: InstanceId
    sender: InstanceKey
    to: InstanceKey
    message: Message
    fire_at: Instant
    attempts: int


class DeadLetter(Struct, frozen=True, kw_only=True, gc=False):
    """A timer or message row whose delivery was given up. `id` is opaque to users and rises within a table in
    the order of rows. `sender` set or sent it; `to` None: itself. `event` stands as in the row; of one that
    `is_truncated` only the type is left, and it cannot be delivered again."""

    id: str
    kind: Literal["timer", "self", "event", "create", "done", "failed"]
    instance: InstanceId
    sender: InstanceKey
    to: Target | None
    event: Json
    due: Instant
    attempts: int
    reason: str
    dead_at: Instant
    key: RowKey
    send_id: SendId | None = None
    is_truncated: bool = False


class KeptAnswer(Struct, frozen=True, kw_only=True, gc=False):
    """The first answer to a request with an idempotency key. `answer` None: not known (yet), or too large."""

    instance: InstanceId
    event_id: EnvelopeId
    body_sha256: bytes
    created_at: Instant
    status: int | None
    answer: bytes | None


# --- an upgrade: a state of one version, migrated into another ------------------------------------


class Moved(NamedTuple):
    """A pending timer that goes on with its due time, as a delay of the new version under this send id."""

    key: RowKey
    send_id: SendId
    event: Json


class Arrival(Struct, frozen=True, gc=False):
    """The state in the new version. `step` starts, sends and performs nothing; its `timers` are delays of the
    new states that no pending timer stands for. `removed`: pending timers of states that are gone."""

    step: Step
    moved: tuple[Moved, ...] = ()
    removed: tuple[RowKey, ...] = ()


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
