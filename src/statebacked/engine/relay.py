"""Messages between instances: the first of every pair is under way, the next comes when it is done with.

Theory of operation. Every message is a row of the store, written by its sender's commit and deleted by its
recipient's. A *pair* is one sender and one recipient; within it order is kept, so only its first message is
delivered, again after a refusal, until it is consumed or given up. What a commit has just written is known
here at once; what was left by an earlier process is found by a scan. A pair of which the relay does not know
that nothing else waits in the store is read from there before its first message goes. A delivery that gets
lost, or whose end is not heard of because the answer of a commit was lost, is made again by the next scan;
one that comes twice is dropped by the core, or by the store, which no longer has its row. So nothing here has
to be exact but the order.

Pairs that are ready take turns (turns.py), and so do those whose message makes a child.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import structlog

from statebacked.engine.buckets import Bucket
from statebacked.engine.turns import Nursery, Turns
from statebacked.model.envelopes import Cause
from statebacked.model.ids import InstanceId, InstanceKey, Instant, OrgId, RowKey
from statebacked.model.limits import ORG_SPAWNS_BURST, ORG_SPAWNS_PER_MINUTE
from statebacked.model.rows import DueMessage, Message
from statebacked.model.values import Now
from statebacked.ports.clock import Clock
from statebacked.ports.store import Outbox, StoreFailed

logger = structlog.get_logger(__name__)

QUEUE_MAX = 1_000  # messages of one pair that are held in memory; the rest is read when these are done with
SCAN_ROWS_MAX = 1_000
SCAN_MS = 60_000
SETBACK_MS = 250
EMPTIED_PAIRS_MAX = 10_000


class PairId(NamedTuple):
    owner: InstanceId
    to: InstanceKey


class _Pair:
    """`queue[0]` is under way while `is_under_way`, and waits for its turn while `is_ready`. `has_more`: the
    store may hold others behind these; `has_missed`: some came since it was last read, which was when the
    relay had as many `doubts`. `may_spawn`: the turn of its child has come."""

    __slots__ = (
        "doubts",
        "has_missed",
        "has_more",
        "id",
        "is_ready",
        "is_under_way",
        "may_spawn",
        "queue",
        "wakes_at",
    )

    def __init__(self, id: PairId, doubts: int) -> None:
        self.id = id
        self.doubts = doubts
        self.queue: deque[DueMessage] = deque()
        self.has_more = False
        self.has_missed = False
        self.is_under_way = False
        self.is_ready = False
        self.may_spawn = False
        self.wakes_at: Instant | None = None


class Relay:
    """`deliver` hands a message to its recipient; what becomes of it comes back by `done`, `redeliver`,
    `turned_away` or `held`. `departed` tells the sender, if it is loaded, that so many are done with."""

    def __init__(
        self,
        store: Outbox,
        clock: Clock,
        deliver: Callable[[DueMessage], Awaitable[None] | None],
        departed: Callable[[InstanceKey, InstanceId, int], None],
        *,
        queue_max: int = QUEUE_MAX,
        scan_rows_max: int = SCAN_ROWS_MAX,
    ) -> None:
        self._queue_max = queue_max
        self._scan_rows_max = scan_rows_max
        self._store = store
        self._clock = clock
        self._deliver = deliver
        self._departed = departed
        self._pairs: dict[PairId, _Pair] = {}
        self._doubts = 0  # how often the store may have held more than is known here
        self._emptied: dict[PairId, None] = {}  # of which nothing waits, not in the store either
        self._under_way: dict[tuple[InstanceId, RowKey], _Pair] = {}
        self._turns: Turns[_Pair] = Turns()
        self._later: list[tuple[int, int, _Pair | Nursery[_Pair]]] = []
        self._nurseries: dict[OrgId, Nursery[_Pair]] = {}
        self._order = 0
        self._must_scan = True
        self._changed = asyncio.Event()
        self._is_pumping = False
        self._tasks: set[asyncio.Future[None]] = set()

    # --- what the engine tells it

    def post(self, owner: InstanceId, sender: InstanceKey, messages: Iterable[Message]) -> None:
        """Durable now. `owner` is the committing instance; a message may be filed under another."""
        for message in messages:
            if message.owner is not None:
                self.scan_soon()  # under its parent: rare, and the store knows the parent's address
                continue
            to = sender if message.to is None else InstanceKey(sender.org, *message.to)
            due = DueMessage(
                row=0, owner=owner, sender=sender, to=to, message=message, fire_at=Instant(0), attempts=0
            )
            self._append(due)
        self._pump()

    def done(self, causes: Iterable[Cause]) -> None:
        """Consumed, or given up."""
        for cause in causes:
            pair = self._take_back(cause)
            if pair is not None:
                self._has_departed(pair.queue.popleft())
                self._next(pair)
        self._pump()

    def redeliver(self, cause: Cause, attempts: int, at: Instant) -> None:
        """Refused: once more at `at`, and nothing of its pair before."""
        pair = self._take_back(cause)
        if pair is not None:
            first = pair.queue.popleft()
            pair.queue.appendleft(_again(first, attempts, at))
            self._wake(pair, at)

    def turned_away(self, due: DueMessage) -> None:
        """Its recipient cannot take it now; no attempt is counted."""
        pair = self._take_back(Cause("message", due.message.key, due.owner))
        if pair is not None:
            self._wake(pair, Instant(self._clock.now().wall + SETBACK_MS))

    def held(self, due: DueMessage) -> None:
        """Its recipient is paused. A scan finds it when that is over."""
        self._take_back(Cause("message", due.message.key, due.owner))

    def _has_departed(self, due: DueMessage) -> None:
        if due.message.kind != "failed":  # which tells its owner of a child, and was not sent by it
            self._departed(due.sender, due.owner, 1)

    def forget(self, to: InstanceKey) -> None:
        """The recipient is deleted, and what was on its way to it with it."""
        for id in [id for id in self._pairs if id.to == to]:
            pair = self._pairs.pop(id)
            for due in pair.queue:
                if self._under_way.pop((due.owner, due.message.key), None) is not None:
                    self._turns.ended(to)
                self._has_departed(due)
            pair.queue.clear()
        self._pump()

    def scan_soon(self) -> None:
        """Something may wait in the store that is not known here, or that was lost on its way."""
        self._doubt()
        self._must_scan = True
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        scanned_at = 0
        while True:
            self._changed.clear()
            now = self._clock.now()
            if self._must_scan or now.mono - scanned_at >= SCAN_MS:
                scanned_at = now.mono
                await self._scan(now.wall)
            self._wake_due(self._clock.now())
            self._pump()
            await self._sleep()

    async def aclose(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- pairs

    def _append(self, due: DueMessage) -> None:
        id = PairId(due.owner, due.to)
        pair = self._pairs.get(id)
        if pair is None:
            pair = self._pairs[id] = _Pair(id, self._doubts)
            if id not in self._emptied:  # older ones may wait in the store: not scanned, refused or held
                pair.has_more = True
                self._start(self._refill(pair))
        if self._may_have_more(pair) or len(pair.queue) >= self._queue_max:
            pair.has_more = pair.has_missed = True  # the store keeps it
            return
        pair.queue.append(due)
        if len(pair.queue) == 1:
            self._make_ready(pair)

    def _doubt(self) -> None:
        """A commit whose answer was lost, say, may have written more to any pair."""
        self._doubts += 1
        self._emptied.clear()

    def _may_have_more(self, pair: _Pair) -> bool:
        return pair.has_more or pair.doubts != self._doubts

    def _next(self, pair: _Pair) -> None:
        if pair.queue:
            self._make_ready(pair)
        elif self._may_have_more(pair):
            self._start(self._refill(pair))
        elif self._pairs.pop(pair.id, None) is not None:
            self._emptied[pair.id] = None
            if len(self._emptied) > EMPTIED_PAIRS_MAX:
                del self._emptied[next(iter(self._emptied))]

    async def _refill(self, pair: _Pair) -> None:
        pair.has_missed = False
        pair.doubts = self._doubts
        try:
            rows = await self._store.next_messages(pair.id.owner, pair.id.to, self._queue_max)
        except StoreFailed as failure:
            logger.error("messages cannot be read", error=str(failure))
            if self._pairs.get(pair.id) is pair:
                del self._pairs[pair.id]
            self.scan_soon()
            return
        if self._pairs.get(pair.id) is not pair:
            return  # its recipient was deleted meanwhile
        pair.has_more = len(rows) == self._queue_max or pair.has_missed
        pair.queue.extend(rows)
        self._next(pair)
        self._pump()

    def _take_back(self, cause: Cause) -> _Pair | None:
        assert cause.owner is not None
        pair = self._under_way.pop((cause.owner, cause.key), None)
        if pair is not None:
            pair.is_under_way = False
            self._turns.ended(pair.id.to)
        return pair

    def _make_ready(self, pair: _Pair) -> None:
        if pair.is_ready or pair.is_under_way or pair.wakes_at is not None:
            return
        fire_at = pair.queue[0].fire_at
        if fire_at > self._clock.now().wall:
            self._wake(pair, fire_at)
            return
        pair.is_ready = True
        self._turns.add(pair.id.to, pair)

    def _wake(self, pair: _Pair, at: Instant) -> None:
        pair.wakes_at = at
        self._wake_later(pair, at)

    def _wake_later(self, sleeper: _Pair | Nursery[_Pair], at: Instant) -> None:
        self._order += 1
        heapq.heappush(self._later, (at, self._order, sleeper))
        self._changed.set()

    def _wake_due(self, now: Now) -> None:
        while self._later and self._later[0][0] <= now.wall:
            at, _, sleeper = heapq.heappop(self._later)
            if isinstance(sleeper, Nursery):
                self._release(sleeper, now)
            elif sleeper.wakes_at == at:
                sleeper.wakes_at = None
                if sleeper.queue:
                    self._make_ready(sleeper)

    # --- deliveries

    def _pump(self) -> None:
        """Begin deliveries while there is room. A delivery may be over before it returns."""
        if self._is_pumping:
            return
        self._is_pumping = True
        while (pair := self._turns.take()) is not None:
            pair.is_ready = False
            if pair.queue:
                self._begin(pair)
        self._is_pumping = False

    def _begin(self, pair: _Pair) -> None:
        due = pair.queue[0]
        if due.message.kind == "create" and not self._may_spawn(pair):
            pair.is_ready = True  # in the nursery
            return
        pair.is_under_way = True
        self._turns.began(pair.id.to)
        self._under_way[due.owner, due.message.key] = pair
        self._hand_over(due)

    def _hand_over(self, due: DueMessage) -> None:
        waiting = self._deliver(due)
        if waiting is not None:
            self._start(waiting)

    def _may_spawn(self, pair: _Pair) -> bool:
        if pair.may_spawn:
            pair.may_spawn = False
            return True
        org, now = pair.id.to.org, self._clock.now()
        nursery = self._nurseries.get(org)
        if nursery is None:
            bucket = Bucket(ORG_SPAWNS_PER_MINUTE, 60_000, ORG_SPAWNS_BURST)
            nursery = self._nurseries[org] = Nursery(bucket)
        is_first = not nursery
        if nursery.admit(pair.id.owner, pair, now.mono):
            return True
        if is_first:
            self._wake_later(nursery, Instant(now.wall + SETBACK_MS))
        return False

    def _release(self, nursery: Nursery[_Pair], now: Now) -> None:
        """One timer for all that wait: ten thousand of their own would keep the loop busy."""
        for pair in nursery.release(now.mono):
            pair.may_spawn = True
            self._turns.add(pair.id.to, pair)
        if nursery:
            self._wake_later(nursery, Instant(now.wall + SETBACK_MS))

    def _start(self, waiting: Awaitable[None]) -> None:
        task = asyncio.ensure_future(waiting)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- the store

    async def _scan(self, now: Instant) -> None:
        """Take up the first message of every pair; what has long been under way is delivered once more."""
        self._must_scan = False
        after, under_way = 0, list(self._under_way.items())
        self._doubt()
        try:
            while True:
                rows = await self._store.due_messages(now, after=after, limit=self._scan_rows_max)
                for row in rows:
                    self._found(row)
                self._pump()
                if len(rows) < self._scan_rows_max:
                    break
                after = rows[-1].row
        except StoreFailed as failure:
            logger.error("messages cannot be read", error=str(failure))
            self._must_scan = True
            return
        for cause, pair in under_way:
            if self._under_way.get(cause) is pair:
                self._hand_over(pair.queue[0])

    def _found(self, row: DueMessage) -> None:
        id = PairId(row.owner, row.to)
        pair = self._pairs.get(id)
        if pair is None:
            pair = self._pairs[id] = _Pair(id, self._doubts)
            pair.queue.append(row)
            pair.has_more = True
            self._make_ready(pair)
        elif pair.queue:
            self._make_ready(pair)  # if it was held

    async def _sleep(self) -> None:
        pause_ms: float = SETBACK_MS if self._must_scan else SCAN_MS
        if self._later:
            pause_ms = min(pause_ms, max(0, self._later[0][0] - self._clock.now().wall))
        try:
            async with asyncio.timeout(pause_ms / 1000):
                await self._changed.wait()
        except TimeoutError:
            pass


def _again(due: DueMessage, attempts: int, at: Instant) -> DueMessage:
    return DueMessage(
        row=due.row,
        owner=due.owner,
        sender=due.sender,
        to=due.to,
        message=due.message,
        fire_at=at,
        attempts=attempts,
    )
