"""What the engine needs from outside, as protocols. Adapters live in store/ and runtime/.

Every method that takes or returns rows is one transaction. Unless a docstring says otherwise, an
infrastructure failure raises StoreFailed: what was asked may or may not have happened.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from statebacked.model.envelopes import Envelope
from statebacked.model.ids import (
    ActivationNumber,
    CodeId,
    EnvelopeId,
    Epoch,
    InstanceId,
    InstanceKey,
    InstanceName,
    Instant,
    KeyId,
    MachineName,
    MigrationId,
    OrgId,
    Seq,
    ServiceRun,
    UserId,
    VersionId,
)
from statebacked.model.indexes import IndexedState, IndexKey, IndexRow, Order, Range
from statebacked.model.logs import LogEntry, LogErasure, LogFilter, LogPage, LogPosition, OutputType
from statebacked.model.machine import (
    InstanceSummary,
    Key,
    Machine,
    Membership,
    Migration,
    Org,
    Session,
    Upload,
    Version,
)
from statebacked.model.rows import (
    Commit,
    DeadLetter,
    DueMessage,
    DueTimer,
    InstanceRecord,
    KeptAnswer,
    Outcome,
    PendingTimer,
    TimerPlace,
    Transition,
)
from statebacked.model.step import Arrival, WorkerSignal
from statebacked.model.values import Json, Now

TIMERS_BEGIN = TimerPlace(Instant(-(2**62)), 0)  # before every timer


class StoreFailed(Exception):
    """The store failed; whether the operation took place is unknown."""


class Clock(Protocol):
    def now(self) -> Now: ...


class Ids(Protocol):
    def new(self, prefix: str) -> str:
        """A fresh id: prefix, "_", 22 characters of base64url (16 random bytes)."""


# --- instances -----------------------------------------------------------------------------------


class Store(Protocol):
    """Durable instances. One owner at a time writes; anyone reads what is durable."""

    async def acquire(self, owner: str) -> Epoch:
        """Take every shard, with an epoch above all before; writes under an older one are fenced."""

    def commit(self, commit: Commit) -> Awaitable[Outcome]:
        """Make the write-set durable at once or not at all (see Commit). When the awaitable gives COMMITTED
        it survives kill -9 and power loss. Never runs user code; order of calls is order of commits."""

    async def load(self, key: InstanceKey) -> InstanceRecord | None:
        """The newest durable state of an instance."""

    async def find_transition(self, instance: InstanceId, event_id: EnvelopeId) -> Seq | None:
        """Where in the history the envelope of that id stands."""

    async def due_timers(
        self,
        until: Instant,
        limit: int,
        *,
        after: TimerPlace = TIMERS_BEGIN,
        without_orgs: Sequence[OrgId] = (),
        without_instances: Sequence[InstanceId] = (),
    ) -> list[DueTimer]:
        """Timer rows behind `after` whose `fire_at` is at most `until`, earliest first (ties in the order of
        setting). Dead letters and rows of paused instances are left out, and rows of those orgs and
        instances."""

    async def next_timers(
        self, instance: InstanceId, until: Instant, limit: int, *, after: TimerPlace
    ) -> list[DueTimer]:
        """The same, of one instance."""

    async def undelivered(self, limit: int) -> list[InstanceKey]:
        """Instances that hold messages to themselves (kind `self`), not consumed."""

    async def list_instances(
        self, org: OrgId, machine: MachineName, *, after: str, limit: int
    ) -> list[InstanceSummary]:
        """By name, the first `limit` with a name above `after` ("" for the first page)."""

    async def list_transitions(self, key: InstanceKey, *, after: Seq, limit: int) -> list[Transition]:
        """Oldest first, the first `limit` with a seq above `after`."""


class Indexes(Protocol):
    """What instances are found by. Rows are written by the commits of their instances."""

    async def find_indexed(
        self, index: IndexKey, ranges: Sequence[Range], *, order: Order, limit: int
    ) -> list[IndexRow]:
        """The first `limit` rows of the ranges, which are in that order, all of one moment."""

    async def find_indexed_states(
        self, index: IndexKey, ranges: Sequence[Range], *, order: Order, limit: int, bytes_max: int
    ) -> list[IndexedState]:
        """As `find_indexed`, with the states; it ends with the row that makes it `bytes_max` bytes of
        snapshots and contexts, or more."""


class Outbox(Protocol):
    """Messages between instances, and what is left of instances that were deleted."""

    async def due_messages(self, until: Instant, *, after: int, limit: int) -> list[DueMessage]:
        """The first message of every (owner, recipient) whose `fire_at` is at most `until`, by `row`, above
        `after`. Kind `self`, dead letters and messages to paused instances are left out; a dead letter lets
        later ones go."""

    async def next_messages(self, owner: InstanceId, to: InstanceKey, limit: int) -> list[DueMessage]:
        """What waits from one sender to one recipient, dead letters left out, in the order of sending."""

    async def last_ts(self, key: InstanceKey) -> Instant:
        """The ts that the last life of that name had when it was deleted; 0 when there was none."""


class DeadLetters(Protocol):
    """Deliveries that were given up and are kept. Where an org has no room left, a commit that gives one up
    keeps its head (see store/letters.py), and at last nothing of it."""

    async def list_dead_letters(
        self,
        org: OrgId,
        *,
        machine: MachineName | None,
        instance: InstanceName | None,
        after: str,
        limit: int,
    ) -> list[DeadLetter]:
        """Those that instances of the org (that machine, that instance) sent or set, by id above `after`."""

    async def redrive(self, org: OrgId, letter: str, at: Instant) -> DeadLetter | None:
        """Make a dead letter due at `at`, with no attempts behind it, in the order as if it were set or sent
        now. None when there is no such letter; one that is truncated is returned and stays as it is."""

    async def discard(self, org: OrgId, letter: str) -> bool:
        """Remove a dead letter; False when there is no such letter."""

    async def sweep_dead_letters(self, before: Instant) -> None:
        """Forget those that died before."""


class Answers(Protocol):
    """First answers to requests with an idempotency key. The row itself is written by the event's commit."""

    async def find_answer(self, org: OrgId, scope: bytes, key: str) -> KeptAnswer | None:
        """What is kept of the request that first came with this idempotency key."""

    async def keep_answer(self, org: OrgId, scope: bytes, key: str, status: int, answer: bytes) -> None:
        """The answer that a repeat will get. Nothing when the key is not kept."""

    async def sweep_answers(self, before: Instant) -> None:
        """Forget those of requests that came before."""


class InstanceStore(Store, Indexes, Outbox, DeadLetters, Answers, Protocol):
    """All that a store of instances does."""


# --- the catalogue -------------------------------------------------------------------------------


class Catalogue(Protocol):
    """Orgs, keys, sessions, machines and their versions: everything that is not an instance."""

    async def create_org(self, org: Org, admin: UserId) -> None:
        """A new org with its first admin."""

    async def find_org(self, org: OrgId) -> Org | None: ...

    async def list_memberships(self, user: UserId) -> list[Membership]:
        """Oldest org first."""

    async def add_session(self, session: Session) -> None: ...

    async def find_session(self, token_sha256: bytes) -> Session | None: ...

    async def add_key(self, key: Key) -> None:
        """Raises the org's auth_revision."""

    async def find_key(self, key: KeyId) -> Key | None: ...

    async def list_keys(self, org: OrgId, *, after: str, limit: int) -> list[Key]:
        """By id."""

    async def delete_key(self, org: OrgId, key: KeyId) -> bool:
        """False when that org has no such key. Raises the org's auth_revision."""

    async def create_machine(self, machine: Machine) -> bool:
        """False when the name is taken."""

    async def find_machine(self, org: OrgId, machine: MachineName) -> Machine | None: ...

    async def list_machines(self, org: OrgId, *, after: str, limit: int) -> list[Machine]:
        """By name."""

    async def add_upload(self, upload: Upload, now: Instant) -> bool:
        """False when the org has UPLOADS_PENDING_MAX pending ones. Sweeps those created over an hour ago."""

    async def find_upload(self, id: CodeId) -> Upload | None: ...

    async def put_bundle(self, id: CodeId, bundle: bytes) -> bool:
        """Give a pending upload its (unzipped) bundle; the last one counts. False once finalized."""

    async def drop_upload(self, id: CodeId) -> None:
        """Forget a pending upload and its bundle, if it is pending."""

    async def finalize(self, version: Version, bundle: bytes, *, make_current: bool) -> bool:
        """Turn the upload into a version, once; False when it was finalized before."""

    async def finalize_migration(self, migration: Migration, bundle: bytes) -> bool:
        """Turn the upload into a migration, once; False when it was finalized before."""

    async def list_migrations(self, org: OrgId, machine: MachineName) -> list[Migration]:
        """All of a machine's, in order of creation."""

    async def find_version(self, org: OrgId, machine: MachineName, version: VersionId) -> Version | None: ...

    async def list_versions(
        self, org: OrgId, machine: MachineName, *, after: str, limit: int
    ) -> list[Version]:
        """In order of creation; `after` is the id of the last one seen."""

    async def load_bundle(self, code: CodeId) -> bytes:
        """The code of a finalized version or migration. Raises KeyError when there is none."""

    async def get_meta(self, name: str) -> bytes | None:
        """A small named value of the server itself (the master key's fingerprint)."""

    async def put_meta(self, name: str, value: bytes) -> None: ...


# --- logs ----------------------------------------------------------------------------------------


class LogStore(Protocol):
    """What machines say, apart from what must not be lost: a crash may take the last moments."""

    async def append(self, entries: Sequence[LogEntry]) -> None:
        """Adds entries in their order, all or none. The first one's `at` is above that of all held."""

    async def read(self, wanted: LogFilter, after: LogPosition, until: Instant, *, limit: int) -> LogPage:
        """The first `limit` wanted entries behind `after` and not later than `until`. It looks at no more
        than LOG_ROWS_LOOKED_AT_MAX, and says how far that went."""

    async def newest(self) -> Instant:
        """When the last entry was added that is still held; 0 when there is none."""

    async def volumes(self, day: int) -> Mapping[OrgId, int]:
        """The weight of all entries ever added of that UTC day (counted from 1970), by org."""

    async def erase(self, key: InstanceKey, until: Instant, *, limit: int) -> int:
        """Removes up to `limit` entries of an instance, none later than `until`; how many that were."""

    async def prune(self, before: Instant, bytes_max: int, *, limit: int) -> int:
        """Removes up to `limit` of the oldest entries, how many that were: those earlier than `before`, and
        any while all together take more than `bytes_max`."""


class LogErasures(Protocol):
    """Which logs are still to be erased: recorded with the deletion of an instance, in its transaction."""

    async def log_erasures(self, limit: int) -> list[LogErasure]:
        """Some of them, at most `limit`."""

    async def log_erased(self, erasures: Sequence[LogErasure]) -> None:
        """They have been carried out."""


# --- machines: where user code runs --------------------------------------------------------------


class Code(NamedTuple):
    """One version of one org's machine code: what a worker process is dedicated to."""

    org: OrgId
    machine: MachineName
    version: VersionId
    xstate: str  # exact version, or "inlined-4" / "inlined-5"
    migration: MigrationId | None = None  # then it is this migration to `version`, and no machine


MachineLog = Callable[[Code, InstanceKey | None, OutputType, str], None]
"""Takes a line for the owner of a machine, from an instance or (None) from none. Never waits or raises."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A durable state, from which a worker that lacks it resumes."""

    seq: Seq
    snapshot: Json
    context: Json


LoadSaved = Callable[[], Awaitable[Saved]]


class Attached(Protocol):
    """One activation in a worker. Answers come to `receive` on the event loop, in the worker's order.

    No method waits or raises for what happens in the worker: a worker that dies says WorkerLost, once,
    and the next compute runs in a fresh one.
    """

    def compute(self, number: int, seq: Seq, envelopes: Sequence[Envelope], load: LoadSaved) -> None:
        """Authorise and compute on the state of `seq` (0: not yet created). Answer: Stepped or Refused.
        `load` is called when the worker lacks that state; if it fails the answer is Refused `unavailable`."""

    def perform(self, seq: Seq) -> None:
        """seq is durable: run its effects. Answer: Performed."""

    def stop(self, services: Sequence[ServiceRun]) -> None:
        """Stop these runs; nothing of theirs is heard afterwards but what is already under way."""

    def close(self) -> None:
        """Forget the live state, held effects and services. A later compute starts from a saved state."""

    async def may_read(self, seq: Seq, auths: Sequence[Json]) -> Sequence[bool] | None:
        """allowRead on exactly the state of seq, for each authContext. None when the worker lacks that seq.
        Raises WorkerGone when the process died under it."""


class WorkerGone(Exception):
    """The worker died under a call that changes nothing; `reason` is fit for the machine's owner."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Validated(NamedTuple):
    """What a throw-away sandbox found a bundle to be. `xstate` is stored with the version."""

    xstate: str


class Machines(Protocol):
    """Sandboxed workers, at least one process per (org, version)."""

    def attach(
        self,
        code: Code,
        key: InstanceKey,
        instance: InstanceId,
        activation: ActivationNumber,
        receive: Callable[[WorkerSignal], None],
    ) -> Attached:
        """Costs nothing until the first compute."""

    async def may_read(
        self, code: Code, key: InstanceKey, saved: Saved, auths: Sequence[Json]
    ) -> Sequence[bool]:
        """allowRead on a saved state of an instance that is not activated. Raises WorkerGone."""

    async def may_read_each(
        self, code: Code, states: Sequence[tuple[InstanceName, Saved]], auth: Json
    ) -> Sequence[bool]:
        """allowRead for one caller on saved states of several instances, asked all at once. Raises
        WorkerGone."""

    async def validate(self, bundle: bytes, xstate_hint: str | None) -> Validated:
        """Load a bundle in a throw-away process. Raises InvalidMachine with the whole reason."""


# --- HTTP to the outside ---------------------------------------------------------------------------


class EgressFailed(Exception):
    """A request had no answer that can be used; the text is fit for whoever asked for it."""


class EgressRefused(EgressFailed):
    """A rule forbids the request, or where it was redirected to; nothing was sent there."""


Headers = Sequence[tuple[str, str]]
Redirect = Literal["follow", "manual", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """`url` as the WHATWG parser writes it; `length` of `body` in bytes, if it is known."""

    method: str
    url: str
    headers: Headers = ()
    body: AsyncIterator[bytes] | None = None
    length: int | None = None
    redirect: Redirect = "follow"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """`url`: where it came from in the end. `body` is unpacked, the headers of its packing are gone. It
    gives pieces of at most FETCH_CHUNK_BYTES_MAX and raises EgressFailed, also past FETCH_BODY_BYTES_MAX."""

    status: int
    reason: str
    headers: Headers
    url: str
    redirected: bool
    body: AsyncIterator[bytes]


class Egress(Protocol):
    """Requests for machine code and for what orgs configure, under the rules of docs/guide/environment.md."""

    def send(self, org: OrgId | None, request: HttpRequest) -> AbstractAsyncContextManager[HttpResponse]:
        """Send a request for an org (None: for the server itself); leaving the context ends what is under
        way. Entering it raises EgressFailed, EgressRefused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """From one version of a machine to another, by way of migrations."""

    source: Code
    migrations: tuple[Code, ...]
    target: Code


class MigrationFailed(Exception):
    """A migration, or a version that it leaves or arrives in, does not take this state; `reason` is fit for
    the machine's owner."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Migrator(Protocol):
    """Migrations in sandboxed workers, one process per (org, migration)."""

    async def migrate(
        self, route: Route, key: InstanceKey, saved: Saved, timers: Sequence[PendingTimer]
    ) -> Arrival:
        """What a settled state becomes. Nothing is performed, nothing is changed. Raises MigrationFailed, and
        Unavailable when no worker can be had now."""

    async def validate_migration(self, bundle: bytes) -> Validated:
        """Load a migration in a throw-away process. Raises InvalidMachine with the whole reason."""
