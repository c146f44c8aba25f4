"""Many instances, random events, faults, kills from outside: every compute is answered once, none hangs."""

import asyncio
import os
import random
import signal
from dataclasses import replace

import pytest

from statebacked.model.step import Chattered, Performed, Refused, Stepped, WorkerLost, WorkerSignal
from tests.event_loop import run
from tests.runtime.rig import QUICK, Lodger, Rig, rig

EVENTS = ["add"] * 8 + ["same", "effects", "effects", "start", "end", "refuse", "forget", "timer", "log"]
FAULTS = ["die", "garbage", "two answers", "die performing", "start and die", "too deep"]
INSTANCES, EVENTS_EACH = 10, 25


class Storm:
    """One instance, driven as the core would: an event that was lost comes again until it is found guilty."""

    def __init__(self, r: Rig, number: int, chance: random.Random) -> None:
        self.lodger: Lodger = r.lodger(f"i{number}", f"v{number % 2 + 1}")
        self.chance = chance
        self.has_service = False
        self.committed = 0

    async def run(self) -> None:
        await self.event("init")
        for _ in range(EVENTS_EACH):
            if self.chance.random() < 0.1:
                self.lodger.attached.close()
                self.has_service = False
            kind = self.chance.choice(FAULTS if self.chance.random() < 0.05 else EVENTS)
            if kind != "end" or self.has_service:
                await self.event(kind)

    async def event(self, kind: str) -> None:
        for losses in range(12):
            self.lodger.compute(kind, losses=min(losses, 1))
            signal = await self.answer()
            if isinstance(signal, Stepped):
                await self.commit(signal)
                return
            if isinstance(signal, Refused):
                assert signal.number == self.lodger.n
                if signal.code in {"invalid-machine", "unavailable"}:  # killed twice as it started
                    continue
                assert kind not in {"add", "same", "effects"}, signal
                return
            assert isinstance(signal, WorkerLost)
            self.has_service = False
            if signal.guilty:
                return
        raise AssertionError(f"{kind} is lost for ever")

    async def answer(self) -> WorkerSignal:
        """The next signal that is no chatter of a service."""
        while isinstance(heard := await self.lodger.heard(), Chattered):
            assert self.has_service
            self.has_service = not heard.sent.ends_service
        return heard

    async def commit(self, stepped: Stepped) -> None:
        assert stepped.number == self.lodger.n
        [step] = stepped.steps
        self.lodger.keep(stepped)
        self.committed += step.changed
        if not step.has_effects:
            return
        await asyncio.sleep(0)  # a commit takes a turn of the loop
        self.lodger.attached.perform(self.lodger.seq)
        signal = await self.answer()
        if isinstance(signal, Performed):
            assert signal.seq == self.lodger.seq
            self.has_service = self.has_service or bool(step.starts)
        else:
            assert isinstance(signal, WorkerLost)
            self.has_service = False


@pytest.mark.parametrize("seed", range(3))
def test_every_compute_is_answered_once(seed: int) -> None:
    @run
    async def test() -> None:
        chance = random.Random(seed)
        policy = replace(QUICK, back_off_ms=1, back_off_ms_max=20, in_flight_max=4, memory_mb_max=100_000)
        async with rig(policy=policy) as r:
            storms = [Storm(r, number, random.Random(seed * 1_000 + number)) for number in range(INSTANCES)]
            running = [asyncio.create_task(storm.run()) for storm in storms]
            killer = asyncio.create_task(kill_now_and_then(r, chance))
            try:
                await asyncio.gather(*running)
            finally:
                killer.cancel()
            for storm in storms:
                assert storm.lodger.seq == storm.committed
                storm.lodger.attached.close()
            assert not any(worker.live or worker.is_working for worker in r.workers() if worker.loaded_at)
            assert all(worker._in_flight == 0 for worker in r.workers())

    test()


async def kill_now_and_then(r: Rig, chance: random.Random) -> None:
    while True:
        await asyncio.sleep(chance.uniform(0.02, 0.4))
        if pids := r.pool.pids():
            os.kill(chance.choice(pids), signal.SIGKILL)
