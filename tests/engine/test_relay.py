"""Messages go on, each once and in order, when answers of the store are lost and recipients are paused."""

import asyncio
import json
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from statebacked.engine import activations, turns
from statebacked.model.envelopes import Pause, Resume
from statebacked.model.errors import StateBackedError
from statebacked.model.ids import Seq
from statebacked.model.rows import StateView
from tests.engine.world import Fault, World, count, key_of, run, until, world


def events(w: World, name: str) -> list[Any]:
    history = w.store.instances.list_transitions(key_of(name), after=Seq(1), limit=1_000)
    return [json.loads(transition.event) for transition in history]


def heard(w: World, name: str) -> list[str]:
    return [event["type"] for event in events(w, name)]


def said(w: World, name: str, to: str) -> list[str]:
    return [event["say"] for event in events(w, name) if event["type"] == "tell" and event["to"] == to]


async def consume_unheard(w: World) -> None:
    """b has heard what a has sent, and the answer of that commit was lost."""
    await w.create("a")
    await w.create("b")
    w.store.faults = [None, Fault.AFTER]
    await w.send("a", "tell", to="b", say="first")
    await until(lambda: count(w, "b") == 1)


def test_the_next_message_comes_when_the_answer_of_the_commit_before_was_lost() -> None:
    async def story() -> None:
        async with world() as w:
            await consume_unheard(w)
            await w.send("a", "tell", to="b", say="second")
            await until(lambda: count(w, "b") == 2)
            assert heard(w, "b") == ["first", "second"]

    run(story)


def test_a_message_whose_consumption_was_not_heard_of_is_done_with_after_the_recipient_was_paused() -> None:
    async def story() -> None:
        async with world() as w:
            await consume_unheard(w)
            await w.engine.control(key_of("b"), Pause())
            await w.send("a", "tell", to="b", say="second")
            await w.engine.control(key_of("b"), Resume())
            await until(lambda: count(w, "b") == 2)
            await w.send("a", "tell", to="b", say="third")
            await until(lambda: heard(w, "b") == ["first", "second", "third"])

    run(story)


@pytest.mark.parametrize("paused_first", [True, False])
def test_paused_recipients_hold_back_nobody_else(
    monkeypatch: pytest.MonkeyPatch, *, paused_first: bool
) -> None:
    monkeypatch.setattr(turns, "ORG_MESSAGES_UNDER_WAY_MAX", 2)

    async def story() -> None:
        async with world() as w:
            names = ("p1", "p2", "p3", "a", "b")
            for name in names:
                await w.create(name)
            sending: list[asyncio.Task[StateView]] = []
            if not paused_first:  # what is under way to them when they are paused
                w.machines.hold()
                sending = [w.begin("a", "tell", to=name, say="early") for name in names[:3]]
                await until(lambda: len(w.machines.computed) == 6)
                w.machines.release()
            for name in names[:3]:
                await w.engine.control(key_of(name), Pause())
            await asyncio.gather(*sending)
            for name in (*names[:3], "b"):
                await w.send("a", "tell", to=name, say="go")
            await until(lambda: count(w, "b") == 1)
            for name in names[:3]:
                await w.engine.control(key_of(name), Resume())
                expected = ["go"] if paused_first else ["early", "go"]
                await until(lambda: heard(w, name) == expected)  # noqa: B023

    run(story)


def random_faults(rng: Random) -> list[Fault | None]:
    return [rng.choice((Fault.BEFORE, Fault.AFTER)) if rng.random() < 0.1 else None for _ in range(400)]


@pytest.mark.parametrize("seed", range(50))
def test_messages_arrive_once_and_in_order_whatever_commits_fail(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(activations, "SETBACK_MS", 0)

    async def story() -> None:
        async with world() as w:
            rng = Random(seed)
            names = ("a", "b", "c", "d")
            for name in names:
                await w.create(name)
            w.store.faults = random_faults(rng)
            for n in range(40):
                one, other = rng.sample(names, 2)
                try:
                    await w.send(one, "tell", to=other, say=f"{one}{n}")
                except StateBackedError:
                    continue
            w.store.faults = []
            await until(lambda: all(is_at_rest(w, name, names) for name in names))

    run(story)


def is_at_rest(w: World, name: str, others: Sequence[str]) -> bool:
    """It has heard what each of the others has sent it, once and in order, and nothing is under way."""
    w.clock.wall += 50
    words = [word for word in heard(w, name) if word != "tell"]
    told = {other: said(w, other, name) for other in others}
    return (
        all([word for word in words if word[0] == other] == told[other] for other in others)
        and not w.store.instances.messages
    )
