"""The laws of ports.LogStore and ports.LogErasures."""

from collections.abc import Sequence

from statebacked.model.ids import (
    Epoch,
    InstanceId,
    InstanceKey,
    InstanceName,
    Instant,
    MachineName,
    OrgId,
    Seq,
    VersionId,
)
from statebacked.model.limits import LOG_ROWS_LOOKED_AT_MAX
from statebacked.model.logs import (
    END_OF_TIME,
    LogEntry,
    LogErasure,
    LogFilter,
    LogPosition,
    OutputType,
    StoredEntry,
    end_of,
)
from statebacked.model.rows import Commit, Outcome
from statebacked.ports.logs import LogStore
from statebacked.store.memory import MemoryStore
from statebacked.store.sqlite.store import SqliteStore
from tests.store.builders import ONE, TWO, birth, head, key_of

ORG, OTHER = OrgId("org_1"), OrgId("org_2")
START = end_of(Instant(0))
DAY_MS = 86_400_000


def entry(
    at: int,
    text: str = "hello",
    *,
    org: OrgId = ORG,
    machine: str = "m",
    instance: str | None = "i",
    version: str = "ver_1",
    output: OutputType = "stdout",
) -> LogEntry:
    return LogEntry(
        at=Instant(at),
        org=org,
        machine=MachineName(machine),
        instance=None if instance is None else InstanceName(instance),
        version=VersionId(version),
        output=output,
        text=text,
    )


def wanted(
    machine: str | None = None, instance: str | None = None, version: str | None = None, org: OrgId = ORG
) -> LogFilter:
    return LogFilter(
        org=org,
        machine=None if machine is None else MachineName(machine),
        instance=None if instance is None else InstanceName(instance),
        version=None if version is None else VersionId(version),
    )


async def texts(
    store: LogStore,
    of: LogFilter | None = None,
    after: LogPosition = START,
    until: int = END_OF_TIME,
    limit: int = 100,
) -> list[str]:
    page = await store.read(of or wanted(), after, Instant(until), limit=limit)
    return [row.entry.text for row in page.entries]


class LogLaws:
    """What holds for every store of logs."""

    async def test_what_was_added_is_read_as_it_was_in_its_order(self, logs: LogStore) -> None:
        added = [
            entry(10, "a\nb", output="stderr"),
            entry(10, "", instance=None),
            entry(12, "über \u2028 \x00"),
        ]
        await logs.append(added)
        page = await logs.read(wanted(), START, END_OF_TIME, limit=10)
        assert [row.entry for row in page.entries] == added
        assert page.seen_to == END_OF_TIME
        positions = [row.position for row in page.entries]
        assert positions == sorted(positions)
        assert [position.at for position in positions] == [10, 10, 12]

    async def test_reading_begins_behind_a_position_and_ends_with_an_instant(self, logs: LogStore) -> None:
        await logs.append([entry(10, "a"), entry(10, "b"), entry(11, "c"), entry(12, "d")])
        first, *_ = (await logs.read(wanted(), START, END_OF_TIME, limit=1)).entries
        assert await texts(logs, after=first.position) == ["b", "c", "d"]
        assert await texts(logs, after=end_of(Instant(10))) == ["c", "d"]
        assert await texts(logs, until=11) == ["a", "b", "c"]
        assert await texts(logs, after=end_of(Instant(10)), until=11) == ["c"]
        assert await texts(logs, after=end_of(Instant(12))) == []
        assert await texts(logs, limit=3) == ["a", "b", "c"]

    async def test_a_filter_admits_by_machine_instance_and_version(self, logs: LogStore) -> None:
        await logs.append(
            [
                entry(1, "m/i/1"),
                entry(2, "m/i/2", version="ver_2"),
                entry(3, "m/j/1", instance="j"),
                entry(4, "n/i/3", machine="n", version="ver_3"),
                entry(5, "m/-/2", instance=None, version="ver_2"),
            ]
        )
        assert await texts(logs, wanted("m")) == ["m/i/1", "m/i/2", "m/j/1", "m/-/2"]
        assert await texts(logs, wanted("m", "i")) == ["m/i/1", "m/i/2"]
        assert await texts(logs, wanted(None, "i")) == ["m/i/1", "m/i/2", "n/i/3"]
        assert await texts(logs, wanted("m", None, "ver_2")) == ["m/i/2", "m/-/2"]
        assert await texts(logs, wanted("m", "i", "ver_2")) == ["m/i/2"]
        assert await texts(logs, wanted(None, None, "ver_3")) == ["n/i/3"]
        assert await texts(logs, wanted("m", None, "ver_3")) == []

    async def test_no_filter_shows_another_orgs_entries(self, logs: LogStore) -> None:
        await logs.append([entry(1, "ours"), entry(1, "theirs", org=OTHER)])
        for of in (wanted(), wanted("m"), wanted("m", "i"), wanted(None, None, "ver_1")):
            assert await texts(logs, of) == ["ours"]
        assert await texts(logs, wanted(org=OTHER)) == ["theirs"]
        assert await texts(logs, wanted(org=OrgId("org_3"))) == []

    async def test_a_read_looks_at_no_more_than_its_share_and_says_how_far(self, logs: LogStore) -> None:
        await logs.append([entry(1 + n // 50, f"{n}") for n in range(LOG_ROWS_LOOKED_AT_MAX + 60)])
        last = 1 + LOG_ROWS_LOOKED_AT_MAX // 50
        await logs.append([entry(last + 100, "rare", version="ver_2")])
        rare = wanted(None, None, "ver_2")
        page = await logs.read(rare, START, END_OF_TIME, limit=10)
        # The millisecond in which the share ends is left to the next read.
        assert (page.entries, page.seen_to) == ((), last - 1)
        page = await logs.read(rare, end_of(page.seen_to), END_OF_TIME, limit=10)
        assert [row.entry.text for row in page.entries] == ["rare"]
        assert page.seen_to == END_OF_TIME

    async def test_an_instance_is_found_without_looking_at_the_others(self, logs: LogStore) -> None:
        await logs.append([entry(1 + n // 50, instance="loud") for n in range(LOG_ROWS_LOOKED_AT_MAX + 60)])
        await logs.append([entry(1_000, "found", instance="quiet")])
        page = await logs.read(wanted("m", "quiet"), START, END_OF_TIME, limit=10)
        assert [row.entry.text for row in page.entries] == ["found"]

    async def test_newest_is_the_time_of_the_last_one(self, logs: LogStore) -> None:
        assert await logs.newest() == 0
        await logs.append([entry(5), entry(7, org=OTHER)])
        assert await logs.newest() == 7

    async def test_volumes_count_what_was_written_on_a_day_even_if_it_is_gone(self, logs: LogStore) -> None:
        a, b = entry(DAY_MS - 1, "ü"), entry(DAY_MS + 5, "x" * 1_000)
        await logs.append([a, b, entry(DAY_MS + 6, "yy", org=OTHER)])
        await logs.append([entry(DAY_MS + 7, "z" * 10)])
        assert await logs.volumes(0) == {ORG: a.weight}
        today = {ORG: 1_010 + 2 * (a.weight - 2), OTHER: 2 + (a.weight - 2)}
        assert await logs.volumes(1) == today
        await logs.erase(InstanceKey(ORG, MachineName("m"), InstanceName("i")), END_OF_TIME, limit=100)
        assert await logs.volumes(1) == today
        assert await logs.volumes(2) == {}

    async def test_erasing_removes_one_instances_entries_up_to_an_instant(self, logs: LogStore) -> None:
        await logs.append(
            [
                entry(1, "1"),
                entry(2, "2"),
                entry(2, "other org", org=OTHER),
                entry(3, "machine", instance=None),
                entry(3, "neighbour", instance="j"),
                entry(4, "4"),
                entry(5, "a new life"),
            ]
        )
        key = InstanceKey(ORG, MachineName("m"), InstanceName("i"))
        assert await logs.erase(key, Instant(4), limit=2) == 2
        assert await texts(logs, wanted("m", "i")) == ["4", "a new life"]
        assert await logs.erase(key, Instant(4), limit=2) == 1
        assert await logs.erase(key, Instant(4), limit=2) == 0
        assert await texts(logs) == ["machine", "neighbour", "a new life"]
        assert await texts(logs, wanted(org=OTHER)) == ["other org"]

    async def test_pruning_removes_the_oldest_in_slices(self, logs: LogStore) -> None:
        await logs.append([entry(n, f"{n}", org=OTHER if n % 2 else ORG) for n in range(1, 8)])
        assert await logs.prune(Instant(6), 10**9, limit=2) == 2
        assert await logs.prune(Instant(6), 10**9, limit=10) == 3
        assert await logs.prune(Instant(6), 10**9, limit=10) == 0
        assert await texts(logs) == ["6"]
        assert await texts(logs, wanted(org=OTHER)) == ["7"]

    async def test_pruning_keeps_everything_together_under_a_size(self, logs: LogStore) -> None:
        await logs.append([entry(n, "x" * 10_000) for n in range(1, 501)])
        removed = 0
        while gone := await logs.prune(Instant(0), 2_000_000, limit=50):
            removed += gone
        # 5 MB became 2 MB; how much a store needs beside the texts is its own affair.
        assert 250 <= removed <= 400
        left = await logs.read(wanted(), START, END_OF_TIME, limit=500)
        assert [row.entry.at for row in left.entries] == list(range(removed + 1, 501))

    async def test_a_position_is_never_given_twice(self, logs: LogStore) -> None:
        await logs.append([entry(1, "gone")])
        (gone,) = await _rows(logs)
        await logs.prune(Instant(2), 10**9, limit=10)
        await logs.append([entry(2, "next")])
        (following,) = await _rows(logs)
        assert following.position.number > gone.position.number


async def _rows(logs: LogStore) -> Sequence[StoredEntry]:
    return (await logs.read(wanted(), START, END_OF_TIME, limit=100)).entries


class ErasureLaws:
    """That the log of a deleted instance is to be erased stands in the deletion itself."""

    async def test_deleting_an_instance_records_until_when_its_log_is_to_be_erased(
        self, store: SqliteStore | MemoryStore
    ) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch))
        await store.commit(birth(TWO, epoch))
        assert await store.log_erasures(10) == []
        stale = deletion(ONE, epoch, base=7, at=9_000)
        assert await store.commit(stale) is Outcome.FENCED
        assert await store.log_erasures(10) == []
        assert await store.commit(deletion(ONE, epoch, at=9_000)) is Outcome.COMMITTED
        assert await store.commit(deletion(TWO, epoch, at=9_001)) is Outcome.COMMITTED
        one, two = LogErasure(key_of(ONE), Instant(9_000)), LogErasure(key_of(TWO), Instant(9_001))
        assert await store.log_erasures(10) == [one, two]
        assert await store.log_erasures(1) == [one]
        await store.log_erased([one])
        assert await store.log_erasures(10) == [two]

    async def test_a_clock_that_was_set_back_does_not_keep_the_log_of_the_last_state(
        self, store: SqliteStore | MemoryStore
    ) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch))
        await store.commit(deletion(ONE, epoch, at=5))
        (erasure,) = await store.log_erasures(10)
        assert erasure.at == head(1).view.ts

    async def test_two_lives_may_end_in_one_millisecond(self, store: SqliteStore | MemoryStore) -> None:
        epoch = await store.acquire("me")
        for instance in (ONE, TWO):
            await store.commit(birth(instance, epoch, key=key_of(ONE)))
            assert await store.commit(deletion(instance, epoch, at=9_000)) is Outcome.COMMITTED
        assert await store.log_erasures(10) == [LogErasure(key_of(ONE), Instant(9_000))]


def deletion(instance: InstanceId, epoch: Epoch, *, at: int, base: int = 1) -> Commit:
    return Commit(instance=instance, epoch=epoch, base=Seq(base), deleted_at=Instant(at))
