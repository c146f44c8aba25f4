"""The workers of one version of one org's code: who enters which, and what follows from a death.

Theory of operation. Instances share one worker. When it dies, everything that was computed in it is tried
again, once, each alone: trials run one after another in a worker of their own, while new work goes to a new
shared one. The item whose trial kills its worker is guilty; a guilty instance runs its next computes in a
worker that nobody else enters. A trial's worker is used for the next trial if nothing lives in it. Deaths
that no item explains (while it loaded, or while only services ran) delay the next start of this version,
longer each time, until a worker stays.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import structlog

from statebacked.model.errors import InvalidMachine, Unavailable
from statebacked.model.ids import InstanceId
from statebacked.ports.machines import Code, MigrationFailed, WorkerGone
from statebacked.ports.store import StoreFailed
from statebacked.runtime.attached import Activation
from statebacked.runtime.reading import Errand
from statebacked.runtime.watchdog import PoolPolicy
from statebacked.runtime.worker import Worker

logger = structlog.get_logger(__name__)

WAITING_MAX: Final = 10_000
GUILTY_INSTANCES_MAX: Final = 1_000
TRIAL_WAIT_S: Final = 30.0  # how long an errand waits for its trial, behind code that does not end
_LOAD_ATTEMPTS: Final = 2

T = TypeVar("T")


class Entrant(Protocol):
    """What wants to enter a worker: an activation with a compute, or a read."""

    on_rest: Callable[[], None] | None  # called when nothing of it is under way

    @property
    def is_waiting(self) -> bool:
        """It still wants to."""

    def enter(self, worker: Worker) -> None: ...
    def turned_away(self, code: str, message: str) -> None: ...


class TurnedAway(NamedTuple):
    """Why no worker can be had, as a refusal."""

    code: str
    message: str


Open = Callable[[Code], Awaitable[Worker]]


class Crew:
    """`open` gives a loaded worker; it raises InvalidMachine, Unavailable, WorkerGone (it died as it loaded),
    StoreFailed, or KeyError (there is no such code)."""

    def __init__(self, code: Code, open: Open, policy: PoolPolicy) -> None:
        self._code = code
        self._open = open
        self._policy = policy
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._shared: Worker | None = None
        self._is_opening = False
        self._waiting: deque[Entrant] = deque()  # for the shared worker that is being opened
        self._trials: deque[Entrant] = deque()
        self._on_trial: Entrant | None = None
        self._trials_begun = 0
        self._trial_worker: Worker | None = None
        self._errands: set[Errand[Any]] = set()  # under way, whatever they ask for
        self._is_closed = False
        self._guilty: dict[InstanceId, int] = {}  # and how many computes it has yet to run alone
        self._own: dict[InstanceId, Worker] = {}
        self._deaths = 0  # in a row, that no item explains
        self._not_before = 0.0

    def is_forgettable(self, now: float) -> bool:
        """Safe to delete: it has no workers, nothing waits in it or is under way, and no recent deaths."""
        if self._errands or self._shared or self._trial_worker or self._own or self._tasks or self._guilty:
            return False
        if self._waiting or self._trials or self._on_trial:
            return False
        return not self._deaths or now - self._not_before > self._policy.steady_ms / 1000

    def close(self) -> None:
        """Open no more workers. Errands are refused; activations hear nothing."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        for errand in [*self._errands]:
            errand.turned_away("unavailable", "is no longer started: the server stops")

    # --- entering

    def place(self, activation: Activation) -> None:
        """Find a worker for the compute of an activation."""
        if activation.worker is not None and activation.is_live:
            activation.enter(activation.worker)  # its services are there
        elif activation.losses:
            self.try_alone(activation)
        elif activation.instance in self._guilty:
            self._place_guilty(activation)
        else:
            self.admit(activation)

    def admit(self, entrant: Entrant) -> None:
        """To the shared worker, now or when it is loaded."""
        if self._shared is not None:
            entrant.enter(self._shared)
        elif len(self._waiting) >= WAITING_MAX:
            entrant.turned_away("unavailable", "too many events wait for this version to start")
        else:
            self._waiting.append(entrant)
            if not self._is_opening:
                self._is_opening = True
                self._begin(self._open_shared())

    async def run(self, begin: "Callable[[], Errand[T]]") -> "Errand[T]":
        """An errand that is over. A worker that dies under it may have died of another's, so it is then tried
        once more, alone."""
        first = begin()
        await self._until_over(first, self.admit)
        failure = first.answer.exception()
        if not isinstance(failure, WorkerGone) or first.refusal is not None:
            return first
        second = begin()
        expiry = self._loop.call_later(TRIAL_WAIT_S, self._give_up, second)
        try:
            await self._until_over(second, self.try_alone)
        finally:
            expiry.cancel()
        return second

    async def _until_over(self, errand: Errand[Any], enter: Callable[[Entrant], None]) -> None:
        self._errands.add(errand)
        try:
            if self._is_closed:
                errand.turned_away("unavailable", "is no longer started: the server stops")
            else:
                enter(errand)
            with suppress(WorkerGone, MigrationFailed):
                await errand.answer
        finally:
            self._errands.discard(errand)

    def _give_up(self, errand: Errand[Any]) -> None:
        if errand.is_waiting:
            errand.turned_away("unavailable", "is busy with code that does not end")

    def try_alone(self, entrant: Entrant) -> None:
        """To a worker in which nothing else is under way, after the trials before it."""
        self._trials.append(entrant)
        self._next_trial()

    def _place_guilty(self, activation: Activation) -> None:
        instance = activation.instance
        self._guilty[instance] -= 1
        if self._guilty[instance] <= 0:
            del self._guilty[instance]
        own = self._own.get(instance)
        if own is not None:
            activation.enter(own)
        else:
            self._begin(self._open_own(activation))

    # --- trials

    def _next_trial(self) -> None:
        if self._on_trial is not None:
            return
        while self._trials:
            entrant = self._trials.popleft()
            if entrant.is_waiting:
                self._begin_trial(entrant)
                return

    def _begin_trial(self, entrant: Entrant) -> None:
        self._on_trial = entrant
        self._trials_begun += 1
        entrant.on_rest = self._trial_over
        worker = self._trial_worker
        if worker is not None and not worker.is_over and not worker.live:
            entrant.enter(worker)
        else:  # whoever lives in the last one keeps it
            self._trial_worker = None
            self._begin(self._open_trial(entrant, self._trials_begun))

    def _trial_over(self) -> None:
        if self._on_trial is not None:
            self._on_trial.on_rest = None
            self._on_trial = None
            self._loop.call_soon(self._next_trial)

    # --- opening workers

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open_shared(self) -> None:
        opened = await self._opened()
        self._is_opening = False
        waiting, self._waiting = self._waiting, deque()
        if isinstance(opened, Worker):
            self._shared = opened
        for entrant in waiting:
            if not entrant.is_waiting:
                continue
            if isinstance(opened, TurnedAway):
                entrant.turned_away(*opened)
            else:
                entrant.enter(opened)

    async def _open_trial(self, entrant: Entrant, number: int) -> None:
        opened = await self._opened()
        if self._on_trial is None or self._trials_begun != number:  # closed while its worker was opened
            if isinstance(opened, Worker):
                opened.retire()
            return
        if isinstance(opened, TurnedAway):
            if entrant.is_waiting:
                entrant.turned_away(*opened)
            self._trial_over()
            return
        opened.is_alone = True
        self._trial_worker = opened
        if entrant.is_waiting:
            entrant.enter(opened)
        else:
            self._trial_over()

    async def _open_own(self, activation: Activation) -> None:
        opened = await self._opened()
        if isinstance(opened, TurnedAway):
            activation.turned_away(*opened)
            return
        opened.is_alone = True
        other = self._own.get(activation.instance)
        if other is not None:  # the instance was closed and came again while this one was opened
            opened.retire()
            opened = other
        self._own[activation.instance] = opened
        if activation.is_waiting:
            activation.enter(opened)

    async def _opened(self) -> Worker | TurnedAway:
        reason = ""
        for _ in range(_LOAD_ATTEMPTS):
            delay_s = self._not_before - self._loop.time()
            if delay_s > self._policy.room_wait_ms / 1000:
                seconds = round(delay_s)
                return TurnedAway("unavailable", f"this version keeps ending its worker: wait {seconds} s")
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            try:
                worker = await self._open(self._code)
            except WorkerGone as gone:
                reason = gone.reason
                self._count_death(0)
            except Exception as error:  # the root of a task: whoever waits must hear something
                return self._turn_away(error)
            else:
                if not worker.is_over:
                    return worker
        return TurnedAway("invalid-machine", f"the code was loaded, and its worker {reason}")

    def _turn_away(self, error: Exception) -> TurnedAway:
        match error:
            case InvalidMachine():
                return TurnedAway("invalid-machine", error.message)
            case Unavailable():
                return TurnedAway("unavailable", error.message)
            case KeyError():
                return TurnedAway("invalid-machine", "the code of this version is gone")
            case StoreFailed():
                return TurnedAway("unavailable", "the code of this version cannot be read now")
            case _:
                pass
        logger.error("worker does not open", code=self._code, exc_info=error)
        return TurnedAway("unavailable", "no worker can be started now")

    # --- deaths

    def worker_over(self, worker: Worker) -> None:
        """Tell everyone in it what became of them."""
        if worker is self._shared:
            self._shared = None
        if worker is self._trial_worker:
            self._trial_worker = None
        self._own = {instance: own for instance, own in self._own.items() if own is not worker}
        guests = [guest for guest in worker.guests.values() if isinstance(guest, Activation)]
        guilty = set() if worker.is_retired else self._judge(worker, guests)
        lost = {guest for guest in guests if guest.worker_over()}
        trial = self._on_trial
        if trial is not None and trial in guests:
            self._trial_over()
        for guest in guests:
            if guest in lost:
                guest.lost(guilty=guest in guilty)
            elif guest.is_waiting:
                self.try_alone(guest) if guest is trial else self.place(guest)

    def _judge(self, worker: Worker, guests: list[Activation]) -> set[Activation]:
        """Who is guilty of a death. An instance whose effects may have caused it is set apart, too."""
        under_way = [guest for guest in guests if guest.is_computing or guest.is_performing]
        is_proof = worker.is_alone and not worker.was_killed_by_others
        guilty = {guest for guest in under_way if is_proof and guest.is_computing and guest.losses}
        for guest in under_way:
            if guest in guilty or (len(under_way) == 1 and guest.is_performing):
                self._guilty[guest.instance] = self._policy.guilty_computes
                if len(self._guilty) > GUILTY_INSTANCES_MAX:
                    del self._guilty[next(iter(self._guilty))]
        idled = worker.was_killed_by_others and not worker.live
        if worker.loaded_at and not under_way and not worker.had_reads and not idled:
            self._count_death(self._loop.time() - worker.loaded_at)
        return guilty

    def _count_death(self, lived_s: float) -> None:
        policy = self._policy
        self._deaths = 1 if lived_s >= policy.steady_ms / 1000 else self._deaths + 1
        if self._deaths > 1:
            delay_ms = min(policy.back_off_ms << min(self._deaths - 2, 20), policy.back_off_ms_max)
            self._not_before = self._loop.time() + delay_ms / 1000
