"""One loaded instance: its driver, its attachment to a worker, and what executing a command means."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import structlog

from statebacked.core import fairness, phases
from statebacked.core.phases import Activation, Command, Settled
from statebacked.core.policy import Policy
from statebacked.engine.callers import Callers
from statebacked.engine.codes import Codes
from statebacked.engine.driver import Driver, Ending
from statebacked.engine.fanout import Fanout
from statebacked.engine.upgrading import upgrade
from statebacked.model.envelopes import Cause, Envelope, External
from statebacked.model.ids import EnvelopeId, Monotonic, Seq, VersionId
from statebacked.model.rows import DueTimer, InstanceRecord, Message, StateView
from statebacked.model.values import Json
from statebacked.ports.clock import Clock, Ids
from statebacked.ports.machines import Attached, Code, MachineLog, Machines, Migrator, Saved
from statebacked.ports.store import Outbox, Store

logger = structlog.get_logger(__name__)


class _Event(msgspec.Struct):
    type: str


_read_type = msgspec.json.Decoder(_Event).decode

# Refusals that the machine's owner can do something about, beside `machine-error`, of which the worker tells.
_FAULTS_OF_CODE: Final = frozenset(
    {
        "context-too-large",
        "invalid-machine",
        "machine-fault",
        "machine-timeout",
        "migration-failed",
        "step-too-large",
        "too-many-effects",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What every activation works with."""

    store: Store
    outbox: Outbox
    machines: Machines
    migrator: Migrator
    codes: Codes
    clock: Clock
    ids: Ids
    policy: Policy
    callers: Callers
    fanout: Fanout
    machine_log: MachineLog


class Surroundings(Protocol):
    """What holds the activation, and hears what is not for it alone."""

    def arm(self, timers: tuple[DueTimer, ...]) -> None: ...
    def post(self, loaded: "Loaded", messages: tuple[Message, ...]) -> None: ...
    def delivered(self, loaded: "Loaded", causes: tuple[Cause, ...]) -> None: ...
    def redeliver(self, loaded: "Loaded", command: phases.Redeliver) -> None: ...
    def rescan(self) -> None: ...
    def gone(self, loaded: "Loaded") -> None: ...
    def ended(self, loaded: "Loaded", ending: Ending) -> None: ...


def saved_state(record: InstanceRecord) -> Saved:
    return Saved(record.view.seq, record.snapshot, record.context)


class Loaded:
    """`outside` holds the client envelopes that are not answered yet, in order of arrival.

    `saved` is the state as it was loaded, kept until the first commit replaces it.
    """

    def __init__(
        self,
        activation: Activation,
        code: Code,
        saved: Saved | None,
        *,
        parts: Parts,
        surroundings: Surroundings,
    ) -> None:
        self.key = activation.key
        self.code = code
        self.outside: dict[EnvelopeId, Envelope] = {}
        self._parts = parts
        self._surroundings = surroundings
        self._saved = saved
        self._alarm = _Alarm(parts.clock, lambda: self.driver.signal(phases.Tick()))
        self.driver = Driver(
            activation,
            policy=parts.policy,
            now=parts.clock.now,
            commit=parts.store.commit,
            execute=self._execute,
            ended=lambda ending: surroundings.ended(self, ending),
        )
        self.attached: Attached = self._attach()
        self._upgrade: asyncio.Task[None] | None = None
        self._target: Code | None = None  # of the last upgrade

    @property
    def view(self) -> StateView | None:
        """The newest durable state; None: the instance does not exist yet."""
        return self.driver.activation.view

    def is_idle(self) -> bool:
        a = self.driver.activation
        return isinstance(a.phase, Settled) and not a.mailbox and not self.outside

    def deliver(self, envelope: Envelope) -> None:
        if envelope.wants_reply:
            self.outside[envelope.id] = envelope
        self.driver.signal(phases.Deliver(envelope))

    def close(self) -> None:
        self._alarm.set(None)
        if self._upgrade is not None:
            self._upgrade.cancel()
        self.attached.close()

    def _execute(self, command: Command) -> None:
        """Never waits: it enqueues."""
        match command:
            case phases.Compute(number, seq, envelopes):
                self.attached.compute(number, seq, envelopes, self._load_saved)
            case phases.WakeAt(at):
                self._alarm.set(at)
            case phases.Publish():
                self._saved = None
                self._parts.fanout.publish(self.key)
            case phases.Reply(to, view):
                self.outside.pop(to, None)
                self._parts.callers.answer(to, view)
            case phases.Perform(seq):
                self.attached.perform(seq)
            case phases.ReplyRefused(to, code, message):
                self.outside.pop(to, None)
                self._parts.callers.refuse(to, code, message)
                if code in _FAULTS_OF_CODE:
                    self._tell(f"an event is refused with {code}: {message}")
            case phases.Arm(timers):
                self._surroundings.arm(timers)
            case phases.Stop(services):
                self.attached.stop(services)
            case phases.Close():
                self.attached.close()
            case phases.Complain(envelope, code, message):
                self._tell(f"{_name_of(envelope)} is refused with {code}: {message}")
            case _:
                self._execute_for_others(command)

    def _execute_for_others(self, command: Command) -> None:
        """What concerns other instances, or the whole life of this one."""
        match command:
            case phases.Post(messages):
                self._surroundings.post(self, messages)
            case phases.Delivered(causes):
                self._surroundings.delivered(self, causes)
            case phases.Redeliver():
                self._surroundings.redeliver(self, command)
            case phases.Rescan():
                self._surroundings.rescan()
            case phases.Upgrade():
                self._begin_upgrade(command)
            case phases.Become(version):
                self._become(version)
            case phases.Throttled():
                self._tell_of_throttling()
            case phases.GoOn():
                self.driver.signal(phases.Tick())
            case phases.Gone():
                self.driver.has_ended = True
                for envelope in list(self.outside.values()):  # they came while the deletion was written
                    self._parts.callers.refuse(envelope.id, "not-found", "the instance was deleted")
                self.outside.clear()
                self._surroundings.gone(self)
            case _:
                raise AssertionError(command)

    def _tell_of_throttling(self) -> None:
        policy = self._parts.policy
        pace = f"{policy.unasked_per_s} steps a second that no client asks for"
        self._tell(f"for {policy.throttled_ms // 1000} s there has been more to do than {pace}: they wait")
        logger.warning("an instance is throttled", **self.key._asdict())

    def is_throttled(self) -> bool:
        """It has long had more to do, unasked, than it may."""
        return fairness.is_throttled(self.driver.activation, self._parts.clock.now(), self._parts.policy)

    def may_be_dropped(self) -> bool:
        """Nothing is under way, and its bucket is full, as it would be when it is loaded again."""
        now = self._parts.clock.now()
        return self.is_idle() and fairness.is_full(self.driver.activation, now, self._parts.policy)

    def _tell(self, line: str) -> None:
        self._parts.machine_log(self.code, self.key, "stderr", line)

    def _begin_upgrade(self, command: phases.Upgrade) -> None:
        self._upgrade = asyncio.get_running_loop().create_task(self._migrate(command))

    async def _migrate(self, command: phases.Upgrade) -> None:
        codes, migrator = self._parts.codes, self._parts.migrator
        version = self.driver.activation.version
        answer = await upgrade(command, self.key, version, self._load_saved, codes=codes, migrator=migrator)
        self._target = answer.target or self._target
        self.driver.signal(answer.signal)

    def _become(self, version: VersionId) -> None:
        assert self._target is not None, "only an upgrade that was carried out is committed"
        assert self._target.version == version
        self.attached.close()
        self.code = self._target
        self.attached = self._attach()

    def _attach(self) -> Attached:
        a = self.driver.activation
        return self._parts.machines.attach(self.code, self.key, a.instance, a.number, self.driver.signal)

    async def _load_saved(self) -> Saved:
        """The newest durable state: from memory right after loading, else from the store."""
        if self._saved is not None:
            return self._saved
        record = await self._parts.store.load(self.key)
        if record is None:
            return Saved(Seq(0), Json(b"null"), Json(b"null"))
        return saved_state(record)


def _name_of(envelope: Envelope) -> str:
    """What was refused, for a line of the log."""
    if envelope.service is not None:
        return f"an event of the service {envelope.service.id}"
    payload = envelope.payload
    if isinstance(payload, External):
        return f"the event {_read_type(payload.event).type} ({envelope.source})"
    return f"an event ({envelope.source})"


class _Alarm:
    """At most one timer of the loop. Moving the alarm later leaves that timer alone: it looks again when it
    fires, so that the usual event, over in a millisecond, arms nothing."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._at: Monotonic | None = None
        self._armed_at = 0
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at: Monotonic | None) -> None:
        self._at = at
        if at is None or (self._handle is not None and self._armed_at <= at):
            return
        if self._handle is not None:
            self._handle.cancel()
        self._arm(at)

    def _arm(self, at: Monotonic) -> None:
        self._armed_at = at
        pause_ms = max(0, at - self._clock.now().mono)
        self._handle = asyncio.get_running_loop().call_later(pause_ms / 1000, self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self._at is None:
            return
        if self._at > self._clock.now().mono:
            self._arm(self._at)
        else:
            self._ring()
