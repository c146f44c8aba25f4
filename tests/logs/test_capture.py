"""Capture: batches in order, whole milliseconds, limits that say so, nobody made to wait."""

import asyncio

import pytest

from statebacked.model.limits import (
    LOG_BATCH_ENTRIES_MAX,
    LOG_INSTANCE_MINUTE_BYTES_MAX,
    LOG_LINE_BYTES_MAX,
    LOG_LINE_BYTES_MIN,
    LOG_ORG_DAY_BYTES_MAX,
    LOG_QUEUE_BYTES_MAX,
)
from statebacked.model.logs import ENTRY_OVERHEAD_BYTES
from tests.logs.rig import (
    CODE,
    DAY_MS,
    ONE,
    OTHER,
    START,
    FaultyLogs,
    HandClock,
    Rig,
    code_of,
    everything,
    key_of,
    rig,
)

pytestmark = pytest.mark.anyio

MINUTE_MS = 60_000
KILO = "x" * 1_000


async def test_a_line_is_stored_with_where_it_came_from(world: Rig) -> None:
    world.write("hello", output="stderr")
    (entry,) = await world.entries()
    assert (entry.at, entry.org, entry.machine, entry.instance) == (START, "org_1", "m", "one")
    assert (entry.version, entry.output, entry.text) == ("ver_1", "stderr", "hello")


async def test_lines_are_stored_without_anybody_asking(world: Rig) -> None:
    with world.logs.watch(everything()) as watch:
        world.write("hello")
        async with asyncio.timeout(10):
            await watch.wait()
    assert [row.entry.text for row in world.store.held] == ["hello"]


async def test_neighbouring_lines_of_one_speaker_are_one_entry(world: Rig) -> None:
    world.write("a")
    world.write("b")
    world.write("c", output="stderr")
    world.write("d", output="stderr")
    world.write("e")
    world.write("f", key_of("two"))
    world.write("g", None)
    world.write("h", None, code=code_of(version="ver_2"))
    world.clock.pass_ms(1)
    world.write("i", None, code=code_of(version="ver_2"))
    assert await world.texts() == ["a\nb", "c\nd", "e", "f", "g", "h", "i"]


async def test_an_entry_is_no_longer_than_a_line_may_be(world: Rig) -> None:
    for _ in range(20):
        world.write(KILO)
    world.write("ü" * LOG_LINE_BYTES_MAX)
    entries = await world.entries()
    assert [len(entry.text.encode()) <= LOG_LINE_BYTES_MAX for entry in entries] == [True] * 3
    assert entries[0].text.count("\n") == 14
    assert entries[2].text.endswith("ü…")
    assert len(entries[2].text.encode()) > LOG_LINE_BYTES_MAX - 10


async def test_what_is_no_text_becomes_text(world: Rig) -> None:
    world.write("half a \ud83d pair, \x00 and \x1b[2J")
    assert await world.texts() == ["half a ? pair, \x00 and \x1b[2J"]


async def test_a_millisecond_takes_a_batch_of_entries_and_no_more(world: Rig) -> None:
    for n in range(2 * LOG_BATCH_ENTRIES_MAX + 50):
        world.write("x", key_of(f"i{n}"))
    times = [int(entry.at) for entry in await world.entries()]
    assert times == sorted(times)
    assert [times.count(START + n) for n in range(4)] == [100, 100, 50, 0]


async def test_a_millisecond_that_was_stored_is_over(world: Rig) -> None:
    world.write("first")
    await world.entries()
    world.write("second")
    assert [entry.at for entry in await world.entries()] == [START, START + 1]


async def test_times_do_not_fall_with_the_clock_nor_over_a_restart(world: Rig) -> None:
    world.write("before")
    world.clock.wall -= DAY_MS
    world.write("set back")
    await world.entries()
    world.write("and later")
    await world.entries()
    async with rig(store=world.store, clock=HandClock(wall=START - DAY_MS)) as again:
        again.write("after a restart")
        entries = await again.entries()
    assert [(entry.at - START, entry.text) for entry in entries] == [
        (0, "before\nset back"),
        (1, "and later"),
        (2, "after a restart"),
    ]


async def test_what_is_written_after_a_settlement_is_later_than_what_it_gives(world: Rig) -> None:
    for ms in (0, 5, -10):
        world.clock.wall += ms
        complete_to = await world.capture.settle()
        world.write("next")
        assert (await world.entries())[-1].at > complete_to
    world.clock.pass_ms(100)
    assert await world.capture.settle() == world.clock.wall - 1


async def test_an_instance_over_its_minute_is_cut_short_and_one_line_says_so(world: Rig) -> None:
    for _ in range(1_100):
        world.write(KILO)
        world.write("quiet", key_of("two"))
    entries = [entry for entry in await world.entries() if entry.instance == "one"]
    kept = [entry for entry in entries if entry.text == KILO]
    assert len(kept) == LOG_INSTANCE_MINUTE_BYTES_MAX // (len(KILO) + 1 + ENTRY_OVERHEAD_BYTES)
    assert [entry.text for entry in entries if entry.text != KILO] == [
        "(more than 1,000,000 bytes: lines are dropped until the next minute)"
    ]
    others = [entry for entry in await world.entries() if entry.instance == "two"]
    assert sum(entry.text.count("quiet") for entry in others) == 1_100

    world.write("a short one")
    world.clock.pass_ms(MINUTE_MS)
    world.write("a minute later")
    assert (await world.texts())[-1] == "a minute later"
    assert "a short one" not in await world.texts()


async def test_empty_lines_count_too(world: Rig) -> None:
    for n in range(30_000):
        world.write("", output="stdout" if n % 2 else "stderr")
    assert len(await world.entries()) == LOG_INSTANCE_MINUTE_BYTES_MAX // (1 + ENTRY_OVERHEAD_BYTES) + 1


async def test_an_empty_line_counts_as_much_as_a_short_one(world: Rig) -> None:
    for _ in range(LOG_INSTANCE_MINUTE_BYTES_MAX // LOG_LINE_BYTES_MIN + 1_000):
        world.write("")
    kept = [entry for entry in await world.entries() if not entry.text.startswith("(")]
    lines = sum(entry.text.count("\n") + 1 for entry in kept)
    assert lines <= LOG_INSTANCE_MINUTE_BYTES_MAX // LOG_LINE_BYTES_MIN


async def test_an_org_over_its_day_is_cut_short_and_others_are_not() -> None:
    async with rig() as world:
        line = "x" * (LOG_LINE_BYTES_MAX - 10)
        for n in range(LOG_ORG_DAY_BYTES_MAX // len(line) + 100):
            world.write(line, key_of(f"i{n}"))
            if n % 100 == 0:
                await world.entries()
        world.write("theirs", None, code=code_of(OTHER))
        entries = await world.entries()
        assert sum(entry.weight for entry in entries if entry.text == line) <= LOG_ORG_DAY_BYTES_MAX
        assert [(entry.instance, entry.text) for entry in entries if entry.text != line] == [
            (None, "(more than 100,000,000 bytes: lines of this org are dropped until the next day)"),
            (None, "theirs"),
        ]
        # A restart does not begin a new day.
        async with rig(store=world.store, clock=world.clock) as again:
            for n in range(5):
                again.write(line, key_of(f"i{n}"))
            assert (await again.texts())[-1].startswith("(more than 100,000,000 bytes")
            again.clock.wall += DAY_MS
            again.write("the next day")
            assert (await again.texts())[-1] == "the next day"


async def test_a_full_queue_drops_lines_and_says_how_many(world: Rig) -> None:
    world.store.gate.clear()
    line = "x" * (LOG_LINE_BYTES_MAX - 10)
    for n in range(2 * LOG_QUEUE_BYTES_MAX // LOG_LINE_BYTES_MAX):
        world.write(line, key_of(f"i{n}"))
    world.write("of another version", None, code=code_of(version="ver_2"))
    world.store.gate.set()
    entries = await world.entries()
    kept = [entry for entry in entries if entry.text == line]
    assert sum(entry.weight for entry in kept) <= LOG_QUEUE_BYTES_MAX
    dropped = 2 * LOG_QUEUE_BYTES_MAX // LOG_LINE_BYTES_MAX - len(kept)
    told = {(entry.version, entry.text) for entry in entries if entry.text != line}
    assert told == {
        ("ver_1", f"({dropped} lines were dropped: more is written than can be stored)"),
        ("ver_2", "of another version"),  # it is short enough for what was left
    }
    world.write("goes on")
    assert (await world.texts())[-1] == "goes on"


@pytest.mark.parametrize("was_written", [False, True])
async def test_a_batch_that_may_have_failed_is_stored_once(world: Rig, was_written: bool) -> None:
    world.store.faults = [was_written, was_written]
    world.write("first")
    await world.capture.settle()
    world.write("second")
    await world.capture.settle()
    await world.capture.settle()
    assert await world.texts() == ["first", "second"]
    assert [entry.text for entry in world.heard] == ["first", "second"]


async def test_whoever_reads_is_told_what_is_missing_while_the_store_fails(world: Rig) -> None:
    world.write("first")
    await world.entries()
    world.store.faults = [False]
    world.clock.pass_ms(1_000)
    world.write("second")
    assert await world.capture.settle() == START + 999
    assert await world.texts() == ["first", "second"]


async def test_what_is_written_last_is_stored_when_it_ends() -> None:
    store = FaultyLogs()
    async with rig(store=store) as world:
        world.write("goodbye")
    assert [row.entry.text for row in store.held] == ["goodbye"]
    world.write("too late")
    assert len(store.held) == 1


async def test_many_lines_are_few_batches(world: Rig) -> None:
    for n in range(1_000):
        world.write(f"{n}", ONE if n % 2 else None, code=CODE)
    await world.entries()
    assert world.store.batches == [1_000]
