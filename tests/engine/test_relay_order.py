"""The relay alone: messages of a pair are consumed in the order of their commits.

A seed says who sends when, what recipients do, how slow the store is and when it fails, and when a relay ends
and another goes on from the rows. Time is virtual.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from random import Random

import pytest
from msgspec.structs import replace

from statebacked.engine.relay import Relay
from statebacked.model.envelopes import Cause
from statebacked.model.ids import InstanceId, InstanceKey, InstanceName, Instant, Monotonic, RowKey
from statebacked.model.rows import DueMessage, Message
from statebacked.model.values import Address, Json, Now
from statebacked.ports.store import StoreFailed
from tests.engine.world import MACHINE, ORG
from tests.virtual_time import run_in_virtual_time

SEEDS = 300
Pair = tuple[InstanceId, InstanceKey]


def key_of(name: str) -> InstanceKey:
    return InstanceKey(ORG, MACHINE, InstanceName(name))


class LoopClock:
    """Runs with the loop."""

    def now(self) -> Now:
        ms = int(asyncio.get_running_loop().time() * 1000) + 1_000_000
        return Now(Instant(ms), Monotonic(ms))


class Rows:
    """ports.Outbox over a dict, as slow and as faulty as the world says."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.rows: dict[int, DueMessage] = {}
        self.count = 0

    def commit(self, sender: str, to: str) -> Message:
        """A message of `sender` is durable."""
        self.count += 1
        message = Message(
            key=RowKey(f"{self.count}.o0"),
            kind="event",
            to=Address(MACHINE, InstanceName(to)),
            event=Json(b'{"type":"tell"}'),
        )
        self.rows[self.count] = DueMessage(
            row=self.count,
            owner=InstanceId(f"ins_{sender}"),
            sender=key_of(sender),
            to=key_of(to),
            message=message,
            fire_at=Instant(0),
            attempts=0,
        )
        return message

    async def due_messages(self, until: Instant, *, after: int, limit: int) -> list[DueMessage]:
        await self.world.store_pause()
        heads: dict[Pair, DueMessage] = {}
        for row in self.rows.values():
            heads.setdefault((row.owner, row.to), row)
        due = [
            row
            for row in heads.values()
            if row.row > after and row.fire_at <= until and row.to not in self.world.paused
        ]
        return sorted(due, key=lambda row: row.row)[:limit]

    async def next_messages(self, owner: InstanceId, to: InstanceKey, limit: int) -> list[DueMessage]:
        await self.world.store_pause()
        return [row for row in self.rows.values() if (row.owner, row.to) == (owner, to)][:limit]

    async def last_ts(self, key: InstanceKey) -> Instant:
        raise AssertionError("a relay does not ask this")


@dataclass
class Chances:
    """How often what goes wrong goes wrong."""

    refused: float = 0.0
    turned_away: float = 0.0
    lost: float = 0.0
    unheard: float = 0.0
    store_fails: float = 0.0


class World:
    def __init__(self, seed: int, chances: Chances | None = None, *, page: int = 0) -> None:
        self.rng = Random(seed)
        self.names = [f"n{number}" for number in range(self.rng.randint(2, 8))]
        self.chances = chances or Chances(*(self.rng.choice((0.0, 0.0, 0.1, 0.3)) for _ in range(5)))
        self.page = page or self.rng.randint(1, 5)
        self.rows = Rows(self)
        self.paused: set[InstanceKey] = set()
        self.consumed: dict[Pair, list[int]] = defaultdict(list)
        self.is_calm = False
        self.relay: Relay | None = None
        self.running: asyncio.Task[None] | None = None

    def chance(self, share: float) -> bool:
        return not self.is_calm and self.rng.random() < share

    async def store_pause(self) -> None:
        for _ in range(self.rng.choice((0, 1, 3, 20))):
            await asyncio.sleep(self.rng.choice((0, 0, 0.001)))
        if self.chance(self.chances.store_fails):
            raise StoreFailed("the disk is gone")

    # --- the process

    def start(self) -> Relay:
        relay = Relay(
            self.rows,
            LoopClock(),
            self.deliver,
            lambda *_: None,
            queue_max=self.page,
            scan_rows_max=self.page,
        )
        self.relay, self.running = relay, asyncio.get_running_loop().create_task(relay.run())
        return relay

    async def crash(self) -> None:
        assert self.relay is not None
        assert self.running is not None
        relay, self.relay = self.relay, None
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await relay.aclose()

    def send(self, sender: str, to: str) -> None:
        message = self.rows.commit(sender, to)
        if self.relay is None:
            return
        if self.chance(self.chances.lost):
            self.relay.scan_soon()  # the answer of its commit was lost
        else:
            self.relay.post(InstanceId(f"ins_{sender}"), key_of(sender), [message])

    # --- recipients

    def deliver(self, due: DueMessage) -> None:
        asyncio.get_running_loop().call_later(self.rng.choice((0.0, 0.001, 0.02)), self.take, self.relay, due)

    def take(self, relay: Relay | None, due: DueMessage) -> None:
        if relay is None or relay is not self.relay:
            return  # of a process that is gone
        row = next((row for row in self.rows.rows.values() if row.message.key == due.message.key), None)
        cause = Cause("message", due.message.key, due.owner)
        if due.to in self.paused:
            relay.held(due)
        elif row is None:
            relay.done([cause])
        elif self.chance(self.chances.turned_away):
            relay.turned_away(due)
        elif self.chance(self.chances.refused):
            at = Instant(LoopClock().now().wall + self.rng.choice((1, 1_000, 90_000)))
            self.rows.rows[row.row] = replace(row, fire_at=at, attempts=row.attempts + 1)
            if self.chance(self.chances.unheard):
                relay.scan_soon()
            else:
                relay.redeliver(cause, row.attempts + 1, at)
        else:
            del self.rows.rows[row.row]
            self.consumed[due.owner, due.to].append(row.row)
            if self.chance(self.chances.unheard):
                relay.scan_soon()
            else:
                relay.done([cause])

    def pause(self, name: str) -> None:
        self.paused.add(key_of(name))

    def resume(self, name: str) -> None:
        self.paused.discard(key_of(name))
        if self.relay is not None:
            self.relay.scan_soon()

    # --- the story

    async def run(self) -> None:
        self.start()
        for _ in range(self.rng.randint(10, 60)):
            await self.happen()
        self.is_calm = True
        for name in self.names:
            self.resume(name)
        if self.relay is None:
            self.start()
        for _ in range(20):
            await asyncio.sleep(60)
        assert not self.rows.rows
        await self.crash()

    async def happen(self) -> None:
        match self.rng.choice(("send",) * 8 + ("wait", "wait", "pause", "resume", "crash", "start")):
            case "send":
                for _ in range(self.rng.choice((1, 1, 3, 10))):
                    self.send(self.rng.choice(self.names), self.rng.choice(self.names))
            case "wait":
                await asyncio.sleep(self.rng.choice((0, 0.001, 0.1, 3)))
            case "pause":
                self.pause(self.rng.choice(self.names))
            case "resume":
                self.resume(self.rng.choice(self.names))
            case "crash" if self.relay is not None:
                await self.crash()
            case "start" if self.relay is None:
                self.start()
            case _:
                pass


@pytest.mark.parametrize("first", range(0, SEEDS, 100))
def test_messages_of_a_pair_are_consumed_in_the_order_of_their_commits(first: int) -> None:
    consumed = 0
    for seed in range(first, first + 100):
        world = World(seed)
        run_in_virtual_time(world.run())
        for pair, rows in world.consumed.items():
            assert rows == sorted(rows), (seed, pair, rows)
            consumed += len(rows)
    assert consumed > 5_000


# --- what a relay does not know when it starts


async def backlog(world: World, older: str = "b") -> None:
    """More pairs than a page wait, and a message from `a` behind them."""
    for n in range(5):
        world.send(f"s{n}", "z")
    world.send("a", older)


def order(world: World) -> list[int]:
    return world.consumed[InstanceId("ins_a"), key_of("b")]


def test_a_message_does_not_overtake_one_that_the_scan_has_not_reached() -> None:
    async def happen() -> None:
        world = World(1, Chances(), page=2)
        await backlog(world)
        world.start()
        await asyncio.sleep(0)
        world.send("a", "b")
        await asyncio.sleep(1)
        assert order(world) == [6, 7]
        await world.crash()

    run_in_virtual_time(happen())


def test_a_message_does_not_overtake_one_that_waits_for_its_next_attempt() -> None:
    async def happen() -> None:
        world = World(1, Chances(), page=2)
        world.send("a", "b")
        at = Instant(LoopClock().now().wall + 30_000)
        world.rows.rows[1] = replace(world.rows.rows[1], fire_at=at, attempts=1)
        world.start()
        await asyncio.sleep(5)
        world.send("a", "b")
        await asyncio.sleep(60)
        assert order(world) == [1, 2]
        await world.crash()

    run_in_virtual_time(happen())


def test_a_message_does_not_overtake_one_to_an_instance_that_was_paused_before_the_start() -> None:
    async def happen() -> None:
        world = World(1, Chances(), page=2)
        world.pause("b")
        world.send("a", "b")
        world.start()
        await asyncio.sleep(5)
        world.send("a", "b")
        await asyncio.sleep(5)
        world.resume("b")
        await asyncio.sleep(5)
        assert order(world) == [1, 2]
        await world.crash()

    run_in_virtual_time(happen())


def test_a_message_does_not_overtake_one_whose_commit_was_not_heard_of() -> None:
    async def happen() -> None:
        world = World(1, Chances(), page=2)
        relay = world.start()
        await asyncio.sleep(5)
        world.rows.commit("a", "b")
        relay.scan_soon()
        world.send("a", "b")
        await asyncio.sleep(5)
        assert order(world) == [1, 2]
        await world.crash()

    run_in_virtual_time(happen())


def test_the_store_is_not_read_for_a_pair_of_which_everything_is_known() -> None:
    async def happen() -> None:
        world = World(1, Chances(), page=5)
        world.start()
        world.send("a", "b")
        await asyncio.sleep(5)
        reads = 0

        async def counted(owner: InstanceId, to: InstanceKey, limit: int) -> list[DueMessage]:
            nonlocal reads
            reads += 1
            return []

        world.rows.next_messages = counted  # type: ignore[method-assign]  # the store of this test
        for _ in range(3):
            world.send("a", "b")
            await asyncio.sleep(1)
        assert (reads, order(world)) == (0, [1, 2, 3, 4])
        await world.crash()

    run_in_virtual_time(happen())
