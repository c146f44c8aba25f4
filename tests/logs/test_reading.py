"""Batches as the published client polls them: exclusive, whole, resumable, ended by `to`."""

import random

import pytest

from statebacked.logs.reading import Batch
from statebacked.model.ids import InstanceName, Instant, MachineName
from statebacked.model.limits import LOG_BATCH_ENTRIES_MAX, LOG_ROWS_LOOKED_AT_MAX
from statebacked.model.logs import END_OF_TIME, LogEntry, LogErasure, LogFilter, end_of
from tests.logs.rig import ONE, OTHER, START, Rig, code_of, everything, key_of

pytestmark = pytest.mark.anyio


async def batch(world: Rig, after: int, until: int | None = None, of: LogFilter | None = None) -> Batch:
    return await world.logs.batch(
        of or everything(), Instant(after), None if until is None else Instant(until)
    )


async def poll(world: Rig, after: int, until: int | None = None) -> list[LogEntry]:
    """All there is, as the published client asks for it."""
    entries: list[LogEntry] = []
    while True:
        found = await batch(world, after, until)
        assert len(found.entries) <= LOG_BATCH_ENTRIES_MAX
        entries += found.entries
        if not found.entries and found.max_timestamp == after:
            return entries
        assert found.max_timestamp > after
        after = found.max_timestamp


async def test_from_is_exclusive_and_max_timestamp_is_the_last_entrys(world: Rig) -> None:
    for text in ("a", "b", "c"):
        world.write(text)
        world.clock.pass_ms(10)
    found = await batch(world, START)
    assert ([entry.text for entry in found.entries], found.max_timestamp) == (["b", "c"], START + 20)
    assert await batch(world, START + 20) == ((), START + 20)
    assert await batch(world, START + 25) == ((), START + 25)


async def test_a_line_can_be_read_as_soon_as_it_was_written(world: Rig) -> None:
    world.write("now")
    assert [entry.text for entry in (await batch(world, 0)).entries] == ["now"]


@pytest.mark.parametrize("seed", range(5))
async def test_polling_loses_nothing_and_repeats_nothing(world: Rig, seed: int) -> None:
    dice = random.Random(seed)
    written: list[str] = []
    seen: list[str] = []
    after = Instant(0)
    for n in range(3_000):
        world.write(f"{n};", key_of(f"i{dice.randrange(3)}"))
        written.append(f"{n};")
        if dice.random() < 0.02:
            world.clock.pass_ms(dice.choice([0, 1, 1, 50]))
        if dice.random() < 0.02:
            found = await batch(world, after)
            after = found.max_timestamp
            seen += [line for entry in found.entries for line in entry.text.split("\n")]
    seen += [line for entry in await poll(world, after) for line in entry.text.split("\n")]
    assert seen == written


async def test_a_millisecond_is_never_split_over_two_batches(world: Rig) -> None:
    for n in range(60):
        world.write("x", key_of(f"i{n}"))
    world.clock.pass_ms(1)
    for n in range(60):
        world.write("y", key_of(f"i{n}"))
    found = await batch(world, 0)
    assert (len(found.entries), found.max_timestamp) == (60, START)
    found = await batch(world, START)
    assert ({entry.text for entry in found.entries}, found.max_timestamp) == ({"y"}, START + 1)


async def test_a_whole_batch_in_one_millisecond_is_given(world: Rig) -> None:
    for n in range(2 * LOG_BATCH_ENTRIES_MAX):
        world.write("x", key_of(f"i{n}"))
    found = await batch(world, 0)
    assert (len(found.entries), found.max_timestamp) == (LOG_BATCH_ENTRIES_MAX, START)
    assert len(await poll(world, 0)) == 2 * LOG_BATCH_ENTRIES_MAX


async def test_the_last_batch_of_a_window_that_has_passed_ends_with_to(world: Rig) -> None:
    world.write("a")
    world.clock.pass_ms(10)
    world.write("b")
    world.clock.pass_ms(1_000)
    found = await batch(world, 0, START + 500)
    assert ([entry.text for entry in found.entries], found.max_timestamp) == (["a", "b"], START + 500)
    # `to` is inclusive.
    found = await batch(world, 0, START + 10)
    assert ([entry.text for entry in found.entries], found.max_timestamp) == (["a", "b"], START + 10)
    found = await batch(world, 0, START + 9)
    assert ([entry.text for entry in found.entries], found.max_timestamp) == (["a"], START + 9)
    assert await batch(world, START + 10, START + 500) == ((), START + 500)
    assert await batch(world, START + 500, START + 500) == ((), START + 500)


async def test_a_window_that_is_still_open_ends_with_its_last_entry(world: Rig) -> None:
    world.write("a")
    assert (await batch(world, 0, START + 500)).max_timestamp == START
    assert (await batch(world, START, START + 500)).max_timestamp == START
    # The present millisecond may still be written in.
    world.clock.pass_ms(500)
    assert (await batch(world, START, START + 500)).max_timestamp == START
    world.clock.pass_ms(1)
    assert (await batch(world, START, START + 500)).max_timestamp == START + 500


async def test_a_window_does_not_end_while_its_lines_cannot_be_stored(world: Rig) -> None:
    world.write("a")
    world.clock.pass_ms(1_000)
    world.store.faults = [False]
    assert await batch(world, 0, START + 500) == ((), 0)
    found = await batch(world, 0, START + 500)
    assert ([entry.text for entry in found.entries], found.max_timestamp) == (["a"], START + 500)


async def test_what_is_rare_is_found_after_empty_batches_that_lead_on(world: Rig) -> None:
    for n in range(LOG_ROWS_LOOKED_AT_MAX + 1_000):
        world.write("x", key_of(f"i{n % 200}"))
        world.clock.wall += n % 50 == 0
        if n % 5_000 == 0:
            await world.capture.settle()
    world.clock.mono += 60_000
    world.write("rare", None, code=code_of(machine="rare"))
    of = LogFilter(org=ONE.org, machine=MachineName("rare"))
    first = await batch(world, 0, of=of)
    assert first.entries == ()
    assert first.max_timestamp > START
    second = await batch(world, first.max_timestamp, of=of)
    assert [entry.text for entry in second.entries] == ["rare"]


async def test_no_org_sees_anothers_lines(world: Rig) -> None:
    theirs = code_of(OTHER)
    world.write("theirs", key_of("one", theirs), code=theirs)
    one = LogFilter(org=ONE.org, machine=ONE.machine, instance=ONE.name)
    for of in (everything(), one):
        assert await batch(world, 0, of=of) == ((), 0)
    assert len((await batch(world, 0, of=everything(OTHER))).entries) == 1


async def test_the_log_of_a_deleted_instance_is_not_seen_again(world: Rig) -> None:
    world.write("old life")
    world.write("neighbour", key_of("two"))
    world.erasures.instances.log_erasures.append(LogErasure(ONE, Instant(START + 5)))
    world.clock.pass_ms(10)
    world.write("new life")
    assert [entry.text for entry in (await batch(world, 0)).entries] == ["neighbour", "new life"]
    assert world.erasures.instances.log_erasures == []


async def test_pages_lead_from_position_to_position(world: Rig) -> None:
    for n in range(250):
        world.write(f"{n}", key_of(f"i{n % 7}"))
    position = end_of(Instant(0))
    await world.logs.complete_to()
    seen: list[str] = []
    while (page := await world.logs.page(everything(), position, END_OF_TIME)).entries:
        assert len(page.entries) <= LOG_BATCH_ENTRIES_MAX
        seen += [row.entry.text for row in page.entries]
        position = page.entries[-1].position
    assert seen == [f"{n}" for n in range(250)]


async def test_a_watch_hears_of_what_its_filter_admits(world: Rig) -> None:
    of = LogFilter(org=ONE.org, instance=InstanceName("two"))
    with world.logs.watch(of) as watch:
        watch.expect()
        world.write("of another")
        await world.capture.settle()
        assert not watch._has_news.is_set()
        world.write("of it", key_of("two"))
        await world.capture.settle()
        await watch.wait()
        watch.expect()
        assert not watch._has_news.is_set()
    world.write("nobody watches", key_of("two"))
    await world.capture.settle()
    assert not watch._has_news.is_set()
