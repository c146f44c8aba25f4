"""When a worker is killed for what it does: memory and silence. And every number of that policy.

Theory of operation. One timer looks at all workers, every 100 ms while anything is under way or a service
runs, else every second. A worker that is active (it works, or was written to since it last answered) is
measured each time and pinged three times in `step_ms`; an idle one is measured each second and not pinged.
Whatever answers something that it was asked is an answer to a ping; lines of a log, say, are not. Three
unanswered pings in a row end it. An idle one that uses CPU all the same is pinged too, and ended when it goes
on for long. A look that comes late shows that the
host itself was not awake: it counts nothing then, because the worker may not have been awake either.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from statebacked.model import limits
from statebacked.runtime.worker import Worker

_ACTIVE_S: Final = 0.1
_IDLE_S: Final = 1.0
_LATE_S: Final = 0.5  # a look that is later than this is no evidence against a worker
_PINGS: Final = 3
_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPolicy:
    """`prewarmed` generic workers are kept for each major that was used, or is in `prewarmed_majors`.

    A worker that is idle for `idle_ms` is evicted; sooner, the least recently used first, when all together
    pass `memory_mb_max`. An idle one may use `burning_s` of CPU in a second, and more than
    that in `burned_looks_max` seconds in a row.
    """

    step_ms: int = 5_000
    authorize_ms: int = 5_000
    settle_ms: int = 90_000
    start_ms: int = 10_000
    load_ms: int = 10_000
    resident_mib_max: int = limits.WORKER_RESIDENT_MB_MAX
    memory_mb_max: int = 2_048
    burning_s: float = 0.5
    burned_looks_max: int = 10
    idle_ms: int = 10 * 60_000
    alone_idle_ms: int = 5_000
    prewarmed: int = 1
    prewarmed_majors: tuple[int, ...] = (5,)
    restock_ms: int = 250
    in_flight_max: int = 256
    room_wait_ms: int = 2_000
    back_off_ms: int = 250
    back_off_ms_max: int = 30_000
    steady_ms: int = 60_000
    guilty_computes: int = 3


class Watchdog:
    """Looks at `workers` while there are any. `after_look(now)` is called at the end of each look."""

    def __init__(
        self, policy: PoolPolicy, workers: Collection[Worker], after_look: Callable[[float], None]
    ) -> None:
        self._policy = policy
        self._workers = workers
        self._after_look = after_look
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._is_fast = False
        self._idle_measured_at = 0.0

    def wake(self) -> None:
        """Something begins: look soon."""
        if not self._is_fast:
            self._is_fast = True
            self._schedule(_ACTIVE_S)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, delay_s: float) -> None:
        self.close()
        self._due = self._loop.time() + delay_s
        self._timer = self._loop.call_at(self._due, self._look_now)

    def _look_now(self) -> None:
        now = self._loop.time()
        self.look(now, late_s=now - self._due)

    def look(self, now: float, *, late_s: float) -> None:
        """Look at all workers, `late_s` after it was due, and plan the next look."""
        is_late = late_s > _LATE_S
        measures_idle = now - self._idle_measured_at >= _IDLE_S * 0.9
        if measures_idle:
            self._idle_measured_at = now
        is_any_active = False
        for worker in [*self._workers]:
            is_active = worker.is_working or worker.is_dirty or worker.awaits_pong or worker.is_held
            worker.listen_again()
            is_any_active = is_any_active or is_active
            if is_active or measures_idle:
                self._weigh(worker)
            if measures_idle and not worker.is_working:
                self._count_burning(worker)
            if is_active:
                worker.used_at = now
                worker.expire_reads(now)
                self._listen(worker, now, is_late=is_late)
        self._after_look(now)
        self._is_fast = is_any_active and bool(self._workers)
        if self._workers:
            self._schedule(_ACTIVE_S if is_any_active else _IDLE_S)
        else:
            self.close()

    def _weigh(self, worker: Worker) -> None:
        if worker.measure() > self._policy.resident_mib_max * _MIB:
            worker.kill(f"ran out of memory: it passed {self._policy.resident_mib_max} MiB")

    def _count_burning(self, worker: Worker) -> None:
        """Code that nobody waits for: it is pinged, and ended when it answers and goes on burning."""
        if worker.cpu_used_s() < self._policy.burning_s:
            worker.burned_looks = 0
            return
        worker.burned_looks += 1
        worker.is_dirty = True
        if worker.burned_looks > self._policy.burned_looks_max and not worker.is_over:
            worker.kill("kept a CPU busy while nothing was asked of it")

    def _listen(self, worker: Worker, now: float, *, is_late: bool) -> None:
        if worker.is_over or worker.state == "starting":  # what starts has a deadline of its own
            return
        if not worker.awaits_pong:
            worker.pings_missed = 0
        if now - worker.pinged_at < self._policy.step_ms / 1000 / _PINGS:
            return
        if worker.awaits_pong and not is_late:
            worker.pings_missed += 1
            if worker.pings_missed >= _PINGS:
                worker.kill(
                    f"did not answer for {self._policy.step_ms / 1000:g} seconds: "
                    "a loop or a regular expression that does not end"
                )
                return
        worker.pinged_at = now
        worker.ping()
