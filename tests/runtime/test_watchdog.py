"""When a worker is killed for its silence or its memory. The test looks, at times of its choosing."""

import pytest

from statebacked.runtime.watchdog import PoolPolicy, Watchdog
from tests.event_loop import run

MIB = 1024 * 1024
POLICY = PoolPolicy(step_ms=3_000)


class Worker:
    """As much of a worker as the watchdog sees."""

    def __init__(self) -> None:
        self.state = "loaded"
        self.is_working = False
        self.is_dirty = False
        self.awaits_pong = False
        self.is_held = False
        self.is_burning = False
        self.burned_looks = 0
        self.pinged_at = 0.0
        self.pings_missed = 0
        self.used_at = 0.0
        self.bytes = 40 * MIB
        self.reasons: list[str] = []
        self.pings = 0
        self.measured = 0

    @property
    def is_over(self) -> bool:
        return bool(self.reasons)

    def measure(self) -> int:
        self.measured += 1
        return self.bytes

    def cpu_used_s(self) -> float:
        return 0.9 if self.is_burning else 0.1

    def listen_again(self) -> None:
        self.is_held = False

    def expire_reads(self, now: float) -> None:
        pass

    def ping(self) -> None:
        self.pings += 1
        self.is_dirty = False
        self.awaits_pong = True

    def kill(self, reason: str) -> None:
        self.reasons.append(reason)


class Looks:
    """A watchdog whose timer is the test."""

    def __init__(self, *workers: Worker) -> None:
        self.watchdog = Watchdog(POLICY, workers, lambda now: None)  # type: ignore[arg-type]  # a double
        self.now = 100.0

    def pass_time(self, seconds: float, *, late_s: float = 0.0, step_s: float = 0.1) -> None:
        """Look each `step_s`; each look comes `late_s` after it was due."""
        for _ in range(round(seconds / step_s)):
            self.now += step_s
            self.watchdog.look(self.now, late_s=late_s)
        self.watchdog.close()


@run
async def test_an_idle_worker_is_measured_each_second_and_never_pinged() -> None:
    worker = Worker()
    Looks(worker).pass_time(10)
    assert (worker.pings, worker.reasons) == (0, [])
    assert 9 <= worker.measured <= 11


@run
async def test_a_working_worker_is_measured_at_each_look() -> None:
    worker = Worker()
    worker.is_working = True
    Looks(worker).pass_time(2)
    assert worker.measured == 20


@run
async def test_a_silent_worker_is_killed_within_two_of_its_limits() -> None:
    worker = Worker()
    worker.is_working = True
    looks = Looks(worker)
    looks.pass_time(3)
    assert worker.reasons == []
    looks.pass_time(1.2)
    [reason] = worker.reasons
    assert "did not answer for 3 seconds" in reason


@run
async def test_a_worker_that_answers_is_not_killed() -> None:
    worker = Worker()
    worker.is_working = True
    looks = Looks(worker)
    for _ in range(20):
        looks.pass_time(2.5)
        worker.awaits_pong = False  # it answered something
    assert worker.reasons == []


@run
async def test_a_worker_that_was_written_to_is_pinged_until_it_answers() -> None:
    worker = Worker()
    worker.is_dirty = True
    looks = Looks(worker)
    looks.pass_time(0.2)
    assert worker.pings == 1
    worker.awaits_pong = False
    looks.pass_time(10)
    assert worker.pings == 1


@run
async def test_a_closed_compute_that_loops_is_still_killed() -> None:
    worker = Worker()
    worker.is_dirty = True  # the close was written; nothing is under way
    Looks(worker).pass_time(5)
    assert len(worker.reasons) == 1


@run
async def test_an_idle_worker_that_burns_cpu_is_pinged_and_ended_when_it_is_silent() -> None:
    worker = Worker()
    worker.is_burning = True
    looks = Looks(worker)
    looks.pass_time(6)
    assert "did not answer" in worker.reasons[0]


@run
async def test_an_idle_worker_that_burns_cpu_and_answers_is_ended_later() -> None:
    worker = Worker()
    worker.is_burning = True
    looks = Looks(worker)
    for _ in range(90):
        looks.pass_time(0.1)
        worker.awaits_pong = False
    assert worker.reasons == []
    looks.pass_time(3)
    assert "nothing was asked of it" in worker.reasons[0]


@run
async def test_a_worker_that_works_may_burn_cpu() -> None:
    worker = Worker()
    worker.is_burning = worker.is_working = True
    looks = Looks(worker)
    for _ in range(200):
        looks.pass_time(0.1)
        worker.awaits_pong = False
    assert worker.reasons == []


@run
async def test_a_worker_that_was_held_is_heard_again_at_the_next_look() -> None:
    worker = Worker()
    worker.is_held = True
    Looks(worker).pass_time(0.1)
    assert not worker.is_held


@run
async def test_nothing_is_counted_while_the_host_itself_was_not_awake() -> None:
    worker = Worker()
    worker.is_working = True
    looks = Looks(worker)
    looks.pass_time(60, late_s=2.0, step_s=2.1)
    assert worker.reasons == []
    looks.pass_time(5)
    assert len(worker.reasons) == 1


@run
async def test_a_worker_that_starts_is_not_pinged() -> None:
    worker = Worker()
    worker.is_working, worker.state = True, "starting"
    Looks(worker).pass_time(10)
    assert (worker.pings, worker.reasons) == (0, [])


@pytest.mark.parametrize("is_working", [True, False])
def test_a_worker_above_its_memory_is_killed(is_working: bool) -> None:
    @run
    async def test() -> None:
        worker = Worker()
        worker.is_working = is_working
        worker.bytes = POLICY.resident_mib_max * MIB
        looks = Looks(worker)
        looks.pass_time(1)
        assert worker.reasons == []
        worker.bytes += 1
        looks.pass_time(1)
        assert worker.reasons
        assert "passed 320 MiB" in worker.reasons[0]

    test()
