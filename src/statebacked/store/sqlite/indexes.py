"""Index rows in SQLite: written within the transaction of a commit, read in the order of the primary key.

A row's place is (value, name). Each range of a query is one walk over the primary key between two places,
both left out, so that a page costs what it shows, wherever in the index it stands.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from statebacked.model.ids import InstanceId, InstanceName
from statebacked.model.indexes import IndexedState, IndexKey, IndexRow, Order, Place, Range
from statebacked.model.values import Indexed
from statebacked.store.sqlite.queries import load_queries
from statebacked.store.sqlite.readers import Readers, Row

_FIRST: Final = ("", "")  # below every row: no name is empty
_LAST: Final = (b"", "")  # above every row: SQLite sorts any blob behind any text


def write_indexes(cursor: sqlite3.Cursor, instance: InstanceId, indexed: Indexed) -> None:
    """Make these all the rows of an instance that exists. Rows that stay are not touched."""
    sql = load_queries()
    held = {*cursor.execute(sql["index_rows_of"], (instance,))}
    wanted = {(index, value) for index, values in indexed for value in values}
    gone, new = sorted(held - wanted), sorted(wanted - held)
    if gone:
        cursor.executemany(sql["delete_index_row"], [(instance, *row) for row in gone])
    if new:
        cursor.executemany(sql["insert_index_row"], [(*row, instance) for row in new])


class SqliteIndexes:
    """Implements ports.Indexes, for a store."""

    _readers: Readers
    _sql: dict[str, str]

    async def find_indexed(
        self, index: IndexKey, ranges: Sequence[Range], *, order: Order, limit: int
    ) -> list[IndexRow]:
        sql = self._sql["find_indexed_asc" if order == "asc" else "find_indexed_desc"]

        def find(connection: sqlite3.Connection) -> list[IndexRow]:
            rows = _walk(connection, sql, index, ranges, limit)
            return [IndexRow(value, InstanceName(name)) for value, name in rows]

        return await self._readers.read(find)

    async def find_indexed_states(
        self, index: IndexKey, ranges: Sequence[Range], *, order: Order, limit: int, bytes_max: int
    ) -> list[IndexedState]:
        sql = self._sql["find_indexed_states_asc" if order == "asc" else "find_indexed_states_desc"]

        def find(connection: sqlite3.Connection) -> list[IndexedState]:
            return _within(_walk(connection, sql, index, ranges, limit), bytes_max)

        return await self._readers.read(find)


def _walk(
    connection: sqlite3.Connection, sql: str, index: IndexKey, ranges: Sequence[Range], limit: int
) -> Iterator[Row]:
    """Lazily, so that whoever has seen enough reads no further."""
    for one in ranges:
        bounds = (*_bound(one.above, _FIRST), *_bound(one.below, _LAST))
        for row in connection.execute(sql, (*index, *bounds, limit)):
            yield row
            limit -= 1
        if limit <= 0:
            return


def _bound(place: Place | None, otherwise: tuple[object, ...]) -> tuple[object, ...]:
    return otherwise if place is None else tuple(place)


def _within(rows: Iterable[Row], bytes_max: int) -> list[IndexedState]:
    found: list[IndexedState] = []
    for value, name, version, seq, snapshot, context in rows:
        found.append(IndexedState(IndexRow(value, InstanceName(name)), version, seq, snapshot, context))
        bytes_max -= len(snapshot) + len(context)
        if bytes_max <= 0:
            break
    return found
