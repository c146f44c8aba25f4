"""Where instances are stored: rows, and the commits that make them.

Every method that takes or returns rows is one transaction. Unless a docstring says otherwise, an
infrastructure failure raises StoreFailed: what was asked may or may not have happened.
"""

from collections.abc import Awaitable, Sequence
from typing import Protocol

from statebacked.model.ids import (
    EnvelopeId,
    Epoch,
    InstanceId,
    InstanceKey,
    InstanceName,
    Instant,
    MachineName,
    OrgId,
    Seq,
)
from statebacked.model.indexes import IndexedState, IndexKey, IndexRow, Order, Range
from statebacked.model.machine import InstanceSummary
from statebacked.model.rows import (
    Commit,
    DeadLetter,
    DueMessage,
    DueTimer,
    InstanceRecord,
    KeptAnswer,
    Outcome,
    TimerPlace,
    Transition,
)

TIMERS_BEGIN = TimerPlace(Instant(-(2**62)), 0)  # before every timer


class StoreFailed(Exception):
    """The store failed; whether the operation took place is unknown."""


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
