"""Instances that change their version, with the real engine, the memory store and fake workers."""

import asyncio
import json

import pytest

from statebacked.core.policy import Policy
from statebacked.model.errors import MachineRefusal, NoMigrationPath, NotFound
from statebacked.model.ids import Seq, VersionId
from statebacked.model.rows import InstanceRecord, Transition
from tests.engine.world import (
    ANYONE,
    VERSION,
    Fault,
    World,
    add_migration,
    add_version,
    count_of,
    key_of,
    run,
    until,
    world,
)

V2, V3, FAR = VersionId("ver_2"), VersionId("ver_3"), VersionId("ver_far")


async def add_versions(w: World) -> None:
    """Two more, with migrations to one after the other, and one to which none leads."""
    for version in (V2, V3, FAR):
        await add_version(w.store, version)
    await add_migration(w.store, "mig_a", VERSION, V2)
    await add_migration(w.store, "mig_b", V2, V3)


async def record(w: World, name: str = "a") -> InstanceRecord:
    return await w.engine.admin_read(key_of(name))


async def history(w: World, name: str = "a") -> list[Transition]:
    return await w.store.list_transitions(key_of(name), after=Seq(0), limit=100)


def test_the_next_event_finds_the_instance_on_its_new_version() -> None:
    async def story() -> None:
        async with world() as w:
            await add_versions(w)
            await w.create("a")
            await w.send("a", "go")
            await w.engine.wish(key_of("a"), V3)
            assert ((await record(w)).version, (await record(w)).desired) == (VERSION, V3)
            assert w.migrator.routes == [], "a wish alone migrates nothing"
            assert count_of(await w.send("a", "go")) == 2
            after = await record(w)
            assert (after.version, after.desired) == (V3, None)
            first, _, upgrade, last = await history(w)
            assert json.loads(upgrade.event) == {
                "type": "statebacked.upgrade",
                "migrationPath": ["mig_a", "mig_b"],
                "fromMachineVersionId": VERSION,
                "toMachineVersionId": V3,
            }
            assert (upgrade.source, upgrade.value, upgrade.version) == ("upgrade", b'"upgraded"', V3)
            assert (first.version, last.version) == (VERSION, V3)
            assert [a.code.version for a in w.machines.attachments] == [VERSION, V3]
            (route,) = w.migrator.routes
            assert [code.migration for code in route.migrations] == ["mig_a", "mig_b"]

    run(story)


def test_a_failing_migration_refuses_the_event_and_the_wish_stands() -> None:
    async def story() -> None:
        async with world() as w:
            await add_versions(w)
            await w.create("a")
            await w.engine.wish(key_of("a"), V2)
            w.migrator.reason = "upgradeState threw"
            for _ in range(2):
                with pytest.raises(MachineRefusal) as refused:
                    await w.send("a", "go")
                assert (refused.value.code, refused.value.message) == (
                    "migration-failed", "upgradeState threw"
                )  # fmt: skip
            assert len(await history(w)) == 1
            assert (await record(w)).desired == V2
            w.migrator.reason = None
            assert count_of(await w.send("a", "go")) == 1
            assert (await record(w)).version == V2

    run(story)


def test_an_upgrade_is_tried_again_when_no_worker_could_be_had() -> None:
    async def story() -> None:
        async with world() as w:
            await add_versions(w)
            await w.create("a")
            await w.engine.wish(key_of("a"), V2)
            w.migrator.is_available = False
            with pytest.raises(MachineRefusal) as refused:
                await w.send("a", "go")
            assert (refused.value.code, refused.value.status) == ("unavailable", 503)
            w.migrator.is_available = True
            assert count_of(await w.send("a", "go")) == 1

    run(story)


def test_a_wish_needs_a_way_there() -> None:
    async def story() -> None:
        async with world() as w:
            await add_versions(w)
            await w.create("a")
            for version, error in ((FAR, NoMigrationPath), (VersionId("ver_none"), NotFound)):
                with pytest.raises(error):
                    await w.engine.wish(key_of("a"), version)
            with pytest.raises(NotFound):
                await w.engine.wish(key_of("nobody"), V2)
            assert (await record(w)).desired is None

    run(story)


def test_the_version_that_it_runs_takes_a_wish_back() -> None:
    async def story() -> None:
        async with world() as w:
            await add_versions(w)
            await w.create("a")
            await w.engine.wish(key_of("a"), V2)
            await w.engine.wish(key_of("a"), VERSION)
            assert (await record(w)).desired is None
            await w.send("a", "go")
            assert (await record(w)).version == VERSION

    run(story)


def test_a_timer_upgrades_too() -> None:
    async def story() -> None:
        async with world() as w:
            await add_versions(w)
            await w.create("a")
            await w.send("a", "wait", ms=1_000)
            await w.engine.wish(key_of("a"), V2)
            w.clock.wall += 1_000
            w.engine._activations.alarms.scan_soon()
            (row,) = w.store.instances.instances.values()
            await until(lambda: row.version == V2 and row.head.view.seq == 4)
            assert [t.source for t in await history(w)][2:] == ["upgrade", "timer"]

    run(story)


def test_events_that_come_meanwhile_wait_for_the_new_version() -> None:
    async def story() -> None:
        async with world() as w:
            await add_versions(w)
            await w.create("a")
            await w.engine.wish(key_of("a"), V2)
            w.migrator.held = asyncio.Event()
            events = [w.begin("a", "go") for _ in range(3)]
            await until(lambda: len(w.migrator.routes) == 1)
            assert count_of(await w.engine.read(key_of("a"), ANYONE)) == 0, "reads do not wait"
            w.migrator.held.set()
            assert [count_of(await event) for event in events] == [1, 2, 3]
            assert [t.version for t in await history(w)] == [VERSION, V2, V2, V2, V2]
            assert len(w.migrator.routes) == 1

    run(story)


def test_a_migration_that_never_ends_is_given_up() -> None:
    async def story() -> None:
        async with world(policy=Policy(upgrade_ms=50)) as w:
            await add_versions(w)
            await w.create("a")
            await w.engine.wish(key_of("a"), V2)
            w.migrator.held = asyncio.Event()
            event = w.begin("a", "go")
            await until(lambda: len(w.migrator.routes) == 1)
            w.clock.mono += 50
            with pytest.raises(MachineRefusal, match="did not end in time"):
                await event
            w.migrator.held.set()
            assert count_of(await w.send("a", "go")) == 1
            assert (await record(w)).version == V2

    run(story)


@pytest.mark.parametrize("fault", Fault)
def test_an_upgrade_whose_commit_fails_is_found_out_from_the_store(fault: Fault) -> None:
    async def story() -> None:
        async with world() as w:
            await add_versions(w)
            await w.create("a")
            await w.engine.wish(key_of("a"), V2)
            w.store.faults = [fault]
            assert count_of(await w.send("a", "go")) == 1
            assert (await record(w)).version == V2
            upgrades = [t for t in await history(w) if t.source == "upgrade"]
            assert len(upgrades) == 1
            assert len(w.migrator.routes) == (2 if fault is Fault.BEFORE else 1)

    run(story)


def test_a_server_that_starts_takes_wishes_over() -> None:
    async def story() -> None:
        async with world() as w:
            await add_versions(w)
            await w.create("a")
            await w.engine.wish(key_of("a"), V2)
        async with world(w.store) as again:
            assert count_of(await again.send("a", "go")) == 1
            assert (await record(again)).version == V2

    run(story)


def test_subscribers_see_the_state_of_the_upgrade_or_a_newer_one() -> None:
    class Subscriber:
        def __init__(self) -> None:
            self.seqs: list[int] = []

        def update(self, view: object) -> None:
            self.seqs.append(view.seq)  # type: ignore[attr-defined]

        def refuse(self, error: object) -> None:
            raise AssertionError(error)

    async def story() -> None:
        async with world() as w:
            await add_versions(w)
            await w.create("a")
            subscriber = Subscriber()
            await w.engine.subscribe(key_of("a"), ANYONE, subscriber)
            await w.engine.wish(key_of("a"), V2)
            await w.send("a", "go")
            await until(lambda: subscriber.seqs[-1] == 3)

    run(story)
