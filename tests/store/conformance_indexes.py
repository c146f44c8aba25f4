"""The laws of ports.Indexes, and of the index rows that a commit writes."""

import asyncio

from statebacked.core.indexes import ranges
from statebacked.model.ids import InstanceId, InstanceName, MachineName, OrgId
from statebacked.model.indexes import IndexKey, IndexRow, Order
from tests.store.builders import MACHINE, ONE, ORG, TWO, BothPorts, birth, consume, key_of, step
from tests.store.conformance import COMMITTED, FENCED

OWNER = IndexKey(ORG, MACHINE, "by-owner")
CITY = IndexKey(ORG, MACHINE, "by-city")
ALL = ranges(None, "", "asc", None)


async def rows_of(store: BothPorts, index: IndexKey = OWNER, order: Order = "asc") -> list[tuple[str, str]]:
    found = await store.find_indexed(index, ranges(None, "", order, None), order=order, limit=100)
    return [(value, name.removeprefix("name-of-")) for value, name in found]


class IndexLaws:
    """Instances are found by what their newest state says."""

    async def test_an_instance_is_found_from_its_birth_once_for_each_value(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        indexed = (("by-owner", ("b", "a", "b")), ("by-city", ()))
        await store.commit(birth(ONE, epoch, indexes=indexed))
        assert await rows_of(store) == [("a", ONE), ("b", ONE)]
        assert await rows_of(store, CITY) == []

    async def test_a_step_replaces_all_rows_and_none_of_another_instance(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, indexes=(("by-owner", ("a", "b")), ("by-city", ("x",)))))
        await store.commit(birth(TWO, epoch, indexes=(("by-owner", ("a",)),)))
        await store.commit(step(ONE, epoch, 1, indexes=(("by-owner", ("b", "c")),)))
        assert await rows_of(store) == [("a", TWO), ("b", ONE), ("c", ONE)]
        assert await rows_of(store, CITY) == []
        await store.commit(step(ONE, epoch, 2, indexes=()))
        assert await rows_of(store) == [("a", TWO)]

    async def test_a_step_that_says_nothing_of_indexes_keeps_the_rows(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, indexes=(("by-owner", ("a",)),)))
        await store.commit(step(ONE, epoch, 1, context=b"1"))
        await store.commit(consume(ONE, epoch, 2))
        assert await rows_of(store) == [("a", ONE)]

    async def test_a_commit_that_loses_its_race_writes_no_row(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, indexes=(("by-owner", ("a",)),)))
        late = step(ONE, epoch, 0, indexes=(("by-owner", ("z",)),))
        after = step(ONE, epoch, 1, indexes=(("by-owner", ("b",)),))
        outcomes = await asyncio.gather(*(store.commit(commit) for commit in (late, after)))
        assert outcomes == [FENCED, COMMITTED]
        assert await rows_of(store) == [("b", ONE)]

    async def test_rows_stand_by_value_then_name_in_code_points(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        values = ["b", "", "é", "\x00", "B", "\uffff", "😀", "ba", "a"]
        for number, name in enumerate(["~", "a", "Z", "9"]):
            key = key_of(ONE)._replace(name=InstanceName(name))
            indexed = (("by-owner", tuple(values)),)
            await store.commit(birth(InstanceId(f"ins_{number}"), epoch, key=key, indexes=indexed))
        expected = [(value, name) for value in sorted(values) for name in ["9", "Z", "a", "~"]]
        assert await rows_of(store) == expected
        assert await rows_of(store, order="desc") == expected[::-1]

    async def test_an_index_is_of_one_machine_of_one_org(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        indexed = (("by-owner", ("a",)),)
        await store.commit(birth(ONE, epoch, key=key_of(ONE, org=OrgId("org_2")), indexes=indexed))
        await store.commit(birth(TWO, epoch, key=key_of(TWO, machine=MachineName("gate")), indexes=indexed))
        assert await rows_of(store) == []
        assert await rows_of(store, IndexKey(OrgId("org_2"), MACHINE, "by-owner")) == [("a", ONE)]

    async def test_a_limit_counts_over_all_ranges(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        await store.commit(birth(ONE, epoch, indexes=(("by-owner", ("a", "b", "c", "d", "e")),)))
        others = ranges("ne", "c", "asc", None)
        found = [await store.find_indexed(OWNER, others, order="asc", limit=n) for n in range(1, 6)]
        assert [[row.value for row in rows] for rows in found] == [
            ["a"], ["a", "b"], ["a", "b", "d"], ["a", "b", "d", "e"], ["a", "b", "d", "e"],
        ]  # fmt: skip

    async def test_states_come_with_their_rows_up_to_a_size(self, store: BothPorts) -> None:
        epoch = await store.acquire("me")
        indexed = (("by-owner", ("a",)),)
        for one in (ONE, TWO, InstanceId("ins_3")):
            await store.commit(birth(one, epoch, context=b'"' + b"x" * 100 + b'"', indexes=indexed))
        await store.commit(step(TWO, epoch, 1))
        found = await store.find_indexed_states(OWNER, ALL, order="asc", limit=2, bytes_max=10_000)
        assert [one.row for one in found] == [IndexRow("a", key_of(one).name) for one in (ONE, TWO)]
        record = await store.load(key_of(TWO))
        assert record is not None
        assert (found[1].version, found[1].seq) == (record.version, 2)
        assert (found[1].snapshot, found[1].context) == (record.snapshot, record.context)
        for bytes_max, count in ((0, 1), (100, 1), (200, 2), (10_000, 3)):
            some = await store.find_indexed_states(OWNER, ALL, order="asc", limit=9, bytes_max=bytes_max)
            assert len(some) == count, bytes_max
