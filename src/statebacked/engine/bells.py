"""Timers that are held in memory until they are due, and whose turn it is then.

Theory of operation. Every instance has a heap of its own. When its first timer is due the instance is ready;
orgs that have ready instances take turns, and so do the instances of an org, one timer a turn. How many are
held is bounded. Of an instance with more, those beyond some place in the order of the store are left there
until what is held has been handed out; an org with more is *full*, and is read anew when half of that is
gone. So nobody's ten thousand due timers stand before another's one.
"""

import heapq
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from statebacked.model.ids import InstanceId, Instant, OrgId, RowKey
from statebacked.model.limits import INSTANCE_TIMERS_HELD_MAX, ORG_TIMERS_HELD_MAX
from statebacked.model.rows import DueTimer, TimerPlace

_LAST_ROW: Final = 2**63 - 1


class Held(NamedTuple):
    """A timer with its place among those of its instance: ties stay in the order in which they came."""

    fire_at: Instant
    order: int
    due: DueTimer


class Bells:
    """The timers of one instance. Every row up to `beyond` is held or was handed out; None: every row of the
    window is. `missed`: armed while the store is being read for it."""

    __slots__ = ("beyond", "heap", "instance", "is_ready", "missed", "org", "rests_until", "wakes_at")

    def __init__(self, org: OrgId, instance: InstanceId) -> None:
        self.org = org
        self.instance = instance
        self.heap: list[Held] = []
        self.beyond: TimerPlace | None = None
        self.missed: list[DueTimer] | None = None
        self.is_ready = False
        self.rests_until = Instant(0)
        self.wakes_at: Instant | None = None


class Rack:
    """All that is held of one window."""

    def __init__(self) -> None:
        self._bells: dict[InstanceId, Bells] = {}
        self._held: set[tuple[InstanceId, RowKey, int]] = set()
        self._counts: dict[OrgId, int] = {}
        self._full: dict[OrgId, Instant] = {}  # and when the first fires that was left out
        self._ready: OrderedDict[OrgId, deque[Bells]] = OrderedDict()
        self._later: list[tuple[Instant, int, Bells]] = []
        self._order = 0

    # --- in

    def hang(self, due: DueTimer) -> None:
        """Hold a timer, unless it is held or is left to the store."""
        org = due.key.org
        bells = self._bells.get(due.instance) or Bells(org, due.instance)
        if bells.missed is not None:
            bells.missed.append(due)
        elif (due.instance, due.timer.key, due.attempts) in self._held:
            pass
        elif org in self._full or self._counts.get(org, 0) >= ORG_TIMERS_HELD_MAX:
            self._full[org] = min(due.fire_at, self._full.get(org, due.fire_at))
        elif not self._is_beyond(bells, due):
            self._order += 1
            self._hold(bells, Held(due.fire_at, self._order, due))

    def _is_beyond(self, bells: Bells, due: DueTimer) -> bool:
        if bells.beyond is None and len(bells.heap) >= INSTANCE_TIMERS_HELD_MAX:
            if due.row:  # from the store, which is read in its order: all before it are held
                bells.beyond = TimerPlace(due.fire_at, due.row - 1)
                return True
            bells.beyond = TimerPlace(max(bells.heap).fire_at, _LAST_ROW)
        if bells.beyond is None:
            return False
        return (due.fire_at, due.row) > bells.beyond if due.row else due.fire_at > bells.beyond.fire_at

    def _hold(self, bells: Bells, held: Held) -> None:
        self._bells[bells.instance] = bells
        self._held.add((bells.instance, held.due.timer.key, held.due.attempts))
        self._counts[bells.org] = self._counts.get(bells.org, 0) + 1
        heapq.heappush(bells.heap, held)
        self._wait(bells)

    def put_back(self, held: Held, until: Instant) -> None:
        """It could not be taken: its instance has no turn before `until`."""
        due = held.due
        if (due.instance, due.timer.key, due.attempts) not in self._held:
            bells = self._bells.get(due.instance) or Bells(due.key.org, due.instance)
            bells.rests_until = until
            self._hold(bells, held)

    def _wait(self, bells: Bells) -> None:
        at = max(bells.heap[0].fire_at, bells.rests_until)
        if not bells.is_ready and (bells.wakes_at is None or at < bells.wakes_at):
            bells.wakes_at = at
            self._order += 1
            heapq.heappush(self._later, (at, self._order, bells))

    # --- out

    def next_at(self) -> Instant | None:
        """When the next instance is ready; None: no more is held. Only after `take` has given all it had."""
        while self._later and self._later[0][2].wakes_at != self._later[0][0]:
            heapq.heappop(self._later)
        return self._later[0][0] if self._later else None

    def take(self, now: Instant, limit: int) -> list[Held]:
        """Whose turn it is: at most `limit`, fewer when fewer are due. They are no longer held."""
        self._wake(now)
        taken: list[Held] = []
        while self._ready and len(taken) < limit:
            org, queue = self._ready.popitem(last=False)
            bells = queue.popleft()
            if bells.heap and max(bells.heap[0].fire_at, bells.rests_until) <= now:
                taken.append(self._take_first(bells))
                queue.append(bells)
            else:
                bells.is_ready = False
                self._let_rest(bells)
            if queue:
                self._ready[org] = queue
        return taken

    def _wake(self, now: Instant) -> None:
        while self._later and self._later[0][0] <= now:
            at, _, bells = heapq.heappop(self._later)
            if bells.wakes_at == at:
                bells.wakes_at = None
                bells.is_ready = True
                self._ready.setdefault(bells.org, deque()).append(bells)

    def _take_first(self, bells: Bells) -> Held:
        held = heapq.heappop(bells.heap)
        self._held.discard((bells.instance, held.due.timer.key, held.due.attempts))
        self._counts[bells.org] -= 1
        return held

    def _let_rest(self, bells: Bells) -> None:
        if bells.heap:
            self._wait(bells)
        elif bells.beyond is None and bells.missed is None:
            self._bells.pop(bells.instance, None)

    # --- what the store has more of

    def left_to_the_store(self) -> tuple[list[OrgId], list[InstanceId]]:
        """Orgs and instances of which no more is to be read."""
        return [*self._full], [bells.instance for bells in self._bells.values() if bells.beyond is not None]

    def lacks_some(self, now: Instant) -> bool:
        """An org has due timers in the store, and half of what may be held of it is free."""
        return any(
            at <= now and self._counts.get(org, 0) <= ORG_TIMERS_HELD_MAX // 2
            for org, at in self._full.items()
        )

    def emptied(self, taken: Iterable[Held]) -> list[tuple[Bells, TimerPlace]]:
        """Of the instances of those taken, which have nothing left here and more in the store: behind where.
        `refill` is to be called for each; until then, what is armed for it waits."""
        found = []
        for instance in {held.due.instance for held in taken}:
            bells = self._bells.get(instance)
            if bells and not bells.heap and bells.beyond is not None and bells.missed is None:
                bells.missed = []
                found.append((bells, bells.beyond))
        return found

    def refill(self, bells: Bells, rows: list[DueTimer], *, is_all: bool) -> None:
        """What the store has behind `beyond`; `is_all`: up to the end of the window."""
        missed, bells.missed = bells.missed or [], None
        if self._bells.get(bells.instance) is not bells:
            return  # all was read anew meanwhile
        bells.beyond = None if is_all else TimerPlace(rows[-1].fire_at, rows[-1].row)
        for due in (*rows, *missed):
            self.hang(due)
        if not bells.is_ready:
            self._let_rest(bells)
