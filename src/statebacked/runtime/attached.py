"""One activation in a worker: ports.Attached, and what the host knows of what the worker holds for it.

Theory of operation. The host keeps in step with the worker's own bookkeeping: `_durable` is the seq that it
holds, `_top` that of the computed and unconfirmed step above it (-1: none). A frame that names `_top`
confirms it. When the worker is known to lack the state (first compute, a new process) the
saved state goes along at once; when it says so itself, the compute is sent again. An activation is *live*
while the worker holds something of it that cannot be had again: a compute under way, effects to perform or
being performed, running services. Only what is live is lost with a worker, and told by one WorkerLost.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog
from msgspec import Struct

from statebacked.model import limits
from statebacked.model.envelopes import Envelope, External, Internal
from statebacked.model.errors import REFUSAL_STATUS
from statebacked.model.ids import ActivationNumber, InstanceId, InstanceKey, Seq, ServiceId, ServiceRun
from statebacked.model.step import Chattered, Performed, Refused, Stepped, WorkerLost, WorkerSignal
from statebacked.model.values import Json
from statebacked.ports.egress import EgressRefused
from statebacked.ports.machines import Code, LoadSaved, Saved
from statebacked.runtime import protocol, receipt, worker_frames
from statebacked.runtime.worker import Worker

logger = structlog.get_logger(__name__)

_MESSAGE_CHARACTERS_MAX: Final = 16_000
_LACKS: Final = Seq(-1)
_OUTSIDE: Final = frozenset({"client", "timer", "instance"})


class Compute(Struct):
    """A compute from the call to its answer. `base` is the saved state, once it was needed."""

    number: int
    seq: Seq
    envelopes: Sequence[Envelope]
    load: LoadSaved
    base: Saved | None = None
    sent: int = 0  # how many of the envelopes were sent; 0: not yet


class Places(Protocol):
    """Who finds an activation its worker."""

    def place(self, activation: "Activation") -> None:
        """Let the activation enter a worker, now or later, or turn it away."""


class Activation:
    """ports.Attached and worker.Guest."""

    __slots__ = (
        "_awaits_perform", "_compute", "_durable", "_expires_ms", "_fetches_until", "_held", "_is_asked",
        "_loading", "_performing", "_places", "_receive", "_services", "_settle_ms", "_starts", "_stops",
        "_top", "_worker", "code", "instance", "key", "number", "on_rest",
    )  # fmt: skip

    def __init__(
        self,
        address: tuple[Code, InstanceKey, InstanceId, ActivationNumber],
        receive: Callable[[WorkerSignal], None],
        places: Places,
        *,
        read_expires_ms: int,
        settle_ms: int,
    ) -> None:
        self.code, self.key, self.instance, self.number = address
        self.on_rest: Callable[[], None] | None = None  # called when nothing of it is under way
        self._receive = receive
        self._places = places
        self._expires_ms = read_expires_ms
        self._settle_ms = settle_ms
        self._is_asked = False  # from outside, since something was performed
        self._fetches_until = 0.0  # loop time: until when its own code may fetch
        self._worker: Worker | None = None
        self._compute: Compute | None = None
        self._loading: asyncio.Task[None] | None = None
        self._durable = _LACKS
        self._top = _LACKS
        self._starts: tuple[ServiceId, ...] = ()  # of the step `_top`
        self._stops: tuple[ServiceId, ...] = ()
        self._awaits_perform: Seq | None = None
        self._performing: Seq | None = None
        self._services: set[ServiceRun] = set()
        self._held: dict[int, ServiceRun | None] = {}  # events that only the worker has, by token

    # --- ports.Attached

    def compute(self, number: int, seq: Seq, envelopes: Sequence[Envelope], load: LoadSaved) -> None:
        worker = self._worker
        if self._compute is not None and self._compute.sent and worker is not None:
            worker.fetches.answered(self.number)
            worker.answered()  # given up without a close: its answer will be dropped
        self._loading = None
        self._compute = Compute(number, seq, envelopes, load)
        if worker is None or worker.is_alone or envelopes[0].losses:
            self._places.place(self)
        else:
            self._submit(worker)

    def perform(self, seq: Seq) -> None:
        worker = self._worker
        if worker is None or self._awaits_perform != seq:
            return  # lost with its worker, and told
        if seq == self._top:
            self._confirm()
        self._awaits_perform = None
        self._performing = seq
        if self._is_asked:
            self._is_asked = False
            self._fetches_until = asyncio.get_running_loop().time() + self._settle_ms / 1000
        worker.write(protocol.perform(self.number, seq))

    def stop(self, services: Sequence[ServiceRun]) -> None:
        if self._worker is None:
            return
        self._worker.write(protocol.stop(self.number, services))
        self._worker.fetches.stopped(self.number, services)
        self._services.difference_update(services)
        self._drop_held(services)
        self._rest()

    def close(self) -> None:
        worker, compute = self._worker, self._compute
        self._forget()
        if worker is not None:
            del worker.guests[self.number]
            worker.live.pop(self, None)
            worker.fetches.closed(self.number)
            worker.write(protocol.close(self.number))
            if compute is not None and compute.sent:
                worker.answered()
        self._rested()

    async def may_read(self, seq: Seq, auths: Sequence[Json]) -> Sequence[bool] | None:
        worker = self._worker
        if worker is None or seq not in {self._durable, self._top} or seq <= 0:
            return None
        if seq == self._top:
            self._confirm()
        return await worker.read((self.number, self.key.name), seq, auths, self._expires_ms)

    # --- where it lives, decided by its crew

    @property
    def is_waiting(self) -> bool:
        """It has a compute that was not sent."""
        return self._compute is not None and not self._compute.sent

    @property
    def is_computing(self) -> bool:
        return self._compute is not None and self._compute.sent > 0

    @property
    def is_performing(self) -> bool:
        return self._performing is not None

    @property
    def is_live(self) -> bool:
        return (
            self.is_computing
            or self._awaits_perform is not None
            or self._performing is not None
            or bool(self._services)
            or bool(self._held)
        )

    @property
    def losses(self) -> int:
        """How many workers died computing what it computes now."""
        return 0 if self._compute is None else self._compute.envelopes[0].losses

    @property
    def worker(self) -> Worker | None:
        return self._worker

    def enter(self, worker: Worker) -> None:
        """Live in this worker from now on, and send it what waits."""
        if worker is not self._worker:
            self.leave()
            self._worker = worker
            worker.guests[self.number] = self
        if self.is_waiting and self._loading is None:
            self._submit(worker)

    def leave(self) -> None:
        """Leave a worker that holds nothing live of it."""
        worker = self._worker
        if worker is None:
            return
        assert not self.is_live
        del worker.guests[self.number]
        worker.fetches.closed(self.number)
        worker.write(protocol.close(self.number))
        self._worker = None
        self._durable = self._top = _LACKS

    def turned_away(self, code: str, message: str) -> None:
        """No worker can be had: what waits never happened."""
        compute = self._compute
        if compute is not None and not compute.sent:
            self._compute = None
            self._deliver(Refused(compute.number, code, message))

    def worker_over(self) -> bool:
        """The worker is gone. True when something was lost with it: `lost` must be called then."""
        is_lost = self.is_live
        waiting = self._compute
        self._forget()
        if not is_lost:
            self._compute = waiting  # never sent: it is placed anew
        return is_lost

    def lost(self, *, guilty: bool) -> None:
        self._deliver(WorkerLost(guilty))

    # --- sending

    def _submit(self, worker: Worker) -> None:
        compute = self._compute
        assert compute is not None
        seq = compute.seq
        lacks = seq > 0 and seq != self._durable and seq != self._top
        if lacks and compute.base is None:
            self._loading = asyncio.get_running_loop().create_task(self._load(compute))
        elif worker.admit(self):
            self._send(worker, compute, compute.base if lacks else None)

    def admitted(self) -> None:
        if self._worker is not None and self.is_waiting and self._loading is None:
            self._submit(self._worker)

    def _send(self, worker: Worker, compute: Compute, base: Saved | None) -> None:
        if compute.seq == self._top:
            self._confirm()
        else:
            self._top = _LACKS
            self._awaits_perform = None
            self._durable = compute.seq
        envelopes = compute.envelopes
        if len(envelopes) > 1:
            envelopes = envelopes[:1] if envelopes[0].losses else _head(envelopes)
        compute.sent = len(envelopes)
        if isinstance(envelopes[0].payload, Internal):
            self._take(envelopes[0], envelopes[0].payload.token)
        elif envelopes[0].source in _OUTSIDE:
            self._is_asked = True
        worker.began(self)
        address = (compute.number, self.number, self.key.name)
        worker.write(protocol.compute(address, compute.seq, envelopes, base))

    async def _load(self, compute: Compute) -> None:
        """Fetch the saved state, then go on. The root of a task."""
        try:
            saved = await compute.load()
            if saved.seq != compute.seq:
                raise LookupError(f"the saved state is {saved.seq}, not {compute.seq}")
        except Exception:
            logger.exception("saved state fails to load", instance=self.instance, seq=compute.seq)
            if self._compute is compute:
                self._compute = self._loading = None
                self._rest()
                reason = "the stored state cannot be read; try again"
                self._deliver(Refused(compute.number, "unavailable", reason))
            return
        if self._compute is compute:
            self._loading = None
            compute.base = saved
            if self._worker is not None:
                self._submit(self._worker)

    def _confirm(self) -> None:
        self._durable, self._top = self._top, _LACKS
        if not (self._starts or self._stops):
            return
        if self._worker is not None and self._worker.fetches:
            stopped = {run for run in self._services if run.id in self._stops}
            self._worker.fetches.stopped(self.number, stopped)
        self._services = {run for run in self._services if run.id not in self._stops}
        over = {*self._stops, *self._starts}
        self._drop_held([run for run in self._held.values() if run is not None and run.id in over])
        self._services.update(ServiceRun(id, self._durable) for id in self._starts)
        self._starts = self._stops = ()
        if self._services and self._worker is not None:
            self._worker.live[self] = None

    # --- worker.Guest

    def stepped(self, frame: worker_frames.StepFrame, sections: list[bytes]) -> None:
        compute, worker = self._compute, self._worker
        if compute is None or worker is None or compute.number != frame.n or not compute.sent:
            return
        try:
            steps = receipt.steps_of(frame, sections, worker.indexes)
            if not 0 < len(steps) <= compute.sent:
                raise protocol.ProtocolError("more or fewer steps than events")
        except protocol.ProtocolError as error:
            self._answered(worker)
            self._deliver(Refused(compute.number, "machine-fault", f"the worker broke the protocol: {error}"))
            raise
        last = steps[-1]
        changed = sum([step.changed for step in steps]) if len(steps) > 1 else last.changed
        if changed:
            self._top = Seq(compute.seq + changed)
            self._starts, self._stops = last.starts, last.stops
            if last.done:
                self._held.clear()
            if last.has_effects:
                self._awaits_perform = self._top
        self._answered(worker)
        self._deliver(Stepped(compute.number, steps))

    def refused(self, frame: worker_frames.RefusedFrame) -> None:
        compute, worker = self._compute, self._worker
        if compute is None or worker is None or compute.number != frame.n or not compute.sent:
            return
        if frame.code not in REFUSAL_STATUS:
            raise protocol.ProtocolError("a refusal with an unknown code")
        self._top = _LACKS  # the worker has put the durable state back, or says that it lacks it
        self._answered(worker)
        self._deliver(Refused(compute.number, frame.code, frame.message[:_MESSAGE_CHARACTERS_MAX]))

    def lacked(self, frame: worker_frames.Lacks) -> None:
        compute, worker = self._compute, self._worker
        if compute is None or worker is None or compute.number != frame.n or not compute.sent:
            return
        if compute.base is not None or compute.seq == 0:
            raise protocol.ProtocolError("it lacks the state that it was given")
        worker.heard()
        worker.answered()
        if self._services:  # they went with the state
            self._compute = None
            self.close()
            self._deliver(WorkerLost())
            return
        compute.sent = 0
        self._durable = self._top = _LACKS
        self._submit(worker)

    def performed(self, frame: worker_frames.PerformedFrame, sections: list[bytes]) -> None:
        if self._performing != frame.seq:
            return
        sent = receipt.sent_of(frame, sections)
        self._performing = None
        if self._worker is not None:
            self._worker.heard()
        for one in sent:
            self._held[one.internal.token] = one.service
            if one.ends_service and one.service is not None:
                self._end_service(one.service)
        self._rest()
        self._deliver(Performed(Seq(frame.seq), sent))

    def chattered(self, frame: worker_frames.Inside, sections: list[bytes]) -> None:
        sent = receipt.inside_of(frame, sections)
        if sent.service not in self._services:
            return  # stopped, or of an earlier life
        self._held[sent.internal.token] = sent.service
        if sent.ends_service:
            self._end_service(sent.service)
            self._rest()
        self._deliver(Chattered(sent))

    def fetch_until(self, service: ServiceRun | None, compute: int | None) -> float:
        asked = self._compute
        if compute is not None:
            if asked is None or asked.number != compute or not asked.sent:
                raise EgressRefused("the authorizer that asks for it has answered")
            return math.inf
        if service is not None:
            if service not in self._services:
                raise EgressRefused("the service that asks for it is over")
            return math.inf
        if asyncio.get_running_loop().time() >= self._fetches_until:
            raise EgressRefused("the time to settle is over")
        return self._fetches_until

    # --- bookkeeping

    def _take(self, envelope: Envelope, token: int) -> None:
        """An event that the worker holds is computed. Behind the end of a service nothing of it is."""
        self._held.pop(token, None)
        if envelope.ends_service and envelope.service is not None:
            self._drop_held([envelope.service])

    def _drop_held(self, services: Sequence[ServiceRun]) -> None:
        if self._held:
            self._held = {token: run for token, run in self._held.items() if run not in services}

    def _end_service(self, run: ServiceRun) -> None:
        self._services.discard(run)
        if self._worker is not None and self._worker.fetches:
            self._worker.fetches.ended(self.number, run)

    def _answered(self, worker: Worker) -> None:
        if worker.fetches:
            worker.fetches.answered(self.number)
        self._compute = None
        worker.heard()
        worker.answered()
        self._rest()

    def _rest(self) -> None:
        """Something ended: see whether anything is still under way."""
        if self._performing is None and self._awaits_perform is None and self._compute is None:
            if not self._services and not self._held and self._worker is not None:
                self._worker.live.pop(self, None)
            self._rested()

    def _rested(self) -> None:
        if self.on_rest is not None:
            self.on_rest()

    def _forget(self) -> None:
        self._worker = self._compute = self._loading = None
        self._durable = self._top = _LACKS
        self._starts = self._stops = ()
        self._awaits_perform = self._performing = None
        self._services.clear()
        self._held.clear()

    def _deliver(self, signal: WorkerSignal) -> None:
        try:
            self._receive(signal)
        except Exception:  # the root of what a signal causes; other activations have theirs to hear
            logger.exception("signal fails", instance=self.instance, signal=type(signal).__name__)


def _head(envelopes: Sequence[Envelope]) -> Sequence[Envelope]:
    """The first envelopes, as many as one frame should hold, and at least one."""
    size = 0
    for count, envelope in enumerate(envelopes):
        payload = envelope.payload
        size += len(envelope.auth or b"") + (len(payload.event) if isinstance(payload, External) else 0)
        if count and size > limits.FRAME_BYTES_MAX:
            return envelopes[:count]
    return envelopes
