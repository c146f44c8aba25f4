"""What leaves the logs, and when."""

import asyncio

import pytest

from statebacked.logs.retention import SLICE_ENTRIES
from statebacked.model.ids import Instant
from statebacked.model.logs import LogErasure
from tests.logs.rig import DAY_MS, ONE, START, Rig, key_of, rig

pytestmark = pytest.mark.anyio


async def test_lines_are_kept_for_the_days_that_are_set(world: Rig) -> None:
    world.write("two days and more")
    await world.capture.settle()
    world.clock.pass_ms(DAY_MS)
    world.write("a day")
    world.clock.pass_ms(DAY_MS + 1)
    await world.retention.prune()
    assert await world.texts() == ["a day"]


async def test_the_oldest_go_first_when_there_are_too_many() -> None:
    async with rig(bytes_max=200_000) as world:
        for n in range(3 * SLICE_ENTRIES):
            world.write(f"{n}", key_of(f"i{n % 9}"))
            world.clock.wall += 1
        await world.capture.settle()
        await world.retention.prune()
        texts = await world.texts()
        assert texts[-1] == f"{3 * SLICE_ENTRIES - 1}"
        assert texts == [f"{n}" for n in range(3 * SLICE_ENTRIES - len(texts), 3 * SLICE_ENTRIES)]
        assert sum(entry.weight for entry in await world.entries()) <= 200_000


async def test_lines_of_a_deleted_instance_are_erased_though_they_were_not_stored_yet(world: Rig) -> None:
    for n in range(2 * SLICE_ENTRIES + 10):
        world.write(f"{n}", output="stdout" if n % 2 else "stderr")
    world.write("neighbour", key_of("two"))
    world.erasures.instances.log_erasures = [LogErasure(ONE, Instant(START + 1_000))]
    await world.retention.erase()
    assert await world.texts() == ["neighbour"]
    assert await world.erasures.log_erasures(10) == []


async def test_it_looks_by_itself(world: Rig) -> None:
    world.erasures.instances.log_erasures = [LogErasure(ONE, Instant(START))]
    world.write("gone")
    running = asyncio.create_task(world.retention.run())
    async with asyncio.timeout(10):
        await world.erasures.has_erased.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert await world.texts() == []
