"""What a worker's death does to those in it: everyone hears, nobody is presumed guilty. With fake workers."""

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from statebacked.model.ids import Seq
from statebacked.model.step import Chattered, Performed, Refused, Stepped, WorkerLost
from statebacked.model.values import Json
from statebacked.ports.machines import Saved, WorkerGone
from tests.event_loop import run
from tests.runtime.rig import QUICK, Lodger, Rig, rig

SAVED = Saved(Seq(1), Json(b"{}"), Json(b"{}"))
LOST, GUILTY = WorkerLost(guilty=False), WorkerLost(guilty=True)
FAULTS = ["die", "hang", "garbage", "over-long", "refuse oddly"]


async def settled(r: Rig, name: str = "i", version: str = "v1") -> Lodger:
    lodger = r.lodger(name, version)
    await lodger.step("init")
    return lodger


async def with_service(r: Rig, name: str = "i") -> Lodger:
    lodger = await settled(r, name)
    await lodger.step("start")
    lodger.attached.perform(lodger.seq)
    await lodger.take(await lodger.hear(Performed))
    return lodger


async def performing(r: Rig, what: str, name: str = "i") -> Lodger:
    lodger = await settled(r, name)
    await lodger.step(what)
    lodger.attached.perform(lodger.seq)
    return lodger


# --- who hears


@pytest.mark.parametrize("fault", FAULTS)
def test_the_event_that_kills_again_alone_is_guilty(fault: str) -> None:
    @run
    async def test() -> None:
        async with rig() as r:
            lodger = await settled(r)
            lodger.compute(fault)
            assert await lodger.heard() == LOST
            lodger.compute(fault, losses=1)
            assert await lodger.heard() == GUILTY
            assert (await lodger.step("add"))["base"]
            assert lodger.signals.empty()

    test()


@run
async def test_a_kill_from_outside_proves_nothing() -> None:
    async with rig() as r:
        lodger = await settled(r)
        lodger.compute("hang", losses=1)
        await r.opened()
        for pid in r.pool.pids():
            os.kill(pid, signal.SIGKILL)
        assert await lodger.heard() == LOST
        assert (await lodger.step("add", losses=1))["base"]


@run
async def test_kills_from_outside_at_rest_delay_nothing() -> None:
    async with rig(policy=replace(QUICK, back_off_ms=60_000, back_off_ms_max=60_000)) as r:
        lodger = await settled(r)
        for _ in range(4):
            [worker] = r.workers()
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            await worker.gone
            assert (await lodger.step("add"))["base"]


@run
async def test_everyone_whose_compute_was_under_way_hears_of_it_once() -> None:
    async with rig() as r:
        lodgers = [await settled(r, name) for name in ("a", "b", "c")]
        [worker] = r.workers()
        for lodger, what in zip(lodgers, ("crowd", "hold", "die"), strict=True):
            lodger.compute(what)
        for lodger in lodgers:
            assert await lodger.heard() == LOST
        await worker.gone
        assert all(lodger.signals.empty() for lodger in lodgers)


@run
async def test_an_instance_with_nothing_under_way_only_lacks_its_state() -> None:
    async with rig() as r:
        idle, other = await settled(r, "idle"), await settled(r, "other")
        other.compute("die")
        assert await other.heard() == LOST
        assert idle.signals.empty()
        assert (await idle.step("add"))["base"]


@run
async def test_running_services_are_lost_with_their_worker() -> None:
    async with rig() as r:
        lodger, other = await with_service(r), await settled(r, "other")
        other.compute("die")
        assert await other.heard() == LOST
        assert await lodger.heard() == LOST
        assert (await lodger.step("add"))["base"]


@run
async def test_a_service_that_ended_is_not_lost() -> None:
    async with rig() as r:
        lodger, other = await with_service(r), await settled(r, "other")
        lodger.compute("end")
        said = await lodger.hear(Chattered)
        lodger.commit(await lodger.hear(Stepped))
        await lodger.take(said)
        other.compute("die")
        assert await other.heard() == LOST
        assert lodger.signals.empty()


@run
async def test_an_event_that_only_the_worker_has_is_lost_with_it() -> None:
    async with rig() as r:
        lodger, other = await with_service(r), await settled(r, "other")
        lodger.compute("end")
        await lodger.hear(Chattered)
        lodger.commit(await lodger.hear(Stepped))
        other.compute("die")
        assert await other.heard() == LOST
        assert await lodger.heard() == LOST


@run
async def test_effects_that_wait_for_their_commit_are_lost_with_their_worker() -> None:
    async with rig() as r:
        lodger, other = await settled(r), await settled(r, "other")
        await lodger.step("effects")
        other.compute("die")
        assert await lodger.heard() == LOST
        lodger.attached.perform(lodger.seq)  # the commit came after the loss: there is nothing to perform
        assert (await lodger.step("add"))["base"]
        assert lodger.signals.empty()


@pytest.mark.parametrize("what", ["die performing", "hang performing"])
def test_effects_under_way_are_lost_and_not_tried_again(what: str) -> None:
    @run
    async def test() -> None:
        async with rig() as r:
            lodger = await performing(r, what)
            assert await lodger.heard() == LOST
            assert (await lodger.step("add"))["base"]

    test()


@run
async def test_what_was_performed_before_the_death_is_heard_before_the_loss() -> None:
    async with rig() as r:
        lodger = await performing(r, "start and die")
        await lodger.hear(Performed)
        assert await lodger.heard() == LOST


@run
async def test_a_worker_that_is_killed_from_outside_is_replaced() -> None:
    async with rig() as r:
        lodger = await settled(r)
        lodger.compute("mute")
        os.kill(r.pool.pids()[0], signal.SIGKILL)
        assert await lodger.heard() == LOST
        assert (await lodger.step("add", losses=1))["n"] == 1


@run
async def test_a_compute_that_waited_for_room_is_not_under_way() -> None:
    async with rig(policy=replace(QUICK, in_flight_max=1)) as r:
        lodger, waiting = await settled(r), await settled(r, "waiting")
        lodger.compute("die")
        waiting.compute("add")
        assert await lodger.heard() == LOST
        assert waiting.commit(await waiting.hear(Stepped))["base"]


@run
async def test_a_compute_whose_state_was_being_loaded_is_not_under_way() -> None:
    async with rig() as r:
        lodger, other = await settled(r), await settled(r, "other")
        lodger.compute("forget")
        await lodger.hear(Refused)
        loading, loaded = asyncio.Event(), asyncio.Event()

        async def load() -> Saved:
            loading.set()
            await loaded.wait()
            return await lodger.load()

        lodger.compute("add", load=load)
        await loading.wait()
        other.compute("die")
        assert await other.heard() == LOST
        loaded.set()
        assert lodger.commit(await lodger.hear(Stepped))["base"]


@run
async def test_a_broken_answer_fails_its_own_event_and_ends_the_worker() -> None:
    async with rig() as r:
        for what in ("no sections", "two answers", "too deep"):
            lodger, other = await settled(r, "a"), await settled(r, "b")
            [worker] = r.workers()
            other.compute("crowd")
            lodger.compute(what)
            assert (await lodger.hear(Refused)).code == "machine-fault"
            assert await other.heard() == LOST
            await worker.gone
            assert lodger.signals.empty()


@run
async def test_an_index_that_is_not_declared_ends_the_worker() -> None:
    async with rig() as r:
        lodger = await settled(r)
        lodger.compute("index")
        [step] = (await lodger.hear(Stepped)).steps
        assert step.indexes == (("by-user", ("u1",)),)
        r.workers()[0].indexes = frozenset()
        lodger.compute("index")
        assert (await lodger.hear(Refused)).code == "machine-fault"


# --- trials


@run
async def test_trials_run_one_after_another_while_new_work_goes_elsewhere() -> None:
    async with rig() as r:
        lodgers = [await settled(r, name) for name in ("a", "b", "c")]
        for lodger, what in zip(lodgers, ("crowd", "hold", "die"), strict=True):
            lodger.compute(what)
        for lodger in lodgers:
            assert await lodger.heard() == LOST
        lodgers[0].compute("hang", losses=1)  # on trial
        lodgers[1].compute("hold", losses=1)  # waits for its own
        new = r.lodger("new")
        shared = await new.step("init")
        assert await lodgers[0].heard() == GUILTY
        held = lodgers[1].commit(await lodgers[1].hear(Stepped))
        assert held["pid"] != shared["pid"]
        assert (await lodgers[1].step("add"))["pid"] == shared["pid"]
        assert (await new.step("add"))["pid"] == shared["pid"]


@run
async def test_the_innocent_are_tried_in_one_worker() -> None:
    async with rig() as r:
        lodgers = [await settled(r, f"i{number}") for number in range(8)]
        for lodger in lodgers:
            lodger.compute("add", losses=1)
        pids = [lodger.commit(await lodger.hear(Stepped))["pid"] for lodger in lodgers]
        assert len(set(pids)) == 1


@run
async def test_a_trial_lasts_until_its_effects_are_performed() -> None:
    async with rig() as r:
        first, second = await settled(r, "a"), await settled(r, "b")
        await first.step("effects", losses=1)
        second.compute("add", losses=1)
        await first.attached.may_read(first.seq, [])  # a round trip: the second had its chance
        assert second.signals.empty()
        first.attached.perform(first.seq)
        await first.hear(Performed)
        await second.hear(Stepped)


@pytest.mark.parametrize("end", ["close", "die"])
def test_a_trial_ends_with_its_activation(end: str) -> None:
    @run
    async def test() -> None:
        async with rig() as r:
            first, second = await settled(r, "a"), await settled(r, "b")
            first.compute("mute", losses=1)
            second.compute("add", losses=1)
            if end == "close":
                first.attached.close()
            else:
                await r.opened()
                [trial] = [worker for worker in r.workers() if worker.is_alone]
                trial.kill("was killed by the test")
                assert await first.heard() == GUILTY
            await second.hear(Stepped)

    test()


@run
async def test_services_that_a_trial_started_keep_its_worker() -> None:
    async with rig() as r:
        first, second = await settled(r, "a"), await settled(r, "b")
        kept = (await first.step("start", losses=1))["pid"]
        first.attached.perform(first.seq)
        assert (await first.take(await first.hear(Performed)))["pid"] == kept
        assert (await second.step("add", losses=1))["pid"] not in {kept}
        assert (await first.step("add"))["pid"] == kept
        first.compute("end")
        said = await first.hear(Chattered)
        first.commit(await first.hear(Stepped))
        assert (await first.take(said))["pid"] == kept
        assert (await first.step("add"))["pid"] != kept


@run
async def test_the_events_of_a_service_that_was_stopped_keep_no_worker() -> None:
    async with rig() as r:
        lodger = await settled(r)
        kept = (await lodger.step("start", losses=1))["pid"]
        lodger.attached.perform(lodger.seq)
        await lodger.take(await lodger.hear(Performed))
        lodger.compute("tick")
        said = await lodger.hear(Chattered)
        lodger.commit(await lodger.hear(Stepped))
        assert (await lodger.step("add"))["pid"] == kept
        assert said.sent.service is not None
        lodger.attached.stop([said.sent.service])
        assert (await lodger.step("add"))["pid"] != kept


# --- the guilty


@run
async def test_a_guilty_instance_computes_alone_for_a_while() -> None:
    async with rig() as r:
        lodger, neighbour = await settled(r, "a"), await settled(r, "b")
        lodger.compute("die")
        assert await lodger.heard() == LOST
        lodger.compute("die", losses=1)
        assert await lodger.heard() == GUILTY
        shared = (await neighbour.step("add"))["pid"]
        own = [(await lodger.step("add"))["pid"] for _ in range(3)]
        assert len(set(own)) == 1
        assert own[0] != shared
        assert (await lodger.step("add"))["pid"] == shared


@run
async def test_guilt_outlives_an_activation() -> None:
    async with rig() as r:
        lodger, neighbour = await settled(r, "a"), await settled(r, "b")
        lodger.compute("die", losses=1)
        assert await lodger.heard() == GUILTY
        again = r.lodger("a")
        again.saved = lodger.saved
        assert (await again.step("add"))["pid"] != (await neighbour.step("add"))["pid"]


@run
async def test_an_instance_whose_effects_kill_is_set_apart() -> None:
    async with rig() as r:
        lodger, neighbour = await settled(r, "a"), await settled(r, "b")
        await lodger.step("die performing")
        lodger.attached.perform(lodger.seq)
        assert await lodger.heard() == LOST
        assert (await lodger.step("add"))["pid"] != (await neighbour.step("add"))["pid"]


# --- the version


@run
async def test_one_event_cannot_take_a_version_down() -> None:
    async with rig() as r:
        lodger, neighbour = await settled(r, "a"), await settled(r, "b")
        for _ in range(4):
            lodger.compute("die")
            assert await lodger.heard() == LOST
            lodger.compute("die", losses=1)
            assert await lodger.heard() == GUILTY
            await neighbour.step("add")
        assert r.crew()._deaths == 0


@run
async def test_deaths_that_no_event_explains_delay_the_next_start() -> None:
    async with rig(policy=replace(QUICK, back_off_ms=4_000, room_wait_ms=100)) as r:
        lodger = await settled(r)
        for _ in range(2):
            await lodger.step("start")
            lodger.attached.perform(lodger.seq)
            await lodger.hear(Performed)
            os.kill(r.pool.pids()[0], signal.SIGKILL)
            assert await lodger.heard() == LOST
        lodger.compute("add")
        refused = await lodger.hear(Refused)
        assert refused.code == "unavailable"


def test_a_worker_that_dies_once_as_it_loads_is_started_again(tmp_path: Path) -> None:
    bundle = json.dumps({"load": "die once", "mark": str(tmp_path / "mark")}).encode()

    @run
    async def test() -> None:
        async with rig({"v1": bundle}) as r:
            assert (await r.lodger().step("init"))["n"] == 1

    test()


@run
async def test_a_version_that_dies_as_it_loads_is_started_later_and_later() -> None:
    async with rig(
        {"v1": b'{"load":"die"}'}, policy=replace(QUICK, back_off_ms=4_000, room_wait_ms=100)
    ) as r:
        lodger = r.lodger()
        lodger.compute("init")
        assert (await lodger.hear(Refused)).code in {"invalid-machine", "unavailable"}
        lodger.compute("init")
        assert (await lodger.hear(Refused)).code == "unavailable"
        assert r.pool.counters().processes == 0


# --- reads


@run
async def test_a_read_under_which_the_worker_died_is_tried_again_alone() -> None:
    async with rig() as r:
        lodger = await settled(r)
        await r.pool.may_read(lodger.code, lodger.key, SAVED, [Json(b'{"do":"crowd"}')])
        auths = [Json(b'{"ok":true,"do":"die if crowded"}')]
        assert await r.pool.may_read(lodger.code, lodger.key, SAVED, auths) == [True]
        assert lodger.signals.empty()


@run
async def test_a_read_that_kills_twice_says_so() -> None:
    async with rig() as r:
        lodger = await settled(r)
        with pytest.raises(WorkerGone, match="exited with code 6"):
            await r.pool.may_read(lodger.code, lodger.key, SAVED, [Json(b'{"do":"die"}')])
        assert r.crew()._deaths == 0
        assert (await lodger.step("add"))["base"]


@run
async def test_a_read_of_an_activated_instance_hears_of_the_death() -> None:
    async with rig() as r:
        lodger = await settled(r)
        with pytest.raises(WorkerGone, match="exited with code 6"):
            await lodger.attached.may_read(Seq(1), [Json(b'{"do":"die"}')])


@run
async def test_a_read_that_is_never_answered_ends() -> None:
    async with rig(policy=replace(QUICK, authorize_ms=100, step_ms=300)) as r:
        lodger = await settled(r)
        with pytest.raises(WorkerGone, match="does not answer"):
            await lodger.attached.may_read(Seq(1), [Json(b'{"do":"mute"}')])
        assert (await lodger.step("add"))["n"] == 2
