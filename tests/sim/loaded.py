"""One activation: its driver, its side of the worker's pipe, and the bystander who watches both."""

from collections import deque
from typing import Protocol

from statebacked.core import phases
from statebacked.core.phases import Activation, Settled, Stepping
from statebacked.core.policy import Policy
from statebacked.engine.driver import Driver, Ending
from statebacked.model.envelopes import Cause, Envelope
from statebacked.model.ids import ActivationNumber, EnvelopeId, Epoch, ServiceRun
from statebacked.model.rows import Commit, DueTimer, InstanceRecord, Outcome
from statebacked.model.step import Chattered, Performed, WorkerLost
from statebacked.model.values import Json, Now
from statebacked.ports.store import StoreFailed
from tests.sim import decisions, family, lifecycle, upgrades, watch, worker
from tests.sim.clockwork import Plan
from tests.sim.laws import Life, must
from tests.sim.machine import Event, encode, migrate, restore
from tests.sim.store import Answer, Disk, Line, saved_state
from tests.sim.surroundings import Surroundings
from tests.sim.worker import arrival_of


class Fault(Exception):
    """A mistake of ours."""


class Host(Protocol):
    """The process that an activation lives in."""

    s: Surroundings
    disk: Disk
    line: Line
    epoch: Epoch
    policy: Policy
    is_alive: bool

    def process(self) -> worker.Worker: ...
    def answer(self, to: EnvelopeId) -> None: ...
    def refuse(self, to: EnvelopeId, code: str) -> None: ...
    def rescan(self) -> None: ...
    def relay_soon(self) -> None: ...
    def delivered(self, causes: tuple[Cause, ...]) -> None: ...
    def drop(self, loaded: "Loaded") -> None: ...
    def arm(self, timers: tuple[DueTimer, ...]) -> None: ...
    def ended(self, loaded: "Loaded", ending: Ending) -> None: ...


class Loaded:
    """What engine/loaded.py is in the server. Judges every command before it executes it."""

    def __init__(self, node: Host, activation: Activation, uncounted: int, read_at: int) -> None:
        self.node = node
        self.s = node.s
        self.disk = node.disk
        self.key = activation.key
        self.instance = activation.instance
        self.version = activation.version
        self.outside: dict[EnvelopeId, Envelope] = {}
        self.uncounted = uncounted
        self.read_at = read_at
        if node.epoch == node.disk.epoch:
            family.messages_are_counted(activation, node.disk.rows, uncounted)
        self.watch = watch.Watch(node.policy, loaded_at=activation.seq)
        self.worker: worker.Worker | None = None
        self._decided_at = node.s.clockwork.now()
        self._alarm: Plan | None = None
        self._alarm_at: int | None = None
        self._armed: dict[str, DueTimer] = {}
        self._ended_in_silence: set[ServiceRun] = set()
        self._undecided: deque[phases.Signal] = deque()
        self._decided: decisions.Decided | None = None
        self._asked: Answer | None = None
        self._computing: phases.Compute | None = None
        self.driver = Driver(
            activation,
            policy=node.policy,
            now=self._read_clock,
            commit=self._commit,
            execute=self._execute,
            ended=self._ended,
        )

    @property
    def a(self) -> Activation:
        return self.driver.activation

    @property
    def number(self) -> ActivationNumber:
        return self.a.number

    def life(self) -> Life | None:
        return self.disk.lives.get(self.instance)

    def is_idle(self) -> bool:
        return isinstance(self.a.phase, Settled) and not self.a.mailbox and not self.outside

    def deliver(self, envelope: Envelope) -> None:
        if envelope.wants_reply:
            self.outside[envelope.id] = envelope
            self.watch.arrivals[envelope.id] = len(self.watch.arrivals)
        self.signal(phases.Deliver(envelope))

    def signal(self, signal: phases.Signal) -> None:
        self.s.trace("signal", self.number, signal)
        if not self.driver.has_ended:
            self._undecided.append(signal)
        self.driver.signal(signal)
        self._rest()

    def _ended(self, ending: Ending) -> None:
        must(self.driver.has_ended, "an activation that ends says so")
        self._undecided.clear()
        self._decided = None
        self.node.ended(self, ending)

    # --- decisions -----------------------------------------------------------------------------------

    def _read_clock(self) -> Now:
        """The driver does so once for each decision, and has taken its signal by then."""
        must(not self.driver.has_ended, "nothing is decided after the end")
        self._decided_at = self.s.clockwork.now()
        signal = self._taken()
        self._judge_decision()
        self._decided = decisions.Decided(
            self.a,
            signal,
            self._decided_at,
            self.watch.policy,
            losses=watch.losses_so_far(self.watch, self.a),
            answer_by=watch.answer_by(self.watch, self.a),
            alarm=self._alarm_at,
        )
        self._note(self._decided)
        return self._decided_at

    def _taken(self) -> phases.Signal:
        asked, self._asked = self._asked, None
        if asked is not None and asked.outcome is Outcome.CAUSE_GONE:
            assert self._decided is not None
            signal: phases.Signal = phases.CauseGone(_rows_behind(self._decided.commit))
            self._decided = None  # it never happened
        else:
            signal = self._undecided.popleft()
        is_next = list(self._undecided) == list(self.driver._signals)
        must(is_next, "signals are decided in the order in which they came, a lost race first")
        return signal

    def _judge_decision(self) -> None:
        decided, self._decided = self._decided, None
        if decided is None or self.node.epoch != self.disk.epoch:
            return
        outcome = decisions.Outcome(
            after=self.a,
            began=list(self.watch.began),
            answer_by=watch.answer_by(self.watch, self.a),
            alarm=self._alarm_at,
            allowance=watch.allowance_left(self.watch, decided.now),
        )
        decisions.judge(decided, outcome)
        is_held_back = decisions.is_held_back(decided, self.a)
        watch.throttling_is_told_once(self.watch, decided, is_held_back=is_held_back)
        lifecycle.judge(decided, self.a)
        family.judge(decided, self.a)
        upgrades.judge(decided, self.a)

    def _note(self, decided: decisions.Decided) -> None:
        watch.hear(self.watch, decided)
        self._note_answer(decided)
        match decided.signal:
            case WorkerLost(guilty):
                watch.lose_worker(self.watch, self.a, is_guilty=guilty)
            case phases.Drain():
                self.watch.is_draining = True
            case _:
                pass

    def _note_answer(self, decided: decisions.Decided) -> None:
        """What becomes of the events that are being computed, as far as it cannot be seen in a commit."""
        phase = decided.before.phase
        self._ended_in_silence.clear()
        if not isinstance(phase, Stepping):
            return
        first = phase.envelopes[0]
        due = decisions.refusal_due(decided)
        if decisions.is_owed_error(first) and due is not None and due.envelope == first.id:
            assert first.service is not None
            self._ended_in_silence.add(first.service)
            self.watch.over.add(first.service)
        for envelope, step in zip(phase.envelopes, decisions.steps_due(decided), strict=False):
            self.s.selected[envelope.id] = step.changed
            if envelope.ends_service and not step.changed and envelope.service:
                self._ended_in_silence.add(envelope.service)

    def audit(self) -> None:
        """Time has passed; nothing else need have happened."""
        self._rest()

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        if self.worker is not None:
            self.worker.down.send(worker.Close(self.number))

    # --- commits -------------------------------------------------------------------------------------

    def _commit(self, commit: Commit) -> Answer:
        self.s.trace("commit", self.number, commit)
        assert self._decided is not None
        self._decided.commit = commit
        self._asked = answer = self.node.line.commit(commit, frozenset(self._ended_in_silence))
        answer.heard = lambda outcome: self._committed(commit, outcome)
        return answer

    def _committed(self, commit: Commit, outcome: Outcome | BaseException) -> None:
        """After the driver has heard of it."""
        self.s.trace("committed", self.number, outcome)
        if self.driver.has_ended or outcome is not Outcome.COMMITTED:
            return self._rest()
        rows = {t.key: t.due for t in commit.timers_set}
        is_timer = commit.rejected is not None and commit.rejected.cause.table == "timer"
        if is_timer and commit.rejected is not None and commit.rejected.retry_at is not None:
            rows[commit.rejected.cause.key] = commit.rejected.retry_at
        must(rows.keys() <= self._armed.keys(), "a timer that is set or retried is armed")
        self._armed.clear()
        self._rest()

    def is_committing(self) -> bool:
        return self.driver._is_busy

    def _rest(self) -> None:
        if self.driver.has_ended or self.is_committing() or self.node.epoch != self.disk.epoch:
            return
        self._judge_decision()
        if self.instance not in self.disk.miscounted:
            family.messages_are_counted(self.a, self.disk.rows, self.uncounted)
        watch.rest(self.watch, self.life(), self.a, self.outside, self.s.clockwork.now())

    # --- commands ------------------------------------------------------------------------------------

    def _execute(self, command: phases.Command) -> None:  # noqa: C901, PLR0912 - one case for each command
        self.s.trace("command", self.number, command)
        if self._decided is not None:  # None: it is gone
            self._decided.commands.append(command)
        if self.s.rng.random() < self.s.faults.execute_fails:
            raise Fault
        if isinstance(command, phases.Reply | phases.Publish):
            watch.tells(self.life(), command.view)
        if self.node.epoch == self.disk.epoch:
            self._judge(command)
        match command:
            case phases.Compute(number, seq, envelopes):
                self._computing = command
                self._send(worker.Compute(self.number, number, seq, envelopes, self.version))
            case phases.Upgrade():
                self._upgrade(command)
            case phases.Become(version):
                self._send(worker.Close(self.number))
                self.version = version
            case phases.Perform(seq):
                self._send(worker.Perform(self.number, seq))
            case phases.Stop(services):
                self._send(worker.Stop(self.number, services))
            case phases.Close():
                self._send(worker.Close(self.number))
            case phases.Reply(to):
                self.outside.pop(to)
                self.node.answer(to)
            case phases.ReplyRefused(to, code):
                self.outside.pop(to)
                self.node.refuse(to, code)
            case phases.WakeAt(at):
                self._set_alarm(at)
            case phases.Arm(timers):
                self._armed.update((due.timer.key, due) for due in timers)
                self.node.arm(timers)
            case phases.GoOn():
                self.signal(phases.Tick())
            case phases.Post():
                self.node.relay_soon()
            case phases.Delivered(causes):
                self.node.delivered(causes)
            case phases.Redeliver():
                self.node.relay_soon()
            case phases.Rescan():
                self.node.rescan()
            case phases.Gone():
                self._judge_decision()
                self._retire()
                self.node.drop(self)
            case phases.Publish() | phases.Complain() | phases.Throttled():
                pass
            case _:
                raise AssertionError("the simulated machine has no family yet")

    def _retire(self) -> None:
        self.driver.has_ended = True
        self._undecided.clear()
        late, self.outside = self.outside, {}
        for id in late:
            self.node.refuse(id, "not-found")

    def _judge(self, command: phases.Command) -> None:
        w, life, now = self.watch, self.life(), self._decided_at
        match command:
            case phases.Compute():
                is_kept = any(lifecycle.is_kept_here(self.a, e) for e in command.envelopes)
                must(not is_kept, "no worker is asked about what needs none, or what nobody hears")
                watch.computes(w, life, self.a, command, now)
            case phases.Perform(seq):
                watch.performs(w, life, seq, now)
            case phases.Stop(services):
                w.may_stop = w.may_stop or self._has_flooded(services) or self._is_control()
                watch.stops(w, self.a, command, now)
            case phases.Close():
                watch.lose_worker(w, None)
            case phases.Reply():
                watch.replies(w, life, self.a, command, now)
            case phases.ReplyRefused():
                watch.refuses(w, life, self.a, command, now)
            case phases.Publish():
                watch.publishes(w, command)
            case phases.Arm(timers):
                assert life is not None
                for due in timers:
                    watch.arms(w, life, due)
            case phases.Complain(envelope):
                watch.complains(w, self._decided, envelope)
            case phases.Upgrade() | phases.Become():
                self._judge_upgrade(command)
            case _:
                pass

    def _judge_upgrade(self, command: phases.Upgrade | phases.Become) -> None:
        life = self.life()
        if isinstance(command, phases.Upgrade):
            upgrades.begins(life, self.a, command, is_draining=self.watch.is_draining)
            watch.upgrades(self.watch, command, self._decided_at)
        else:
            is_durable = life is not None and life.version == command.version
            must(is_durable, "a version is durable before it is run")

    def _is_control(self) -> bool:
        commit = self._decided.commit if self._decided is not None else None
        return commit is not None and (commit.status == "paused" or commit.deleted_at is not None)

    def _has_flooded(self, services: tuple[object, ...]) -> bool:
        """A service is stopped for what it says."""
        signal = self._decided.signal if self._decided is not None else None
        return isinstance(signal, Chattered) and services == (signal.sent.service,)

    def _set_alarm(self, at: int | None) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._alarm_at = None, at
        if at is not None:
            self._alarm = self.s.clockwork.at(at, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self.node.is_alive:
            self.signal(phases.Tick())

    # --- upgrades ------------------------------------------------------------------------------------

    def _upgrade(self, command: phases.Upgrade) -> None:
        """What the engine and the workers of migrations do: read, migrate, answer at some time."""
        upgrades.any_path_is_a_shortest_one(self.s.rng)
        self.s.when_upgrading()
        if self.s.rng.random() < self.s.faults.upgrade_lost:
            return
        pause_ms = self.s.rng.choice((1, 20, self.s.policy.upgrade_ms)) * self.s.rng.random()

        def read(found: InstanceRecord | StoreFailed | None) -> None:
            answer = self._migrated(command, found)
            self.s.clockwork.after(pause_ms, lambda: None if self.driver.has_ended else self.signal(answer))

        self.node.line.load(self.key, read)

    def _migrated(
        self, command: phases.Upgrade, found: InstanceRecord | StoreFailed | None
    ) -> phases.Upgraded | phases.UpgradeFailed:
        number = command.number
        if found is None or isinstance(found, StoreFailed) or found.view.seq != command.seq:
            return phases.UpgradeFailed(number, "unavailable", "the state cannot be read")
        if self.s.rng.random() < self.s.faults.upgrade_fails:
            return phases.UpgradeFailed(number, "migration-failed", "no")
        event = Json(encode(Event("upgrade", self.s.next_number())))
        told = [(timer.key, timer.send_id) for timer in command.timers]
        state = restore(found.snapshot, found.context)
        return phases.Upgraded(number, event, arrival_of(migrate(state, told, command.version)))

    # --- the worker's pipe ---------------------------------------------------------------------------

    def _send(self, frame: object) -> None:
        if self.worker is None and isinstance(frame, worker.Compute):
            self.worker = self.node.process()
        if self.worker is not None:
            self.worker.down.send(frame)

    def hear(self, frame: object) -> None:
        match frame:
            case worker.Lacks(n):
                self._load_saved(n)
            case worker.PerformedFrame(seq, sent):
                self.signal(Performed(seq, sent))
            case worker.Inside(sent):
                self.signal(Chattered(sent))
            case _:
                self.signal(frame)  # type: ignore[arg-type]

    def _load_saved(self, n: int) -> None:
        command, process = self._computing, self.worker
        if command is None or command.number != n:
            return

        def loaded(found: InstanceRecord | StoreFailed | None) -> None:
            if self.driver.has_ended or self.worker is not process or process is None:
                return
            if isinstance(found, StoreFailed):
                self.signal(WorkerLost())
            else:
                base = saved_state(found)
                is_another = found is not None and found.id != self.instance
                if base.seq != command.seq or is_another:
                    self.signal(WorkerLost())  # another owner has gone on
                    return
                again = worker.Compute(self.number, n, command.seq, command.envelopes, self.version, base)
                process.down.send(again)

        self.node.line.load(self.key, loaded)

    def hear_loss(self) -> None:
        self.worker = None
        is_guilty = (
            self.s.rng.random() < 0.3 and not self.is_committing() and isinstance(self.a.phase, Stepping)
        )
        self.signal(WorkerLost(guilty=is_guilty))


def _rows_behind(commit: Commit | None) -> tuple[Cause, ...]:
    assert commit is not None
    return (*commit.consumed, *([commit.rejected.cause] if commit.rejected is not None else []))
