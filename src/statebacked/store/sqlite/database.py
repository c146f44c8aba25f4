"""Opens connections to a database file and brings its schema up to date."""

import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Final

from statebacked.store.schema import Migration, plan, read_migrations

BUSY_MS: Final = 5_000  # how long to wait for another process on the same file
_CHECKPOINT_PAGES: Final = 1_000
_WRITER_CACHE_KIB: Final = 32_000
_READER_CACHE_KIB: Final = 4_000
_CACHED_STATEMENTS: Final = 256

logger = logging.getLogger(__name__)

Connect = Callable[[Path], sqlite3.Connection]
SetUp = Callable[[sqlite3.Connection], None]


def connect(file: Path) -> sqlite3.Connection:
    """A bare connection in which nothing begins or commits by itself. Raises sqlite3.Error."""
    return sqlite3.connect(
        file,
        timeout=BUSY_MS / 1000,
        isolation_level=None,
        cached_statements=_CACHED_STATEMENTS,
        check_same_thread=False,
    )


def prepare_file(file: Path) -> None:
    """Create the file and its folder if need be, readable by their owner only. Raises OSError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))


def set_up_writer(connection: sqlite3.Connection) -> None:
    """Durability: a COMMIT returns when its pages in the write-ahead log are on the disk."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE_KIB}")


def set_up_reader(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA query_only = ON")
    connection.execute(f"PRAGMA cache_size = -{_READER_CACHE_KIB}")


def known_migrations() -> tuple[Migration, ...]:
    return read_migrations(files(__package__) / "migrations")


def migrate(
    connection: sqlite3.Connection, known: tuple[Migration, ...], *, copied_from: Path | None = None
) -> None:
    """Apply what is missing, all or nothing, under the write lock.

    `copied_from` is the connection's file: before an older schema is changed, a copy of the file is kept
    beside it as `<file>.schema-<number>`. Raises SchemaRefused, sqlite3.Error, OSError; then nothing has
    changed."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations "
            "(number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)"
        )
        applied = dict(connection.execute("SELECT number, checksum FROM schema_migrations"))
        missing = plan(known, applied)
        old, new = max(applied, default=0), len(known)
        is_upgrade = bool(applied) and bool(missing)
        kept = ""
        if is_upgrade and copied_from is not None:
            kept = f", a copy of the data before is {keep_copy(copied_from, old)}"
        for migration in missing:
            for statement in split_statements(migration.sql):
                connection.execute(statement)
            row = (migration.number, migration.name, migration.checksum)
            connection.execute("INSERT INTO schema_migrations VALUES (?, ?, ?)", row)
        connection.execute("COMMIT")
        if is_upgrade:
            logger.info("schema %d → %d%s", old, new, kept)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def keep_copy(file: Path, schema: int) -> Path:
    """A whole copy of the database as it is committed now, readable by its owner only, on the disk before
    this returns. The caller holds the write lock. Raises sqlite3.Error and OSError; then there is no copy."""
    copy = file.with_name(f"{file.name}.schema-{schema}")
    draft = copy.with_name(copy.name + ".new")
    _remove(draft)
    try:
        prepare_file(draft)
        with closing(connect(file)) as source, closing(connect(draft)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE")  # one file, without companions
        draft.replace(copy)
    except BaseException:
        _remove(draft)
        raise
    _sync_folder(copy.parent)
    return copy


def _remove(draft: Path) -> None:
    """With the companions that an attempt which failed left beside it."""
    for companion in ("", "-journal", "-wal", "-shm"):
        draft.with_name(draft.name + companion).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def split_statements(script: str) -> list[str]:
    """The statements of a script. (executescript would commit the transaction around it.)"""
    statements = []
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
