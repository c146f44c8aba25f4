"""One worker: a process that speaks the protocol, first generic, then dedicated to one version's code.

Theory of operation. A worker is `starting` (the process runs), `ready` (booted, generic), `loading`, `loaded`
(dedicated: it hosts activations and reads) and `over`. It is over at the moment at which it is killed, or at
which its process ends; from then on nothing of it is heard, and `on_over` is called, once. A worker knows no
policy: who may enter, when it is killed and what becomes of those in it is decided by `crew`, `watchdog` and
`pool`.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol, cast

import structlog

from statebacked.model import limits
from statebacked.model.ids import ActivationNumber, InstanceKey, InstanceName, Seq
from statebacked.model.values import Json
from statebacked.ports.machines import Code, MachineLog, Saved, WorkerGone
from statebacked.runtime import protocol, worker_frames
from statebacked.runtime.fetch_frames import FETCH_FRAMES, FetchFrame
from statebacked.runtime.fetches import NO_FETCHES, Claimant, Fetches, FetchParts
from statebacked.runtime.process import Process, Sandbox
from statebacked.runtime.reads import Answer, Part, Read, Reads
from statebacked.runtime.unasked import TURN_COST_MAX, UNASKED_COST, Unasked, cost_of

logger = structlog.get_logger(__name__)

State = Literal["starting", "ready", "loading", "loaded", "over"]


class Guest(Claimant, Protocol):
    """An activation that lives in a worker. Its frames come here."""

    @property
    def key(self) -> InstanceKey: ...
    def admitted(self) -> None:
        """There is room for the compute that waited."""

    def stepped(self, frame: worker_frames.StepFrame, sections: list[bytes]) -> None: ...
    def refused(self, frame: worker_frames.RefusedFrame) -> None: ...
    def lacked(self, frame: worker_frames.Lacks) -> None: ...
    def performed(self, frame: worker_frames.PerformedFrame, sections: list[bytes]) -> None: ...
    def chattered(self, frame: worker_frames.Inside, sections: list[bytes]) -> None: ...


class Hooks(Protocol):
    """Who started the worker."""

    def worker_woke(self) -> None:
        """Something begins in a worker in which nothing was under way."""

    def worker_over(self, worker: "Worker", reason: str) -> None:
        """It ended; `reason` continues a sentence that begins with the worker."""


class Worker:
    """See the module. `crew` writes who is in it and what for, `watchdog` its notes."""

    def __init__(
        self,
        major: int,
        hooks: Hooks,
        on_log: MachineLog,
        *,
        in_flight_max: int,
        fetching: FetchParts | None = None,
        unasked: Unasked | None = None,
    ) -> None:
        self.major = major
        self.state: State = "starting"
        self.code: Code | None = None
        self.xstate = ""  # the exact version that it links
        self.indexes: frozenset[str] = frozenset()
        self.guests: dict[int, Guest] = {}  # by activation
        self.live: dict[Guest, None] = {}  # the guests that would lose something with it
        self.reads = Reads()
        self.fetches = Fetches(fetching or NO_FETCHES, self)
        self.is_alone = False  # for one activation, or for trials: new work goes elsewhere
        self.is_retired = False  # ended by us without a fault
        self.was_killed_by_others = False  # which says nothing of what it did
        self.had_reads = False  # reads were under way when it ended
        self.loaded_at = 0.0
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()  # the process ended

        self.used_at = 0.0
        self.is_dirty = False  # written to since the last ping
        self.awaits_pong = False
        self.is_held = False  # it said too much since the last look: the rest is read after the next
        self.pinged_at = 0.0
        self.pings_missed = 0
        self.resident_bytes = 0

        self._hooks = hooks
        self._on_log = on_log
        self._loop = asyncio.get_running_loop()
        self._reader = protocol.FrameReader()
        self._process: Process | None = None
        self._early_end: str | None = None
        self._spawning: asyncio.Task[Process] | None = None
        self._answer: asyncio.Future[worker_frames.FromWorker] = self._loop.create_future()
        self._reason = ""
        self._ping = 0
        self._answers = 0  # how often it answered what it was asked
        self._unasked = unasked or Unasked()
        self._unasked_cost = 0  # since the last look
        self._turn_cost = 0  # in this turn of the event loop
        self._is_resting = False  # it said too much in one turn: the rest is read in a later one
        self._lines_dropped = 0  # since the last look
        self._cpu_s = 0.0
        self.burned_looks = 0  # in a row, while nothing was asked of it
        self._in_flight = 0  # computes sent and not answered
        self._in_flight_max = in_flight_max
        self._backlog: deque[Guest] = deque()  # computes that wait for room

    # --- life

    async def boot(self, sandbox: Sandbox, folder: Path, authorize_ms: int) -> None:
        """Start the process and wait until it is ready. Raises WorkerGone."""
        self._spawning = self._loop.create_task(sandbox.start(self.major, folder, self))
        self._spawning.add_done_callback(self._spawned)
        try:
            await asyncio.shield(self._spawning)  # a process that is half made cannot be given up
        except OSError as error:
            self.kill(f"does not start: {error.strerror}")
            raise WorkerGone(self._reason) from error
        if self.is_over:
            raise WorkerGone(self._reason)
        self.write(protocol.boot(authorize_ms=authorize_ms))
        ready = await self._expect()
        if not isinstance(ready, worker_frames.Ready) or ready.protocol != protocol.PROTOCOL:
            self.kill("broke the protocol: it does not say that it is ready")
            raise WorkerGone(self._reason)
        self.xstate = ready.xstate
        self.state = "ready"

    def _spawned(self, spawning: asyncio.Task[Process]) -> None:
        if spawning.cancelled() or spawning.exception() is not None:
            self.gone.set_result(None)
            return
        self._process = spawning.result()
        if self._early_end is not None:
            self.ended(self._early_end)
        elif self.is_over:
            self._process.kill(self._reason)

    async def load(
        self,
        code: Code | None,
        bundle: bytes,
        selectors: Sequence[tuple[str, str]],
        *,
        migration: bool = False,
        examine: bool = False,
    ) -> worker_frames.Loaded | worker_frames.Unloadable:
        """Dedicate a ready worker to this code (None: only to see whether it loads). Raises WorkerGone."""
        if self.is_over:
            raise WorkerGone(self._reason)
        assert self.state == "ready"
        self.state = "loading"
        self.code = code
        self.indexes = frozenset(index for index, _ in selectors)
        self._hooks.worker_woke()
        self.write(protocol.load(bundle, selectors, migration=migration, examine=examine))
        answer = await self._expect()
        if isinstance(answer, worker_frames.Unloadable):
            return answer
        if not isinstance(answer, worker_frames.Loaded):
            self.kill("broke the protocol: it does not say whether it loaded")
            raise WorkerGone(self._reason)
        self.state = "loaded"
        self.used_at = self.loaded_at = self._loop.time()
        return answer

    async def _expect(self) -> worker_frames.FromWorker:
        if self.is_over:
            raise WorkerGone(self._reason)
        answer = await self._answer
        self._answer = self._loop.create_future()
        return answer

    @property
    def is_over(self) -> bool:
        return self.state == "over"

    @property
    def is_working(self) -> bool:
        """Something is under way in it, or a service runs: it must not be evicted."""
        if self.live or self.reads or self._backlog or self.fetches:
            return True
        return self.state in {"starting", "loading"}

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def retire(self) -> None:
        """End it without a fault: it is idle, or no longer needed."""
        self.is_retired = True
        self.kill("is no longer needed")

    def kill(self, reason: str) -> None:
        """End it now. `reason` continues a sentence that begins with the worker."""
        if self._process is not None:
            self._process.kill(reason)
        self._finish(reason)

    def _finish(self, reason: str) -> None:
        if self.is_over:
            return
        self.state = "over"
        self._reason = reason
        if self._spawning is None:
            self.gone.set_result(None)
        if not self._answer.done():
            self._answer.set_exception(WorkerGone(reason))
            self._answer.exception()  # it is raised to whoever waits; that may be nobody
        self.had_reads = bool(self.reads)
        self.reads.fail(reason)
        self.fetches.close()
        self._hooks.worker_over(self, reason)

    # --- computes

    def write(self, parts: Sequence[bytes]) -> None:
        self.is_dirty = True
        assert self._process is not None
        self._process.write(parts)

    def admit(self, guest: Guest) -> bool:
        """Whether a compute may be sent now; if not, `guest` is told when it may."""
        assert self._process is not None
        if self._in_flight < self._in_flight_max and not self._process.is_paused:
            return True
        self._backlog.append(guest)
        return False

    def began(self, guest: Guest) -> None:
        """A compute of `guest` was sent."""
        if not self.live:
            self._hooks.worker_woke()
        self.live[guest] = None
        self._in_flight += 1

    def answered(self) -> None:
        """A compute is no longer under way."""
        self._in_flight -= 1
        if self._backlog:
            self.drained()

    @property
    def is_paused(self) -> bool:
        """It does not read what it is sent."""
        assert self._process is not None
        return self._process.is_paused

    def drained(self) -> None:
        assert self._process is not None
        while self._backlog and self._in_flight < self._in_flight_max and not self._process.is_paused:
            self._backlog.popleft().admitted()
        if self.fetches:
            self.fetches.drained()

    # --- reads

    def read(
        self,
        address: tuple[ActivationNumber, InstanceName],
        state: Seq | Saved,
        auths: Sequence[Json],
        expires_ms: int,
    ) -> Read:
        """Ask allowRead about a state that it holds, or about one that is sent along (activation 0).

        Raises WorkerGone when it is over, or too many are asked already.
        """
        activation, name = address
        read = Read([name], len(auths), self.expiry(expires_ms))
        n = self._begin_read(read)
        if isinstance(state, Saved):
            self.write(protocol.read((n, activation, name), state.seq, auths, state))
        else:
            self.write(protocol.read((n, activation, name), state, auths, None))
        return read

    def read_each(self, states: Sequence[tuple[InstanceName, Saved]], auth: Json, expires_ms: int) -> Read:
        """Ask allowRead about states of several instances, for one caller. Raises WorkerGone as `read`."""
        read = Read([name for name, _ in states], len(states), self.expiry(expires_ms))
        n = self._begin_read(read)
        self.write(protocol.read_each(n, states, auth))
        return read

    def ask(self, part: Part, write: Callable[[int], list[bytes]]) -> Part:
        """Send a part of an upgrade, as the frame that `write` makes of its number. Raises as `read`."""
        n = self._begin_read(part)
        self.write(write(n))
        return part

    def expiry(self, expires_ms: int) -> float:
        """The time of the loop after which what is asked now is given up."""
        return self._loop.time() + expires_ms / 1000

    def _begin_read(self, read: Read | Part) -> int:
        if self.is_over:
            raise WorkerGone(self._reason)  # nobody would give up what is asked of it
        was_reading = bool(self.reads)
        n = self.reads.begin(read)
        if not was_reading:
            self._hooks.worker_woke()
        return n

    def is_judging(self, number: int) -> bool:
        """allowRead is under way under that number."""
        return self.reads.is_judging(number)

    def expire_reads(self, now: float) -> None:
        """Give up on reads that nobody answers."""
        for n in self.reads.expire(now):
            self.fetches.read_over(n)

    # --- watching it

    def ping(self) -> None:
        # Code that writes frames of its own must not be able to answer what it has not read.
        self._ping = int.from_bytes(os.urandom(6))
        self.write(protocol.ping(self._ping))
        self.is_dirty = False
        self.awaits_pong = True

    def heard(self) -> None:
        """It has answered something that it was asked, and each thing is asked once: it lives."""
        self.awaits_pong = False
        self._answers += 1

    def listen_again(self) -> None:
        """The watchdog looks: read on, if too much was said."""
        self._unasked_cost = 0
        if self._lines_dropped and self.code is not None:
            dropped, self._lines_dropped = self._lines_dropped, 0
            self._on_log(self.code, None, "stderr", f"({dropped} more lines were dropped)")
        if self.is_held:
            self.is_held = False
            self._rest_for_a_turn()

    def _spend(self, frame: worker_frames.FromWorker, sections: list[bytes]) -> None:
        """What nobody asked for is read at a bounded rate: the server has others to hear."""
        cost = cost_of(frame, self._reader.frame_bytes, sections)
        if type(frame) is worker_frames.Log:
            cost += UNASKED_COST * len(frame.lines)
        self._unasked_cost += cost
        self._turn_cost += cost
        if not self._unasked.spend(cost, self._unasked_cost):
            self.is_held = True
            assert self._process is not None
            self._process.pause_reading()
        elif self._turn_cost > TURN_COST_MAX:
            self._rest_for_a_turn()

    def _rest_for_a_turn(self) -> None:
        if not self._is_resting:
            self._is_resting = True
            assert self._process is not None
            self._process.pause_reading()
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        self._is_resting = False
        if self.is_held or self.is_over:
            return
        self._hear()
        if not (self._is_resting or self.is_held or self.is_over):
            assert self._process is not None
            self._process.resume_reading()

    def cpu_used_s(self) -> float:
        """How much CPU it has used since it was last asked this, in seconds."""
        before = self._cpu_s
        self._cpu_s = 0.0 if self._process is None else self._process.cpu_seconds()
        return self._cpu_s - before

    def measure(self) -> int:
        """Look at its resident size, in bytes."""
        self.resident_bytes = 0 if self._process is None else self._process.resident_bytes()
        return self.resident_bytes

    # --- hearing it

    def received(self, data: bytes) -> None:
        if self.is_over:
            return
        self._reader.add(data)
        if not (self.is_held or self._is_resting):
            self._hear()

    def _hear(self) -> None:
        """What was received, up to what may be heard now."""
        self._turn_cost = 0
        try:
            next_frame = self._reader.next_frame
            while (read := next_frame()) is not None:
                frame, sections = read
                answers = self._answers
                self._dispatch(frame, sections)
                if self._answers == answers:  # nobody asked for it
                    if self.state == "over":
                        return
                    self._spend(frame, sections)
                    if self.is_held or self._is_resting:
                        return
        except protocol.ProtocolError as error:
            self.kill(f"broke the protocol: {error}")

    def ended(self, reason: str) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
        while self._is_resting and not (self.is_held or self.is_over):  # what it said before its end is heard
            self._is_resting = False
            self._hear()
        if self._process is None:  # before anybody was told that it had started
            self._early_end = reason
        elif not self.is_over:
            tail = self._process.stderr_tail()[-2_000:]
            logger.warning("worker ends", code=self.code, reason=reason, stderr=tail)
            self.was_killed_by_others = self._process.was_killed_by_others
            self._finish(reason)

    def _dispatch(self, frame: worker_frames.FromWorker, sections: list[bytes]) -> None:
        if self.is_over:
            return
        try:
            if type(frame) is worker_frames.StepFrame:
                guest = self.guests.get(frame.a)
                if guest is not None:
                    guest.stepped(frame, sections)
            elif type(frame) in FETCH_FRAMES:
                self.fetches.received(cast("FetchFrame", frame), sections)
            else:
                self._dispatch_other(frame, sections)
        except protocol.ProtocolError:
            raise
        except Exception:  # the root of everything that a frame causes; the next frame is someone else's
            logger.exception("frame fails", code=self.code, frame=type(frame).__name__)

    def _dispatch_other(self, frame: worker_frames.FromWorker, sections: list[bytes]) -> None:
        match frame:
            case worker_frames.PerformedFrame() if guest := self.guests.get(frame.a):
                guest.performed(frame, sections)
            case worker_frames.RefusedFrame() if guest := self.guests.get(frame.a):
                guest.refused(frame)
            case worker_frames.Inside() if guest := self.guests.get(frame.a):
                guest.chattered(frame, sections)
            case worker_frames.Lacks(a=0) | worker_frames.Readable():
                self._read_answered(frame, sections)
            case worker_frames.Outlined() | worker_frames.ArrivedFrame() | worker_frames.Stuck():
                self._read_answered(frame, sections)
            case worker_frames.Lacks() if guest := self.guests.get(frame.a):
                guest.lacked(frame)
            case worker_frames.Log():
                self._logged(frame)
            case worker_frames.Ready() | worker_frames.Loaded() | worker_frames.Unloadable():
                if self._answer.done() or self.state not in {"starting", "loading"}:
                    raise protocol.ProtocolError("it answers what nobody asked")
                self.heard()
                self._answer.set_result(frame)
            case worker_frames.Pong(n) if n == self._ping and self.awaits_pong:
                self.heard()
            case _:
                pass  # for an activation that is closed

    def _read_answered(self, frame: Answer, sections: list[bytes]) -> None:
        if self.fetches:
            self.fetches.read_over(frame.n)
        if self.reads.answered(frame, sections, self.indexes):
            self.heard()

    def _logged(self, frame: worker_frames.Log) -> None:
        if self.code is None:
            return
        key = self._speaker(self.code, frame.a)
        room = max(0, limits.WORKER_UNASKED_BYTES_MAX - self._unasked_cost) // UNASKED_COST
        self._lines_dropped += max(0, len(frame.lines) - room)
        for line in frame.lines[:room]:
            self._on_log(self.code, key, frame.stream, line[: limits.LOG_LINE_BYTES_MAX])
        if frame.dropped:
            self._on_log(self.code, key, "stderr", f"({frame.dropped} more lines were dropped)")

    def _speaker(self, code: Code, a: int) -> InstanceKey | None:
        """The instance that a log frame is about: that of an activation, or of a read or a part of an
        upgrade (by its number, below zero). None: the module, or an instance that has left."""
        if a < 0:
            name = self.reads.speaker(-a)
            return None if name is None else InstanceKey(code.org, code.machine, name)
        guest = self.guests.get(a)
        return None if guest is None else guest.key
