"""Machines without workers: a Python function stands for the machine. For tests of the engine.

The function gets the count that a worker would have restored and an event, and answers with a step or a
refusal. Answers come through the event loop, or, while `hold` is on, when `release` lets them.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from statebacked.model.envelopes import ChildDone, Envelope, External, Initialize, Internal, ServiceFailed
from statebacked.model.errors import Unavailable
from statebacked.model.ids import (
    ActivationNumber,
    InstanceId,
    InstanceKey,
    InstanceName,
    MachineName,
    SendId,
    Seq,
    ServiceId,
    ServiceRun,
    VersionId,
)
from statebacked.model.rows import PendingTimer
from statebacked.model.step import (
    Arrival,
    Performed,
    Refused,
    SendTo,
    SetTimer,
    Spawn,
    Step,
    Stepped,
    WorkerLost,
    WorkerSignal,
)
from statebacked.model.values import TO_PARENT, Address, Json
from statebacked.ports.machines import Attached, Code, LoadSaved, MigrationFailed, Route, Saved, Validated
from statebacked.ports.store import StoreFailed

Event = dict[str, object]


@dataclass(frozen=True, slots=True)
class Refusal:
    code: str
    message: str = ""


Behaviour = Callable[[int, Event], Step | Refusal]


def counting(count: int, event: Event) -> Step | Refusal:
    """A machine that counts, refuses `no`, ignores `unknown`, performs on `act`, and on `wait` sets a timer
    of `ms` milliseconds that counts. `tell` sends the event `say` to the instance `to` (none: the parent),
    `spawn` makes the instance `child`, `finish` ends it; a child that is done counts 10, one that failed
    100."""
    match event["type"]:
        case "no":
            return Refusal("machine-error", "a guard threw")
        case "unknown":
            return Step(changed=False)
        case "act":
            return replace(counted(count + 1), has_effects=True)
        case "wait":
            delay_ms = event["ms"]
            assert isinstance(delay_ms, int)
            timer = SetTimer(SendId("wait"), delay_ms, Json(b'{"type":"rang"}'))
            return replace(counted(count), timers=(timer,))
        case "tell" | "spawn" | "finish" | "child-done" | "child-failed":
            return with_family(count, event)
        case _:
            return counted(count + 1)


def with_family(count: int, event: Event) -> Step:
    match event["type"]:
        case "tell":
            to = (
                TO_PARENT
                if event.get("to") is None
                else Address(MachineName("counter"), name_of(event["to"]))
            )
            said = Json(json.dumps({"type": event["say"]}).encode())
            return replace(counted(count), outgoing=(SendTo(to, said),))
        case "spawn":
            child = Address(MachineName(str(event.get("machine", "counter"))), name_of(event["child"]))
            return replace(counted(count), outgoing=(Spawn(ServiceId("child"), child, None, None),))
        case "finish":
            return replace(counted(count), done=True, output=Json(b"%d" % count))
        case "child-done":
            return counted(count + 10)
        case _:
            return counted(count + 100)


def name_of(value: object) -> InstanceName:
    return InstanceName(str(value))


def counted(count: int) -> Step:
    """The step to that count; the context is {"public": {"count": …}}."""
    text = Json(b'{"count":%d}' % count)
    context = Json(b'{"public":' + text + b"}")
    return Step(changed=True, value=Json(b'"on"'), snapshot=Json(b"%d" % count), context=context, public=text)


class FakeMigrator:
    """Implements ports.Migrator: states stay, under another value. `reason`: what each upgrade fails for.
    `held`: upgrades wait until it is set."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.is_available = True
        self.held: asyncio.Event | None = None
        self.routes: list[Route] = []
        self.moves: Callable[[Sequence[PendingTimer]], Arrival] | None = None

    async def migrate(
        self, route: Route, key: InstanceKey, saved: Saved, timers: Sequence[PendingTimer]
    ) -> Arrival:
        self.routes.append(route)
        if self.held is not None:
            await self.held.wait()
        if not self.is_available:
            raise Unavailable("all workers are busy")
        if self.reason is not None:
            raise MigrationFailed(self.reason)
        if self.moves is not None:
            return self.moves(timers)
        return Arrival(replace(counted(int(saved.snapshot)), value=Json(b'"upgraded"'), indexes=()))

    async def validate_migration(self, bundle: bytes) -> Validated:
        return Validated("5.33.3")


class FakeMachines:
    """Implements ports.Machines. `readers` are the authContexts that allowRead admits, None: all; `hidden`
    the instances that it admits nobody to where several are asked about."""

    def __init__(self, behaviour: Behaviour = counting) -> None:
        self.behaviour = behaviour
        self.readers: set[Json] | None = None
        self.hidden: set[InstanceName] = set()
        self.read_each: list[tuple[VersionId, list[InstanceName]]] = []
        self.performed: list[tuple[InstanceKey, Seq]] = []
        self.computed: list[Envelope] = []
        self.attachments: list[FakeAttached] = []
        self._held: list[Callable[[], None]] | None = None

    def hold(self) -> None:
        """Keep answers to computes back."""
        self._held = []

    def release(self) -> None:
        held, self._held = self._held or [], None
        for answer in held:
            answer()

    def kill(self) -> None:
        """The worker of every attachment dies."""
        self._held = None
        for attached in self.attachments:
            attached.lose()

    def later(self, answer: Callable[[], None]) -> None:
        if self._held is not None:
            self._held.append(answer)
        else:
            asyncio.get_running_loop().call_soon(answer)

    def attach(
        self,
        code: Code,
        key: InstanceKey,
        instance: InstanceId,
        activation: ActivationNumber,
        receive: Callable[[WorkerSignal], None],
    ) -> Attached:
        attached = FakeAttached(self, code, key, receive)
        self.attachments.append(attached)
        return attached

    async def may_read(
        self, code: Code, key: InstanceKey, saved: Saved, auths: Sequence[Json]
    ) -> Sequence[bool]:
        return self.judge(auths)

    def judge(self, auths: Sequence[Json]) -> Sequence[bool]:
        return [self.readers is None or auth in self.readers for auth in auths]

    async def may_read_each(
        self, code: Code, states: Sequence[tuple[InstanceName, Saved]], auth: Json
    ) -> Sequence[bool]:
        self.read_each.append((code.version, [name for name, _ in states]))
        (allowed,) = self.judge([auth])
        return [allowed and name not in self.hidden for name, _ in states]

    async def validate(self, bundle: bytes, xstate_hint: str | None) -> Validated:
        return Validated("5.33.3")


class FakeAttached:
    """One activation; it holds no live state, so every compute loads."""

    def __init__(
        self,
        machines: FakeMachines,
        code: Code,
        key: InstanceKey,
        receive: Callable[[WorkerSignal], None],
    ) -> None:
        self.code = code
        self._machines = machines
        self._key = key
        self._receive = receive
        self._generation = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def compute(self, number: int, seq: Seq, envelopes: Sequence[Envelope], load: LoadSaved) -> None:
        task = asyncio.get_running_loop().create_task(self._compute(number, seq, envelopes[0], load))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compute(self, number: int, seq: Seq, envelope: Envelope, load: LoadSaved) -> None:
        generation = self._generation
        try:
            count = int((await load()).snapshot) if seq else 0
        except StoreFailed:
            self._receive(Refused(number, "unavailable", "the stored state cannot be read"))
            return
        self._machines.computed.append(envelope)
        answer = self._react(number, count, envelope)
        self._machines.later(lambda: self._answer(generation, answer))

    def _react(self, number: int, count: int, envelope: Envelope) -> WorkerSignal:
        match envelope.payload:
            case Initialize():
                return Stepped(number, (counted(0),))
            case External(event) | Internal(event=event):
                reaction = self._machines.behaviour(count, json.loads(event))
            case ChildDone():
                reaction = self._machines.behaviour(count, {"type": "child-done"})
            case ServiceFailed() if envelope.origin is not None:
                reaction = self._machines.behaviour(count, {"type": "child-failed"})
            case _:
                reaction = Step(changed=False)
        if isinstance(reaction, Refusal):
            return Refused(number, reaction.code, reaction.message)
        return Stepped(number, (reaction,))

    def _answer(self, generation: int, answer: WorkerSignal) -> None:
        if generation == self._generation:
            self._receive(answer)

    def lose(self) -> None:
        self._generation += 1
        self._receive(WorkerLost())

    def perform(self, seq: Seq) -> None:
        self._machines.performed.append((self._key, seq))
        self._machines.later(lambda: self._answer(self._generation, Performed(seq, ())))

    def stop(self, services: Sequence[ServiceRun]) -> None:
        pass

    def close(self) -> None:
        self._generation += 1

    async def may_read(self, seq: Seq, auths: Sequence[Json]) -> Sequence[bool] | None:
        return self._machines.judge(auths)
