"""Numbered, forward-only migrations, shared by every SQL store: reading them and deciding which to apply.

A migration is a file `NNNN_name.sql` in the store's `migrations/` folder. Numbers start at 1 without gaps.
Once released a file never changes: its checksum is stored beside its number when it is applied, and a
difference is refused.

Theory of operation. The store opens one transaction that excludes every other writer (its lock), reads the
rows of `schema_migrations`, asks `plan` what is missing, applies that, records each number with its checksum,
and commits. Two processes that start together therefore apply every migration once, and a failing migration
leaves the schema as it was. A database whose schema is newer than this program is refused: writing it with
statements that do not know its columns could lose what they hold.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable

_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


class SchemaRefused(Exception):
    """The database's schema is not one that this program may write; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step of the schema. `checksum` is the SHA-256 of the text in hexadecimal."""

    number: int
    name: str
    sql: str
    checksum: str


def read_migrations(folder: Traversable) -> tuple[Migration, ...]:
    """All migrations of a folder in order. Asserts that they are numbered 1, 2, 3…"""
    found = []
    for entry in folder.iterdir():
        match = _FILE.fullmatch(entry.name)
        if match is not None:
            sql = entry.read_text("utf-8").replace("\r\n", "\n")
            checksum = hashlib.sha256(sql.encode()).hexdigest()
            found.append(Migration(number=int(match[1]), name=match[2], sql=sql, checksum=checksum))
    found.sort(key=lambda migration: migration.number)
    assert [migration.number for migration in found] == list(range(1, len(found) + 1)), "gap in migrations"
    return tuple(found)


def plan(known: Sequence[Migration], applied: Mapping[int, str]) -> tuple[Migration, ...]:
    """Which of the known migrations are still to be applied, in order.

    `applied` maps the numbers in the database to their checksums. Raises SchemaRefused when the database is
    newer, or when a migration that it holds is not the one that this program knows by that number.
    """
    newest = max(applied, default=0)
    if newest > len(known):
        raise SchemaRefused(
            f"this database was written by a newer version of statebacked (schema {newest}, this version "
            f"knows {len(known)}): upgrade statebacked, or use a copy of the data made before the upgrade"
        )
    for migration in known[:newest]:
        if applied.get(migration.number) != migration.checksum:
            raise SchemaRefused(
                f"migration {migration.number:04}_{migration.name} of this database is not the one that this "
                "version of statebacked holds: the database was made by another build, or the file was edited"
            )
    return tuple(known[newest:])
