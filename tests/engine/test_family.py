"""Instances that send to one another, make one another, and come to an end."""

import asyncio
import json

import pytest

from statebacked.core.policy import Policy
from statebacked.engine import relay
from statebacked.model.envelopes import Delete, Pause, Resume
from statebacked.model.errors import MachineRefusal, NotFound, StateBackedError
from statebacked.model.ids import Seq
from statebacked.model.rows import StateView
from statebacked.model.step import Step
from statebacked.model.values import Json
from statebacked.testing.fake_machines import Event, Refusal, counting
from tests.engine.world import (
    ORG,
    Fault,
    FaultyStore,
    add_machine,
    count,
    count_of,
    key_of,
    run,
    until,
    world,
)

ONCE = Policy(attempts_max=1)


def test_a_message_reaches_the_other_instance_once() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            await w.create("b")
            for _ in range(5):
                await w.send("a", "tell", to="b", say="go")
            await until(lambda: count(w, "b") == 5)
            assert not w.store.instances.messages
            (envelope,) = {e.auth for e in w.machines.computed if e.source == "instance"}
            assert envelope is not None
            sender = {"machineName": "counter", "machineInstanceName": "a"}
            assert json.loads(envelope) == {"stateBackedSender": sender}

    run(story)


def test_a_message_that_a_stopped_server_left_is_delivered_by_the_next() -> None:
    async def story() -> None:
        store = FaultyStore()
        await add_machine(store)
        async with world(store) as first:
            await first.create("a")
            await first.create("b")
            first.machines.hold()
            sent = first.begin("a", "tell", to="b", say="go")
            await until(lambda: len(first.machines.computed) == 3)
            first.machines.release()
            first.machines.hold()
            await sent
        assert store.instances.messages
        async with world(store) as second:
            await until(lambda: count(second, "b") == 1)
        assert not store.instances.messages

    run(story)


def test_a_child_is_made_and_its_end_reaches_its_parent() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("parent")
            await w.send("parent", "spawn", child="kid")
            await until(lambda: count(w, "kid") == 0)
            await w.send("kid", "tell", say="hello")
            await until(lambda: count(w, "parent") == 1)
            await w.send("kid", "finish")
            await until(lambda: count(w, "parent") == 11)
            record = w.store.instances.load(key_of("parent"))
            assert record is not None
            assert record.links == ()
            assert not w.store.instances.messages

    run(story)


def test_a_parent_is_told_that_its_child_cannot_be_made() -> None:
    async def story() -> None:
        async with world(policy=ONCE) as w:
            await w.create("parent")
            await w.create("taken")
            await w.send("parent", "spawn", child="taken")
            await until(lambda: count(w, "parent") == 100)
            await w.send("parent", "spawn", child="kid", machine="unknown")
            await until(lambda: count(w, "parent") == 200)
            letters = await w.store.list_dead_letters(ORG, machine=None, instance=None, after="", limit=9)
            assert [letter.reason.partition(":")[0] for letter in letters] == ["conflict", "not-found"]

    run(story)


def test_what_comes_from_a_child_that_was_replaced_is_not_heard() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("parent")
            await w.send("parent", "spawn", child="first")
            await until(lambda: count(w, "first") == 0)
            await w.send("parent", "spawn", child="second")
            await until(lambda: count(w, "second") == 0)
            await w.send("first", "finish")
            await w.send("second", "finish")
            await until(lambda: count(w, "parent") == 10 and not w.store.instances.messages)

    run(story)


def test_a_child_is_linked_again_and_answers_its_parent() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("parent")
            await w.send("parent", "spawn", child="kid")
            await w.send("parent", "spawn", child="kid")
            await until(lambda: not w.store.instances.messages and count(w, "kid") == 0)
            await w.send("kid", "finish")
            await until(lambda: count(w, "parent") == 10)

    run(story)


def test_a_paused_instance_takes_no_event_and_loses_none() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            await w.create("b")
            await w.engine.control(key_of("b"), Pause())
            with pytest.raises(MachineRefusal) as refused:
                await w.send("b", "go")
            assert (refused.value.code, refused.value.status) == ("invalid-state", 409)
            await w.send("a", "tell", to="b", say="go")
            await w.send("a", "tell", to="b", say="go")
            assert count_of(await w.engine.read(key_of("b"), Json(b"{}"))) == 0
            await w.engine.control(key_of("b"), Resume())
            await until(lambda: count(w, "b") == 2)

    run(story)


def test_a_deleted_instance_is_gone_for_everyone() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("parent")
            await w.send("parent", "spawn", child="kid")
            await until(lambda: count(w, "kid") == 0)
            seen = Watcher()
            await w.engine.subscribe(key_of("kid"), Json(b"{}"), seen)
            last = await w.engine.control(key_of("kid"), Delete())
            with pytest.raises(NotFound):
                await w.send("kid", "go")
            assert [error.code for error in seen.refusals] == ["not-found"]
            await until(lambda: count(w, "parent") == 100)
            w.clock.wall = 1
            assert (await w.create("kid")).ts > last.ts
            assert w.store.instances.list_transitions(key_of("kid"), after=Seq(0), limit=9)[0].seq == 1

    run(story)


def test_who_comes_while_an_instance_is_being_deleted_is_told() -> None:
    async def story() -> None:
        async with world(policy=ONCE) as w:
            await w.create("a")
            await w.create("b")
            deletion = asyncio.ensure_future(w.engine.control(key_of("b"), Delete()))
            late = w.begin("b", "go")
            told = w.begin("a", "tell", to="b", say="go")
            await asyncio.gather(deletion, told)
            with pytest.raises((MachineRefusal, NotFound)) as refused:
                await late
            assert refused.value.code == "not-found"
            await w.create("b")
            await w.send("a", "tell", to="b", say="go")
            await until(lambda: count(w, "b") == 1)

    run(story)


def test_a_dead_letter_that_is_redriven_is_delivered() -> None:
    async def story() -> None:
        async with world(policy=ONCE) as w:
            await w.create("a")
            await w.send("a", "tell", to="b", say="go")
            await until(lambda: any(row.dead_at for row in w.store.instances.messages.values()))
            await w.create("b")
            (letter,) = await w.store.list_dead_letters(ORG, machine=None, instance=None, after="", limit=9)
            assert (letter.kind, letter.attempts) == ("event", 1)
            await w.engine.redrive(ORG, letter.id)
            await until(lambda: count(w, "b") == 1)
            with pytest.raises(NotFound):
                await w.engine.redrive(ORG, letter.id)

    run(story)


@pytest.mark.parametrize("fault", list(Fault))
def test_a_refusal_whose_commit_fails_is_decided_again(fault: Fault) -> None:
    async def story() -> None:
        async with world(policy=ONCE) as w:
            await w.create("a")
            w.store.faults = [None, fault]  # the event of `a`, then the refusal of its message
            await w.send("a", "tell", to="nobody", say="go")
            await until(lambda: not w.store.faults)
            for _ in range(10):  # turns of the loop in which the relay hears of the failure
                await asyncio.sleep(0)
            assert all(row.attempts == (fault is Fault.AFTER) for row in w.store.instances.messages.values())
            w.clock.wall += 60_000
            w.clock.mono += 60_000
            await w.engine.control(key_of("a"), Resume())  # has the relay look at what is due
            await until(lambda: all(row.dead_at for row in w.store.instances.messages.values()))
            (letter,) = await w.store.list_dead_letters(ORG, machine=None, instance=None, after="", limit=9)
            assert letter.attempts == 1

    run(story)


def test_a_dead_letter_that_is_redriven_comes_behind_what_is_on_its_way() -> None:
    async def story() -> None:
        async with world(policy=ONCE) as w:
            await w.create("a")
            await w.send("a", "tell", to="b", say="go")
            await until(lambda: any(row.dead_at for row in w.store.instances.messages.values()))
            await w.create("b")
            (letter,) = await w.store.list_dead_letters(ORG, machine=None, instance=None, after="", limit=9)
            w.machines.hold()
            sending = w.begin("a", "tell", to="b", say="go")
            await until(lambda: len(w.machines.computed) == 4)
            w.machines.release()
            w.machines.hold()
            await sending
            await until(lambda: len(w.machines.computed) == 5)  # it is under way to b
            await w.engine.redrive(ORG, letter.id)
            w.machines.release()
            await until(lambda: count(w, "b") == 2)

    run(story)


def test_a_timer_that_was_given_up_rings_when_it_is_redriven() -> None:
    async def story() -> None:
        async with world(policy=ONCE) as w:
            w.machines.behaviour = deaf
            await w.create("a")
            await w.send("a", "wait", ms=0)
            await until(lambda: any(row.dead_at for row in w.store.instances.timers.values()))
            w.machines.behaviour = counting
            (letter,) = await w.store.list_dead_letters(ORG, machine=None, instance=None, after="", limit=9)
            await w.engine.redrive(ORG, letter.id)
            await until(lambda: count(w, "a") == 1)

    run(story)


def deaf(count: int, event: Event) -> Step | Refusal:
    """A machine that its timers find out of order."""
    return Refusal("machine-error", "a guard threw") if event["type"] == "rang" else counting(count, event)


class Watcher:
    def __init__(self) -> None:
        self.refusals: list[StateBackedError] = []

    def update(self, view: StateView) -> None:
        pass

    def refuse(self, error: StateBackedError) -> None:
        self.refusals.append(error)


def test_many_messages_of_many_pairs_all_arrive_in_order() -> None:
    async def story() -> None:
        async with world() as w:
            names = [f"i{n}" for n in range(8)]
            for name in names:
                await w.create(name)
            await asyncio.gather(
                *(w.send(a, "tell", to=b, say="go") for a in names for b in names if a != b for _ in range(5))
            )
            await until(lambda: all(count(w, name) == 35 for name in names))
            assert not w.store.instances.messages

    run(story)


def test_messages_beyond_what_memory_holds_arrive_in_order_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "QUEUE_MAX", 2)

    async def story() -> None:
        async with world() as w:
            await w.create("a")
            await w.create("b")
            await asyncio.gather(*(w.send("a", "tell", to="b", say=f"go {n}") for n in range(60)))
            await until(lambda: count(w, "b") == 60)
            history = w.store.instances.list_transitions(key_of("b"), after=Seq(1), limit=99)
            heard = [json.loads(transition.event)["type"] for transition in history]
            assert heard == [f"go {n}" for n in range(60)]

    run(story)
