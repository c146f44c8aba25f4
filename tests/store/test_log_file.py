"""The file of logs: its statements and its settings."""

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from statebacked.store.sqlite import database
from statebacked.store.sqlite.logs import SqliteLogs, known_log_migrations, set_up_log_writer
from statebacked.store.sqlite.queries import load_queries
from tests.store.conformance_logs import entry

QUERIES = load_queries("log_queries.sql")
CODE = Path(database.__file__).with_name("logs.py").read_text()


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = database.connect(tmp_path / "logs.sqlite3")
    set_up_log_writer(connection)
    database.migrate(connection, known_log_migrations())
    yield connection
    connection.close()


@pytest.mark.parametrize("name", sorted(QUERIES))
def test_no_statement_on_the_log_file_reads_a_whole_table(connection: sqlite3.Connection, name: str) -> None:
    sql = QUERIES[name]
    numbered = [int(number) for number in re.findall(r"\?(\d+)", sql)]
    count = max(numbered) if numbered else sql.count("?")
    steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", [0] * count)]
    # The first or last rows in the order of ids are read with a limit.
    in_order_of_id = {"newest_entry", "prune_old", "prune_oldest"}
    assert any(step.startswith("SCAN") for step in steps) == (name in in_order_of_id), steps
    assert not any("TEMP B-TREE" in step for step in steps), steps


def test_every_statement_on_the_log_file_is_used() -> None:
    computed = {f"{what}_of_{whose}" for what in ("edge", "entries") for whose in ("org", "instance")}
    assert set(QUERIES) == computed | set(re.findall(r'_sql\["(\w+)"\]', CODE))


def test_lines_do_not_wait_for_the_disk_and_removed_ones_give_back_their_space(
    connection: sqlite3.Connection,
) -> None:
    assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (1,)


@pytest.mark.anyio
async def test_what_was_stored_outlives_the_process_and_space_is_given_back(tmp_path: Path) -> None:
    file = tmp_path / "data" / "logs.sqlite3"
    logs = await SqliteLogs.open(file)
    await logs.append([entry(n, "x" * 10_000) for n in range(1, 201)])
    await logs.aclose()
    full = file.stat().st_size
    assert file.stat().st_mode & 0o777 == 0o600

    logs = await SqliteLogs.open(file)
    assert await logs.newest() == 200
    while await logs.prune(entry(190).at, 10**9, limit=50):
        pass
    await logs.aclose()
    assert file.stat().st_size < full / 4
