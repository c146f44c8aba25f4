"""A worker process that runs the machine of machine.py: slow pipes, live copies, services that do what they
like, and sudden death. What it holds follows docs/reference/worker-protocol.md."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from msgspec import Struct
from msgspec.structs import replace

from statebacked.core.steps import INITIAL_EVENT, UNWORDED_DONE, UNWORDED_ERROR
from statebacked.model.envelopes import ChildDone, Envelope, External, Initialize, Internal, ServiceFailed
from statebacked.model.ids import ActivationNumber, Seq, ServiceRun, VersionId
from statebacked.model.step import Arrival, Moved, Refused, Sent, Step, Stepped
from statebacked.model.values import Indexed, Json
from statebacked.ports.machines import Saved
from tests.sim.clockwork import Pipe, Plan
from tests.sim.laws import Life, must
from tests.sim.machine import (
    UNBORN,
    Event,
    Migrated,
    Reaction,
    State,
    decode_event,
    encode,
    indexes_of,
    public_of,
    react,
    restore,
    value_of,
)
from tests.sim.surroundings import Surroundings

INSIDE_BYTES = 64

# --- frames ------------------------------------------------------------------------------------------


class Compute(Struct):
    a: ActivationNumber
    n: int
    seq: Seq
    envelopes: Sequence[Envelope]
    version: VersionId
    base: Saved | None = None


class Perform(Struct):
    a: ActivationNumber
    seq: Seq


class Stop(Struct):
    a: ActivationNumber
    services: Sequence[ServiceRun]


class Close(Struct):
    a: ActivationNumber


class Lacks(Struct):
    n: int


class PerformedFrame(Struct):
    seq: Seq
    sent: tuple[Sent, ...]


class Inside(Struct):
    sent: Sent


# --- what the worker holds of one activation ---------------------------------------------------------


@dataclass(slots=True)
class Held:
    """A computed step, not confirmed: its state, and what is to be performed."""

    seq: Seq
    state: State
    reaction: Reaction | None
    fuel: int
    indexes: Indexed | None


@dataclass(slots=True)
class Copy:
    seq: int = -1  # -1: the state has been dropped
    state: State = UNBORN
    indexes: Indexed | None = None  # None: of a state that was restored, it does not know
    held: Held | None = None
    tokens: dict[int, Json] = field(default_factory=dict)
    runs: dict[ServiceRun, "Service"] = field(default_factory=dict)


class Worker:
    """One process. `tell` carries frames of an activation up; `lost` is heard once, after death."""

    def __init__(
        self,
        s: Surroundings,
        *,
        tell: Callable[[ActivationNumber, object], None],
        lost: Callable[["Worker"], None],
        life_of: Callable[[ActivationNumber], Life | None],
    ) -> None:
        self.is_alive = True
        self.copies: dict[ActivationNumber, Copy] = {}
        self.s = s
        self.clockwork = s.clockwork
        self.rng = s.rng
        self._life_of = life_of
        self._tokens = 0
        self.down = Pipe(s.clockwork, s.pipe_latency, self._hear)
        self._up = Pipe(
            s.clockwork, s.pipe_latency, lambda frame: tell(*frame) if frame is not None else lost(self)
        )

    def die(self) -> None:
        if not self.is_alive:
            return
        self.is_alive = False
        self.down.cut()
        if self.rng.random() < 0.5:
            self._up.cut()
        for copy in self.copies.values():
            for service in copy.runs.values():
                service.stop()
        self.copies.clear()
        self._up.send(None)

    def vanish(self) -> None:
        """Its host is gone; nobody hears anything any more."""
        self.die()
        self._up.cut()

    def say(self, a: ActivationNumber, frame: object) -> None:
        if self.is_alive:
            self._up.send((a, frame))

    def token(self, copy: Copy, event: Json) -> int:
        self._tokens += 1
        copy.tokens[self._tokens] = event
        return self._tokens

    def _hear(self, frame: object) -> None:
        match frame:
            case Compute():
                self._compute(frame)
            case Perform(a, seq):
                self._perform(a, seq)
            case Stop(a, services):
                copy = self.copies.get(a)
                for run in services:
                    if copy is not None and run in copy.runs:
                        copy.runs.pop(run).stop()
            case Close(a):
                for service in self.copies.pop(a, Copy()).runs.values():
                    service.stop()
            case _:
                raise AssertionError(frame)

    # --- compute -------------------------------------------------------------------------------------

    def _compute(self, frame: Compute) -> None:
        copy = self.copies.setdefault(frame.a, Copy())
        if not self._stand_on(copy, frame):
            self.say(frame.a, Lacks(frame.n))
            return
        dice = self.rng.random()
        if dice < self.s.faults.die:
            self.clockwork.after(self.rng.random() * 3, self.die)
        elif dice < self.s.faults.die + self.s.faults.hang:
            return
        elif dice < self.s.faults.die + self.s.faults.hang + self.s.faults.late:
            answer = self._answer(copy, frame)
            pause_ms = self.s.policy.compute_ms * (0.9 + self.rng.random())
            self.clockwork.after(pause_ms, lambda: self.say(frame.a, answer))
        else:
            answer = self._answer(copy, frame)
            self.clockwork.after(self.rng.random() * 3, lambda: self.say(frame.a, answer))

    def _stand_on(self, copy: Copy, frame: Compute) -> bool:
        """The durable state that the frame names, or False when the worker lacks it."""
        if frame.base is not None:
            base = frame.base
            copy.seq = frame.seq
            copy.state = restore(base.snapshot, base.context) if base.seq else UNBORN
            copy.indexes = None
        elif frame.seq == 0:
            copy.seq, copy.state, copy.indexes = 0, UNBORN, None
        elif copy.held is not None and copy.held.seq == frame.seq:
            self._confirm(copy)
        copy.held = None
        if copy.seq != frame.seq:
            return False
        life = self._life_of(frame.a)
        known = UNBORN if life is None else life.states[frame.seq] if frame.seq <= life.seq else None
        must(copy.state == known, "a live copy and the stored state are the same")
        return True

    def _confirm(self, copy: Copy) -> None:
        assert copy.held is not None
        must(copy.held.reaction is None, "effects are performed before the next event is computed")
        copy.seq, copy.state, copy.indexes = copy.held.seq, copy.held.state, copy.held.indexes

    def _answer(self, copy: Copy, frame: Compute) -> Stepped | Refused:
        state, changed, indexes = copy.state, 0, copy.indexes
        steps: list[Step] = []
        last: Reaction | None = None
        fuel = 0
        for envelope in frame.envelopes:
            raw, worded = self._word(copy, envelope)
            reaction = self._judge(state, envelope, raw, frame.version)
            if isinstance(reaction, str):
                if steps:
                    break
                copy.seq = -1
                return Refused(frame.n, reaction, "no")
            if reaction is None:
                steps.append(Step(changed=False))
                continue
            step = _step(reaction, state, worded, indexes)
            steps.append(step)
            indexes = step.indexes or indexes
            state, last, fuel = reaction.state, reaction, decode_event(raw).fuel - 1
            changed += 1
            if (
                reaction.has_effects
                or reaction.sends
                or reaction.starts
                or reaction.stops
                or reaction.outgoing
            ):
                break
        if changed:
            held = last if last is not None and last.has_effects else None
            copy.held = Held(Seq(frame.seq + changed), state, held, fuel, indexes)
        if self.rng.random() < self.s.faults.odd:
            return self._spoilt(copy, frame, steps)
        return Stepped(frame.n, tuple(steps))

    def _spoilt(self, copy: Copy, frame: Compute, steps: list[Step]) -> Stepped | Refused:
        """An answer that the protocol allows and that no adapter of ours gives."""
        if frame.seq == 0 and steps[0].changed:
            copy.held = None
            return Stepped(frame.n, (replace(steps[0], context=None),))
        if len(steps) < len(frame.envelopes) or self.rng.random() < 0.5:
            copy.seq, copy.held = -1, None
            return Refused(frame.n, self.rng.choice(("context-too-large", "step-too-large")), "no")
        return Stepped(frame.n, (*steps, Step(changed=True, has_effects=not steps[-1].has_effects)))

    def _judge(self, state: State, envelope: Envelope, raw: Json, version: str) -> Reaction | str | None:
        if envelope.auth is not None and self.rng.random() < self.s.faults.unauthorised:
            return "rejected-by-machine-authorizer"
        return react(state, raw, version)

    def _word(self, copy: Copy, envelope: Envelope) -> tuple[Json, Json | None]:
        """The event as the machine sees it, and the same when the worker has to say it."""
        match envelope.payload:
            case External(event):
                return event, None
            case Internal(event, token):
                held = copy.tokens.pop(token, None)
                must(held is None or held == event, "an inside event is the one that was announced")
                return event, None
            case Initialize():
                if self.rng.random() < 0.3:
                    return INITIAL_EVENT, None
                event = Json(encode(Event("init", self.s.next_number(), self.s.fuel(2))))
                return event, event
            case ServiceFailed() if envelope.origin is not None:
                event = Json(
                    encode(Event("child-failed", self.s.next_number(), self.s.fuel(1), kin=self.s.kinship))
                )
                return event, event
            case ChildDone():
                if self.rng.random() < 0.3:
                    return UNWORDED_DONE, None
                event = Json(
                    encode(Event("child-done", self.s.next_number(), self.s.fuel(1), kin=self.s.kinship))
                )
                return event, event
            case ServiceFailed():
                assert envelope.service is not None
                if self.rng.random() < 0.1:
                    return UNWORDED_ERROR, None
                fuel = 0 if self.s.is_calm else 1
                event = Json(encode(Event("error", self.s.next_number(), fuel, run=envelope.service)))
                return event, event
            case _:
                raise AssertionError("no worker is asked about these")

    # --- perform -------------------------------------------------------------------------------------

    def _perform(self, a: ActivationNumber, seq: Seq) -> None:
        copy, life = self.copies.get(a), self._life_of(a)
        if copy is None or copy.held is None or copy.held.seq != seq:
            return  # it was in another process, or is closed
        held = copy.held
        must(life is not None and life.seq >= seq, "no effect before its commit")
        must(life is not None and life.states[seq] == held.state, "no effect of a step that lost its race")
        copy.seq, copy.state, copy.indexes, copy.held = seq, held.state, held.indexes, None
        assert held.reaction is not None, "the core performs only what holds effects"
        sent = self._run_effects(a, copy, seq, held)
        dice = self.rng.random()
        if dice < self.s.faults.die:
            self.clockwork.after(self.rng.random() * 3, self.die)
        elif dice >= self.s.faults.die + self.s.faults.hang:
            pause_ms = self.rng.choice((0, 0, 10)) * self.rng.random()
            self.clockwork.after(pause_ms, lambda: self.say(a, PerformedFrame(seq, sent)))

    def _run_effects(self, a: ActivationNumber, copy: Copy, seq: Seq, held: Held) -> tuple[Sent, ...]:
        assert held.reaction is not None
        starts, stops = held.reaction.starts, held.reaction.stops
        sent: list[Sent] = []
        for run in [r for r in copy.runs if r.id in stops or r.id in starts or held.state.snapshot.done]:
            service = copy.runs.pop(run)
            service.stop()
            if self.rng.random() < 0.2:
                sent.append(service.word("chat", ends=False))  # a last word of what is stopped
        after, position = 0, 0
        owns = len(held.reaction.sends)
        while held.fuel >= 0 and self.rng.random() < 0.2:
            skip = self.rng.randint(0, owns - after)
            after, position = after + skip, position + 1 if not skip else 1
            order = (held.state.snapshot.steps, 10 * after + position)
            event = _padded(Event("self", self.s.next_number(), held.fuel, order=order))
            internal = Internal(event, self.token(copy, event))
            ends = self.rng.random() < 0.1  # of which service, if any? no real worker says so
            sent.append(Sent(internal=internal, after=after, ends_service=ends))
        for id in starts:
            sent += self._start(a, copy, ServiceRun(id, seq), held.fuel, owns)
        return tuple(sent)

    def _start(self, a: ActivationNumber, copy: Copy, run: ServiceRun, fuel: int, owns: int) -> list[Sent]:
        service = Service(self, a, copy, run, fuel)
        copy.runs[run] = service
        dice = self.rng.random()
        at_once: list[Sent] = []
        if dice < 0.2:
            at_once.append(service.word("chat", ends=False, after=owns))
        if dice < 0.1 or dice > 0.95:
            at_once.append(service.word("error", ends=True, after=owns))
            copy.runs.pop(run).stop()
            if dice > 0.98:
                at_once.append(service.word("chat", ends=False, after=owns))
        else:
            service.live()
        return at_once


def _padded(event: Event) -> Json:
    """All of one length, so that a bound in bytes is reached exactly."""
    return Json(encode(event).ljust(INSIDE_BYTES))


def _step(reaction: Reaction, before: State, worded: Json | None, known: Indexed | None) -> Step:
    context = None
    if reaction.state.context != before.context or before is UNBORN:
        context = Json(encode(reaction.state.context))
    indexes = None if context is None else indexes_of(reaction.state)
    return Step(
        changed=True,
        event=worded,
        value=value_of(reaction.state),
        done=reaction.state.snapshot.done,
        snapshot=Json(encode(reaction.state.snapshot)),
        context=context,
        public=None if context is None else public_of(reaction.state),
        timers=reaction.timers,
        sends=reaction.sends,
        starts=reaction.starts,
        stops=reaction.stops,
        indexes=None if indexes == known else indexes,
        outgoing=reaction.outgoing,
        output=reaction.output,
        has_effects=reaction.has_effects,
    )


# --- services ----------------------------------------------------------------------------------------

PROMISE_MS = (0, 1, 30, 900, 2_990, 3_100, 20_000)


class Service:
    """One run of a service. It has one of a few habits, and stops when it is told to."""

    def __init__(self, worker: Worker, a: ActivationNumber, copy: Copy, run: ServiceRun, fuel: int) -> None:
        self._worker = worker
        self._a = a
        self._copy = copy
        self._run = run
        self._fuel = fuel
        self._plans: list[Plan] = []
        self._is_over = False

    def live(self) -> None:
        rng = self._worker.rng
        match rng.choice(("promise", "promise", "callback", "steady", "flood", "babble", "never")):
            case "promise":
                self._plan(rng.choice(PROMISE_MS), "done" if rng.random() < 0.7 else "error")
            case "callback":
                for n in range(rng.randint(1, 3)):
                    self._plan(n * rng.random() * 50, "chat")
                if rng.random() < 0.7:
                    self._plan(rng.choice(PROMISE_MS) + 150, "done")
            case "steady":
                every = rng.choice((300, 700))
                for n in range(15):
                    self._plan((n + 1) * every, "chat")
            case "flood":
                for n in range(rng.randint(5, 25)):
                    self._plan(n * 0.1, "chat")
                if rng.random() < 0.5:
                    self._plan(5, "done")
            case "babble":  # nothing real talks on when it is over, a broken adapter might
                over_ms = rng.choice(PROMISE_MS)
                self._plan(over_ms, "done")
                for n in range(12):
                    type = rng.choice(("chat", "chat", "chat", "done")) if n else "chat"
                    self._plan(over_ms + n * 0.1, type)
            case _:
                pass

    def stop(self) -> None:
        self._is_over = True
        for plan in self._plans:
            plan.cancel()

    def word(self, type: str, *, ends: bool, after: int = 0) -> Sent:
        number = self._worker.s.next_number()
        event = _padded(Event(type, number, 0 if type == "chat" else self._fuel, run=self._run))
        token = self._worker.token(self._copy, event)
        return Sent(internal=Internal(event, token), after=after, service=self._run, ends_service=ends)

    def _plan(self, delay_ms: float, type: str) -> None:
        self._plans.append(self._worker.clockwork.after(delay_ms, lambda: self._speak(type)))

    def _speak(self, type: str) -> None:
        if self._is_over:
            return
        self._worker.say(self._a, Inside(self.word(type, ends=type in ("done", "error"))))
        if type != "chat":
            self._copy.runs.pop(self._run, None)


def arrival_of(migrated: Migrated) -> Arrival:
    """A migrated state as workers tell it."""
    state = migrated.state
    step = Step(
        changed=True,
        value=value_of(state),
        done=state.snapshot.done,
        snapshot=Json(encode(state.snapshot)),
        context=Json(encode(state.context)),
        public=public_of(state),
        timers=migrated.fresh,
        indexes=indexes_of(state),
    )
    moved = tuple(Moved(key, send_id, event) for key, (send_id, event) in migrated.moved.items())
    return Arrival(step, moved, migrated.removed)
