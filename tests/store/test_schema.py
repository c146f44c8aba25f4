"""Migrations: what is applied, what is refused, and that they add up to the schema that is written down."""

import logging
import re
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from statebacked.ports.store import StoreFailed
from statebacked.store.schema import Migration, SchemaRefused, plan, read_migrations
from statebacked.store.sqlite import database
from statebacked.store.sqlite.queries import load_queries
from statebacked.store.sqlite.store import SqliteStore

SCHEMA = Path(__file__).parent / "sqlite_schema.sql"
SOURCES = Path(database.__file__).parent


def migration(number: int, sql: str = "", checksum: str = "") -> Migration:
    return Migration(number=number, name="x", sql=sql, checksum=checksum or f"sum {number}")


KNOWN = (migration(1), migration(2), migration(3))


@pytest.fixture
def connection(file: Path) -> Iterator[sqlite3.Connection]:
    database.prepare_file(file)
    connection = database.connect(file)
    yield connection
    connection.close()


# --- planning ------------------------------------------------------------------------------------


def test_what_is_not_applied_is_planned_in_order() -> None:
    assert plan(KNOWN, {}) == KNOWN
    assert plan(KNOWN, {1: "sum 1", 2: "sum 2"}) == KNOWN[2:]
    assert plan(KNOWN, {1: "sum 1", 2: "sum 2", 3: "sum 3"}) == ()


def test_a_newer_schema_is_refused_with_what_to_do() -> None:
    with pytest.raises(SchemaRefused, match=r"newer version of statebacked \(schema 4.*knows 3\).*upgrade"):
        plan(KNOWN, {1: "sum 1", 2: "sum 2", 3: "sum 3", 4: "sum 4"})


@pytest.mark.parametrize("applied", [{1: "sum 1", 2: "another"}, {2: "sum 2"}])
def test_a_migration_that_changed_or_is_missing_is_refused(applied: dict[int, str]) -> None:
    with pytest.raises(SchemaRefused, match="another build"):
        plan(KNOWN, applied)


def test_migrations_are_read_in_order_and_their_checksum_is_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "0002_more.sql").write_bytes(b"SELECT 2;\n")
    (tmp_path / "0001_first.sql").write_bytes(b"SELECT 1;\r\n")
    (tmp_path / "notes.txt").write_text("no migration")
    first, second = read_migrations(tmp_path)
    assert (first.number, first.name, second.number, second.name) == (1, "first", 2, "more")
    (tmp_path / "0001_first.sql").write_bytes(b"SELECT 1;\n")
    assert read_migrations(tmp_path)[0].checksum == first.checksum
    (tmp_path / "0001_first.sql").write_bytes(b"SELECT 3;\n")
    assert read_migrations(tmp_path)[0].checksum != first.checksum
    (tmp_path / "0004_gap.sql").write_bytes(b"")
    with pytest.raises(AssertionError, match="gap"):
        read_migrations(tmp_path)


# --- applying ------------------------------------------------------------------------------------


def test_migrations_are_applied_once(connection: sqlite3.Connection) -> None:
    for _ in range(2):
        database.migrate(connection, (migration(1, "CREATE TABLE a (b);"),))
    later = (migration(1, "CREATE TABLE a (b);"), migration(2, "INSERT INTO a VALUES (';');\nDROP TABLE a;"))
    database.migrate(connection, later)
    rows = connection.execute("SELECT number, checksum FROM schema_migrations").fetchall()
    assert rows == [(1, "sum 1"), (2, "sum 2")]
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'a'").fetchone() == (0,)


def test_a_migration_that_fails_leaves_the_schema_as_it_was(connection: sqlite3.Connection) -> None:
    first = migration(1, "CREATE TABLE a (b);")
    database.migrate(connection, (first,))
    with pytest.raises(sqlite3.Error):
        database.migrate(connection, (first, migration(2, "CREATE TABLE c (d); NONSENSE;")))
    with pytest.raises(sqlite3.Error):
        database.migrate(connection, (first, migration(2, "CREATE TABLE c (d);"), migration(3, "NONSENSE;")))
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
    ).fetchall()
    assert tables == [("a",), ("schema_migrations",)]
    assert not connection.in_transaction


def test_migrations_wait_for_the_lock(connection: sqlite3.Connection, file: Path) -> None:
    other = sqlite3.connect(file, isolation_level=None, timeout=0)
    other.execute("BEGIN IMMEDIATE")
    connection.execute("PRAGMA busy_timeout = 0")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        database.migrate(connection, database.known_migrations())
    other.execute("ROLLBACK")
    other.close()
    database.migrate(connection, database.known_migrations())


@pytest.mark.anyio
async def test_a_database_of_a_newer_version_is_not_opened(file: Path) -> None:
    await (await SqliteStore.open(file)).aclose()
    connection = sqlite3.connect(file)
    with connection:
        connection.execute("INSERT INTO schema_migrations VALUES (9999, 'future', 'sum')")
    connection.close()
    with pytest.raises(SchemaRefused, match="newer version"):
        await SqliteStore.open(file)


@pytest.mark.anyio
async def test_a_file_that_is_no_database_is_not_opened(tmp_path: Path) -> None:
    file = tmp_path / "statebacked.sqlite3"
    file.write_text("this is not a database, and longer than its header would have to be" * 20)
    with pytest.raises(StoreFailed, match="not a database"):
        await SqliteStore.open(file)
    with pytest.raises(StoreFailed, match="cannot be opened"):
        await SqliteStore.open(file / "inside" / "a-file.sqlite3")


@pytest.mark.anyio
async def test_only_the_owner_can_read_the_files(file: Path) -> None:
    store = await SqliteStore.open(file)
    await store.acquire("me")
    files = sorted(file.parent.iterdir())
    assert [one.name for one in files] == [file.name, f"{file.name}-shm", f"{file.name}-wal"]
    assert {one.stat().st_mode & 0o777 for one in files} == {0o600}
    assert file.parent.stat().st_mode & 0o777 == 0o700
    await store.aclose()


def test_dead_letters_of_before_there_was_a_bound_are_counted(connection: sqlite3.Connection) -> None:
    known = database.known_migrations()
    before = tuple(one for one in known if one.name != "dead_letters" and one.number < 7)
    database.migrate(connection, before)
    connection.execute(
        "INSERT INTO instances (id, org, machine, name, version, created_at, epoch, seq, ts, done, services, "
        "value, tags, snapshot, context) VALUES ('i', 'o', 'm', 'n', 'v', 0, 0, 0, 0, 0, '', '', '', '', '')"
    )
    for key, dead_at in (("1", 5), ("2", None)):
        row = ("i", key, b"12345", dead_at)
        connection.execute(
            "INSERT INTO timers (instance, key, send_id, due, fire_at, event, dead_at) "
            "VALUES (?, ?, '', 0, 0, ?, ?)",
            row,
        )
        connection.execute(
            "INSERT INTO messages (instance, key, kind, pair_order, event, dead_at) "
            "VALUES (?, ?, 'self', 0, ?, ?)",
            row,
        )
    database.migrate(connection, known)
    assert connection.execute("SELECT * FROM dead_letter_totals").fetchall() == [("o", 2, 10, 0)]


# --- upgrading ---------------------------------------------------------------------------------------


def older_database(file: Path, *, schema: int) -> None:
    """With one row, as a server of that schema left it."""
    database.prepare_file(file)
    with closing(database.connect(file)) as connection:
        database.set_up_writer(connection)
        database.migrate(connection, database.known_migrations()[:schema])
        connection.execute("INSERT INTO meta VALUES ('kept', x'01')")


def rows_of(file: Path) -> tuple[int, list[tuple[object, ...]]]:
    """Its schema, and what stands in `meta`."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        (schema,) = connection.execute("SELECT max(number) FROM schema_migrations").fetchone()
        return schema, connection.execute("SELECT * FROM meta").fetchall()


@pytest.mark.anyio
async def test_an_upgrade_of_the_schema_is_told_in_one_line_and_keeps_a_copy_of_the_data_before(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older_database(file, schema=2)
    newest = len(database.known_migrations())
    with caplog.at_level(logging.INFO):
        await (await SqliteStore.open(file)).aclose()
        await (await SqliteStore.open(file)).aclose()
    copy = file.with_name(f"{file.name}.schema-2")
    assert sorted(one.name for one in file.parent.iterdir()) == [file.name, copy.name]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == f"schema 2 → {newest}, a copy of the data before is {copy}"
    assert rows_of(copy) == (2, [("kept", b"\x01")])
    assert rows_of(file) == (newest, [("kept", b"\x01")])
    assert copy.stat().st_mode & 0o777 == 0o600


@pytest.mark.anyio
async def test_a_new_database_is_no_upgrade(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await (await SqliteStore.open(file)).aclose()
    assert caplog.records == []
    assert [one.name for one in file.parent.iterdir()] == [file.name]


@pytest.mark.anyio
async def test_without_room_for_the_copy_the_schema_stays_as_it_was(file: Path) -> None:
    older_database(file, schema=2)
    with closing(database.connect(file)) as connection:
        connection.execute("INSERT INTO meta VALUES ('large', zeroblob(3000000))")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(StoreFailed, match="cannot be opened"):
            await SqliteStore.open(file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert rows_of(file)[0] == 2
    assert not list(file.parent.glob("*.schema-*"))
    await (await SqliteStore.open(file)).aclose()
    assert rows_of(file.with_name(f"{file.name}.schema-2"))[0] == 2


# --- the schema and the statements on it ---------------------------------------------------------


def test_the_schema_is_the_sum_of_the_migrations(connection: sqlite3.Connection) -> None:
    """To accept a new migration: delete sqlite_schema.sql, run this test, read the difference."""
    database.migrate(connection, database.known_migrations())
    rows = connection.execute(
        "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY tbl_name, type DESC, name"
    )
    schema = "\n".join(f"{sql};" for (sql,) in rows) + "\n"
    if not SCHEMA.exists():
        SCHEMA.write_text(schema)
    assert SCHEMA.read_text() == schema


def test_every_statement_is_used_and_every_used_statement_exists() -> None:
    # logs.py has a file of statements of its own: test_log_file.py.
    sources = [source for source in SOURCES.glob("*.py") if source.name != "logs.py"]
    code = "\n".join(source.read_text() for source in sources)
    used = set(re.findall(r'_(?:sql\[|write\(|delete\w*\()"(\w+)"', code)) | set(
        re.findall(r'"(\w+_\w+)"', code)
    )
    for table in ("timer", "message"):
        used |= {
            f"{verb}_{table}" for verb in ("bury", "bury_head_of", "delete", "retry", "redrive", "discard")
        }
        used |= {f"{table}_to_bury", f"{table}_event"}
    assert set(load_queries()) <= used
    assert set(re.findall(r'_sql\["(\w+)"\]', code)) <= set(load_queries())


SCANS = {
    "acquire_leases",  # 256 rows, once a start
    "undelivered",  # the outbox, once a start
    "sweep_bundles",  # pending uploads, 20 an org
    "sweep_uploads",
    "list_log_erasures",  # the first rows of a table that is nearly always empty
}


@pytest.mark.parametrize("name", sorted(name for name in load_queries() if name.startswith("find_indexed")))
def test_a_query_of_an_index_walks_the_rows_in_their_order(connection: sqlite3.Connection, name: str) -> None:
    database.migrate(connection, database.known_migrations())
    parameters = ["o", "m", "i", "", "", b"", "", 10]
    first, *rest = [
        row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {load_queries()[name]}", parameters)
    ]
    key = "(org=? AND machine=? AND index_name=? AND (value,name)>(?,?) AND (value,name)<(?,?))"
    assert first.endswith(f"USING PRIMARY KEY {key}")
    assert not [step for step in rest if "B-TREE" in step], "nothing is sorted"


@pytest.mark.parametrize("name", sorted(load_queries()))
def test_no_statement_reads_a_whole_table(connection: sqlite3.Connection, name: str) -> None:
    database.migrate(connection, database.known_migrations())
    parameters = ["0"] * 20
    sql = load_queries()[name]
    numbered = [int(number) for number in re.findall(r"\?(\d+)", sql)]
    count = max(numbered) if numbered else sql.count("?")
    steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters[:count])]
    # json_each walks a parameter, not a table.
    scans = [
        step
        for step in steps
        if step.startswith("SCAN") and "CONSTANT ROW" not in step and "json_each" not in step
    ]
    assert bool(scans) == (name in SCANS), steps
