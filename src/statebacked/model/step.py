"""A step: what the machine decided for one envelope, computed and not yet performed; and all else that comes
from a worker."""

from typing import NamedTuple

from msgspec import Struct

from statebacked.model.envelopes import Internal
from statebacked.model.ids import RowKey, SendId, Seq, ServiceId, ServiceRun, VersionId
from statebacked.model.values import Address, Indexed, Json, Target


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
