"""The one thread that writes, and how it commits many instances with one COMMIT.

Theory of operation. The event loop puts work into a queue and gets a future; the thread takes what has
gathered, at most GROUP_MAX at a time. Work is a Commit or a function of a cursor (the catalogue's writes);
neighbouring commits form a group and share one transaction, a function has its own. No timer and no
minimum size: while COMMIT waits for the disk (without the interpreter's lock) the loop goes on and the next
group forms itself, so a lone commit is not delayed and a crowd shares the price of the disk. The order of
calls is the order of commits. One call_soon_threadsafe resolves a whole group.

Failures, from the outside in:
- A statement raises: nothing of the group is durable, for COMMIT was not tried. Roll back and run the
  members singly: whoever raises again fails alone.
- BEGIN raises (another process holds the lock for too long, the disk is gone): no member is at fault, and
  all fail.
- COMMIT raises: the outcome is unknown and nothing is replayed. The connection is opened anew and the doubt
  is settled: a TRUNCATE checkpoint writes to the database what a reader sees (after a failed sync that may be
  in memory only) and empties the log of what none sees (a restart might find it there). Then every member
  fails, and its activation is loaded again.
- No connection: the next piece of work tries to open one, and fails if that fails.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby
from queue import SimpleQueue
from typing import Any, Final, Protocol, TypeVar

import structlog

from statebacked.model.rows import Commit, Outcome
from statebacked.ports.store import StoreFailed

logger = structlog.get_logger(__name__)

GROUP_MAX: Final = 256

T = TypeVar("T")
Result = object  # what a future is given: a value, or an Exception to raise


class WriteGroup(Protocol):
    """Writes commits through a cursor, inside a transaction, and says how each ended."""

    def __call__(self, cursor: sqlite3.Cursor, commits: Sequence[Commit]) -> Sequence[Outcome]: ...


# A future and the work whose result it is for: a Commit or a function of a cursor. Any: their types vary
# together, which a tuple cannot say.
_Item = tuple["asyncio.Future[Any]", Any]


class Writer:
    """Owns the thread and its connection. `open_connection` gives one ready for writing, or raises."""

    def __init__(
        self,
        open_connection: Callable[[], sqlite3.Connection],
        write_group: WriteGroup,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._open_connection = open_connection
        self._write_group = write_group
        self._loop = loop
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="store-writer", daemon=True)
        self._is_closed = False
        # Of the newest transaction: why nothing could be written, where no row was at fault. Written by
        # the thread, read by the loop.
        self.failure: str | None = None
        # From here on the thread's own.
        self._connection: sqlite3.Connection | None = None
        self._cursor: sqlite3.Cursor | None = None
        self._is_log_doubtful = False

    # --- on the event loop ---------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def commit(self, commit: Commit) -> "asyncio.Future[Outcome]":
        """Queue a commit. The future gives its outcome when that is durable, or raises StoreFailed."""
        future: asyncio.Future[Outcome] = self._loop.create_future()
        self._put((future, commit))
        return future

    def run(self, fn: Callable[[sqlite3.Cursor], T]) -> "asyncio.Future[T]":
        """Queue a transaction of its own. What `fn` raises rolls it back, and is raised."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._put((future, fn))
        return future

    async def aclose(self) -> None:
        """Finish what is queued, then end the thread. Later work fails."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(None)
        await self._loop.run_in_executor(None, self._thread.join)

    def _put(self, item: _Item) -> None:
        if self._is_closed:
            item[0].set_exception(StoreFailed("the store is closed"))
        else:
            self._queue.put(item)

    # --- on the writer thread ------------------------------------------------------------------------

    def _main(self) -> None:
        is_ending = False
        while not is_ending:
            items, is_ending = self._take()
            for is_commit, members in groupby(items, key=lambda item: isinstance(item[1], Commit)):
                if is_commit:
                    self._commit_group(list(members))
                else:
                    for member in members:
                        self._run_function(member)
        self._close_connection()

    def _take(self) -> tuple[list[_Item], bool]:
        """Wait for work, then take what is there; and whether it is the last."""
        first = self._queue.get()
        if first is None:
            return [], True
        items = [first]
        for _ in range(min(self._queue.qsize(), GROUP_MAX - 1)):
            item = self._queue.get_nowait()
            if item is None:
                return items, True
            items.append(item)
        return items, False

    def _commit_group(self, members: list[_Item]) -> None:
        commits = [member[1] for member in members]
        results: Sequence[Result]
        try:
            results = self._transact(lambda cursor: self._write_group(cursor, commits))
        except _RolledBack as exc:
            if len(members) > 1:
                for member in members:
                    self._commit_group([member])
                return
            if not isinstance(exc.cause, sqlite3.Error):
                logger.error("commit cannot be written", exc_info=exc.cause)
            results = [StoreFailed(str(exc))]
        except StoreFailed as exc:
            results = [StoreFailed(str(exc)) for _ in members]
        self._resolve(members, results)

    def _run_function(self, member: _Item) -> None:
        result: Result
        try:
            result = self._transact(member[1])
        except _RolledBack as exc:
            result = StoreFailed(str(exc)) if isinstance(exc.cause, sqlite3.Error) else exc.cause
        except StoreFailed as exc:
            result = exc
        self._resolve([member], [result])

    def _transact(self, body: Callable[[sqlite3.Cursor], T]) -> T:
        """Run body in a transaction. Raises _RolledBack when body raised, StoreFailed for all else."""
        connection, cursor = self._begin()
        try:
            result = body(cursor)
        except Exception as exc:  # the root of this work: whatever it raises ends it alone
            if isinstance(exc, sqlite3.OperationalError):  # a full disk, say; not a row that breaks a rule
                self.failure = f"the database cannot be written: {exc}"
            self._roll_back(connection)
            raise _RolledBack(exc) from exc
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as exc:
            logger.error("a commit fails, its outcome is unknown", error=str(exc))
            self.failure = f"the database cannot be written: {exc}"
            self._is_log_doubtful = True
            self._close_connection()
            self._reopen_quietly()
            raise StoreFailed(f"COMMIT failed, the outcome is unknown: {exc}") from exc
        self.failure = None
        return result

    def _begin(self) -> tuple[sqlite3.Connection, sqlite3.Cursor]:
        try:
            connection, cursor = self._connected()
            connection.execute("BEGIN IMMEDIATE")
        except (sqlite3.Error, OSError) as exc:
            self._close_connection()
            self.failure = f"the database cannot be written: {exc}"
            raise StoreFailed(self.failure) from exc
        return connection, cursor

    def _connected(self) -> tuple[sqlite3.Connection, sqlite3.Cursor]:
        if self._connection is None or self._cursor is None:
            self._connection = self._open_connection()
            self._cursor = self._connection.cursor()
        if self._is_log_doubtful:
            (is_busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if is_busy:
                raise sqlite3.OperationalError("a read holds the write-ahead log that is to be emptied")
            self._is_log_doubtful = False
        return self._connection, self._cursor

    def _reopen_quietly(self) -> None:
        try:
            self._connected()
        except (sqlite3.Error, OSError) as exc:
            logger.error("the database does not open again, the next write tries", error=str(exc))
            self._close_connection()

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error as exc:
            logger.error("a rollback fails, the database is opened anew", error=str(exc))
            self._close_connection()

    def _close_connection(self) -> None:
        """Close it in earnest: SQLite keeps one that has a transaction or a statement left, locks and all."""
        connection, cursor = self._connection, self._cursor
        self._connection = self._cursor = None
        if connection is None:
            return
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        if cursor is not None:
            cursor.close()
        connection.close()

    def _resolve(self, members: Sequence[_Item], results: Sequence[Result]) -> None:
        futures = [member[0] for member in members]
        try:
            self._loop.call_soon_threadsafe(_give, futures, results)
        except RuntimeError:  # the loop is closed: nobody waits any more
            logger.warning("the store outlives its event loop", unanswered=len(futures))


class _RolledBack(Exception):
    """A transaction's body raised; nothing of it is durable."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _give(futures: Sequence["asyncio.Future[Any]"], results: Sequence[Result]) -> None:
    for future, result in zip(futures, results, strict=True):
        if future.done():  # cancelled
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
