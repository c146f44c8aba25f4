"""Opens connections to a database file and brings its schema up to date."""

import os
import sqlite3
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Final

from statebacked.store.schema import Migration, plan, read_migrations

BUSY_MS: Final = 5_000  # how long to wait for another process on the same file
_CHECKPOINT_PAGES: Final = 1_000
_WRITER_CACHE_KIB: Final = 32_000
_READER_CACHE_KIB: Final = 4_000
_CACHED_STATEMENTS: Final = 256

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


def migrate(connection: sqlite3.Connection, known: tuple[Migration, ...]) -> None:
    """Apply what is missing, all or nothing, under the write lock. Raises SchemaRefused, sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations "
            "(number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)"
        )
        applied = dict(connection.execute("SELECT number, checksum FROM schema_migrations"))
        for migration in plan(known, applied):
            for statement in split_statements(migration.sql):
                connection.execute(statement)
            row = (migration.number, migration.name, migration.checksum)
            connection.execute("INSERT INTO schema_migrations VALUES (?, ?, ?)", row)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


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
