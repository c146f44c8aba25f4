"""The embedded store: one SQLite file, for one process that owns every shard.

Theory of operation. All writes go through one thread (writer.py), which commits what has gathered with one
COMMIT, synchronous=FULL: what is acknowledged is on the disk. All reads go through a few other threads, each
with its own connection; the write-ahead log lets them read the newest committed state while the writer
writes. Nothing here blocks the event loop, and nothing is cached: the activation is the cache.

Ownership. `acquire` raises the epoch of every lease in a transaction of its own. A second process that opens
the same file does the same, and from then on every commit of the first one is fenced, because the epoch is
compared with the lease inside the transaction that would write. SQLite's own locks order the two; no lock is
held between transactions.

The hot path is commits.py; its statements and all others are in queries.sql.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

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
    ServiceRun,
)
from statebacked.model.logs import LogErasure
from statebacked.model.machine import InstanceSummary
from statebacked.model.rows import (
    Commit,
    DueTimer,
    InstanceRecord,
    Message,
    Outcome,
    PendingTimer,
    StateView,
    Timer,
    TimerPlace,
    Transition,
)
from statebacked.model.values import Address, Link, Parent
from statebacked.ports.store import TIMERS_BEGIN, StoreFailed
from statebacked.store.letters import LETTER_LIMITS, LetterLimits
from statebacked.store.public_context import public_context
from statebacked.store.sqlite import database
from statebacked.store.sqlite.commits import CommitWriter
from statebacked.store.sqlite.indexes import SqliteIndexes
from statebacked.store.sqlite.outbox import SqliteOutbox, target_of
from statebacked.store.sqlite.readers import Readers, Row
from statebacked.store.sqlite.writer import Writer

_services = msgspec.json.Decoder(tuple[ServiceRun, ...])


class SqliteStore(SqliteOutbox, SqliteIndexes):
    """Implements ports.InstanceStore, ports.Indexes, ports.Catalogue and ports.LogErasures on a file."""

    @classmethod
    async def open(
        cls,
        file: Path,
        *,
        connect: database.Connect = database.connect,
        letter_limits: LetterLimits = LETTER_LIMITS,
    ) -> Self:
        """Open or create the database file, and its folder, for use on this event loop.

        `connect` makes every connection. Raises SchemaRefused, and StoreFailed when the file cannot be used.
        """
        try:
            database.prepare_file(file)
            with_schema = connect(file)
            try:
                database.set_up_writer(with_schema)
                database.migrate(with_schema, database.known_migrations(), copied_from=file)
            finally:
                with_schema.close()
        except (sqlite3.Error, OSError) as exc:
            raise StoreFailed(f"the database {file} cannot be opened: {exc}") from exc

        def open_connection(set_up: database.SetUp) -> sqlite3.Connection:
            connection = connect(file)
            set_up(connection)
            return connection

        writer = Writer(
            lambda: open_connection(database.set_up_writer),
            CommitWriter(letter_limits).write,
            asyncio.get_running_loop(),
        )
        writer.start()
        return cls(writer, Readers(lambda: open_connection(database.set_up_reader)))

    async def aclose(self) -> None:
        """Finish what was asked for, then close the file. Whatever is asked later raises StoreFailed."""
        await self._writer.aclose()
        await self._readers.aclose()

    async def acquire(self, owner: str) -> Epoch:
        def take_all(cursor: sqlite3.Cursor) -> Epoch:
            cursor.execute(self._sql["acquire_leases"], (owner,))
            (epoch,) = cursor.execute(self._sql["lease_epoch"]).fetchone()
            return Epoch(epoch)

        return await self._writer.run(take_all)

    async def find_write_failure(self) -> str | None:
        """Why nothing can be written now. After a failed write a small one is tried, so that a disk that has
        room again is noticed without an event."""
        if self._writer.failure is not None:
            with suppress(StoreFailed):
                await self._writer.run(lambda cursor: cursor.execute(self._sql["rewrite_lease"]))
        return self._writer.failure

    def commit(self, commit: Commit) -> Awaitable[Outcome]:
        return self._writer.commit(commit)

    async def load(self, key: InstanceKey) -> InstanceRecord | None:
        def load_all(connection: sqlite3.Connection) -> tuple[Row, list[Row], list[list[Row]]] | None:
            head: Row | None = connection.execute(self._sql["load_instance"], key).fetchone()
            if head is None:
                return None
            rows = connection.execute(self._sql["load_rows"], (head[0],)).fetchall()
            beside = [connection.execute(self._sql[name], (head[0],)).fetchall() for name in _BESIDE]
            return head, rows, beside

        found = await self._readers.read(load_all)
        return None if found is None else _record(key, *found)

    async def find_transition(self, instance: InstanceId, event_id: EnvelopeId) -> Seq | None:
        row = await self._readers.one(self._sql["find_transition"], (instance, event_id))
        return None if row is None else Seq(row[0])

    async def due_timers(
        self,
        until: Instant,
        limit: int,
        *,
        after: TimerPlace = TIMERS_BEGIN,
        without_orgs: Sequence[OrgId] = (),
        without_instances: Sequence[InstanceId] = (),
    ) -> list[DueTimer]:
        without = (
            msgspec.json.encode(without_orgs).decode(),
            msgspec.json.encode(without_instances).decode(),
        )
        rows = await self._readers.all(self._sql["due_timers"], (until, *after, *without, limit))
        return [_due_timer(row) for row in rows]

    async def next_timers(
        self, instance: InstanceId, until: Instant, limit: int, *, after: TimerPlace
    ) -> list[DueTimer]:
        rows = await self._readers.all(self._sql["next_timers"], (instance, until, *after, limit))
        return [_due_timer(row) for row in rows]

    async def undelivered(self, limit: int) -> list[InstanceKey]:
        rows = await self._readers.all(self._sql["undelivered"], (limit,))
        return [InstanceKey(*row) for row in rows]

    async def list_instances(
        self, org: OrgId, machine: MachineName, *, after: str, limit: int
    ) -> list[InstanceSummary]:
        rows = await self._readers.all(self._sql["list_instances"], (org, machine, after, limit))
        return [_summary(row) for row in rows]

    async def list_transitions(self, key: InstanceKey, *, after: Seq, limit: int) -> list[Transition]:
        rows = await self._readers.all(self._sql["list_transitions"], (*key, after, limit))
        return [_transition(row) for row in rows]

    async def log_erasures(self, limit: int) -> list[LogErasure]:
        rows = await self._readers.all(self._sql["list_log_erasures"], (limit,))
        return [LogErasure(InstanceKey(*key), at) for *key, at in rows]

    async def log_erased(self, erasures: Sequence[LogErasure]) -> None:
        def delete(cursor: sqlite3.Cursor) -> None:
            rows = [(*erasure.key, erasure.at) for erasure in erasures]
            cursor.executemany(self._sql["delete_log_erasure"], rows)

        await self._writer.run(delete)


_BESIDE = ("load_links", "load_parent", "load_wish", "count_undelivered")


def _record(key: InstanceKey, head: Row, rows: list[Row], beside: list[list[Row]]) -> InstanceRecord:
    links, parents, wishes, ((undelivered,),) = beside
    id, version, status, created_at, seq, ts, value, tags, done, services, snapshot, context = head
    view = StateView(
        seq=seq, ts=ts, value=value, tags=tags, done=bool(done), public=public_context(context)
    )  # fmt: skip
    timers = [PendingTimer(name, send_id, due) for name, send_id, due, *_ in rows if due is not None]
    messages = [Message(key=name, event=event) for name, _, due, event, *_ in rows if due is None]
    return InstanceRecord(
        id=id,
        key=key,
        version=version,
        status=status,
        created_at=created_at,
        view=view,
        snapshot=snapshot,
        context=context,
        services=_services.decode(services),
        timers=tuple(timers),
        messages=tuple(messages),
        links=tuple([Link(ServiceRun(*row[:2]), Address(*row[2:])) for row in links]),
        parent=_parent(parents[0]) if parents else None,
        desired=wishes[0][0] if wishes else None,
        undelivered=undelivered,
    )


def _parent(row: Row) -> Parent:
    parent, machine, name, service, run, depth = row
    return Parent(parent, Address(machine, name), ServiceRun(service, run), depth)


def _due_timer(row: Row) -> DueTimer:
    instance, org, machine, name, key, send_id, due, event, fire_at, attempts, set_order, *target = row
    return DueTimer(
        instance=instance,
        key=InstanceKey(org, machine, InstanceName(name)),
        timer=Timer(key=key, send_id=send_id, due=due, event=event, to=target_of(*target)),
        fire_at=fire_at,
        attempts=attempts,
        row=set_order,
    )


def _summary(row: Row) -> InstanceSummary:
    name, created_at, status, version, client_info, version_created_at = row
    return InstanceSummary(
        name=name,
        created_at=created_at,
        status=status,
        version=version,
        client_info=client_info,
        version_created_at=version_created_at,
    )


def _transition(row: Row) -> Transition:
    seq, ts, at, event_id, event, value, source, actor, version = row
    return Transition(
        seq=seq,
        ts=ts,
        at=at,
        event_id=event_id,
        event=event,
        value=value,
        source=source,
        actor=actor,
        version=version,
    )
