"""Whatever a worker is asked is answered or refused, once and in time, whenever workers die.

The real pool, crews and watchdog run over simulated processes in virtual time. A seed says who asks what and
when, which code loops or dies, and which processes are killed by others.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest

from statebacked.model.errors import Unavailable
from statebacked.model.ids import (
    ActivationNumber,
    CodeId,
    InstanceId,
    InstanceKey,
    InstanceName,
    MigrationId,
    Seq,
    VersionId,
)
from statebacked.model.step import Refused, Stepped, WorkerLost, WorkerSignal
from statebacked.model.values import Json
from statebacked.ports.machines import Code, MigrationFailed, Route, Saved, WorkerGone
from statebacked.runtime.pool import Pool, PoolPolicy
from tests.runtime.rig import MACHINE, ORG, envelope
from tests.runtime.simulated import Dice, SimulatedSandbox
from tests.virtual_time import run_in_virtual_time

SEEDS = 200
ASKED_S = 10.0  # questions are asked for so long
ANSWERED_S = 45.0  # each is over so much later: waiting for a worker, then two attempts
CODES = [Code(ORG, MACHINE, VersionId(version), "5.99.0") for version in ("v1", "v2")]
MIGRATION = Code(ORG, MACHINE, VersionId("v2"), "5.99.0", MigrationId("mig"))
ENDLESS = ("loop", "mute")


@dataclass
class Asked:
    """A question, and what became of it: nothing yet, "answered", "refused" or "given up" by who asked it."""

    what: str
    at: float
    ended_at: float = 0.0
    ends: list[str] = field(default_factory=list)


class World:
    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.dice = Dice(rng)
        self.loop = asyncio.get_running_loop()
        self.asked: list[Asked] = []
        self.has_accidents = rng.random() < 0.5
        self.endless_left = rng.choice((0, 1, 2))
        policy = PoolPolicy(
            step_ms=1_200,
            authorize_ms=1_200,
            prewarmed=rng.choice((0, 1)),
            prewarmed_majors=(),
            idle_ms=rng.choice((300, 600_000)),
            alone_idle_ms=rng.choice((150, 5_000)),
            in_flight_max=rng.choice((1, 256)),
        )
        sandbox = SimulatedSandbox(deno="", dist=None, dice=self.dice)  # type: ignore[arg-type]  # never read
        self.pool = Pool(sandbox, policy, self.load_bundle, lambda *_: None)

    async def load_bundle(self, code: CodeId) -> bytes:
        await asyncio.sleep(self.rng.choice((0.0, 0.01)))
        return b"{}"

    # --- what happens

    async def run(self) -> None:
        tasks = [self.loop.create_task(self.reader(at)) for at in self.moments(self.rng.randint(5, 25))]
        tasks += [self.loop.create_task(self.instance(number)) for number in range(self.rng.randint(0, 4))]
        if self.has_accidents:
            tasks += [self.loop.create_task(self.accident(at)) for at in self.moments(self.rng.randint(1, 5))]
        _, unfinished = await asyncio.wait(tasks, timeout=ASKED_S + 6 * ANSWERED_S)
        for task in unfinished:
            task.cancel()
        assert not unfinished, self.asked
        await self.pool.aclose()
        for task in tasks:
            task.result()

    def moments(self, count: int) -> list[float]:
        """Many at once, or apart."""
        bursts = [self.rng.uniform(0, ASKED_S) for _ in range(3)]
        return [self.rng.choice(bursts) + self.rng.choice((0.0, 0.002, 0.1, 1.0, 3.0)) for _ in range(count)]

    def what(self) -> str:
        what = self.rng.choice(("ok",) * 8 + ("slow", "die", "die", *ENDLESS))
        if what in ENDLESS:
            self.endless_left -= 1
            return what if self.endless_left >= 0 else "ok"
        return what

    async def accident(self, at: float) -> None:
        """Somebody kills a process."""
        await asyncio.sleep(at)
        alive = [process for process in self.dice.processes if not process.is_over]
        if alive:
            self.rng.choice(alive).die(by_others=True)

    # --- who asks

    async def reader(self, at: float) -> None:
        await asyncio.sleep(at)
        asked = self.ask(self.what())
        asking = self.loop.create_task(self.question(asked.what))
        if self.rng.random() < 0.1:
            self.loop.call_later(self.rng.uniform(0, 3), asking.cancel)
        try:
            await asking
        except (WorkerGone, MigrationFailed, Unavailable):
            self.ended(asked, "refused")
        except asyncio.CancelledError:
            self.ended(asked, "given up")
        else:
            self.ended(asked, "answered")

    async def question(self, what: str) -> object:
        code, auth = self.rng.choice(CODES), Json(json.dumps({"do": what}).encode())
        key = InstanceKey(ORG, MACHINE, InstanceName("read"))
        saved = Saved(Seq(1), Json(b"{}"), Json(b"{}"))
        match self.rng.choice(("read", "read", "each", "migrate")):
            case "read":
                return await self.pool.may_read(code, key, saved, [auth])
            case "each":
                return await self.pool.may_read_each(code, [(key.name, saved)] * 2, auth)
            case _:
                part = self.rng.choice(("leave", "migrate", "arrive"))
                outline = Json(json.dumps({part: what}).encode())
                route = Route(source=CODES[0], migrations=(MIGRATION,), target=CODES[1])
                return await self.pool.migrate(route, key, Saved(Seq(1), outline, Json(b"{}")), [])

    async def instance(self, number: int) -> None:
        """Activated a few times, it computes one event after the other, as its driver has it."""
        code = self.rng.choice(CODES)
        seq = Seq(0)
        for n in range(self.rng.randint(1, 5)):
            instance = Instance(self.pool, code, number * 100 + n, seq)
            for _ in range(self.rng.randint(1, 4)):
                await asyncio.sleep(self.rng.choice((0.0, 0.01, 1.0)))
                asked = self.ask(self.what().replace("mute", "loop"))  # a worker ends what it judges too long
                self.ended(asked, await instance.step(asked.what))
            instance.attached.close()
            await asyncio.sleep(self.rng.choice((0.0, 0.5)))
            assert instance.signals.empty()
            seq = instance.seq

    # --- what became of it

    def ask(self, what: str) -> Asked:
        asked = Asked(what, self.loop.time())
        self.asked.append(asked)
        return asked

    def ended(self, asked: Asked, end: str) -> None:
        asked.ends.append(end)
        asked.ended_at = self.loop.time()


class Instance:
    """One activation."""

    def __init__(self, pool: Pool, code: Code, number: int, seq: Seq) -> None:
        self.seq = seq
        self.signals: asyncio.Queue[WorkerSignal] = asyncio.Queue()
        self._asked = 0
        key = InstanceKey(ORG, MACHINE, InstanceName(f"i{number}"))
        id, activation = InstanceId(f"ins_{number // 100}"), ActivationNumber(number + 1)
        self.attached = pool.attach(code, key, id, activation, self.signals.put_nowait)

    async def step(self, what: str) -> str:
        """An event, tried again when its worker is lost without a proof, as the core does."""
        for losses in range(10):
            self._asked += 1
            event = envelope(what if self.seq else "init", losses=losses)
            self.attached.compute(self._asked, self.seq, [event], self._load)
            async with asyncio.timeout(ANSWERED_S):
                signal = await self.signals.get()
            assert self.signals.empty()
            match signal:
                case Stepped(number):
                    assert number == self._asked
                    self.seq = Seq(self.seq + 1)
                    return "answered"
                case Refused() | WorkerLost(guilty=True):
                    return "refused"
                case WorkerLost():
                    pass
                case _:
                    raise AssertionError(signal)
        return "refused"

    async def _load(self) -> Saved:
        await asyncio.sleep(0.001)
        return Saved(self.seq, Json(b"{}"), Json(b"{}"))


def story(seed: int) -> World:
    """All that happened."""

    async def happen() -> World:
        world = World(Random(seed))
        await world.run()
        return world

    return run_in_virtual_time(happen())


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_every_question_is_answered_or_refused_once_and_the_innocent_are_answered(first: int) -> None:
    """Without accidents, whoever asks for nothing bad is answered beside code that loops or dies."""
    ends: Counter[str] = Counter()
    for seed in range(first, first + 50):
        world = story(seed)
        for asked in world.asked:
            assert len(asked.ends) == 1, (seed, asked)
            assert asked.ended_at - asked.at < 2 * ANSWERED_S, (seed, asked)
            is_innocent = asked.what in {"ok", "slow"} and not world.has_accidents
            assert asked.ends[0] != "refused" or not is_innocent, (seed, asked)
            ends[asked.ends[0]] += 1
    assert ends["answered"] > 500
    assert ends["refused"] > 100
    assert ends["given up"]


def test_a_seed_replays() -> None:
    assert [story(7).asked for _ in range(2)] == [story(7).asked] * 2


# --- each guard by itself


async def quiet_pool() -> tuple[Dice, Pool]:
    async def load_bundle(code: CodeId) -> bytes:
        return b"{}"

    dice = Dice(Random(1))
    sandbox = SimulatedSandbox(deno="", dist=None, dice=dice)  # type: ignore[arg-type]  # never read
    return dice, Pool(sandbox, PoolPolicy(prewarmed=0, prewarmed_majors=()), load_bundle, lambda *_: None)


def read(pool: Pool, what: str) -> "asyncio.Task[object]":
    key, saved = InstanceKey(ORG, MACHINE, InstanceName("i")), Saved(Seq(1), Json(b"{}"), Json(b"{}"))
    reading = pool.may_read(CODES[0], key, saved, [Json(json.dumps({"do": what}).encode())])
    return asyncio.get_running_loop().create_task(reading)


def test_who_waits_too_long_behind_code_that_does_not_end_is_refused() -> None:
    async def happen() -> None:
        _, pool = await quiet_pool()
        readings = [read(pool, "loop") for _ in range(8)]
        ended = await asyncio.gather(*readings, return_exceptions=True)
        assert sum("does not end" in str(end) and "busy" in str(end) for end in ended) >= 2
        assert asyncio.get_running_loop().time() < 60
        await pool.aclose()

    run_in_virtual_time(happen())


def test_what_is_asked_while_the_pool_closes_is_refused_and_starts_nothing() -> None:
    async def happen() -> None:
        dice, pool = await quiet_pool()
        asked, waiting = read(pool, "mute"), read(pool, "ok")
        await waiting
        late = read(pool, "slow")
        await asyncio.sleep(0)
        await pool.aclose()
        for reading in (asked, late):
            with pytest.raises(WorkerGone):
                await reading
        await asyncio.sleep(30)
        assert len(dice.processes) == 1

    run_in_virtual_time(happen())


def test_a_worker_that_is_over_takes_no_question() -> None:
    async def happen() -> None:
        _, pool = await quiet_pool()
        await read(pool, "ok")
        [worker] = pool._workers
        worker.kill("was tired")
        with pytest.raises(WorkerGone, match="tired"):
            worker.read_each([], Json(b"{}"), 1_000)
        await pool.aclose()

    run_in_virtual_time(happen())
