"""Virtual time: what happens next is the earliest thing planned, and a seed fixes every tie and delay."""

import heapq
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from statebacked.model.ids import Instant, Monotonic
from statebacked.model.values import Now

STARTED_AT = (
    1_700_000_000_000,
    1_700_000_000_000,
    1_700_000_000_000,
    -40,
)  # the last: a clock that was never set


class Livelock(AssertionError):
    """More happened than a world of that size can need."""


class Plan:
    """One thing planned; it can be called off."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None] | None) -> None:
        self.call = call

    def cancel(self) -> None:
        self.call = None


class Clockwork:
    """`ms` is monotonic time. Wall time runs along, `wall_offset` apart."""

    def __init__(self, rng: Random, happenings_max: int) -> None:
        self.ms = 0.0
        self.wall_offset = rng.choice(STARTED_AT)
        self.rng = rng
        self.happenings = 0
        self._happenings_max = happenings_max
        self._heap: list[tuple[float, float, int, Plan]] = []
        self._planned = 0

    def now(self) -> Now:
        mono = int(self.ms)
        return Now(Instant(mono + self.wall_offset), Monotonic(mono))

    def after(self, delay_ms: float, call: Callable[[], None]) -> Plan:
        return self.at(self.ms + delay_ms, call)

    def at(self, ms: float, call: Callable[[], None]) -> Plan:
        self._planned += 1
        plan = Plan(call)
        heapq.heappush(self._heap, (max(ms, self.ms), self.rng.random(), self._planned, plan))
        return plan

    def run_until(self, ms: float) -> None:
        while self._heap and self._heap[0][0] <= ms:
            self.ms, _, _, plan = heapq.heappop(self._heap)
            if plan.call is None:
                continue
            self.happenings += 1
            if self.happenings > self._happenings_max:
                raise Livelock(f"more than {self._happenings_max} happenings")
            plan.call()
        self.ms = ms


class Pipe:
    """Frames arrive late, and in the order in which they were sent."""

    def __init__(
        self, clockwork: Clockwork, latency: Callable[[], float], receive: Callable[[Any], None]
    ) -> None:
        self._clockwork = clockwork
        self._latency = latency
        self._receive = receive
        self._frames: deque[object] = deque()
        self._last_ms = 0.0

    def send(self, frame: object) -> None:
        self._last_ms = max(self._last_ms, self._clockwork.ms + self._latency())
        self._frames.append(frame)
        self._clockwork.at(self._last_ms, self._arrive)

    def cut(self) -> None:
        """What is under way never arrives."""
        self._frames.clear()

    def _arrive(self) -> None:
        if self._frames:
            self._receive(self._frames.popleft())
