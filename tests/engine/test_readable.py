"""Pages of an index for callers to whom a name is a credential: what allowRead admits, within limits."""

import pytest
from msgspec.structs import replace

from statebacked.core.indexes import ranges
from statebacked.model import limits
from statebacked.model.errors import MachineRefusal, Unavailable
from statebacked.model.ids import Epoch, InstanceId, InstanceName, Seq, VersionId
from statebacked.model.indexes import IndexKey, IndexRow, Order, Place, ReadablePage
from statebacked.model.rows import Birth, Head
from statebacked.model.values import Json
from statebacked.ports.machines import WorkerGone
from statebacked.ports.store import StoreFailed
from statebacked.testing.fake_machines import counted
from tests.engine.world import ANYONE, MACHINE, ORG, VERSION, World, key_of, run, world
from tests.store import builders

INDEX = IndexKey(ORG, MACHINE, "by-owner")


async def add(w: World, name: str, *values: str, version: VersionId = VERSION, size: int = 0) -> None:
    """An instance as another server left it."""
    epoch = Epoch(w.store.instances.epoch)
    context = b'{"public":{"count":0},"x":"' + b"x" * size + b'"}'
    indexed = (("by-owner", values),)
    born = builders.birth(
        InstanceId(f"ins_{name}"), epoch, key=key_of(name), version=version, context=context, indexes=indexed
    )
    assert born.head is not None
    assert isinstance(born.birth, Birth)
    head = Head(view=born.head.view, snapshot=Json(b"0"), context=Json(context))
    await w.store.commit(replace(born, head=head))


async def find(
    w: World, *, order: Order = "asc", limit: int = 100, after: Place | None = None, auth: Json = ANYONE
) -> ReadablePage:
    asked = ranges(None, "", order, after)
    return await w.engine.find_readable(INDEX, asked, order=order, limit=limit, auth=auth)


def test_a_page_holds_the_rows_whose_instances_may_be_read() -> None:
    async def story() -> None:
        async with world() as w:
            for name in ("a", "b", "c"):
                await add(w, name, "one", "two")
            w.machines.hidden = {InstanceName("b")}
            page = await find(w)
            assert [tuple(row) for row in page.rows] == [
                ("one", "a"), ("one", "c"), ("two", "a"), ("two", "c"),
            ]  # fmt: skip
            assert page.last is None
            w.machines.readers = set()
            assert await find(w) == ReadablePage([], None)

    run(story)


def test_each_instance_of_a_page_is_asked_about_once_and_all_of_a_version_together() -> None:
    async def story() -> None:
        async with world() as w:
            version = w.store.versions[VERSION]
            other = VersionId("ver_other")
            w.store.versions[other] = type(version)(
                **{name: getattr(version, name) for name in version.__slots__} | {"id": other}
            )
            await add(w, "a", "1", "2", "3")
            await add(w, "b", "1", version=other)
            await add(w, "c", "4")
            assert len((await find(w)).rows) == 5
            assert w.machines.read_each == [(VERSION, ["a", "c"]), (other, ["b"])]

    run(story)


def test_pages_go_on_behind_rows_that_nobody_was_shown() -> None:
    async def story() -> None:
        async with world() as w:
            names = [f"i{n}" for n in range(7)]
            for name in names:
                await add(w, name, "v")
            w.machines.hidden = {InstanceName(name) for name in names[1:5]}
            seen: list[list[str]] = []
            after: Place | None = None
            while True:
                page = await find(w, limit=2, after=after)
                seen.append([row.name for row in page.rows])
                if page.last is None:
                    break
                after = Place(*page.last)
            assert seen == [["i0"], [], ["i5"], ["i6"]]

    run(story)


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_no_more_rows_are_looked_at_than_the_limit(order: Order) -> None:
    async def story() -> None:
        async with world() as w:
            names = [f"i{n:03}" for n in range(limits.INDEX_ROWS_EXAMINED_MAX + 1)]
            for name in names:
                await add(w, name, "v")
            page = await find(w, order=order, limit=1_000)
            expected = names[:-1] if order == "asc" else names[:0:-1]
            assert [row.name for row in page.rows] == expected
            assert page.last == IndexRow("v", InstanceName(expected[-1]))

    run(story)


def test_a_page_ends_where_its_states_get_too_large_for_a_frame() -> None:
    async def story() -> None:
        async with world() as w:
            size = 390_000
            count = limits.INDEX_STATES_BYTES_MAX // size + 1
            for n in range(count + 2):
                await add(w, f"i{n:02}", "v", size=size)
            page = await find(w)
            assert len(page.rows) == count
            assert page.last is not None
            rest = await find(w, after=Place(*page.last))
            assert (len(rest.rows), rest.last) == (2, None)

    run(story)


def test_a_worker_or_a_store_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with world() as w:
            await add(w, "a", "v")

            async def dies(*_: object) -> None:
                raise WorkerGone("was killed")

            async def fails(*_: object, **__: object) -> None:
                raise StoreFailed("the disk is gone")

            monkeypatch.setattr(w.machines, "may_read_each", dies)
            with pytest.raises(MachineRefusal) as refused:
                await find(w)
            assert (refused.value.code, refused.value.message) == ("machine-fault", "was killed")
            monkeypatch.setattr(w.store, "find_indexed_states", fails)
            with pytest.raises(Unavailable):
                await find(w)

    run(story)


def test_the_first_state_of_an_instance_is_found_by_what_the_worker_says() -> None:
    async def story() -> None:
        async with world() as w:
            w.machines.behaviour = lambda count, _: replace(
                counted(count + 1), indexes=(("by-owner", (f"n{count + 1}",)),)
            )
            await w.create("a")
            await w.send("a", "add")
            assert (await find(w)).rows == [IndexRow("n1", InstanceName("a"))]
            await w.send("a", "add")
            assert (await find(w)).rows == [IndexRow("n2", InstanceName("a"))]
            (state,) = await w.store.find_indexed_states(
                INDEX, ranges(None, "", "asc", None), order="asc", limit=9, bytes_max=10**6
            )
            assert state.seq == Seq(3)

    run(story)
