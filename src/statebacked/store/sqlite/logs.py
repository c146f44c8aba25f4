"""ports.LogStore in an SQLite file of its own, so that no log line ever waits in front of a commit.

Durability is less than that of the main file on purpose (ADR 0009): with synchronous=NORMAL a transaction
survives the process, and the last ones may be missing after a power failure; nothing waits for the disk.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final, Self

from statebacked.model.ids import InstanceKey, InstanceName, Instant, OrgId
from statebacked.model.limits import LOG_ROWS_LOOKED_AT_MAX
from statebacked.model.logs import LogEntry, LogFilter, LogPage, LogPosition, StoredEntry
from statebacked.model.rows import Commit, Outcome
from statebacked.ports.store import StoreFailed
from statebacked.store.schema import Migration, read_migrations
from statebacked.store.sqlite import database
from statebacked.store.sqlite.queries import load_queries
from statebacked.store.sqlite.readers import Readers, Row
from statebacked.store.sqlite.writer import Writer

_DAY_MS: Final = 86_400_000
_CACHE_KIB: Final = 4_000


def known_log_migrations() -> tuple[Migration, ...]:
    return read_migrations(files(__package__) / "log_migrations")


def set_up_log_writer(connection: sqlite3.Connection) -> None:
    """A COMMIT returns when the system has its pages; one that removed entries makes the file smaller."""
    connection.execute("PRAGMA auto_vacuum = FULL")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")


class SqliteLogs:
    """Implements ports.LogStore on a file."""

    @classmethod
    async def open(cls, file: Path, *, connect: database.Connect = database.connect) -> Self:
        """Open or create the file, and its folder, for use on this event loop.

        `connect` makes every connection. Raises SchemaRefused, and StoreFailed when the file cannot be used.
        """
        try:
            database.prepare_file(file)
            with_schema = connect(file)
            try:
                set_up_log_writer(with_schema)
                database.migrate(with_schema, known_log_migrations())
            finally:
                with_schema.close()
        except (sqlite3.Error, OSError) as exc:
            message = f"the log file {file} cannot be opened, move it away to start without it: {exc}"
            raise StoreFailed(message) from exc

        def open_connection(set_up: database.SetUp) -> sqlite3.Connection:
            connection = connect(file)
            set_up(connection)
            return connection

        writer = Writer(lambda: open_connection(set_up_log_writer), _no_commits, asyncio.get_running_loop())
        writer.start()
        return cls(writer, Readers(lambda: open_connection(database.set_up_reader)))

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers
        self._sql = load_queries("log_queries.sql")

    async def aclose(self) -> None:
        """Finish what was asked for, then close the file. Whatever is asked later raises StoreFailed."""
        await self._writer.aclose()
        await self._readers.aclose()

    async def append(self, entries: Sequence[LogEntry]) -> None:
        def insert(cursor: sqlite3.Cursor) -> None:
            volumes: Counter[tuple[int, OrgId]] = Counter()
            for entry in entries:
                volumes[entry.at // _DAY_MS, entry.org] += entry.weight
            cursor.executemany(self._sql["insert_entry"], [_row(entry) for entry in entries])
            cursor.executemany(self._sql["add_volume"], [(*of, size) for of, size in volumes.items()])

        await self._writer.run(insert)

    async def read(self, wanted: LogFilter, after: LogPosition, until: Instant, *, limit: int) -> LogPage:
        address = (wanted.machine, wanted.instance)
        is_one_instance = None not in address
        of = "instance" if is_one_instance else "org"

        def look(connection: sqlite3.Connection) -> LogPage:
            begin = (wanted.org, *after)
            share = (*begin, until, LOG_ROWS_LOOKED_AT_MAX, *(address if is_one_instance else ()))
            edge = connection.execute(self._sql[f"edge_of_{of}"], share).fetchone()
            seen_to = until if edge is None else Instant(edge[0] - 1)
            asked = (*begin, seen_to, limit, *address, wanted.version)
            rows = connection.execute(self._sql[f"entries_of_{of}"], asked).fetchall()
            return LogPage(tuple(_entry(row) for row in rows), seen_to)

        return await self._readers.read(look)

    async def newest(self) -> Instant:
        row = await self._readers.one(self._sql["newest_entry"], ())
        return Instant(0 if row is None else row[0])

    async def volumes(self, day: int) -> Mapping[OrgId, int]:
        return dict(await self._readers.all(self._sql["volumes_of_day"], (day,)))

    async def erase(self, key: InstanceKey, until: Instant, *, limit: int) -> int:
        def delete(cursor: sqlite3.Cursor) -> int:
            return cursor.execute(self._sql["erase_instance"], (*key, until, limit)).rowcount

        return await self._writer.run(delete)

    async def prune(self, before: Instant, bytes_max: int, *, limit: int) -> int:
        def delete(cursor: sqlite3.Cursor) -> int:
            if _size_of(cursor) > bytes_max:
                gone = cursor.execute(self._sql["prune_oldest"], (limit,)).rowcount
            else:
                gone = cursor.execute(self._sql["prune_old"], (before, limit)).rowcount
            cursor.execute(self._sql["prune_volumes"], (before // _DAY_MS,))
            return gone

        return await self._writer.run(delete)


def _size_of(cursor: sqlite3.Cursor) -> int:
    """The bytes that the entries and what finds them take."""
    (pages,) = cursor.execute("PRAGMA page_count").fetchone()
    (free,) = cursor.execute("PRAGMA freelist_count").fetchone()
    (size,) = cursor.execute("PRAGMA page_size").fetchone()
    in_use: int = (pages - free) * size
    return in_use


def _row(entry: LogEntry) -> Row:
    return (
        entry.at,
        entry.org,
        entry.machine,
        entry.instance or "",
        entry.version,
        entry.output,
        entry.text,
    )


def _entry(row: Row) -> StoredEntry:
    at, id, org, machine, instance, version, output, text = row
    entry = LogEntry(
        at=at,
        org=org,
        machine=machine,
        instance=InstanceName(instance) if instance else None,
        version=version,
        output=output,
        text=text,
    )
    return StoredEntry(LogPosition(at, id), entry)


def _no_commits(cursor: sqlite3.Cursor, commits: Sequence[Commit]) -> Sequence[Outcome]:
    raise AssertionError("no instance lives in the log file")
