"""A dry run over many instances: in bounded time, and from page to page over all of them. Time is virtual."""

import asyncio
from collections.abc import Sequence

import pytest

from statebacked.engine.rehearsal import Rehearsal
from statebacked.model.errors import Unavailable
from statebacked.model.ids import InstanceKey, InstanceName, MigrationId, VersionId
from statebacked.model.limits import DRY_RUN_MS
from statebacked.model.rows import PendingTimer
from statebacked.model.step import Arrival
from statebacked.ports.machines import Code, MigrationFailed, Route, Saved, Validated
from tests.engine.world import MACHINE, ORG, VERSION, World, world
from tests.virtual_time import run_in_virtual_time

GOAL = VersionId("ver_2")
ROUTE = Route(
    source=Code(ORG, MACHINE, VERSION, "5.33.3"),
    migrations=(Code(ORG, MACHINE, GOAL, "5.33.3", MigrationId("mig")),),
    target=Code(ORG, MACHINE, GOAL, "5.33.3"),
)
LOOPS_S = 12.0  # two attempts of a migration that does not end


class SlowMigrator:
    """Each name that begins with "loops" is given up after two attempts; "busy" finds no worker."""

    async def migrate(
        self, route: Route, key: InstanceKey, saved: Saved, timers: Sequence[PendingTimer]
    ) -> Arrival:
        if key.name.startswith("loops"):
            await asyncio.sleep(LOOPS_S)
        if key.name.startswith("busy"):
            raise Unavailable("is busy with code that does not end")
        raise MigrationFailed("did not answer")

    async def validate_migration(self, bundle: bytes) -> Validated:
        raise AssertionError("a dry run validates nothing")


async def rehearsal_of(w: World, names: Sequence[str]) -> Rehearsal:
    for name in names:
        await w.create(name)
    return Rehearsal(w.store, w.store, SlowMigrator())


def test_a_page_ends_in_time_with_what_was_judged() -> None:
    async def happen() -> None:
        names = [InstanceName(f"loops{n:02}") for n in range(60)]
        async with world() as w:
            rehearsal = await rehearsal_of(w, names)
            loop, left, pages = asyncio.get_running_loop(), names, 0
            while left:
                begun = loop.time()
                judged = await rehearsal.rehearse_first(ROUTE, left)
                assert loop.time() - begun <= DRY_RUN_MS / 1000 + LOOPS_S
                assert [one.name for one in judged if one is not None] == left[: len(judged)]
                left, pages = left[len(judged) :], pages + 1
            assert pages == 4

    run_in_virtual_time(happen())


def test_who_finds_no_worker_is_left_for_the_next_page_and_alone_is_told() -> None:
    async def happen() -> None:
        names = [InstanceName(name) for name in ("a", "loops", "busy", "z")]
        async with world() as w:
            rehearsal = await rehearsal_of(w, names)
            judged = await rehearsal.rehearse_first(ROUTE, names)
            assert [one.name for one in judged if one is not None] == ["a", "loops"]
            with pytest.raises(Unavailable):
                await rehearsal.rehearse_first(ROUTE, names[2:])
            assert await rehearsal.rehearse_first(ROUTE, []) == []

    run_in_virtual_time(happen())
