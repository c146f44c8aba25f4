"""What an activation is, what it may hear and what it may ask for: the words of `decide`."""

from typing import NamedTuple

from msgspec import Struct

from statebacked.model.ids import (
    ActivationNumber,
    EnvelopeId,
    Epoch,
    InstanceId,
    InstanceKey,
    Monotonic,
    Seq,
    ServiceRun,
    VersionId,
)
from statebacked.model.values import (
    Commit,
    DueTimer,
    Envelope,
    PendingTimer,
    StateView,
    WorkerSignal,
)

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


Phase = Settled | Settling | Stepping | Performing

SETTLED = Settled()


class Waiting(NamedTuple):
    """A caller whose event is durable and who waits for the instance to settle, `answer_by` at the latest."""

    to: EnvelopeId
    answer_by: Monotonic


class Activation(Struct, frozen=True, kw_only=True, gc=False):
    """An instance while its one owner has it loaded. With seq 0 (`view` None) it does not exist yet.

    `services` run now. `owed` holds the error envelopes of services that do not run any more, delivered
    before the next event. `timers` in the order of setting. `alarm` is when the next tick is wanted.
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


# --- signals: what an activation hears (and values.WorkerSignal) ----------------------------------


class Deliver(Struct, frozen=True, gc=False):
    envelope: Envelope


class CauseGone(Struct, frozen=True, gc=False):
    """The commit of the step under way lost: the row behind it was consumed before."""


class Tick(Struct, frozen=True, gc=False):
    """Time has passed; at the latest at the alarm."""


class Drain(Struct, frozen=True, gc=False):
    """The server goes down: begin nothing more, and settle now."""


Signal = Deliver | WorkerSignal | CauseGone | Tick | Drain


# --- commands: what it asks the shell for, once its commit is durable ------------------------------


class Compute(Struct, frozen=True, gc=False):
    number: int
    seq: Seq
    envelopes: tuple[Envelope, ...]


class Perform(Struct, frozen=True, gc=False):
    seq: Seq


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


class Complain(Struct, frozen=True, gc=False):
    """A line for the machine's log: nobody else hears of this refusal."""

    envelope: Envelope
    code: str
    message: str


Command = Compute | Perform | Stop | Close | Reply | ReplyRefused | Publish | WakeAt | Arm | Complain


class Decision(Struct, frozen=True, gc=False):
    """Commands are executed only when the commit, if there is one, is durable."""

    activation: Activation
    commit: Commit | None
    commands: tuple[Command, ...]
