"""A few threads that read, each with a connection of its own, so that no read waits for the writer."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from statebacked.ports.store import StoreFailed

THREADS: Final = 3

T = TypeVar("T")
Row = tuple[Any, ...]  # Any: what a column holds is the schema's promise, not the type checker's


class Readers:
    """Runs functions of a connection. `open_connection` gives one ready for reading, or raises."""

    def __init__(self, open_connection: Callable[[], sqlite3.Connection]) -> None:
        self._open_connection = open_connection
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="store-reader")
        self._own = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._is_closed = False

    async def read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run fn in one read transaction: all its statements see the same state. Raises StoreFailed."""
        if self._is_closed:
            raise StoreFailed("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._read, fn)

    async def one(self, sql: str, parameters: Row) -> Row | None:
        """The first row of one statement."""
        row: Row | None = await self.read(lambda connection: connection.execute(sql, parameters).fetchone())
        return row

    async def all(self, sql: str, parameters: Row) -> list[Row]:
        return await self.read(lambda connection: connection.execute(sql, parameters).fetchall())

    async def aclose(self) -> None:
        """Finish what is being read, then close the connections. Later reads fail."""
        self._is_closed = True
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    # --- on a reader thread --------------------------------------------------------------------------

    def _read(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        try:
            connection = self._connected()
            connection.execute("BEGIN")
            try:
                return fn(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as exc:
            self._forget()
            raise StoreFailed(f"the database cannot be read: {exc}") from exc

    def _connected(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._open_connection()
            self._own.connection = connection
            self._connections.append(connection)
        return connection

    def _forget(self) -> None:
        """After a failure the next read of this thread opens a new connection."""
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is not None:
            self._own.connection = None
            self._connections.remove(connection)
            connection.close()
