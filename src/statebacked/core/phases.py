"""What an activation is, what it may hear and what it may ask for: the words of `decide`."""

from typing import NamedTuple

from msgspec import Struct

from statebacked.model.envelopes import Cause, Envelope
from statebacked.model.ids import (
    NEVER,
    ActivationNumber,
    EnvelopeId,
    Epoch,
    InstanceId,
    InstanceKey,
    Instant,
    Monotonic,
    Seq,
    ServiceRun,
    VersionId,
)
from statebacked.model.rows import Commit, DueTimer, Message, PendingTimer, StateView, Status
from statebacked.model.step import Arrival, WorkerSignal
from statebacked.model.values import Json, Link, Parent

# --- phases --------------------------------------------------------------------------------------


class Settled(Struct, frozen=True, gc=False):
    """Nothing runs and nobody waits."""


class Settling(Struct, frozen=True, gc=False):
    """Services may run and callers wait, until `settle_by`."""

    settle_by: Monotonic


class Stepping(Struct, frozen=True, gc=False):
    """The worker authorises and computes `envelopes`. `before` is where a refusal goes back to: a refused
    event buys no time."""

    number: int
    envelopes: tuple[Envelope, ...]
    compute_by: Monotonic
    settle_by: Monotonic
    began: Monotonic
    before: Settled | Settling


class Performing(Struct, frozen=True, gc=False):
    """The worker performs the effects of a durable step. `own` are the step's own sends, between which the
    performed ones are sorted in before they all go to the mailbox."""

    seq: Seq
    perform_by: Monotonic
    settle_by: Monotonic
    own: tuple[Envelope, ...]


class Upgrading(Struct, frozen=True, gc=False):
    """The settled state is migrated to `version`, before the outside envelope `due`, which is first in the
    mailbox."""

    number: int
    version: VersionId
    due: EnvelopeId
    upgrade_by: Monotonic


Phase = Settled | Settling | Stepping | Performing | Upgrading

SETTLED = Settled()


class Waiting(NamedTuple):
    """A caller whose event is durable and who waits for the instance to settle, `answer_by` at the latest."""

    to: EnvelopeId
    answer_by: Monotonic
    is_unchanged: bool = False


class Allowance(NamedTuple):
    """What is left, at `at`, of the steps that no client causes; in thousandths of a step. `empty_since`: it
    has been empty again and again from then on. `is_told`: the machine's owner knows."""

    left: int
    at: Monotonic
    empty_since: Monotonic | None = None
    is_told: bool = False


class Activation(Struct, frozen=True, kw_only=True, gc=False):
    """An instance while its one owner has it loaded. With seq 0 (`view` None) it does not exist yet.

    `services` run now. `owed` holds the error envelopes of services that do not run any more, delivered
    before the next event. `timers` in the order of setting. `links` are its persistent children;
    `undelivered` counts its messages to others that are on their way. `alarm` is when the next tick is
    wanted. `ts_floor`: the last ts of an earlier life of the name. `throttled_until`: what waits may not
    begin before.
    """

    instance: InstanceId
    key: InstanceKey
    number: ActivationNumber
    epoch: Epoch
    version: VersionId
    seq: Seq
    view: StateView | None
    phase: Phase = SETTLED
    services: tuple[ServiceRun, ...] = ()
    owed: tuple[Envelope, ...] = ()
    timers: tuple[PendingTimer, ...] = ()
    mailbox: tuple[Envelope, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    computes: int = 0
    alarm: Monotonic | None = None
    is_draining: bool = False
    status: Status = "running"
    desired: VersionId | None = None
    parent: Parent | None = None
    links: tuple[Link, ...] = ()
    undelivered: int = 0
    ts_floor: Instant = NEVER
    allowance: Allowance | None = None
    throttled_until: Monotonic | None = None


# --- signals: what an activation hears (and values.WorkerSignal) ----------------------------------


class Deliver(Struct, frozen=True, gc=False):
    envelope: Envelope


class Undeliverable(Struct, frozen=True, gc=False):
    """An envelope for an instance that does not exist and that cannot be created. `code` is a key of
    errors.REFUSAL_STATUS."""

    envelope: Envelope
    code: str
    message: str


class CauseGone(Struct, frozen=True, gc=False):
    """The last decision's commit lost, and nothing of that decision happened: a row behind it is gone, which
    was consumed before or cancelled with its sender."""

    causes: tuple[Cause, ...]


class Upgraded(Struct, frozen=True, gc=False):
    """The answer to upgrade number `number`. `event` is what the history will say of it."""

    number: int
    event: Json
    arrival: Arrival


class UpgradeFailed(Struct, frozen=True, gc=False):
    """The other answer: there is no such state. `code` is a key of errors.REFUSAL_STATUS."""

    number: int
    code: str
    message: str


class Tick(Struct, frozen=True, gc=False):
    """Time has passed (at the latest at the alarm), or this activation has asked to go on."""


class Redriven(Struct, frozen=True, gc=False):
    """A dead letter of this instance is alive again: a timer, or a message that it has sent."""

    row: DueTimer | Message


class Departed(Struct, frozen=True, gc=False):
    """So many of its messages to others have been delivered or given up."""

    count: int


class Drain(Struct, frozen=True, gc=False):
    """The server goes down: begin nothing more, and settle now."""


Signal = (
    Deliver
    | Undeliverable
    | WorkerSignal
    | Upgraded
    | UpgradeFailed
    | CauseGone
    | Tick
    | Redriven
    | Departed
    | Drain
)


# --- commands: what it asks the shell for, once its commit is durable ------------------------------


class Compute(Struct, frozen=True, gc=False):
    number: int
    seq: Seq
    envelopes: tuple[Envelope, ...]


class Perform(Struct, frozen=True, gc=False):
    seq: Seq


class Upgrade(Struct, frozen=True, gc=False):
    """Migrate the state of `seq`, with these timers, to `version`. Answer: Upgraded or UpgradeFailed."""

    number: int
    seq: Seq
    version: VersionId
    timers: tuple[PendingTimer, ...]


class Become(Struct, frozen=True, gc=False):
    """The instance is one of this version now: computes run in its workers from here on."""

    version: VersionId


class Stop(Struct, frozen=True, gc=False):
    services: tuple[ServiceRun, ...]


class Close(Struct, frozen=True, gc=False):
    """Let the worker forget its live copy, services included."""


class Reply(Struct, frozen=True, gc=False):
    to: EnvelopeId
    view: StateView


class ReplyRefused(Struct, frozen=True, gc=False):
    """Nothing changed. `code` is a key of errors.REFUSAL_STATUS."""

    to: EnvelopeId
    code: str
    message: str


class Publish(Struct, frozen=True, gc=False):
    view: StateView


class WakeAt(Struct, frozen=True, gc=False):
    """The one alarm of the activation; replaces the one before. None: no alarm."""

    at: Monotonic | None


class Arm(Struct, frozen=True, gc=False):
    """These timer rows are durable now: have them delivered when they are due."""

    timers: tuple[DueTimer, ...]


class Post(Struct, frozen=True, gc=False):
    """These messages to other instances are durable now: have them delivered."""

    messages: tuple[Message, ...]


class Delivered(Struct, frozen=True, gc=False):
    """These messages of other instances are done with; the next of the same senders may come."""

    causes: tuple[Cause, ...]


class Redeliver(Struct, frozen=True, gc=False):
    """A message of another instance was refused: deliver it again at `at`."""

    cause: Cause
    attempts: int
    at: Instant


class Rescan(Struct, frozen=True, gc=False):
    """Timers and messages were held, or turned away: look for what is due."""


class Gone(Struct, frozen=True, gc=False):
    """The instance was deleted: this activation is over."""


class GoOn(Struct, frozen=True, gc=False):
    """Something waits that takes a commit of its own: tick again."""


class Complain(Struct, frozen=True, gc=False):
    """A line for the machine's log: nobody else hears of this refusal."""

    envelope: Envelope
    code: str
    message: str


class Throttled(Struct, frozen=True, gc=False):
    """A line for the logs: the instance has long had more to do than it may without being asked."""


Command = (
    Compute
    | Perform
    | Upgrade
    | Become
    | Stop
    | Close
    | Reply
    | ReplyRefused
    | Publish
    | WakeAt
    | Arm
    | Post
    | Delivered
    | Redeliver
    | Rescan
    | Gone
    | GoOn
    | Complain
    | Throttled
)


class Decision(Struct, frozen=True, gc=False):
    """Commands are executed only when the commit, if there is one, is durable."""

    activation: Activation
    commit: Commit | None
    commands: tuple[Command, ...]
