"""One random sequence of operations on the memory store and on SQLite: equal answers, and equal rows after.

A sequence ends when every kind of operation has succeeded and every way for a commit to end has been seen.
STORE_SEED replays one.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from statebacked.core.indexes import ranges
from statebacked.model.envelopes import Cause
from statebacked.model.ids import (
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
    UserId,
    VersionId,
)
from statebacked.model.indexes import IndexKey, Op, Order, Place, Range
from statebacked.model.machine import Session
from statebacked.model.rows import Commit, DueTimer, Message, Outcome, Rejection, Timer, TimerPlace
from statebacked.model.values import Indexed
from statebacked.ports.store import StoreFailed
from statebacked.store.letters import LetterLimits
from statebacked.store.memory import MemoryStore
from statebacked.store.memory_rows import InstanceRow
from statebacked.store.sqlite.store import SqliteStore
from tests.store import builders
from tests.store.builders import BothPorts
from tests.store.dumps import dump_memory, dump_sqlite

pytestmark = pytest.mark.anyio

OPERATIONS_MIN: Final = 300
OPERATIONS_MAX: Final = 20_000
SEEDS: Final = [int(os.environ["STORE_SEED"])] if "STORE_SEED" in os.environ else [1, 2, 3]

Call = Callable[[BothPorts], Awaitable[object]]

ORGS = [OrgId("org_1"), OrgId("org_2")]
MACHINES = [MachineName("door"), MachineName("gate")]
MIGRATIONS = [MigrationId(f"mig_{number}") for number in range(3)]
VERSIONS = [VersionId(f"ver_{number}") for number in range(6)]
INSTANCES = [InstanceId(f"ins_{number}") for number in range(8)]
NAMES = [InstanceName(f"name_{number}") for number in range(5)]
INDEXES = ["by-owner", "by-city"]
VALUES = ["", "a", "A", "b", "ba", "é", "😀", "\x00", "\uffff"]
KEYS = [KeyId(f"sbk_{number}") for number in range(6)]
USERS = [UserId("usr_1"), UserId("usr_2")]


class Operations:
    """Draws operations. What the memory store holds decides which are likely to succeed."""

    def __init__(self, seed: int, memory: MemoryStore) -> None:
        self._rng = random.Random(seed)
        self._memory = memory
        self._instances = memory.instances
        self._rows = 0
        self._drawers = {kind: getattr(self, f"_draw_{kind}") for kind in sorted(self.kinds())}

    def draw(self) -> tuple[str, list[Call]]:
        """A kind, and calls to make at once: several only where their order is their meaning."""
        weights = [12 if kind == "commits" else 1 for kind in self._drawers]
        (kind,) = self._rng.choices(list(self._drawers), weights)
        return kind, self._drawers[kind]()

    @staticmethod
    def kinds() -> set[str]:
        return {name.removeprefix("_draw_") for name in dir(Operations) if name.startswith("_draw_")}

    # --- instances -----------------------------------------------------------------------------------

    def _draw_acquire(self) -> list[Call]:
        return [lambda store: store.acquire("someone")]

    def _draw_commits(self) -> list[Call]:
        commits = [self._commit() for _ in range(self._rng.randint(1, 4))]
        return [lambda store, commit=commit: store.commit(commit) for commit in commits]  # type: ignore[misc]

    def _draw_load(self) -> list[Call]:
        key = self._key()
        return [lambda store: store.load(key)]

    def _draw_find_transition(self) -> list[Call]:
        instance, seq = self._rng.choice(INSTANCES), self._rng.randint(1, 6)
        return [lambda store: store.find_transition(instance, EnvelopeId(f"env-{instance}-{seq}"))]

    def _draw_due_timers(self) -> list[Call]:
        until, limit = Instant(self._rng.randint(0, 60)), self._rng.randint(1, 8)
        orgs = self._rng.sample(ORGS, self._rng.randint(0, 1))
        instances = self._rng.sample(INSTANCES, self._rng.randint(0, 2))

        async def due(store: BothPorts) -> list[DueTimer]:  # a store numbers its rows as it likes
            rows = await store.due_timers(until, limit, without_orgs=orgs, without_instances=instances)
            return [replace(row, row=0) for row in rows]

        return [due]

    def _draw_next_timers(self) -> list[Call]:
        until, limit = Instant(self._rng.randint(0, 60)), self._rng.randint(1, 8)
        instance, after = self._rng.choice(INSTANCES), TimerPlace(Instant(self._rng.randint(0, 30)), 0)

        async def due(store: BothPorts) -> list[DueTimer]:
            rows = await store.next_timers(instance, until, limit, after=after)
            return [replace(row, row=0) for row in rows]

        return [due]

    def _draw_undelivered(self) -> list[Call]:
        limit = self._rng.randint(1, 5)
        return [lambda store: store.undelivered(limit)]

    def _draw_list_instances(self) -> list[Call]:
        org, machine, limit = self._rng.choice(ORGS), self._rng.choice(MACHINES), self._rng.randint(1, 4)
        after = self._rng.choice(["", *NAMES])
        return [lambda store: store.list_instances(org, machine, after=after, limit=limit)]

    def _draw_list_transitions(self) -> list[Call]:
        key, after, limit = self._key(), Seq(self._rng.randint(0, 8)), self._rng.randint(1, 5)
        return [lambda store: store.list_transitions(key, after=after, limit=limit)]

    def _draw_find_indexed(self) -> list[Call]:
        index, ranges, order, limit = self._index_query()
        return [lambda store: store.find_indexed(index, ranges, order=order, limit=limit)]

    def _draw_find_indexed_states(self) -> list[Call]:
        index, ranges, order, limit = self._index_query()
        bytes_max = self._rng.choice([0, 40, 1_000])
        return [
            lambda store: store.find_indexed_states(
                index, ranges, order=order, limit=limit, bytes_max=bytes_max
            )
        ]

    def _index_query(self) -> tuple[IndexKey, tuple[Range, ...], Order, int]:
        index = IndexKey(self._rng.choice(ORGS), self._rng.choice(MACHINES), self._rng.choice(INDEXES))
        op: Op | None = self._rng.choice([None, "eq", "ne", "gt", "gte", "lt", "lte"])
        order: Order = self._rng.choice(["asc", "desc"])
        after = self._rng.choice([None, Place(self._rng.choice(VALUES), self._rng.choice(NAMES))])
        return index, ranges(op, self._rng.choice(VALUES), order, after), order, self._rng.randint(1, 6)

    def _indexed(self) -> Indexed | None:
        if self._rng.random() < 0.5:
            return None
        return tuple(
            (index, tuple(self._rng.choices(VALUES, k=self._rng.randint(0, 3))))
            for index in self._rng.sample(INDEXES, self._rng.randint(0, 2))
        )

    def _key(self) -> InstanceKey:
        if self._instances.names and self._rng.random() < 0.8:
            return self._rng.choice(list(self._instances.names))
        return InstanceKey(self._rng.choice(ORGS), self._rng.choice(MACHINES), self._rng.choice(NAMES))

    def _commit(self) -> Commit:
        epoch = Epoch(max(self._instances.epoch - (self._rng.random() < 0.05), 0))
        row = self._rng.choice([None, *self._instances.instances.values()])
        if row is None:
            return builders.birth(
                self._rng.choice(INSTANCES),
                epoch,
                key=self._key(),
                version=self._rng.choice(VERSIONS),
                context=self._context() or b"{}",
                timers=tuple(self._timer() for _ in range(self._rng.randint(0, 2))),
                messages=tuple(self._message() for _ in range(self._rng.randint(0, 1))),
                indexes=self._indexed(),
            )
        base = row.head.view.seq - (self._rng.random() < 0.05)
        if self._rng.random() < 0.3:
            return self._consume(row, epoch, base)
        return self._step(row, epoch, base)

    def _step(self, row: InstanceRow, epoch: Epoch, base: int) -> Commit:
        removed = [one.timer.key for one in self._instances.timers.values() if one.instance == row.id]
        return builders.step(
            row.id,
            epoch,
            base,
            count=self._rng.choice([1, 1, 1, 2, 3]),
            context=self._context(),
            consumed=tuple(self._causes(row, self._rng.choice([0, 0, 1, 2]))),
            timers=tuple(self._timer() for _ in range(self._rng.randint(0, 3))),
            removed=tuple(self._rng.sample(removed, min(len(removed), self._rng.randint(0, 1)))),
            messages=tuple(self._message() for _ in range(self._rng.randint(0, 2))),
            services=tuple(builders.run(name, base) for name in "ab"[: self._rng.randint(0, 2)]),
            indexes=self._indexed(),
        )

    def _consume(self, row: InstanceRow, epoch: Epoch, base: int) -> Commit:
        causes = self._causes(row, 1)
        if not causes or self._rng.random() < 0.4:
            return builders.consume(row.id, epoch, base, *causes)
        return builders.consume(row.id, epoch, base, rejected=self._rejection(causes[0]))

    def _rejection(self, cause: Cause) -> Rejection:
        retry_at = self._rng.choice([None, self._rng.randint(0, 80)])
        return builders.rejection(cause, attempts=self._rng.randint(1, 5), retry_at=retry_at)

    def _causes(self, row: InstanceRow, count: int) -> list[Cause]:
        held = [builders.of_timer(key) for one, key in self._instances.timers if one == row.id]
        held += [builders.of_message(key) for one, key in self._instances.messages if one == row.id]
        if self._rng.random() < 0.1:
            held.append(builders.of_timer("gone"))
        return self._rng.sample(held, min(count, len(held)))

    def _timer(self) -> Timer:
        return builders.timer(self._row_key(), due=self._rng.randint(0, 50), send_id=self._rng.choice("xy"))

    def _message(self) -> Message:
        return builders.message(self._row_key())

    def _row_key(self) -> str:
        if self._rng.random() < 0.03:
            return "taken"
        self._rows += 1
        return f"{self._rows}.{self._rng.randint(1, 20)}"

    def _context(self) -> bytes | None:
        return self._rng.choice([None, b'{"public":{"n":%d}}' % self._rows, b'{"n":%d}' % self._rows, b"[]"])

    # --- the catalogue -------------------------------------------------------------------------------

    def _draw_create_org(self) -> list[Call]:
        org, admin = builders.org(self._rng.choice(ORGS)), self._rng.choice(USERS)
        return [lambda store: store.create_org(org, admin)]

    def _draw_find_org(self) -> list[Call]:
        org = self._rng.choice(ORGS)
        return [lambda store: store.find_org(org)]

    def _draw_list_memberships(self) -> list[Call]:
        user = self._rng.choice(USERS)
        return [lambda store: store.list_memberships(user)]

    def _draw_add_session(self) -> list[Call]:
        token = bytes([self._rng.randint(0, 20)]) * 32
        expires_at = self._rng.choice([None, Instant(9)])
        session = Session(token_sha256=token, user=USERS[0], created_at=Instant(1), expires_at=expires_at)
        return [lambda store: store.add_session(session)]

    def _draw_find_session(self) -> list[Call]:
        token = bytes([self._rng.randint(0, 20)]) * 32
        return [lambda store: store.find_session(token)]

    def _draw_add_key(self) -> list[Call]:
        key = builders.key(self._rng.choice(KEYS), self._rng.choice(ORGS))
        return [lambda store: store.add_key(key)]

    def _draw_find_key(self) -> list[Call]:
        key = self._rng.choice(KEYS)
        return [lambda store: store.find_key(key)]

    def _draw_list_keys(self) -> list[Call]:
        org, after = self._rng.choice(ORGS), self._rng.choice(["", *KEYS])
        return [lambda store: store.list_keys(org, after=after, limit=2)]

    def _draw_delete_key(self) -> list[Call]:
        org, key = self._rng.choice(ORGS), self._rng.choice(KEYS)
        return [lambda store: store.delete_key(org, key)]

    def _draw_create_machine(self) -> list[Call]:
        machine = builders.machine(self._rng.choice(MACHINES), self._rng.choice(ORGS))
        return [lambda store: store.create_machine(machine)]

    def _draw_find_machine(self) -> list[Call]:
        org, machine = self._rng.choice(ORGS), self._rng.choice(MACHINES)
        return [lambda store: store.find_machine(org, machine)]

    def _draw_list_machines(self) -> list[Call]:
        org, after = self._rng.choice(ORGS), self._rng.choice(["", *MACHINES])
        return [lambda store: store.list_machines(org, after=after, limit=2)]

    def _draw_add_upload(self) -> list[Call]:
        now = Instant(1_000_000 + 600_000 * self._rng.randint(0, 20))
        upload = builders.upload(self._version(), self._machine(), self._rng.choice(ORGS), created_at=now)
        return [lambda store: store.add_upload(upload, now)]

    def _draw_find_upload(self) -> list[Call]:
        version = self._version()
        return [lambda store: store.find_upload(version)]

    def _draw_put_bundle(self) -> list[Call]:
        version, bundle = self._version(), self._rng.randbytes(20)
        return [lambda store: store.put_bundle(version, bundle)]

    def _draw_drop_upload(self) -> list[Call]:
        version = self._version()
        return [lambda store: store.drop_upload(version)]

    def _draw_finalize(self) -> list[Call]:
        version = builders.version(self._version(), self._machine(), self._rng.choice(ORGS))
        bundle, make_current = self._rng.randbytes(20), self._rng.random() < 0.5
        return [lambda store: store.finalize(version, bundle, make_current=make_current)]

    def _draw_add_migration_upload(self) -> list[Call]:
        now = Instant(1_000_000 + 600_000 * self._rng.randint(0, 20))
        id, path, machine = self._migration(), self._path(), self._machine()
        upload = builders.migration_upload(id, path, machine, self._rng.choice(ORGS))
        return [lambda store: store.add_upload(upload, now)]

    def _draw_put_migration(self) -> list[Call]:
        id, bundle = self._migration(), self._rng.randbytes(20)
        return [lambda store: store.put_bundle(id, bundle)]

    def _draw_find_migration_upload(self) -> list[Call]:
        id = self._migration()
        return [lambda store: store.find_upload(id)]

    def _draw_drop_migration(self) -> list[Call]:
        id = self._migration()
        return [lambda store: store.drop_upload(id)]

    def _draw_finalize_migration(self) -> list[Call]:
        id, path, machine = self._migration(), self._path(), self._machine()
        made, bundle = builders.migration(id, path, machine, self._rng.choice(ORGS)), self._rng.randbytes(20)
        return [lambda store: store.finalize_migration(made, bundle)]

    def _draw_list_migrations(self) -> list[Call]:
        org, machine, id = self._rng.choice(ORGS), self._machine(), self._migration()
        return [
            lambda store: store.list_migrations(org, machine),
            lambda store: store.load_bundle(id),
        ]

    def _draw_find_version(self) -> list[Call]:
        org, machine, version = self._rng.choice(ORGS), self._machine(), self._version()
        return [lambda store: store.find_version(org, machine, version)]

    def _draw_list_versions(self) -> list[Call]:
        org, machine, after = self._rng.choice(ORGS), self._machine(), self._rng.choice(["", self._version()])
        return [lambda store: store.list_versions(org, machine, after=after, limit=3)]

    def _draw_load_bundle(self) -> list[Call]:
        version = self._version()
        return [lambda store: store.load_bundle(version)]

    def _draw_get_meta(self) -> list[Call]:
        name = self._rng.choice("ab")
        return [lambda store: store.get_meta(name)]

    def _draw_put_meta(self) -> list[Call]:
        name, value = self._rng.choice("ab"), self._rng.randbytes(5)
        return [lambda store: store.put_meta(name, value)]

    def _migration(self) -> MigrationId:
        return self._rng.choice(MIGRATIONS)

    def _path(self) -> str:
        return self._rng.choice(["ver_0>ver_1", "ver_1>ver_0"])

    def _version(self) -> VersionId:
        return self._rng.choice(VERSIONS)

    def _machine(self) -> MachineName:
        return self._rng.choice(MACHINES)


async def answers_of(store: BothPorts, calls: list[Call]) -> list[object]:
    """What each call gave; a failure by its kind, for the words are the adapter's own."""

    async def answer(call: Call) -> object:
        return await call(store)

    answers = await asyncio.gather(*(answer(call) for call in calls), return_exceptions=True)
    unexpected = [one for one in answers if isinstance(one, Exception) and type(one) not in FAILURES]
    if unexpected:
        raise unexpected[0]
    return [type(one) if isinstance(one, Exception) else one for one in answers]


FAILURES = (StoreFailed, KeyError)


def is_success(answer: object) -> bool:
    """Whether an operation did or found something. None is what a write without an answer gives."""
    return answer is not False and answer != [] and answer not in FAILURES


FINDS = {"load", "find_transition", "find_org", "find_session", "find_key", "find_machine", "find_upload"}
FINDS |= {"find_version", "find_migration_upload", "get_meta"}


@pytest.mark.parametrize("seed", SEEDS)
async def test_memory_and_sqlite_give_the_same_answers_and_hold_the_same_rows(seed: int, file: Path) -> None:
    limits = LetterLimits(letters=4, bytes=80, heads=3)  # so that all of them are reached
    memory, sqlite = MemoryStore(limits), await SqliteStore.open(file, letter_limits=limits)
    operations = Operations(seed, memory)
    succeeded: Counter[str] = Counter()
    outcomes: set[object] = set()
    missing = Operations.kinds()
    count = 0
    try:
        while count < OPERATIONS_MIN or missing or len(outcomes) < len(Outcome) + 1:
            count += 1
            assert count < OPERATIONS_MAX, f"seed {seed}: never succeeded: {missing}, seen: {outcomes}"
            kind, calls = operations.draw()
            expected = await answers_of(memory, calls)
            assert await answers_of(sqlite, calls) == expected, f"seed {seed}, operation {count}: {kind}"
            if kind == "commits":
                outcomes.update(expected)
            if any(is_success(one) and not (kind in FINDS and one is None) for one in expected):
                succeeded[kind] += 1
                missing.discard(kind)
            if count % 100 == 0:
                assert dump_sqlite(file) == dump_memory(memory), f"seed {seed}, operation {count}"
    finally:
        await sqlite.aclose()
    assert outcomes == {*Outcome, StoreFailed}
    assert dump_sqlite(file) == dump_memory(memory), f"seed {seed}, at the end"
