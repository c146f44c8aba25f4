"""The writer thread: how groups form, and what each kind of failure does to whom."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from statebacked.model.ids import Epoch, InstanceId, Instant, Seq
from statebacked.model.rows import Commit, Outcome
from statebacked.ports.store import StoreFailed
from statebacked.store.sqlite.store import SqliteStore
from statebacked.store.sqlite.writer import GROUP_MAX
from tests.store.builders import ONE, TWO, birth, key_of, step, timer
from tests.store.faults import Disk, Fault

pytestmark = pytest.mark.anyio

COMMITTED = Outcome.COMMITTED


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def store(disk: Disk, file: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(file, connect=disk.connect)
    yield store
    disk.gate.set()
    await store.aclose()


@pytest.fixture
async def epoch(store: SqliteStore) -> Epoch:
    return await store.acquire("me")


def ids(count: int) -> list[InstanceId]:
    return [InstanceId(f"ins_{number:04}") for number in range(count)]


async def hold(store: SqliteStore, disk: Disk, commit: Commit) -> "asyncio.Future[Outcome]":
    """Start a commit and stop it at its COMMIT, so that what follows gathers behind it."""
    disk.gate.clear()
    disk.at_gate.clear()
    held = asyncio.ensure_future(store.commit(commit))
    await asyncio.to_thread(disk.at_gate.wait, 30)
    return held


# --- groups --------------------------------------------------------------------------------------


async def test_commits_that_gather_behind_a_commit_share_the_next_one(
    store: SqliteStore, disk: Disk, epoch: Epoch
) -> None:
    held = await hold(store, disk, birth(ONE, epoch))
    before = disk.commits
    answers = [store.commit(birth(one, epoch)) for one in ids(100)]
    disk.gate.set()
    assert await asyncio.gather(held, *answers) == [COMMITTED] * 101
    assert disk.commits - before == 1


async def test_a_group_is_bounded(store: SqliteStore, disk: Disk, epoch: Epoch) -> None:
    held = await hold(store, disk, birth(ONE, epoch))
    before = disk.commits
    answers = [store.commit(birth(one, epoch)) for one in ids(2 * GROUP_MAX + 1)]
    disk.gate.set()
    await asyncio.gather(held, *answers)
    assert disk.commits - before == 3


async def test_nobody_is_answered_before_the_group_is_durable(
    store: SqliteStore, disk: Disk, epoch: Epoch, file: Path
) -> None:
    held = await hold(store, disk, birth(ONE, epoch))
    assert not held.done()
    assert await store.load(key_of(ONE)) is None
    disk.gate.set()
    assert await held is COMMITTED
    assert await store.load(key_of(ONE)) is not None


async def test_a_catalogue_write_keeps_its_place_and_its_own_transaction(
    store: SqliteStore, disk: Disk, epoch: Epoch
) -> None:
    held = await hold(store, disk, birth(ONE, epoch))
    before = disk.commits
    first = store.commit(birth(TWO, epoch))
    acquired = asyncio.ensure_future(store.acquire("another"))
    await asyncio.sleep(0)  # let acquire reach the queue
    last = store.commit(step(TWO, epoch, 1))
    disk.gate.set()
    assert (await held, await first) == (COMMITTED, COMMITTED)
    assert await acquired == epoch + 1
    assert await last is Outcome.FENCED
    assert disk.commits - before == 3


async def test_a_caller_that_went_away_does_not_disturb_the_others(
    store: SqliteStore, disk: Disk, epoch: Epoch
) -> None:
    held = await hold(store, disk, birth(ONE, epoch))
    gone, stays = asyncio.ensure_future(store.commit(birth(TWO, epoch))), store.commit(step(TWO, epoch, 1))
    gone.cancel()
    disk.gate.set()
    assert (await held, await stays) == (COMMITTED, COMMITTED)
    assert gone.cancelled()


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["commit fails", "commit succeeds, its answer is lost"])
async def test_a_failing_commit_fails_the_whole_group_and_nothing_is_replayed(
    store: SqliteStore, disk: Disk, epoch: Epoch, fault: Fault
) -> None:
    held = await hold(store, disk, birth(ONE, epoch))
    answers = [store.commit(birth(one, epoch)) for one in ids(5)]
    opened = disk.opened
    disk.faults = [None, fault]
    disk.gate.set()
    assert await held is COMMITTED
    results = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(result) for result in results] == [StoreFailed] * 5
    assert len({id(result) for result in results}) == 5

    records = [await store.load(key_of(one)) for one in ids(5)]
    is_written = fault != "commit fails"
    assert [record is not None for record in records] == [is_written] * 5
    writers = disk.opened - opened - 1  # one reader opened to load
    assert writers >= 1
    again = store.commit(birth(TWO, epoch) if is_written else birth(ids(1)[0], epoch))
    assert await again is COMMITTED


async def test_after_a_failing_commit_the_database_holds_what_is_read_and_the_log_nothing(
    store: SqliteStore, disk: Disk, epoch: Epoch, file: Path
) -> None:
    assert await store.load(key_of(ONE)) is None  # a reader is there: closing the writer is not enough
    disk.faults = ["commit succeeds, its answer is lost"]
    with pytest.raises(StoreFailed):
        await store.commit(birth(ONE, epoch))
    alone = shutil.copy(file, file.with_name("copy.sqlite3"))  # without the write-ahead log
    connection = sqlite3.connect(alone)
    assert connection.execute("SELECT count(*) FROM instances").fetchone() == (1,)
    connection.close()
    assert file.with_name(file.name + "-wal").stat().st_size == 0


async def test_a_database_that_does_not_open_again_fails_writes_until_it_does(
    store: SqliteStore, disk: Disk, epoch: Epoch
) -> None:
    disk.faults, disk.opening_fails = ["commit fails"], 3
    for _ in range(3):  # the commit that fails opens anew once; two later ones try before they write
        with pytest.raises(StoreFailed):
            await store.commit(birth(ONE, epoch))
    assert disk.opening_fails == 0
    assert await store.commit(birth(ONE, epoch)) is COMMITTED


async def test_a_statement_that_raises_fails_its_member_alone(
    store: SqliteStore, disk: Disk, epoch: Epoch
) -> None:
    held = await hold(store, disk, birth(ONE, epoch, timers=(timer("1.1"),)))
    before = disk.commits
    answers = [
        store.commit(birth(TWO, epoch)),
        store.commit(step(ONE, epoch, 1, timers=(timer("1.1"),))),
        store.commit(step(TWO, epoch, 1)),
    ]
    disk.gate.set()
    await held
    first, failed, last = await asyncio.gather(*answers, return_exceptions=True)
    assert (first, type(failed), last) == (COMMITTED, StoreFailed, COMMITTED)
    assert disk.commits - before == 2  # singly, and the one that raised has none
    record = await store.load(key_of(ONE))
    assert record is not None
    assert record.view.seq == 1


async def test_a_value_that_cannot_be_stored_fails_its_member_alone(store: SqliteStore, epoch: Epoch) -> None:
    endless = msgspec.structs.replace(timer("1.1"), due=Instant(2**63))
    answers = [store.commit(birth(ONE, epoch, timers=(endless,))), store.commit(birth(TWO, epoch))]
    with capture_logs() as logs:
        failed, done = await asyncio.gather(*answers, return_exceptions=True)
    assert (type(failed), done) == (StoreFailed, COMMITTED)
    assert [line["event"] for line in logs] == ["commit cannot be written"]


async def test_a_lock_held_by_another_process_fails_the_group_and_no_later_one(
    store: SqliteStore, epoch: Epoch, file: Path
) -> None:
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    results = await asyncio.gather(
        *(store.commit(birth(one, epoch)) for one in ids(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [StoreFailed] * 3
    other.execute("ROLLBACK")
    other.close()
    assert await store.commit(birth(ONE, epoch)) is COMMITTED


async def test_a_full_disk_fails_commits_and_keeps_what_was_committed(
    store: SqliteStore, disk: Disk, epoch: Epoch
) -> None:
    await store.commit(birth(ONE, epoch))
    writer = disk.writers[-1]
    (pages,) = writer.execute("PRAGMA page_count").fetchone()
    writer.execute(f"PRAGMA max_page_count = {pages}")
    assert await store.find_write_failure() is None
    large = step(ONE, epoch, 1, context=b'"' + b"x" * 100_000 + b'"')
    with pytest.raises(StoreFailed, match="full"):
        await store.commit(large)
    record = await store.load(key_of(ONE))
    assert record is not None
    assert record.view.seq == 1
    disk.writers[-1].execute("PRAGMA max_page_count = 1000000")
    assert await store.commit(step(ONE, epoch, 1)) is COMMITTED


async def test_a_store_that_cannot_be_written_says_so_until_it_can(
    store: SqliteStore, epoch: Epoch, file: Path
) -> None:
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreFailed):
        await store.commit(birth(ONE, epoch))
    assert "locked" in str(await store.find_write_failure())
    assert "locked" in str(await store.find_write_failure())
    other.execute("ROLLBACK")
    other.close()
    assert await store.find_write_failure() is None
    with pytest.raises(KeyError):  # whose fault is its own
        await store._writer.run(lambda _: dict[str, int]()["nothing"])
    assert await store.find_write_failure() is None
    assert await store.acquire("me") > epoch


async def test_what_a_function_raises_rolls_it_back_and_is_raised(store: SqliteStore, epoch: Epoch) -> None:
    def insert_and_raise(cursor: sqlite3.Cursor) -> None:
        cursor.execute("INSERT INTO meta VALUES ('a', x'00')")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await store._writer.run(insert_and_raise)
    assert await store.get_meta("a") is None


async def test_closing_finishes_what_was_asked_for_and_refuses_the_rest(file: Path) -> None:
    store = await SqliteStore.open(file)
    epoch = await store.acquire("me")
    answers = [store.commit(commit) for commit in [birth(ONE, epoch), *_steps(epoch, 600)]]
    await store.aclose()
    assert await asyncio.gather(*answers) == [COMMITTED] * 601
    refused: list[Callable[[], object]] = [
        lambda: store.commit(birth(TWO, epoch)),
        lambda: store.load(key_of(ONE)),
        lambda: store.put_meta("a", b""),
    ]
    for call in refused:
        with pytest.raises(StoreFailed, match="closed"):
            await call()  # type: ignore[misc]
    await store.aclose()


def _steps(epoch: Epoch, count: int) -> list[Commit]:
    return [step(ONE, epoch, base) for base in range(1, count + 1)]


async def test_a_second_owner_of_the_file_fences_the_first(file: Path) -> None:
    first, second = await SqliteStore.open(file), await SqliteStore.open(file)
    old = await first.acquire("first")
    assert await first.commit(birth(ONE, old)) is COMMITTED
    new = await second.acquire("second")
    outcomes = await asyncio.gather(
        *(first.commit(step(ONE, old, base)) for base in (1, 2, 3)), second.commit(step(ONE, new, 1))
    )
    assert outcomes == [Outcome.FENCED] * 3 + [COMMITTED]
    record = await first.load(key_of(ONE))
    assert record is not None
    assert record.view.seq == Seq(2)
    await first.aclose()
    await second.aclose()


async def test_a_commit_waits_for_the_disk(store: SqliteStore, disk: Disk, epoch: Epoch) -> None:
    """kill -9 does not show it, power loss would: COMMIT must sync the write-ahead log."""
    writer = disk.writers[-1]
    assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert writer.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert writer.execute("PRAGMA wal_autocheckpoint").fetchone() == (1000,)
