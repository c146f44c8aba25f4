"""The executable specification of ports.Store: what each operation means, in plain dictionaries.

`MemoryInstances` is the specification: synchronous, usable without an event loop. `MemoryStore` is the two
ports (with the catalogue of memory_catalogue.py) in their asynchronous shape. Whatever another store answers
to a sequence of operations, it must answer what this one does; tests/store compares them.

It keeps rows, not records: the public part of a view is read from the context, the pending timers of a
record are the rows of its instance that are not dead letters, in the order of setting.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, TypeVar

from statebacked.model.ids import (
    EnvelopeId,
    Epoch,
    InstanceId,
    InstanceKey,
    Instant,
    MachineName,
    OrgId,
    RowKey,
    Seq,
    ServiceRun,
    VersionId,
)
from statebacked.model.indexes import IndexedState, IndexKey, IndexRow, Order, Range
from statebacked.model.machine import InstanceSummary
from statebacked.model.values import (
    Cause,
    Commit,
    DueTimer,
    Head,
    InstanceRecord,
    Json,
    Message,
    Outcome,
    PendingTimer,
    Rejection,
    StateView,
    Timer,
    Transition,
)
from statebacked.ports import StoreFailed
from statebacked.store.memory_catalogue import MemoryCatalogue
from statebacked.store.memory_indexes import MemoryIndexes
from statebacked.store.public_context import public_context


@dataclass(slots=True, kw_only=True)
class InstanceRow:
    """One life of a name. `epoch` is the last writer's."""

    id: InstanceId
    key: InstanceKey
    version: VersionId
    created_at: Instant
    status: Literal["running", "paused"] = "running"
    epoch: Epoch
    head: Head
    context: Json
    services: tuple[ServiceRun, ...]
    transitions: list[Transition] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class TimerRow:
    """A durable delay. With `dead_at` it is a dead letter."""

    instance: InstanceId
    timer: Timer
    fire_at: Instant
    attempts: int = 0
    dead_at: Instant | None = None
    reason: str | None = None


@dataclass(slots=True, kw_only=True)
class MessageRow:
    """A message of an instance to itself. With `dead_at` it is a dead letter."""

    instance: InstanceId
    message: Message
    fire_at: Instant
    attempts: int = 0
    dead_at: Instant | None = None
    reason: str | None = None


Rows = TypeVar("Rows", TimerRow, MessageRow)


class MemoryInstances:
    """ports.Store without the waiting. Rows stand in dictionaries in the order in which they were written."""

    def __init__(self) -> None:
        self.epoch = Epoch(0)
        self.instances: dict[InstanceId, InstanceRow] = {}
        self.names: dict[InstanceKey, InstanceRow] = {}
        self.timers: dict[tuple[InstanceId, RowKey], TimerRow] = {}
        self.messages: dict[tuple[InstanceId, RowKey], MessageRow] = {}
        self.indexes = MemoryIndexes()

    # --- writing -------------------------------------------------------------------------------------

    def acquire(self) -> Epoch:
        self.epoch = Epoch(self.epoch + 1)
        return self.epoch

    def apply(self, commit: Commit) -> Outcome:
        """Write all of a commit or nothing of it. Raises StoreFailed, having written nothing, when a row
        that it sets exists already: no correct writer does that."""
        outcome = self._judge(commit)
        if outcome is Outcome.COMMITTED:
            self._assert_sound(commit)
            self._write_instance(commit)
            self._write_rows(commit)
        return outcome

    def _judge(self, commit: Commit) -> Outcome:
        """The races, in the order in which they are decided."""
        row = self.instances.get(commit.instance)
        if commit.epoch != self.epoch:
            return Outcome.FENCED
        if commit.birth is not None:
            if commit.birth.key in self.names:
                return Outcome.NAME_TAKEN
            return Outcome.COMMITTED if row is None else Outcome.FENCED
        if row is None or row.head.view.seq != commit.base:
            return Outcome.FENCED
        causes = commit.consumed
        if commit.rejected is not None:
            causes = (*causes, commit.rejected.cause)
        if not all(self._stands(commit.instance, cause) for cause in causes):
            return Outcome.CAUSE_GONE
        return Outcome.COMMITTED

    def _stands(self, instance: InstanceId, cause: Cause) -> bool:
        row = self._rows(cause).get((instance, cause.key))
        return row is not None and row.dead_at is None

    def _rows(self, cause: Cause) -> dict[tuple[InstanceId, RowKey], TimerRow | MessageRow]:
        rows: dict[tuple[InstanceId, RowKey], TimerRow | MessageRow]
        rows = self.timers if cause.table == "timer" else self.messages  # type: ignore[assignment]
        return rows

    def _assert_sound(self, commit: Commit) -> None:
        seqs = [transition.seq for transition in commit.transitions]
        assert seqs == list(range(commit.base + 1, commit.base + 1 + len(seqs))), "history is no chain"
        assert (commit.head is None) == (not seqs), "a head without its transition, or the reverse"
        assert commit.head is None or commit.head.view.seq == seqs[-1], "the head is not the last transition"
        assert commit.birth is None or (commit.head is not None and commit.head.context is not None)
        self._refuse_taken_keys(commit)

    def _refuse_taken_keys(self, commit: Commit) -> None:
        consumed = {(cause.table, cause.key) for cause in commit.consumed}
        gone = consumed | {("timer", key) for key in commit.timers_removed}
        taken = {("timer", key) for instance, key in self.timers if instance == commit.instance}
        taken |= {("message", key) for instance, key in self.messages if instance == commit.instance}
        new = [("timer", timer.key) for timer in commit.timers_set]
        new += [("message", message.key) for message in commit.messages]
        if len({*new}) < len(new) or (taken - gone) & {*new}:
            raise StoreFailed("a key of a timer or message is taken")

    def _write_instance(self, commit: Commit) -> None:
        head, birth = commit.head, commit.birth
        if birth is not None:
            assert head is not None
            assert head.context is not None
            row = InstanceRow(
                id=commit.instance,
                key=birth.key,
                version=birth.version,
                created_at=birth.created_at,
                epoch=commit.epoch,
                head=head,
                context=head.context,
                services=commit.services,
            )
            self.instances[row.id] = self.names[row.key] = row
        else:
            row = self.instances[commit.instance]
            row.epoch = commit.epoch
            row.services = commit.services
            if head is not None:
                row.head = head
                row.context = row.context if head.context is None else head.context
        row.transitions.extend(commit.transitions)

    def _write_rows(self, commit: Commit) -> None:
        instance = commit.instance
        for cause in commit.consumed:
            self._rows(cause).pop((instance, cause.key), None)
        for key in commit.timers_removed:
            self.timers.pop((instance, key), None)
        for timer in commit.timers_set:
            self.timers[instance, timer.key] = TimerRow(instance=instance, timer=timer, fire_at=timer.due)
        for message in commit.messages:
            row = MessageRow(instance=instance, message=message, fire_at=Instant(0))
            self.messages[instance, message.key] = row
        if commit.indexes is not None:
            self.indexes.write(instance, self.instances[instance].key, commit.indexes)
        if commit.rejected is not None:
            self._reject(
                self._rows(commit.rejected.cause)[instance, commit.rejected.cause.key], commit.rejected
            )

    def _reject(self, row: TimerRow | MessageRow, rejected: Rejection) -> None:
        row.attempts, row.reason = rejected.attempts, rejected.reason
        if rejected.retry_at is None:
            row.dead_at = rejected.at
        else:
            row.fire_at = rejected.retry_at

    # --- reading -------------------------------------------------------------------------------------

    def load(self, key: InstanceKey) -> InstanceRecord | None:
        row = self.names.get(key)
        if row is None:
            return None
        view = row.head.view
        return InstanceRecord(
            id=row.id,
            key=key,
            version=row.version,
            status=row.status,
            created_at=row.created_at,
            view=StateView(
                seq=view.seq,
                ts=view.ts,
                value=view.value,
                tags=view.tags,
                done=view.done,
                public=public_context(row.context),
            ),
            snapshot=row.head.snapshot,
            context=row.context,
            services=row.services,
            timers=tuple(_pending(one.timer) for one in _living(self.timers, row.id)),
            messages=tuple(one.message for one in _living(self.messages, row.id)),
        )

    def find_transition(self, instance: InstanceId, event_id: EnvelopeId) -> Seq | None:
        row = self.instances.get(instance)
        seqs = [one.seq for one in row.transitions if one.event_id == event_id] if row is not None else []
        return seqs[-1] if seqs else None

    def due_timers(self, until: Instant, limit: int) -> list[DueTimer]:
        due = [
            DueTimer(
                instance=row.instance,
                key=self.instances[row.instance].key,
                timer=row.timer,
                fire_at=row.fire_at,
                attempts=row.attempts,
            )
            for row in self.timers.values()
            if row.dead_at is None and row.fire_at <= until and self._is_running(row.instance)
        ]
        due.sort(key=lambda one: one.fire_at)  # stable: ties stay in the order of setting
        return due[:limit]

    def undelivered(self, limit: int) -> list[InstanceKey]:
        holders = {
            self.instances[row.instance].key: None
            for row in self.messages.values()
            if row.dead_at is None and self._is_running(row.instance)
        }
        return list(holders)[:limit]

    def list_transitions(self, key: InstanceKey, *, after: Seq, limit: int) -> list[Transition]:
        row = self.names.get(key)
        return [] if row is None else [one for one in row.transitions if one.seq > after][:limit]

    def _is_running(self, instance: InstanceId) -> bool:
        return self.instances[instance].status == "running"


def _living(rows: dict[tuple[InstanceId, RowKey], Rows], instance: InstanceId) -> Iterator[Rows]:
    return (row for row in rows.values() if row.instance == instance and row.dead_at is None)


def _pending(timer: Timer) -> PendingTimer:
    return PendingTimer(timer.key, timer.send_id, timer.due)


class MemoryStore(MemoryCatalogue):
    """Implements ports.Store, ports.Indexes and ports.Catalogue. `instances` may be used directly."""

    def __init__(self) -> None:
        super().__init__()
        self.instances = MemoryInstances()

    def apply(self, commit: Commit) -> Outcome:
        """What `commit` does, at once and without an event loop."""
        return self.instances.apply(commit)

    def commit(self, commit: Commit) -> "asyncio.Future[Outcome]":
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(self.apply(commit))
        except StoreFailed as exc:
            future.set_exception(exc)
        return future

    async def acquire(self, owner: str) -> Epoch:
        return self.instances.acquire()

    async def load(self, key: InstanceKey) -> InstanceRecord | None:
        return self.instances.load(key)

    async def find_transition(self, instance: InstanceId, event_id: EnvelopeId) -> Seq | None:
        return self.instances.find_transition(instance, event_id)

    async def due_timers(self, until: Instant, limit: int) -> list[DueTimer]:
        return self.instances.due_timers(until, limit)

    async def undelivered(self, limit: int) -> list[InstanceKey]:
        return self.instances.undelivered(limit)

    async def list_instances(
        self, org: OrgId, machine: MachineName, *, after: str, limit: int
    ) -> list[InstanceSummary]:
        rows = [
            row
            for key, row in sorted(self.instances.names.items())
            if (key.org, key.machine) == (org, machine) and key.name > after
        ]
        return [self._summary(row) for row in rows[:limit]]

    async def find_indexed(
        self, index: IndexKey, ranges: Sequence[Range], *, order: Order, limit: int
    ) -> list[IndexRow]:
        return [row for _, row in islice(self.instances.indexes.find(index, ranges, order), limit)]

    async def find_indexed_states(
        self, index: IndexKey, ranges: Sequence[Range], *, order: Order, limit: int, bytes_max: int
    ) -> list[IndexedState]:
        found: list[IndexedState] = []
        for instance, row in islice(self.instances.indexes.find(index, ranges, order), limit):
            of = self.instances.instances[instance]
            bytes_max -= len(of.head.snapshot) + len(of.context)
            if found and bytes_max < 0:
                break
            found.append(IndexedState(row, of.version, of.head.view.seq, of.head.snapshot, of.context))
        return found

    async def list_transitions(self, key: InstanceKey, *, after: Seq, limit: int) -> list[Transition]:
        return self.instances.list_transitions(key, after=after, limit=limit)

    def _summary(self, row: InstanceRow) -> InstanceSummary:
        version = self.versions.get(row.version)
        return InstanceSummary(
            name=row.key.name,
            created_at=row.created_at,
            status=row.status,
            version=row.version,
            client_info=None if version is None else version.client_info,
            version_created_at=row.created_at if version is None else version.created_at,
        )
