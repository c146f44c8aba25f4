"""The use cases on a healthy store."""

import asyncio

import pytest
from msgspec.structs import replace

from statebacked.model.errors import MachineRefusal, NotFound, RejectedByAuthorizer
from statebacked.model.values import Json
from statebacked.ports.machines import WorkerGone
from statebacked.testing.fake_machines import FakeAttached, Refusal
from tests.engine.world import ANYONE, count_of, key_of, run, until, world


def test_a_creation_answers_with_the_first_state_and_an_event_with_the_next() -> None:
    async def story() -> None:
        async with world() as w:
            first = await w.create("a")
            second = await w.send("a", "add")
            assert (count_of(first), first.seq) == (0, 1)
            assert (count_of(second), second.seq) == (1, 2)
            assert second.ts > first.ts

    run(story)


def test_of_two_creations_at_once_one_makes_the_instance_and_one_conflicts() -> None:
    async def story() -> None:
        async with world() as w:
            answers = await asyncio.gather(w.create("a"), w.create("a"), return_exceptions=True)
            (refused,) = [a for a in answers if isinstance(a, MachineRefusal)]
            assert refused.code == "conflict"
            assert len(answers) == 2

    run(story)


def test_an_event_to_nobody_is_not_found_and_leaves_nothing_loaded() -> None:
    async def story() -> None:
        async with world() as w:
            with pytest.raises(NotFound):
                await w.send("nobody", "add")
            with pytest.raises(NotFound):
                await w.engine.read(key_of("nobody"), ANYONE)

    run(story)


def test_a_refused_event_and_an_unknown_one_change_nothing() -> None:
    async def story() -> None:
        async with world() as w:
            before = await w.create("a")
            with pytest.raises(MachineRefusal) as refused:
                await w.send("a", "no")
            assert (refused.value.code, refused.value.status) == ("machine-error", 400)
            assert await w.send("a", "unknown") == replace(before, is_unchanged=True)
            record = await w.engine.admin_read(key_of("a"))
            assert record.view == before

    run(story)


def test_a_refused_creation_leaves_the_name_free() -> None:
    async def story() -> None:
        async with world() as w:
            w.machines.hold()
            creating = asyncio.get_running_loop().create_task(w.create("a"))
            await until(lambda: bool(w.machines.computed))
            creating.cancel()
            w.machines.kill()
            await asyncio.gather(creating, return_exceptions=True)
            await until(lambda: len(w.machines.computed) >= 2)
            # The creation went on without its caller: the name is taken, by exactly one instance.
            with pytest.raises(MachineRefusal) as refused:
                await w.create("a")
            assert refused.value.code == "conflict"

    run(story)


def test_a_read_whose_worker_dies_is_asked_again_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    async def dies(*_: object) -> None:
        raise WorkerGone("was killed")

    async def story() -> None:
        async with world() as w:
            view = await w.create("a")
            monkeypatch.setattr(FakeAttached, "may_read", dies)
            assert await w.engine.read(key_of("a"), ANYONE) == view
            monkeypatch.setattr(w.machines, "may_read", dies)
            with pytest.raises(MachineRefusal) as refused:
                await w.engine.read(key_of("a"), ANYONE)
            assert (refused.value.code, refused.value.message) == ("machine-fault", "was killed")

    run(story)


def test_an_instance_is_loaded_once_whoever_asks_at_once() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
        async with world(w.store) as again:
            w.store.loads = 0
            await asyncio.gather(*(again.send("a", "add") for _ in range(20)))
            loads_by_the_worker = 1  # the fake holds no live state and loads it on its first compute
            assert w.store.loads <= 1 + 20 * loads_by_the_worker
            assert len({id(a) for a in again.machines.attachments}) == 1
            assert count_of(await again.send("a", "add")) == 21

    run(story)


def test_reads_do_not_wait_for_events_under_way() -> None:
    async def story() -> None:
        async with world() as w:
            before = await w.create("a")
            w.machines.hold()
            sending = w.begin("a", "add")
            await until(lambda: len(w.machines.computed) == 2)
            assert await w.engine.read(key_of("a"), ANYONE) == before
            w.machines.release()
            assert count_of(await sending) == 1

    run(story)


def test_a_read_that_allow_read_refuses_is_rejected() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            w.machines.readers = set()
            with pytest.raises(RejectedByAuthorizer):
                await w.engine.read(key_of("a"), Json(b"{}"))

    run(story)


def test_nothing_is_performed_before_its_commit() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            await w.send("a", "act")
            ((key, seq),) = w.machines.performed
            record = await w.engine.admin_read(key)
            assert record.view.seq == seq

    run(story)


def test_what_the_machines_owner_can_mend_goes_to_the_machines_log() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            w.machines.behaviour = lambda count, event: Refusal(str(event["type"]), "so it was")
            for code in ("context-too-large", "machine-timeout", "rejected-by-machine-authorizer"):
                with pytest.raises(MachineRefusal):
                    await w.send("a", code)
            assert w.told == [
                (key_of("a"), "stderr", "an event is refused with context-too-large: so it was"),
                (key_of("a"), "stderr", "an event is refused with machine-timeout: so it was"),
            ]

    run(story)


def test_a_delayed_event_that_is_refused_is_told_of_each_time() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            await w.send("a", "wait", ms=0)
            w.machines.behaviour = lambda count, event: Refusal("machine-error", "a guard threw")
            await until(lambda: bool(w.told))
            told = (
                key_of("a"),
                "stderr",
                "the event rang (timer) is refused with machine-error: a guard threw",
            )
            assert w.told[0] == told

    run(story)
