"""Durable timers: fired once when due, by whoever owns the store then."""

import asyncio

from statebacked.core.policy import Policy
from statebacked.engine.alarms import WINDOW_MS
from statebacked.model.ids import Seq
from tests.engine.world import World, key_of, run, until, world


async def count(w: World) -> int:
    return len(await w.store.list_transitions(key_of("a"), after=Seq(0), limit=100))


async def until_count(w: World, transitions: int) -> None:
    async with asyncio.timeout(5):
        while await count(w) != transitions:  # noqa: ASYNC110 - turns of the loop, no time passes
            await asyncio.sleep(0)


def test_a_timer_fires_when_it_is_due_and_once() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            await w.send("a", "wait", ms=0)
            await until_count(w, 3)
            await w.send("a", "add")
            assert await count(w) == 4

    run(story)


def test_a_timer_that_was_due_while_nobody_ran_fires_after_the_start() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            await w.send("a", "wait", ms=3_600_000)
            assert await count(w) == 2
        w.clock.wall += 3_600_000
        async with world(w.store, w.clock) as again:
            await until_count(again, 3)

    run(story)


def test_a_timer_beyond_the_window_stays_in_the_store() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            await w.send("a", "wait", ms=WINDOW_MS * 10)
            assert [t.timer.due for t in await w.store.due_timers(w.clock.now().wall, 10)] == []
            record = await w.engine.admin_read(key_of("a"))
            assert [t.due for t in record.timers] == [w.clock.wall + WINDOW_MS * 10]

    run(story)


def test_many_timers_due_at_once_all_fire_once() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            for _ in range(30):
                await w.send("a", "wait", ms=1_000)
            assert await count(w) == 31
        w.clock.wall += 1_000
        async with world(w.store, w.clock) as again:
            await until_count(again, 61)
            await until(lambda: not again.store.faults)
            await again.send("a", "add")
            assert await count(again) == 62

    run(story)


def test_a_crowd_of_due_timers_of_one_instance_does_not_hold_back_another_one() -> None:
    """Neither do those that cannot be taken yet: the mailbox of the first is half full all the time."""

    async def story() -> None:
        async with world() as w:
            for name in ("a", "b"):
                await w.create(name)
            for _ in range(700):
                await w.send("a", "wait", ms=1_000)
            await w.send("b", "wait", ms=1_001)
        w.clock.wall += 1_001
        async with world(w.store, w.clock, Policy(unasked_burst=10)) as again:
            await until_left(again, "b", 0)
            assert await left(again, "a") > 600
            await until_left(again, "a", 690)  # its bucket is empty, half a mailbox waits
            await again.send("b", "wait", ms=0)
            await until_left(again, "b", 0)

    run(story)


async def left(w: World, name: str) -> int:
    record = await w.store.load(key_of(name))
    assert record is not None
    return len(record.timers)


async def until_left(w: World, name: str, timers: int) -> None:
    async with asyncio.timeout(5):
        while await left(w, name) != timers:  # noqa: ASYNC110 - turns of the loop, no time passes
            await asyncio.sleep(0)
