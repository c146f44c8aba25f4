"""When commits fail: nobody is forgotten, nothing happens twice."""

import asyncio

import pytest
from structlog.testing import capture_logs

from statebacked.engine.accounts import RETRY_MS
from statebacked.model.errors import MachineRefusal, Unavailable
from statebacked.model.ids import Seq
from tests.engine.world import Fault, World, count_of, key_of, run, until, world


async def history(w: World, name: str) -> list[bytes]:
    return [t.event for t in await w.store.list_transitions(key_of(name), after=Seq(0), limit=100)]


def test_a_caller_whose_commit_is_durable_though_its_answer_was_lost_gets_the_state() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            w.store.faults = [Fault.AFTER]
            assert count_of(await w.send("a", "add")) == 1
            assert len(await history(w, "a")) == 2

    run(story)


def test_a_caller_whose_commit_is_not_there_is_told_that_nothing_happened() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            w.store.faults = [Fault.BEFORE]
            with pytest.raises(MachineRefusal) as refused:
                await w.send("a", "add")
            assert (refused.value.code, refused.value.status) == ("unavailable", 503)
            assert len(await history(w, "a")) == 1
            assert count_of(await w.send("a", "add")) == 1

    run(story)


def test_events_that_had_not_begun_go_on_in_their_order() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            w.store.faults = [Fault.BEFORE]
            sending = [w.begin("a", "add", n=n) for n in range(5)]
            answers = await asyncio.gather(*sending, return_exceptions=True)
            assert isinstance(answers[0], MachineRefusal)
            assert [count_of(a) for a in answers[1:] if not isinstance(a, BaseException)] == [1, 2, 3, 4]
            events = await history(w, "a")
            assert [b'"n": %d' % n in e for n, e in zip(range(1, 5), events[1:], strict=True)] == [True] * 4

    run(story)


def test_a_failed_creation_can_be_repeated() -> None:
    async def story() -> None:
        async with world() as w:
            w.store.faults = [Fault.BEFORE]
            with pytest.raises(MachineRefusal):
                await w.create("a")
            assert (await w.create("a")).seq == 1

    run(story)


def test_a_store_that_is_down_makes_events_unavailable_and_recovers() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            await w.create("idle")
            w.store.is_down = True
            for name in ("a", "idle", "not-loaded"):
                with pytest.raises((MachineRefusal, Unavailable)) as refused:
                    await w.send(name, "add")
                assert (refused.value.code, refused.value.status) == ("unavailable", 503)
            w.store.is_down = False
            assert count_of(await w.send("a", "add")) == 1


def test_nobody_is_told_that_nothing_happened_before_the_history_can_be_read() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            w.machines.hold()
            sending = [w.begin("a", "add"), w.begin("a", "add")]
            await until(lambda: len(w.machines.computed) == 2)
            w.store.faults, w.store.is_down = [Fault.AFTER], True
            w.machines.release()
            with capture_logs() as logs:
                with pytest.raises(MachineRefusal) as refused:
                    await sending[1]
                assert refused.value.code == "unavailable"
                assert not sending[0].done(), "nobody knows yet whether it happened"
                await asyncio.sleep(10 * RETRY_MS / 1000)
                w.store.is_down = False
                assert count_of(await sending[0]) == 1
            told = [line["event"] for line in logs if line["log_level"] != "debug"]
            assert told.count("an instance cannot be recovered yet") == 1
            assert "a history cannot be read yet" not in told
            assert len(await history(w, "a")) == 2
            assert count_of(await w.send("a", "add")) == 2

    run(story)


def test_an_owner_that_was_taken_over_writes_nothing_and_says_so() -> None:
    async def story() -> None:
        async with world() as old:
            await old.create("a")
            async with world(old.store) as new:
                with pytest.raises((MachineRefusal, Unavailable)) as refused:
                    await old.send("a", "add")
                assert refused.value.status == 503
                assert not old.engine.usable()
                assert count_of(await new.send("a", "add")) == 1
                assert len(await history(new, "a")) == 2

    run(story)


def test_an_event_under_way_when_its_worker_dies_is_computed_once_more() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            w.machines.hold()
            sending = w.begin("a", "add")
            await until(lambda: len(w.machines.computed) == 2)
            w.machines.kill()
            assert count_of(await sending) == 1
            assert len(await history(w, "a")) == 2

    run(story)


def test_an_event_that_ends_every_worker_is_refused() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            sending = w.begin("a", "add")
            for deaths in range(3):
                w.machines.hold()
                await until(lambda deaths=deaths: len(w.machines.computed) == 2 + deaths)  # type: ignore[misc]
                w.machines.kill()
            with pytest.raises(MachineRefusal) as refused:
                await sending
            assert refused.value.code == "machine-fault"
            assert count_of(await w.send("a", "add")) == 1

    run(story)


def test_draining_answers_who_waits_and_takes_no_more() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            w.machines.hold()
            sending = w.begin("a", "add")
            await until(lambda: len(w.machines.computed) == 2)
            draining = asyncio.get_running_loop().create_task(w.engine.drain(5_000))
            await asyncio.sleep(0)
            with pytest.raises(Unavailable):
                await w.send("a", "add")
            w.machines.release()
            assert count_of(await sending) == 1
            await draining

    run(story)
