"""Random commits of instances that send, spawn, pause and are deleted, on the memory store and on SQLite:
equal answers, and equal rows after. What plain instances and the catalogue do is in test_differential.py."""

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from statebacked.model.envelopes import Cause, Repeatable, Wish
from statebacked.model.ids import (
    EnvelopeId,
    InstanceId,
    InstanceKey,
    InstanceName,
    Instant,
    MachineName,
    OrgId,
    RowKey,
    Seq,
    ServiceId,
    ServiceRun,
    VersionId,
)
from statebacked.model.rows import Commit, Message, Outcome
from statebacked.model.values import TO_PARENT, Address, Json, Link, Parent
from statebacked.store.memory import MemoryStore
from statebacked.store.memory_rows import InstanceRow
from statebacked.store.sqlite.store import SqliteStore
from tests.store import builders
from tests.store.builders import BothPorts

pytestmark = pytest.mark.anyio

OPERATIONS: Final = 700
SEEDS: Final = (1, 2, 3)
ORG, MACHINE = OrgId("org_1"), MachineName("door")
NAMES = [InstanceName(f"n{n}") for n in range(5)]
SERVICES = [ServiceId("a"), ServiceId("b")]
SCOPE = b"s" * 32

Call = Callable[[BothPorts], Awaitable[object]]


def key_of(name: InstanceName) -> InstanceKey:
    return InstanceKey(ORG, MACHINE, name)


class Operations:
    """Draws operations; `counter` makes keys that no other row has."""

    def __init__(self, seed: int, memory: MemoryStore) -> None:
        self.rng = random.Random(seed)
        self.rows = memory.instances
        self.counter = 0

    def draw(self) -> tuple[str, Call]:
        kinds = [name.removeprefix("draw_") for name in dir(self) if name.startswith("draw_")]
        weights = [10 if kind == "commit" else 1 for kind in kinds]
        (kind,) = self.rng.choices(kinds, weights)
        return kind, getattr(self, f"draw_{kind}")()

    # --- commits -------------------------------------------------------------------------------------

    def draw_commit(self) -> Call:
        row = self.rng.choice([None, *self.rows.instances.values()])
        commit = self._birth() if row is None else self._of(row)
        return lambda store: store.commit(commit)

    def _birth(self) -> Commit:
        self.counter += 1
        id = InstanceId(f"ins_{self.counter}")  # every life has its own
        name = self.rng.choice(NAMES)
        if self.rng.random() < 0.2:
            return self._rejection_of_nobody(id)
        birth = builders.birth(id, self.rows.epoch, key=key_of(name), messages=self._messages())
        if self.rng.random() < 0.4:
            assert birth.birth is not None
            birth = replace(birth, birth=replace(birth.birth, parent=self._parent()))
        return birth

    def _rejection_of_nobody(self, id: InstanceId) -> Commit:
        """A message that was to create an instance is refused."""
        cause = self._cause_of_another(None) or Cause("message", RowKey("gone"), InstanceId("ins_gone"))
        rejected = builders.rejection(cause, attempts=1, retry_at=self.rng.choice([None, 5]))
        told = (replace(self._message("failed"), owner=cause.owner),) if self.rng.random() < 0.5 else ()
        return Commit(instance=id, epoch=self.rows.epoch, base=Seq(0), rejected=rejected, messages=told)

    def _of(self, row: InstanceRow) -> Commit:
        base = row.head.view.seq
        cause = self._cause_of_another(row) if self.rng.random() < 0.4 else None
        if self.rng.random() < 0.06:
            gone = (replace(self._message("failed"), owner=self._somebody()),)
            return replace(self._plain(row), deleted_at=Instant(7), messages=gone)
        if cause is not None and self.rng.random() < 0.3:
            rejected = builders.rejection(cause, attempts=2, retry_at=self.rng.choice([None, None, 9]))
            return replace(self._plain(row), rejected=rejected)
        commit = self._plain(row)
        if self.rng.random() < 0.7:
            commit = builders.step(row.id, self.rows.epoch, base, context=self._context())
        consumed = () if cause is None else (cause,)
        return self._beside(row, replace(commit, consumed=consumed, messages=self._messages()))

    def _plain(self, row: InstanceRow) -> Commit:
        return builders.consume(row.id, self.rows.epoch, row.head.view.seq)

    def _beside(self, row: InstanceRow, commit: Commit) -> Commit:
        changes: dict[str, object] = {}
        chance = self.rng.random
        if chance() < 0.2:
            self.counter += 1
            run = ServiceRun(self.rng.choice(SERVICES), Seq(self.counter))
            changes["linked"] = (Link(run, Address(MACHINE, self.rng.choice(NAMES))),)
        if row.links and chance() < 0.3:
            changes["unlinked"] = (self.rng.choice(list(row.links)),)
        if row.parent is not None and chance() < 0.2:
            changes["parent"] = replace(row.parent, link=ServiceRun(ServiceId("again"), Seq(self.counter)))
        if chance() < 0.1:
            changes["status"] = self.rng.choice(["paused", "running"])
        if chance() < 0.1:
            changes["wish"] = Wish(self.rng.choice([None, VersionId("ver_2")]))
        if chance() < 0.1:
            kept = Repeatable(SCOPE, self.rng.choice("xyz"), b"b" * 32, Instant(self.counter))
            changes["repeatables"] = ((kept, EnvelopeId(f"e{self.counter}")),)
        if commit.head is not None and chance() < 0.3:
            timer = builders.timer(self._key(), due=self.rng.randint(0, 50))
            to = self.rng.choice([None, TO_PARENT, Address(MACHINE, self.rng.choice(NAMES))])
            changes["timers_set"] = (replace(timer, to=to),)
        return replace(commit, **changes)

    def _messages(self) -> tuple[Message, ...]:
        kinds = self.rng.choices(["self", "event", "create", "done", "failed"], k=self.rng.randint(0, 2))
        return tuple(self._message(kind) for kind in kinds)

    def _message(self, kind: str) -> Message:
        to = None if kind in ("self", "failed") else Address(MACHINE, self.rng.choice(NAMES))
        link = ServiceRun(self.rng.choice(SERVICES), Seq(3)) if kind in ("create", "done", "failed") else None
        return Message(
            key=RowKey(self._key()),
            event=Json(b'{"type":"m%d"}' % self.counter),
            kind=kind,  # type: ignore[arg-type]
            to=to,
            link=link,
            version=VersionId("ver_3") if kind == "create" and self.rng.random() < 0.5 else None,
            depth=2 if kind == "create" else 0,
        )

    def _cause_of_another(self, row: InstanceRow | None) -> Cause | None:
        mine = [
            Cause("message", key, owner)
            for (owner, key), one in self.rows.messages.items()
            if one.message.kind != "self" and (row is None or one.to == row.key)
        ]
        return self.rng.choice(mine) if mine else None

    def _parent(self) -> Parent:
        address = Address(MACHINE, self.rng.choice(NAMES))
        return Parent(self._somebody(), address, ServiceRun(self.rng.choice(SERVICES), Seq(1)), 1)

    def _somebody(self) -> InstanceId:
        return self.rng.choice([InstanceId("ins_gone"), *self.rows.instances])

    def _context(self) -> bytes | None:
        large = b'{"n":"' + b"x" * 5_000 + b'"}'
        return self.rng.choice([None, b'{"n":%d}' % self.counter, large])

    def _key(self) -> str:
        self.counter += 1
        return f"k{self.counter}"

    # --- reading and looking after -------------------------------------------------------------------

    def draw_load(self) -> Call:
        key = key_of(self.rng.choice(NAMES))
        return lambda store: store.load(key)

    def draw_due_messages(self) -> Call:
        until, limit = Instant(self.rng.choice([0, 5, 9, 100])), self.rng.randint(1, 6)

        async def read(store: BothPorts) -> object:
            rows = await store.due_messages(until, after=0, limit=limit)
            if len(rows) < 2:
                return [replace(row, row=0) for row in rows]
            later = await store.due_messages(until, after=rows[0].row, limit=limit)
            return [replace(row, row=0) for row in (*rows, *later)]

        return read

    def draw_next_messages(self) -> Call:
        pairs = [(one.instance, one.to) for one in self.rows.messages.values()]
        owner, to = self.rng.choice([*pairs, (self._somebody(), key_of(NAMES[0]))])

        async def read(store: BothPorts) -> object:
            return [replace(row, row=0) for row in await store.next_messages(owner, to, 4)]

        return read

    def draw_last_ts(self) -> Call:
        key = key_of(self.rng.choice(NAMES))
        return lambda store: store.last_ts(key)

    def draw_answers(self) -> Call:
        key, body = self.rng.choice("xyz"), self.rng.randbytes(3)

        async def keep(store: BothPorts) -> object:
            found = await store.find_answer(ORG, SCOPE, key)
            await store.keep_answer(ORG, SCOPE, key, 200, body)
            return found, await store.find_answer(ORG, SCOPE, key)

        return keep

    def draw_letters(self) -> Call:
        """List them, and redrive or discard one: ids are each store's own."""
        what, n = self.rng.choice(["list", "redrive", "discard"]), self.rng.randrange(3)
        machine = self.rng.choice([None, MACHINE, MachineName("gate")])
        instance = self.rng.choice([None, None, *NAMES])

        async def look(store: BothPorts) -> object:
            letters = await store.list_dead_letters(
                ORG, machine=machine, instance=instance, after="", limit=10
            )
            if letters and what == "redrive":
                await store.redrive(ORG, letters[n % len(letters)].id, Instant(11))
            elif letters and what == "discard":
                await store.discard(ORG, letters[n % len(letters)].id)
            return [replace(letter, id="") for letter in letters]

        return look

    def draw_sweep(self) -> Call:
        before = Instant(self.rng.choice([0, 2, self.counter // 2]))

        async def sweep(store: BothPorts) -> None:
            await store.sweep_answers(before)
            await store.sweep_dead_letters(Instant(1))

        return sweep


QUERIES = (
    "SELECT instance, parent, machine, name, service, run, depth FROM parents ORDER BY instance",
    "SELECT parent, service, run, child_machine, child_name FROM links ORDER BY parent, service, run",
    "SELECT instance, version FROM wishes ORDER BY instance",
    "SELECT name, ts FROM graves ORDER BY name",
    "SELECT key, instance, event_id, created_at, status, answer FROM idempotency ORDER BY key",
    (
        "SELECT instance, key, kind, to_machine, to_name, service, run, event, version, depth, fire_at, "
        "attempts, dead_at, from_name FROM messages WHERE kind <> 'self' ORDER BY row"
    ),
    "SELECT instance, key, to_kind, to_machine, to_name FROM timers ORDER BY instance, key",
)


def rows_of(file: Path) -> list[list[tuple[object, ...]]]:
    connection = sqlite3.connect(file)
    try:
        return [list(connection.execute(query)) for query in QUERIES]
    finally:
        connection.close()


def rows_in(memory: MemoryStore) -> list[list[tuple[object, ...]]]:
    store = memory.instances
    rows = [row for _, row in sorted(store.instances.items())]
    parents = [(row.id, row.parent) for row in rows if row.parent is not None]
    return [
        [(id, p.instance, *p.address, *p.link, p.depth) for id, p in parents],
        [(row.id, *run, *row.links[run].child) for row in rows for run in sorted(row.links)],
        [(row.id, row.desired) for row in rows if row.desired is not None],
        [(key.name, ts) for key, ts in sorted(store.graves.items())],
        [
            (key, kept.instance, kept.event_id, kept.created_at, kept.status, kept.answer)
            for (_, _, key), kept in sorted(store.answers.items())
        ],
        [
            (
                one.instance,
                one.message.key,
                one.message.kind,
                one.to.machine,
                one.to.name,
                *(one.message.link or (None, None)),
                one.message.event,
                one.message.version,
                one.message.depth,
                one.fire_at,
                one.attempts,
                one.dead_at,
                one.sender.name,
            )
            for one in store.messages.values()
            if one.message.kind != "self"
        ],
        [(instance, key, *_target(row.timer.to)) for (instance, key), row in sorted(store.timers.items())],
    ]


def _target(to: object) -> tuple[object, object, object]:
    if isinstance(to, Address):
        return "address", *to
    return ("parent" if to is not None else None), None, None


@pytest.mark.parametrize("seed", SEEDS)
async def test_families_are_the_same_in_memory_and_in_sqlite(seed: int, file: Path) -> None:
    memory, sqlite = MemoryStore(), await SqliteStore.open(file)
    await asyncio.gather(memory.acquire("me"), sqlite.acquire("me"))
    operations = Operations(seed, memory)
    outcomes: Counter[object] = Counter()
    try:
        for count in range(OPERATIONS):
            kind, call = operations.draw()
            expected = await call(memory)
            assert await call(sqlite) == expected, f"seed {seed}, operation {count}: {kind}"
            outcomes[expected if kind == "commit" else kind] += 1
            if count % 50 == 0:
                assert rows_of(file) == rows_in(memory), f"seed {seed}, operation {count}: {kind}"
    finally:
        await sqlite.aclose()
    assert rows_of(file) == rows_in(memory)
    assert outcomes[Outcome.COMMITTED] > OPERATIONS // 3
    assert min(outcomes[Outcome.NAME_TAKEN], outcomes[Outcome.CAUSE_GONE]) > 0
    assert memory.instances.graves
