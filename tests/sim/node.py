"""One server process: what the engine does around the driver, kept as small as the laws allow."""

import heapq
from dataclasses import dataclass, field
from functools import partial

from statebacked.core import phases
from statebacked.core.delivery import of_message, of_timer
from statebacked.core.instance import activate, conceive
from statebacked.core.phases import Stepping
from statebacked.engine.driver import Ending
from statebacked.model.envelopes import Cause, Envelope
from statebacked.model.ids import (
    NEVER,
    ActivationNumber,
    EnvelopeId,
    InstanceId,
    InstanceKey,
    Instant,
    VersionId,
)
from statebacked.model.rows import DeadLetter, DueMessage, DueTimer, InstanceRecord, Message, Outcome, Timer
from statebacked.ports.store import StoreFailed
from tests.sim import family, worker
from tests.sim.clockwork import Plan
from tests.sim.laws import Life, must
from tests.sim.loaded import Fault, Loaded
from tests.sim.store import Disk, Line
from tests.sim.surroundings import Surroundings

WINDOW_MS = 60_000
SETBACK_MS = 50
RELAY_MS = 300
LOST = "lost"


@dataclass(slots=True)
class Loading:
    redriven: list[phases.Redriven] = field(default_factory=list)
    uncounted: int = 0  # messages to others that were redriven after the record was read, perhaps
    read_at: int = 0  # how many commits the disk had applied when the record was read
    envelopes: list[Envelope] = field(default_factory=list)
    timers: list[DueTimer] = field(default_factory=list)
    messages: list[DueMessage] = field(default_factory=list)


class Node:
    """All activations of one process, its worker, its timer pump, and the callers that wait in it."""

    def __init__(self, s: Surroundings, disk: Disk) -> None:
        self.s = s
        self.disk = disk
        self.epoch = disk.rows.acquire()
        self.policy = s.policy_of_a_node()
        self.is_alive = True
        self.is_open = True
        self.line = Line(disk, s)
        self.callers: set[EnvelopeId] = set()
        self.loaded: dict[InstanceKey, Loaded] = {}
        self._by_number: dict[ActivationNumber, Loaded] = {}
        self._instances: dict[ActivationNumber, InstanceId] = {}
        self._loading: dict[InstanceKey, Loading] = {}
        self._worker: worker.Worker | None = None
        self._heap: list[tuple[int, int, DueTimer]] = []
        self._horizon = 0
        self._pushed = 0
        self._pump_plan: Plan | None = None
        self._relay_plan: Plan | None = None
        self._under_way: dict[Cause, DueMessage] = {}
        for key in disk.rows.undelivered(1_000):
            self._want(key)
        self._pump()
        self.relay_soon()

    def die(self) -> None:
        self.is_alive = self.is_open = False
        self.line.is_cut = True
        if self._worker is not None:
            self._worker.vanish()
        for loaded in self.loaded.values():
            loaded.driver.has_ended = True
            loaded.close()
        if self._pump_plan is not None:
            self._pump_plan.cancel()
        for id in self.callers:
            self.s.results[id] = LOST
        self.callers.clear()

    def drain(self) -> None:
        self.is_open = False
        for loaded in list(self.loaded.values()):
            loaded.signal(phases.Drain())

    def drop(self, loaded: Loaded) -> None:
        del self.loaded[loaded.key]
        del self._by_number[loaded.number]
        loaded.driver.has_ended = True
        loaded.close()

    # --- callers -------------------------------------------------------------------------------------

    def request(self, key: InstanceKey, envelope: Envelope) -> None:
        self.callers.add(envelope.id)
        if not self.is_open:
            self.refuse(envelope.id, "unavailable")
        else:
            self._give(key, envelope)

    def answer(self, to: EnvelopeId) -> None:
        self.callers.remove(to)
        self._result(to, None)

    def refuse(self, to: EnvelopeId, code: str) -> None:
        self.callers.remove(to)
        self._result(to, code)

    def _result(self, to: EnvelopeId, code: str | None) -> None:
        must(to not in self.s.results, "a request is answered once")
        self.s.results[to] = code

    def _give(self, key: InstanceKey, envelope: Envelope) -> None:
        loaded = self.loaded.get(key)
        if loaded is not None:
            loaded.deliver(envelope)
            if loaded.a.view is None and loaded.is_idle() and self.loaded.get(key) is loaded:
                self.drop(loaded)
        else:
            self._want(key).envelopes.append(envelope)

    # --- loading and ending --------------------------------------------------------------------------

    def _want(self, key: InstanceKey) -> Loading:
        loading = self._loading.get(key)
        if loading is None:
            loading = self._loading[key] = Loading()
            self._load(key, loading)
        return loading

    def _load(self, key: InstanceKey, loading: Loading) -> None:
        def note(applied: int) -> None:
            loading.read_at = applied

        self.line.load(key, lambda found: self._have(key, loading, found), note)

    def _have(self, key: InstanceKey, loading: Loading, found: InstanceRecord | StoreFailed | None) -> None:
        del self._loading[key]
        if isinstance(found, StoreFailed) or not self.is_open:
            for envelope in loading.envelopes:
                if envelope.wants_reply:
                    self.refuse(envelope.id, "unavailable")
            return
        loaded = self._hold(key, found, loading)
        loaded.watch.untold = len(loading.redriven)
        if self.s.rng.random() < 0.5:
            loaded.signal(phases.Tick())
        for letter in loading.redriven:
            loaded.watch.untold -= 1
            loaded.signal(letter)
        loaded.signal(phases.Tick())
        for envelope in loading.envelopes:
            self._give(key, envelope)
        for due in loading.timers:
            self._deliver_timer(due)
        is_created = bool(loading.envelopes) or any(m.message.kind == "create" for m in loading.messages)
        for message in loading.messages:
            if found is None and not is_created and self.s.rng.random() < 0.5:
                self._cannot_deliver(loaded, message)
            else:
                self._hand_over(message)
        if self.loaded.get(key) is loaded and loaded.a.view is None and loaded.is_idle():
            self.drop(loaded)

    def _hold(self, key: InstanceKey, found: InstanceRecord | None, loading: Loading) -> Loaded:
        number = ActivationNumber(self.s.next_number())
        if found is None:
            instance = InstanceId(f"ins_{number}")
            floor = self.disk.rows.graves.get(key, NEVER)
            activation = conceive(instance, key, VersionId("ver"), number, self.epoch, floor)
        else:
            activation = activate(found, number, self.epoch)
        self._instances[number] = activation.instance
        loaded = self.loaded[key] = self._by_number[number] = Loaded(
            self, activation, loading.uncounted, loading.read_at
        )
        return loaded

    def ended(self, loaded: Loaded, ending: Ending) -> None:
        """Nobody is forgotten: what stands in the history is answered, the rest goes on in order."""
        if not isinstance(ending, Outcome | StoreFailed | Fault):
            raise ending
        if self.loaded.get(loaded.key) is not loaded:
            return  # it was deleted
        self.drop(loaded)
        if ending is Outcome.FENCED:
            must(self.epoch != self.disk.epoch, "an owner is fenced only by the next one")
            self.is_open = False
        self.rescan()
        self._recover(loaded, ending)

    def _recover(self, loaded: Loaded, ending: Ending) -> None:
        loading = self._loading[loaded.key] = Loading()

        def found(record: InstanceRecord | StoreFailed | None) -> None:
            if isinstance(record, StoreFailed):
                self.s.clockwork.after(SETBACK_MS, lambda: self.line.load(loaded.key, found))
                return
            self._settle_accounts(loaded, ending)
            loading.envelopes = [*loaded.outside.values(), *loading.envelopes]
            self.s.clockwork.after(SETBACK_MS, lambda: again())

        def again() -> None:
            if self.is_alive:
                self._load(loaded.key, loading)

        self.line.load(loaded.key, found)

    def _settle_accounts(self, loaded: Loaded, ending: Ending) -> None:
        a = loaded.a
        waiting = {w.to for w in a.waiting}
        begun = [e.id for e in a.phase.envelopes] if isinstance(a.phase, Stepping) else []
        for id in [id for id in loaded.outside if id in waiting or id in begun]:
            del loaded.outside[id]
            if id in waiting or self.disk.rows.find_transition(loaded.instance, id) is not None:
                self.answer(id)
            elif ending is Outcome.NAME_TAKEN:
                self.refuse(id, "conflict")
            else:
                self.refuse(id, "unavailable")

    # --- the worker ----------------------------------------------------------------------------------

    def process(self) -> worker.Worker:
        if self._worker is None:
            self._worker = worker.Worker(
                self.s, tell=self._tell, lost=self._worker_lost, life_of=self._life_of
            )
        return self._worker

    def kill_worker(self) -> None:
        if self._worker is not None:
            self._worker.die()

    def _tell(self, a: ActivationNumber, frame: object) -> None:
        loaded = self._by_number.get(a)
        if loaded is not None:
            loaded.hear(frame)

    def _worker_lost(self, process: worker.Worker) -> None:
        if self._worker is process:
            self._worker = None
        for loaded in list(self.loaded.values()):
            if loaded.worker is process:
                loaded.hear_loss()

    def _life_of(self, a: ActivationNumber) -> Life | None:
        return self.disk.lives.get(self._instances[a])

    # --- timers --------------------------------------------------------------------------------------

    def arm(self, timers: tuple[DueTimer, ...]) -> None:
        for due in timers:
            if due.fire_at <= self._horizon:
                self._push(due)
        self._plan_pump()

    def _push(self, due: DueTimer) -> None:
        self._pushed += 1
        heapq.heappush(self._heap, (due.fire_at, self._pushed, due))

    def rescan(self) -> None:
        self._must_scan()
        self.relay_soon()

    # --- messages between instances ------------------------------------------------------------------

    def relay_soon(self, pause_ms: float = 1.0) -> None:
        """What a relay may do at any time: deliver the first message of every pair, if need be once more."""
        if self._relay_plan is not None:
            self._relay_plan.cancel()
        self._relay_plan = self.s.clockwork.after(pause_ms * self.s.rng.random(), self._relay)

    def _relay(self) -> None:
        if not self.is_alive or not self.is_open:
            return
        rows, under_way = self.disk.rows, list(self._under_way.items())
        for due in rows.due_messages(self.s.clockwork.now().wall, after=0, limit=1_000):
            self._deliver_message(due)
        for cause, due in under_way:
            if cause in self._under_way and (due.owner, due.message.key) not in rows.messages:
                self._deliver_message(due)  # the end of it may not have been heard of
        if self._under_way or any(
            row.message.kind != "self" and row.dead_at is None for row in rows.messages.values()
        ):
            self.relay_soon(RELAY_MS)

    def _deliver_message(self, due: DueMessage) -> None:
        self._under_way[Cause("message", due.message.key, due.owner)] = due
        self._hand_over(due)

    def _hand_over(self, due: DueMessage) -> None:
        loaded = self.loaded.get(due.to)
        if loaded is None:
            self._want(due.to).messages.append(due)
        else:
            envelope = of_message(due)
            family.is_delivered_as_it_was_sent(due, envelope)
            loaded.deliver(envelope)

    def _cannot_deliver(self, absent: Loaded, due: DueMessage) -> None:
        """There is no recipient, and nothing to create it by."""
        absent.signal(phases.Undeliverable(of_message(due), "not-found", "there is no instance of that name"))

    def delivered(self, causes: tuple[Cause, ...]) -> None:
        """A sender hears once of each."""
        for cause in causes:
            due = self._under_way.pop(cause, None)
            if due is not None and due.message.kind != "failed":  # of which its owner hears and has not sent
                self._departs(due.owner, cause)
        self.relay_soon()

    def _departs(self, owner: InstanceId, cause: Cause) -> None:
        for loaded in list(self.loaded.values()):
            if loaded.instance == owner:
                if self.disk.gone_at.get(cause, 0) <= loaded.read_at:
                    self.disk.miscounted.add(owner)  # it was not there any more when it was counted
                loaded.signal(phases.Departed(1))
        life = self.disk.lives.get(owner)
        if life is not None and life.key in self._loading:
            self.disk.miscounted.add(owner)  # its record may have been read before

    # --- dead letters --------------------------------------------------------------------------------

    def redrive(self, letter: DeadLetter) -> None:
        if self.is_open:
            self.line.redrive(letter, partial(self._may_redrive, letter), self._redriven)

    def _may_redrive(self, letter: DeadLetter) -> bool:
        """Whether it comes before or behind timers that are just being set is nobody's promise."""
        loaded = self.loaded.get(letter.sender)
        return letter.kind != "timer" or loaded is None or not loaded.is_committing()

    def _redriven(self, letter: DeadLetter) -> None:
        if letter.kind not in ("timer", "self"):
            self.disk.miscounted.add(letter.instance)  # that it was given up may be told later, or again
            self.relay_soon()
        signal = phases.Redriven(_row_of(letter, self.s.clockwork.now().wall))
        loaded = self.loaded.get(letter.sender)
        if loaded is not None and loaded.instance == letter.instance:
            loaded.signal(signal)
        elif loaded is None and letter.kind in ("timer", "self"):
            self._want(letter.sender).redriven.append(signal)
        elif loaded is None and letter.sender in self._loading:
            self._loading[letter.sender].uncounted += 1

    def _must_scan(self) -> None:
        self._horizon = 0
        self.s.clockwork.after(SETBACK_MS, self._pump)

    def _plan_pump(self) -> None:
        if self._pump_plan is not None:
            self._pump_plan.cancel()
        wall = self.s.clockwork.now().wall
        next_at = self._heap[0][0] if self._heap else wall + WINDOW_MS
        pause_ms = min(max(0, next_at - wall), WINDOW_MS, max(1, self._horizon - wall))
        self._pump_plan = self.s.clockwork.after(pause_ms, self._pump)

    def _pump(self) -> None:
        if not self.is_alive or not self.is_open:
            return
        wall = self.s.clockwork.now().wall
        if wall >= self._horizon or self._horizon > wall + 2 * WINDOW_MS:
            self._horizon = wall + WINDOW_MS
            self._heap.clear()
            for due in self.disk.rows.due_timers(Instant(self._horizon), 10_000):
                self._push(due)
        while self._heap and self._heap[0][0] <= wall:
            due = heapq.heappop(self._heap)[2]
            self._deliver_timer(due)
            loaded = self.loaded.get(due.key)
            if loaded is not None and self.s.rng.random() < self.s.faults.duplicate:
                again = partial(self._deliver_timer_again, loaded, due)
                self.s.clockwork.after(self.s.rng.choice((0, 5, 50)), again)
        self._plan_pump()

    def _deliver_timer_again(self, loaded: Loaded, due: DueTimer) -> None:
        row = self.disk.rows.timers.get((due.instance, due.timer.key))
        if (
            row is None or row.attempts >= due.attempts
        ):  # else it was redriven, and this is of its life before
            loaded.deliver(of_timer(due))

    def _deliver_timer(self, due: DueTimer) -> None:
        loaded = self.loaded.get(due.key)
        if loaded is None:
            self._want(due.key).timers.append(due)
        elif loaded.instance == due.instance:
            loaded.deliver(of_timer(due))


def _row_of(letter: DeadLetter, at: Instant) -> DueTimer | Message:
    """The living row."""
    if letter.kind != "timer":
        return Message(key=letter.key, event=letter.event, kind=letter.kind)
    assert letter.send_id is not None
    timer = Timer(key=letter.key, send_id=letter.send_id, due=letter.due, event=letter.event, to=letter.to)
    return DueTimer(instance=letter.instance, key=letter.sender, timer=timer, fire_at=at, attempts=0)
