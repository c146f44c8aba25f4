"""A store in memory: the instances of memory_instances.py and the catalogue of memory_catalogue.py in the
asynchronous shape of the ports."""

import asyncio
from collections.abc import Sequence
from itertools import islice

from msgspec.structs import replace

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
from statebacked.model.logs import LogErasure
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
from statebacked.ports.store import TIMERS_BEGIN, StoreFailed
from statebacked.store.letters import LETTER_LIMITS, LetterLimits
from statebacked.store.memory_catalogue import MemoryCatalogue
from statebacked.store.memory_instances import MemoryInstances
from statebacked.store.memory_letters import dead_letters, discard, redrive, sweep
from statebacked.store.memory_rows import InstanceRow


class MemoryStore(MemoryCatalogue):
    """Implements all ports of instances, ports.Catalogue and ports.LogErasures. `instances` may be used
    directly."""

    def __init__(self, letter_limits: LetterLimits = LETTER_LIMITS) -> None:
        super().__init__()
        self.instances = MemoryInstances(letter_limits)

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

    async def due_timers(
        self,
        until: Instant,
        limit: int,
        *,
        after: TimerPlace = TIMERS_BEGIN,
        without_orgs: Sequence[OrgId] = (),
        without_instances: Sequence[InstanceId] = (),
    ) -> list[DueTimer]:
        def is_wanted(due: DueTimer) -> bool:
            return due.key.org not in without_orgs and due.instance not in without_instances

        return self.instances.due_timers(until, limit, after, is_wanted)

    async def next_timers(
        self, instance: InstanceId, until: Instant, limit: int, *, after: TimerPlace
    ) -> list[DueTimer]:
        return self.instances.due_timers(until, limit, after, lambda due: due.instance == instance)

    async def undelivered(self, limit: int) -> list[InstanceKey]:
        return self.instances.undelivered(limit)

    async def due_messages(self, until: Instant, *, after: int, limit: int) -> list[DueMessage]:
        return self.instances.due_messages(until, after=after, limit=limit)

    async def next_messages(self, owner: InstanceId, to: InstanceKey, limit: int) -> list[DueMessage]:
        return self.instances.next_messages(owner, to, limit)

    async def last_ts(self, key: InstanceKey) -> Instant:
        return self.instances.graves.get(key, Instant(0))

    async def list_dead_letters(
        self,
        org: OrgId,
        *,
        machine: MachineName | None,
        instance: InstanceName | None,
        after: str,
        limit: int,
    ) -> list[DeadLetter]:
        letters = [
            letter
            for letter in dead_letters(self.instances)
            if letter.sender.org == org
            and (machine is None or letter.sender.machine == machine)
            and (instance is None or letter.sender.name == instance)
            and letter.id > after
        ]
        return sorted(letters, key=lambda letter: letter.id)[:limit]

    async def redrive(self, org: OrgId, letter: str, at: Instant) -> DeadLetter | None:
        return redrive(self.instances, org, letter, at)

    async def discard(self, org: OrgId, letter: str) -> bool:
        return discard(self.instances, org, letter)

    async def sweep_dead_letters(self, before: Instant) -> None:
        sweep(self.instances, before)

    async def find_answer(self, org: OrgId, scope: bytes, key: str) -> KeptAnswer | None:
        return self.instances.answers.get((org, scope, key))

    async def keep_answer(self, org: OrgId, scope: bytes, key: str, status: int, answer: bytes) -> None:
        kept = self.instances.answers.get((org, scope, key))
        if kept is not None:
            self.instances.answers[org, scope, key] = replace(kept, status=status, answer=answer)

    async def sweep_answers(self, before: Instant) -> None:
        answers = self.instances.answers
        for place in [place for place, kept in answers.items() if kept.created_at < before]:
            del answers[place]

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
            found.append(IndexedState(row, of.version, of.head.view.seq, of.head.snapshot, of.context))
            bytes_max -= len(of.head.snapshot) + len(of.context)
            if bytes_max <= 0:
                break
        return found

    async def list_transitions(self, key: InstanceKey, *, after: Seq, limit: int) -> list[Transition]:
        return self.instances.list_transitions(key, after=after, limit=limit)

    async def log_erasures(self, limit: int) -> list[LogErasure]:
        return self.instances.log_erasures[:limit]

    async def log_erased(self, erasures: Sequence[LogErasure]) -> None:
        left = self.instances.log_erasures
        self.instances.log_erasures = [one for one in left if one not in erasures]

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
