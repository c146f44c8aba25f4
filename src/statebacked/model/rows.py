"""Durable rows, and the write-set that makes them: what the store holds of instances."""

from enum import Enum
from typing import Literal, NamedTuple

from msgspec import Struct

from statebacked.model.envelopes import Cause, Repeatable, Source, Wish
from statebacked.model.ids import (
    EnvelopeId,
    Epoch,
    InstanceId,
    InstanceKey,
    Instant,
    RowKey,
    SendId,
    Seq,
    ServiceRun,
    VersionId,
)
from statebacked.model.values import Address, Indexed, Json, Link, Parent, Target


class StateView(Struct, frozen=True, kw_only=True, gc=False):
    """What readers may see of one seq. `public` is None when the context has no `public`. `is_unchanged` is
    said to one caller, and never stored: its event selected no transition, or one without effect."""

    seq: Seq
    ts: Instant
    value: Json
    tags: Json
    done: bool
    public: Json | None
    is_unchanged: bool = False


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
