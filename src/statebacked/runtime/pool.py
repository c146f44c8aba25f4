"""ports.Machines: all workers of a server, and who gets which.

Theory of operation. A generic worker has booted and holds no code; `_ready` takes a spare one or boots one.
Dedicated to a version it belongs to that version's crew for ever: no process is used for another version or
org. Spares are kept for the majors in use, started only after `prewarm` or the first use, so that a server
starts at once. Every look of the watchdog ends with evictions: who was idle for long, and the least recently
used while all together occupy more than the budget; never a worker in which anything is under way.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import structlog

from statebacked.model.errors import InvalidMachine, Unavailable
from statebacked.model.ids import ActivationNumber, CodeId, InstanceId, InstanceKey, InstanceName
from statebacked.model.rows import PendingTimer
from statebacked.model.step import Arrival, WorkerSignal
from statebacked.model.values import Json
from statebacked.ports.egress import Egress
from statebacked.ports.machines import (
    Attached,
    Code,
    MachineLog,
    MigrationFailed,
    Route,
    Saved,
    Validated,
    WorkerGone,
)
from statebacked.runtime.attached import Activation
from statebacked.runtime.crew import Crew
from statebacked.runtime.fetches import FetchParts, NoEgress, Shares
from statebacked.runtime.process import Sandbox, empty_folder
from statebacked.runtime.reading import Errand
from statebacked.runtime.reads import Read
from statebacked.runtime.turns import Turns
from statebacked.runtime.unasked import Unasked
from statebacked.runtime.upgrading import Ask, upgrade
from statebacked.runtime.validate import TryLoad, major_of, read_import_map, validate, without_paths
from statebacked.runtime.watchdog import PoolPolicy, Watchdog
from statebacked.runtime.worker import Worker
from statebacked.runtime.worker_frames import Loaded, Unloadable

__all__ = ["Counters", "Pool", "PoolPolicy", "no_selectors"]

logger = structlog.get_logger(__name__)

_MIB: Final = 1024 * 1024
_NEW_WORKER_BYTES: Final = 48 * _MIB  # what a worker is taken to occupy until it was measured
_ROOM_POLL_S: Final = 0.1
_BOOT_ATTEMPTS: Final = 2
_BOOT_AGAIN_MS: Final = 5_000
_TOLD_OF_DEATH_MAX: Final = 100  # instances; the machine's own line tells of all
_NO_ACTIVATION: Final = ActivationNumber(0)

T = TypeVar("T")
LoadBundle = Callable[[CodeId], Awaitable[bytes]]
LoadSelectors = Callable[[Code], Awaitable[Sequence[tuple[str, str]]]]


async def no_selectors(code: Code) -> Sequence[tuple[str, str]]:
    """For a server whose versions declare no indexes."""
    return ()


class Counters(NamedTuple):
    """What the pool holds now."""

    processes: int
    resident_bytes: int


class Pool:
    """Needs how to load a version's code (KeyError: none) and its (index, path) pairs, whom to give each line
    that machine code writes, and what its requests go through (without it they are refused). `start_failure`:
    why no worker has started yet, if it is known.

    Made on the event loop of a thread that lives as long as the server.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        policy: PoolPolicy,
        load_bundle: LoadBundle,
        on_log: MachineLog,
        *,
        load_selectors: LoadSelectors = no_selectors,
        egress: Egress | None = None,
        start_failure: str | None = None,
    ) -> None:
        self._sandbox = sandbox
        self._start_failure = start_failure
        self._load_bundle = load_bundle
        self._load_selectors = load_selectors
        self._on_log = on_log
        self._fetching = FetchParts(
            egress or NoEgress(), Turns(), Shares(), policy.authorize_ms, Turns(per_loop_turn=1)
        )
        self._unasked = Unasked()
        self._policy = policy
        self._workers: dict[Worker, None] = {}
        self._leaving: set[asyncio.Future[None]] = set()  # processes that were killed and have not ended
        self._spares: dict[int, deque[Worker]] = {}
        self._crews: dict[Code, Crew] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._restocking: set[int] = set()
        self._wanted = {*policy.prewarmed_majors}
        self._watchdog = Watchdog(policy, self._workers, self._after_look)
        self._folder: Path | None = None
        self._is_closed = False

    # --- life

    def prewarm(self) -> None:
        """Start the spares, without waiting for them."""
        for major in self._policy.prewarmed_majors:
            if major in self._sandbox.majors():
                self._begin_restock(major, 0)

    async def aclose(self) -> None:
        """End all processes and wait until they have ended. Nobody hears anything afterwards."""
        self._is_closed = True
        self._watchdog.close()
        for crew in self._crews.values():
            crew.close()
        for task in self._tasks:
            task.cancel()
        for worker in [*self._workers]:
            worker.retire()
        if self._leaving:
            await asyncio.wait(self._leaving)
        if self._folder is not None:
            self._folder.rmdir()
            self._folder = None

    def counters(self) -> Counters:
        return Counters(len(self._workers), sum(worker.measure() for worker in self._workers))

    async def find_start_failure(self) -> str | None:
        """Why the newest worker did not start; None when it did."""
        return self._start_failure

    def pids(self) -> list[int]:
        """The processes that run now."""
        return [pid for worker in self._workers if (pid := worker.pid) is not None]

    # --- ports.Machines

    def attach(
        self,
        code: Code,
        key: InstanceKey,
        instance: InstanceId,
        activation: ActivationNumber,
        receive: Callable[[WorkerSignal], None],
    ) -> Attached:
        address = (code, key, instance, activation)
        return Activation(
            address,
            receive,
            self,
            read_expires_ms=self._read_expires_ms,
            settle_ms=self._policy.settle_ms,
        )

    async def may_read(
        self, code: Code, key: InstanceKey, saved: Saved, auths: Sequence[Json]
    ) -> Sequence[bool]:
        address = (_NO_ACTIVATION, key.name)
        return await self._read(
            code, lambda worker: worker.read(address, saved, auths, self._read_expires_ms)
        )

    async def may_read_each(
        self, code: Code, states: Sequence[tuple[InstanceName, Saved]], auth: Json
    ) -> Sequence[bool]:
        return await self._read(code, lambda worker: worker.read_each(states, auth, self._read_expires_ms))

    async def _read(self, code: Code, begin: Callable[[Worker], Read]) -> Sequence[bool]:
        if self._is_closed:
            raise WorkerGone("is no longer started: the server stops")
        errand = await self._run(code, lambda: Errand(begin))
        allowed = await errand.answer
        if allowed is None:
            raise WorkerGone("lacks the state that it was given")
        return allowed

    async def validate(self, bundle: bytes, xstate_hint: str | None) -> Validated:
        if self._is_closed:
            raise Unavailable("the server stops")

        return await validate(xstate_hint, self._sandbox.majors(), self._try_loading(bundle))

    def _try_loading(self, bundle: bytes, *, migration: bool = False) -> TryLoad:
        async def try_load(major: int) -> tuple[Loaded | Unloadable, str]:
            worker = await self._ready(major)
            try:
                answer = await self._load(worker, None, bundle, (), migration=migration)
                return answer, worker.xstate
            finally:
                worker.retire()

        return try_load

    # --- ports.Migrator

    async def migrate(
        self, route: Route, key: InstanceKey, saved: Saved, timers: Sequence[PendingTimer]
    ) -> Arrival:
        async def run(code: Code, ask: Ask) -> object:
            errand: Errand[object] = await self._run(code, lambda: Errand(ask))
            try:
                return await errand.answer
            except WorkerGone as gone:
                if errand.refusal == "unavailable":
                    raise Unavailable(gone.reason) from gone
                subject = "the migration" if code.migration else f"version {code.version}"
                raise MigrationFailed(f"{subject} {gone.reason}") from gone

        if self._is_closed:
            raise Unavailable("the server stops")
        return await upgrade(route, key, saved, timers, run, self._read_expires_ms)

    async def validate_migration(self, bundle: bytes) -> Validated:
        if self._is_closed:
            raise Unavailable("the server stops")
        majors = sorted(self._sandbox.majors(), reverse=True)  # most import no xstate: the newest will do
        return await validate(None, majors, self._try_loading(bundle, migration=True))

    async def _run(self, code: Code, errand: "Callable[[], Errand[T]]") -> "Errand[T]":
        return await self._crew(code).run(errand)

    @property
    def _read_expires_ms(self) -> int:
        return self._policy.authorize_ms + self._policy.step_ms

    # --- Places

    def place(self, activation: Activation) -> None:
        if not self._is_closed:
            self._crew(activation.code).place(activation)

    def _crew(self, code: Code) -> Crew:
        crew = self._crews.get(code)
        if crew is None:
            crew = self._crews[code] = Crew(code, self._open, self._policy)
        return crew

    # --- opening workers

    async def _open(self, code: Code) -> Worker:
        """A worker that has loaded this code. See Crew for what it raises."""
        bundle = await self._load_bundle(code.migration or code.version)
        selectors = () if code.migration else await self._load_selectors(code)
        major = major_of(code.xstate)
        self._wanted.add(major)
        worker = await self._ready(major)
        try:
            answer = await self._load(worker, code, bundle, selectors, migration=bool(code.migration))
        except asyncio.CancelledError:
            worker.retire()
            raise
        if isinstance(answer, Unloadable):
            worker.retire()
            raise InvalidMachine(answer.message)
        return worker

    async def _load(
        self,
        worker: Worker,
        code: Code | None,
        bundle: bytes,
        selectors: Sequence[tuple[str, str]],
        *,
        migration: bool,
    ) -> Loaded | Unloadable:
        try:
            async with asyncio.timeout(self._policy.load_ms / 1000):
                examine = code is None and not migration
                answer = await worker.load(code, bundle, selectors, migration=migration, examine=examine)
        except TimeoutError:
            reason = f"did not finish loading in {self._policy.load_ms / 1000:g} seconds"
            worker.kill(reason)
            raise WorkerGone(reason) from None
        if isinstance(answer, Unloadable):
            answer.message = self._without_paths(answer.message, worker.major)
        return answer

    def _without_paths(self, message: str, major: int) -> str:
        dist = self._sandbox.dist
        try:
            specifiers = read_import_map(dist / str(major) / "import-map.json")
        except (OSError, ValueError, KeyError):
            specifiers = {}
        return without_paths(message, dist, specifiers)

    async def _ready(self, major: int) -> Worker:
        """A generic worker of that major. Raises InvalidMachine, Unavailable."""
        if major not in self._sandbox.majors():
            raise InvalidMachine(f"this server has no worker for XState {major}")
        if major in self._wanted:  # a validation alone keeps no worker of its major
            self._begin_restock(major, self._policy.restock_ms)
        spares = self._spares.get(major)
        if spares:
            return spares.popleft()
        for _ in range(_BOOT_ATTEMPTS):
            await self._wait_for_room()
            try:
                return await self._boot(major)
            except WorkerGone as gone:
                self._tell_no_start(major, gone.reason)
        raise Unavailable("no worker can be started now: try again in a moment")

    async def _boot(self, major: int) -> Worker:
        if self._folder is None:
            self._folder = empty_folder()
        worker = Worker(
            major,
            self,
            self._on_log,
            in_flight_max=self._policy.in_flight_max,
            fetching=self._fetching,
            unasked=self._unasked,
        )
        self._workers[worker] = None
        self._watchdog.wake()
        try:
            async with asyncio.timeout(self._policy.start_ms / 1000):
                await worker.boot(self._sandbox, self._folder, self._policy.authorize_ms)
        except TimeoutError:
            reason = f"did not start in {self._policy.start_ms / 1000:g} seconds"
            worker.kill(reason)
            raise WorkerGone(reason) from None
        except asyncio.CancelledError:
            worker.retire()
            raise
        self._start_failure = None
        return worker

    def _begin_restock(self, major: int, delay_ms: int) -> None:
        if self._policy.prewarmed and major not in self._restocking and not self._is_closed:
            self._restocking.add(major)
            task = asyncio.get_running_loop().create_task(self._restock(major, delay_ms))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _restock(self, major: int, delay_ms: int) -> None:
        """Boot spares of that major, when the event that took one is done. The root of a task."""
        spares = self._spares.setdefault(major, deque())
        try:
            await asyncio.sleep(delay_ms / 1000)
            while len(spares) < self._policy.prewarmed and self._has_room():
                spares.append(await self._boot(major))
        except WorkerGone as gone:
            self._tell_no_start(major, gone.reason)
        finally:
            self._restocking.discard(major)
        if self._start_failure is not None:  # nobody else may ask for one while the server is not ready
            self._begin_restock(major, _BOOT_AGAIN_MS)

    def _tell_no_start(self, major: int, reason: str) -> None:
        logger.error("a worker does not start", major=major, reason=reason)
        self._start_failure = f"no worker can be started: the newest {reason}"

    # --- room

    async def _wait_for_room(self) -> None:
        deadline = asyncio.get_running_loop().time() + self._policy.room_wait_ms / 1000
        while not self._has_room() and not self._evict_one():
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable("all workers are busy: try again in a moment")
            await asyncio.sleep(_ROOM_POLL_S)

    def _has_room(self) -> bool:
        return self._occupied_bytes() + _NEW_WORKER_BYTES <= self._policy.memory_mb_max * _MIB

    def _occupied_bytes(self) -> int:
        return sum(max(worker.resident_bytes, _NEW_WORKER_BYTES) for worker in self._workers)

    def _evict_one(self) -> bool:
        """End an idle worker: a spare, else the one used least recently. False when there is none."""
        idle = [
            worker
            for worker in self._workers
            if worker.state in {"ready", "loaded"} and not worker.is_working
        ]
        if not idle:
            return False
        min(idle, key=lambda worker: worker.used_at).retire()
        return True

    def _after_look(self, now: float) -> None:
        self._unasked.looked()
        policy = self._policy
        for worker in [*self._workers]:
            idle_ms = policy.alone_idle_ms if worker.is_alone else policy.idle_ms
            if worker.state == "loaded" and not worker.is_working and now - worker.used_at > idle_ms / 1000:
                worker.retire()
        while self._occupied_bytes() > policy.memory_mb_max * _MIB and self._evict_one():
            pass
        for code in [code for code, crew in self._crews.items() if crew.is_forgettable(now)]:
            del self._crews[code]

    # --- Hooks

    def worker_woke(self) -> None:
        self._watchdog.wake()

    def worker_over(self, worker: Worker, reason: str) -> None:
        self._workers.pop(worker, None)
        if not worker.gone.done():
            self._leaving.add(worker.gone)
            worker.gone.add_done_callback(self._leaving.discard)
        for spares in self._spares.values():
            with suppress(ValueError):
                spares.remove(worker)
        if worker.code is None or self._is_closed:
            return
        if not worker.is_retired:
            self._tell_of_death(worker, worker.code, reason)
        self._crew(worker.code).worker_over(worker)

    def _tell_of_death(self, worker: Worker, code: Code, reason: str) -> None:
        """To the machine's owner, and in the log of those instances whose work it takes along."""
        self._on_log(code, None, "stderr", f"the worker {reason}")
        for guest in islice(worker.live, _TOLD_OF_DEATH_MAX):
            self._on_log(code, guest.key, "stderr", f"the worker in which this instance was {reason}")
