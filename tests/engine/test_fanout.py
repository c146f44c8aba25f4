"""Subscribers end at the newest state they may read."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from statebacked.engine import fanout
from statebacked.model.errors import NotFound, RejectedByAuthorizer, StateBackedError
from statebacked.model.rows import StateView
from statebacked.model.values import Json
from statebacked.ports.machines import WorkerGone
from statebacked.ports.store import StoreFailed
from statebacked.testing.fake_machines import FakeAttached, FakeMachines
from tests.engine.world import ANYONE, count_of, key_of, run, until, world


@dataclass(slots=True)
class Watcher:
    views: list[StateView] = field(default_factory=list)
    errors: list[StateBackedError] = field(default_factory=list)

    def update(self, view: StateView) -> None:
        self.views.append(view)

    def refuse(self, error: StateBackedError) -> None:
        self.errors.append(error)


def test_a_subscriber_sees_the_present_state_and_ends_at_the_newest() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            watcher = Watcher()
            await w.engine.subscribe(key_of("a"), ANYONE, watcher)
            assert [count_of(v) for v in watcher.views] == [0]
            await asyncio.gather(*(w.send("a", "add") for _ in range(10)))
            await until(lambda: count_of(watcher.views[-1]) == 10)
            times = [v.ts for v in watcher.views]
            assert times == sorted(set(times))

    run(story)


def test_nothing_is_pushed_after_close() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            closed, open_ = Watcher(), Watcher()
            subscription = await w.engine.subscribe(key_of("a"), ANYONE, closed)
            await w.engine.subscribe(key_of("a"), ANYONE, open_)
            subscription.close()
            await w.send("a", "add")
            await until(lambda: len(open_.views) == 2)
            assert len(closed.views) == 1

    run(story)


def test_a_refused_push_ends_that_subscription_with_one_error_and_no_other() -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            mine, theirs = Watcher(), Watcher()
            await w.engine.subscribe(key_of("a"), ANYONE, mine)
            await w.engine.subscribe(key_of("a"), Json(b'{"sub":"other"}'), theirs)
            w.machines.readers = {ANYONE}
            await w.send("a", "add")
            await until(lambda: len(mine.views) == 2)
            await w.send("a", "add")
            await until(lambda: len(mine.views) == 3)
            assert [type(e) for e in theirs.errors] == [RejectedByAuthorizer]
            assert len(theirs.views) == 1

    run(story)


def test_a_push_that_cannot_be_judged_yet_is_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "AGAIN_S", 0.0)

    async def story() -> None:
        async with world() as w:
            await w.create("a")
            watcher = Watcher()
            await w.engine.subscribe(key_of("a"), ANYONE, watcher)
            with monkeypatch.context() as patched:
                patched.setattr(FakeAttached, "may_read", raises(StoreFailed("the disk is gone")))
                await w.send("a", "add")
                for _ in range(20):
                    await asyncio.sleep(0)
                assert (len(watcher.views), watcher.errors) == (1, [])
            await until(lambda: len(watcher.views) == 2)
            assert watcher.errors == []

    run(story)


def test_a_push_whose_authorizer_ends_its_worker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with world() as w:
            await w.create("a")
            watcher = Watcher()
            await w.engine.subscribe(key_of("a"), ANYONE, watcher)
            for owner in (FakeAttached, FakeMachines):
                monkeypatch.setattr(owner, "may_read", raises(WorkerGone("looped")))
            await w.send("a", "add")
            await until(lambda: bool(watcher.errors))
            assert [error.code for error in watcher.errors] == ["machine-fault"]
            assert len(watcher.views) == 1

    run(story)


def raises(error: Exception) -> Callable[..., Awaitable[None]]:
    async def judge(*_: object) -> None:
        raise error

    return judge


def test_a_subscription_to_nobody_is_not_found_and_leaves_nothing_behind() -> None:
    async def story() -> None:
        async with world() as w:
            watcher = Watcher()
            with pytest.raises(NotFound):
                await w.engine.subscribe(key_of("nobody"), ANYONE, watcher)
            await w.create("nobody")
            assert watcher.views == []

    run(story)
