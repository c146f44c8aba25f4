"""A deployment in one seeded process: real core, real driver; simulated store, worker, callers, crashes."""

from collections.abc import Iterable
from functools import partial
from random import Random

from statebacked.core.delivery import of_message
from statebacked.core.mailbox import own_message
from statebacked.core.phases import Deliver, Settled, Tick, Upgraded, UpgradeFailed
from statebacked.model.envelopes import Envelope, External, Initialize, Internal, Repeatable, Resume
from statebacked.model.ids import (
    EnvelopeId,
    InstanceId,
    InstanceKey,
    InstanceName,
    Instant,
    MachineName,
    OrgId,
    RowKey,
    Seq,
    ServiceId,
    ServiceRun,
)
from statebacked.model.rows import DueMessage, Message
from statebacked.model.step import Arrival, Chattered, Performed, Refused, Sent, Step, Stepped
from statebacked.model.values import Json
from tests.sim.clockwork import Clockwork
from tests.sim.laws import must
from tests.sim.letters import what_was_given_up_is_kept
from tests.sim.loaded import Loaded
from tests.sim.machine import NAMES, Event, encode
from tests.sim.node import LOST, Node
from tests.sim.store import Disk
from tests.sim.surroundings import Surroundings
from tests.sim.themes import EVENT_BYTES, THEMES, faults_of, policy_of

HAPPENINGS_MAX = 40_000
ACTIVE_MS = 30_000
QUIET_MS = 400_000
AUTHS = tuple(Json(b'{"sub":"u%d"}' % n) for n in range(3))


def _key(name: str) -> InstanceKey:
    return InstanceKey(OrgId("org"), MachineName("machine"), InstanceName(name))


EVERYONE = tuple(_key(name) for name in NAMES)
CHILDREN = EVERYONE[2:]


class World:
    """One seed. `run` raises Broken when a law does not hold."""

    def __init__(self, seed: int, *, is_traced: bool = False) -> None:
        self.seed = seed
        self.rng = Random(seed)
        clockwork = Clockwork(self.rng, HAPPENINGS_MAX)
        self.theme = theme = self.rng.choice(THEMES)
        policy, pace = policy_of(self.rng, theme), self.rng.choice((0.5, 5, 25))
        self.s = Surroundings(self.rng, clockwork, faults_of(self.rng, theme), policy, pace=pace)
        self.s.kinship = theme.kinship
        self.s.when_upgrading = self._drain_upgrading
        self.s.story = [] if is_traced else None
        self.disk = Disk(self.s.policy)
        self.keys = [_key(f"i{n}") for n in range(self.rng.choice((1, 2, 3)))]
        self.nodes = [Node(self.s, self.disk)]
        self.requests: dict[EnvelopeId, InstanceKey] = {}

    @property
    def node(self) -> Node:
        return self.nodes[-1]

    def run(self) -> None:
        clockwork = self.s.clockwork
        self._plan_requests()
        self._plan_faults()
        for ms in (*range(0, ACTIVE_MS, 500), *range(ACTIVE_MS, ACTIVE_MS + 3 * QUIET_MS, 20_000)):
            clockwork.at(ms, self._audit)
        clockwork.run_until(ACTIVE_MS)
        self._calm_down()
        clockwork.run_until(ACTIVE_MS + QUIET_MS // 2)
        self._resume()
        for letter in self.disk.letters():
            clockwork.after(10_000 * self.rng.random(), partial(self.node.redrive, letter))
        clockwork.run_until(ACTIVE_MS + QUIET_MS)
        self.s.is_ending = True
        self._flush(1)
        clockwork.run_until(ACTIVE_MS + 2 * QUIET_MS)
        self._flush(2)
        clockwork.run_until(ACTIVE_MS + 3 * QUIET_MS)
        everything_ends(self)

    # --- callers -------------------------------------------------------------------------------------

    def _plan_requests(self) -> None:
        ms = 0.0
        for key in self.keys:
            self._plan_request(self.rng.random() * 50, key, initial=True)
        burst = self.rng.choice((1, 1, 4, 12))
        while ms < ACTIVE_MS and len(self.requests) < 60:
            ms += self.rng.choice((1, 10, 200, 1_000, 2_500)) * self.rng.random() * burst
            is_for_child = self.rng.random() < self.theme.children
            key = self.rng.choice(CHILDREN if is_for_child else self.keys)
            for _ in range(self.rng.randint(1, burst)):
                self._plan_request(ms, key, initial=self.rng.random() < 0.04)

    def _plan_request(self, ms: float, key: InstanceKey, *, initial: bool) -> None:
        id = EnvelopeId(f"c{len(self.requests)}")
        self.requests[id] = key
        if not initial and self.rng.random() < self.theme.controls:
            self._plan_control(ms, key, id)
            return
        type = "unknown" if self.rng.random() < 0.08 else "go"
        kin = self.theme.kinship if self.rng.random() < self.theme.kin else 0
        event = Event(type, self.s.next_number(), self.rng.choice((0, 1, 2, 3)), kin=kin)
        size = EVENT_BYTES * self.rng.choice((1, 1, 2))
        envelope = Envelope(
            id=id,
            payload=Initialize(None) if initial else External(Json(encode(event).ljust(size))),
            source="client",
            auth=self.rng.choice(AUTHS),
            wants_reply=True,
            repeatable=Repeatable(b"", id, b"", Instant(0)) if self.rng.random() < 0.2 else None,
        )
        self.s.clockwork.at(ms, lambda: self._request(key, envelope))

    def _plan_control(self, ms: float, key: InstanceKey, id: EnvelopeId) -> None:
        payload = self.theme.control(self.rng)
        envelope = Envelope(id=id, payload=payload, source="client", wants_reply=True)
        self.s.selected[id] = False
        self.s.clockwork.at(ms, lambda: self._request(key, envelope))

    def _request(self, key: InstanceKey, envelope: Envelope) -> None:
        alive = [node for node in self.nodes if node.is_alive]
        node = alive[-1] if not alive or self.rng.random() < 0.7 else self.rng.choice(alive)
        node.request(key, envelope)

    def _resume(self) -> None:
        for n, key in enumerate(dict.fromkeys([*self.keys, *EVERYONE])):
            id = EnvelopeId(f"r.{n}")
            self.requests[id] = key
            self.s.selected[id] = False
            self.node.request(key, Envelope(id=id, payload=Resume(), source="client", wants_reply=True))

    def _flush(self, round: int) -> None:
        """A last event for each instance: errors that are owed come before it."""
        for n, key in enumerate(dict.fromkeys([*self.keys, *EVERYONE])):
            id = EnvelopeId(f"z{round}.{n}")
            self.requests[id] = key
            event = Json(encode(Event("go", self.s.next_number())))
            envelope = Envelope(
                id=id, payload=External(event), source="client", auth=AUTHS[0], wants_reply=True
            )
            self.node.request(key, envelope)

    # --- faults --------------------------------------------------------------------------------------

    def _plan_faults(self) -> None:
        faults = self.s.faults
        for rate, strike in (
            (faults.worker_dies_per_s, lambda: self.node.kill_worker()),
            (faults.crash_per_s, self._crash),
            (faults.handover_per_s, self._hand_over),
            (faults.drain_per_s, self._drain),
            (faults.clock_jump_per_s, self._jump),
            (faults.unload_per_s, self._unload),
            (faults.duplicate, self._repeat_messages),
            (faults.stray_per_s, self._stray),
            (faults.redrive_per_s, self._redrive),
        ):
            for ms in self._moments(rate):
                self.s.clockwork.at(ms, strike)

    def _moments(self, per_s: float) -> Iterable[float]:
        ms = 0.0
        while per_s > 0:
            ms += self.rng.expovariate(per_s) * 1_000
            if ms > ACTIVE_MS:
                return
            yield ms

    def _crash(self) -> None:
        self.node.die()
        self.nodes.append(Node(self.s, self.disk))

    def _hand_over(self) -> None:
        self.nodes.append(Node(self.s, self.disk))

    def _drain(self) -> None:
        old = self.node
        if old.is_open:
            old.drain()
            self.s.clockwork.after(4 * self.s.policy.compute_ms, lambda: self._drained(old))

    def _drain_upgrading(self) -> None:
        if self.rng.random() < self.s.faults.upgrade_drained:
            self.s.clockwork.after(20 * self.rng.random(), self._drain)

    def _drained(self, old: Node) -> None:
        if old.is_alive:
            must(not old.callers, "a server that goes down answers everyone")
            old.die()
            if self.node is old:
                self.nodes.append(Node(self.s, self.disk))

    def _jump(self) -> None:
        self.s.clockwork.wall_offset += self.rng.choice((-20_000, -500, 500, 20_000))

    def _unload(self) -> None:
        for loaded in list(self.node.loaded.values()):
            if loaded.is_idle() and self.rng.random() < 0.7:
                self.node.drop(loaded)

    def _repeat_messages(self) -> None:
        for loaded in list(self.node.loaded.values()):
            record = self.disk.rows.load(loaded.key)
            if record is not None and record.messages:
                again = Deliver(own_message(self.rng.choice(record.messages)))
                self.s.clockwork.after(self.rng.random() * 20, partial(loaded.signal, again))

    def _redrive(self) -> None:
        letters = self.disk.letters()
        if letters:
            self.node.redrive(self.rng.choice(letters))

    def _stray(self) -> None:
        loaded = self.rng.choice([*self.node.loaded.values(), None])
        if loaded is None:
            return
        wishing = [one for one in self.node.loaded.values() if one.a.desired is not None and one.a.links]
        if wishing or (loaded.a.links and self.rng.random() < 0.5):
            loaded = wishing[0] if wishing else loaded
            loaded.signal(Deliver(self._forged(loaded, is_heard=bool(wishing))))
            return
        number, seq = loaded.a.computes, loaded.a.seq
        unknown = self.s.next_number()
        nobodys = Message(key=RowKey(f"unknown.{unknown}"), event=Json(encode(Event("self", unknown))))
        event = Internal(Json(encode(Event("chat", self.s.next_number()))), 0)
        loaded.signal(
            self.rng.choice(
                (
                    Stepped(number - 1, (Step(changed=True),)),
                    Stepped(number, ()),
                    Refused(number - 1, "machine-error", "stray"),
                    Refused(number + 9, "machine-error", "stray"),
                    UpgradeFailed(number - 1, "migration-failed", "stray"),
                    UpgradeFailed(number + 9, "migration-failed", "stray"),
                    Upgraded(number - 1, event.event, Arrival(Step(changed=True))),
                    Performed(Seq(seq - 1), ()),
                    Performed(Seq(seq + 9), (Sent(internal=event),)),
                    Chattered(Sent(internal=event)),
                    Chattered(
                        Sent(
                            internal=event,
                            service=ServiceRun(ServiceId("s0"), Seq(seq + 9)),
                            ends_service=True,
                        )
                    ),
                    Tick(),
                    Deliver(own_message(nobodys)),
                )
            )
        )

    def _forged(self, loaded: Loaded, *, is_heard: bool) -> Envelope:
        """What a child, or one of somebody else, would send for a run of that name; there is no row of it."""
        run, child = self.rng.choice(loaded.a.links)
        key, event = RowKey(f"unknown.{self.s.next_number()}"), Json(encode(Event("message", 1, kin=1)))
        message = Message(key=key, kind=self.rng.choice(("done", "event")), event=event, link=run)
        sender = _key(child.name) if is_heard else self.rng.choice(EVERYONE)
        return of_message(
            DueMessage(
                row=0,
                owner=InstanceId("nobody"),
                sender=sender,
                to=loaded.key,
                message=message,
                fire_at=Instant(0),
                attempts=0,
            )
        )

    def _audit(self) -> None:
        for node in self.nodes:
            if node.is_alive:
                for loaded in list(node.loaded.values()):
                    loaded.audit()

    def _calm_down(self) -> None:
        self.s.faults.cease()
        self.s.is_calm = True
        for node in self.nodes[:-1]:
            node.die()
        if not self.node.is_open:
            self.node.die()
            self.nodes.append(Node(self.s, self.disk))


# --- at the end --------------------------------------------------------------------------------------


def everything_ends(world: World) -> None:
    """After the faults stop everything settles, fires, arrives."""
    for life in world.disk.lives.values():
        if life.is_deleted:
            continue
        must(not life.timers, f"every timer fires: {life.timers}")
        must(not life.messages, f"every message arrives: {life.messages}")
        must(not life.services, f"every service ends: {life.services}")
    what_was_given_up_is_kept(world.disk.lives, world.disk.rows)
    waiting = [r.message for r in world.disk.rows.messages.values() if r.dead_at is None]
    must(not waiting, f"every message to another arrives, or is given up: {waiting}")
    for loaded in world.node.loaded.values():
        must(isinstance(loaded.a.phase, Settled), f"every instance settles: {loaded.a.phase}")
        must(not loaded.a.mailbox and not loaded.a.owed, "every mailbox empties")
        is_counted = loaded.a.undelivered == 0 or loaded.instance in world.disk.miscounted
        must(is_counted, "nothing is counted as on its way that is not")
    must(not world.node.callers, f"every caller is answered: {world.node.callers}")
    every_request_is_answered_once(world)


def every_request_is_answered_once(world: World) -> None:
    for id, key in world.requests.items():
        must(id in world.s.results, f"every request is answered: {id}")
        lives = [life for life in world.disk.lives.values() if life.key == key and id in life.events]
        stands = bool(lives) and not (lives[0].is_deleted and world.s.results[id] == "not-found")
        result = world.s.results[id]
        if result is None:
            must(stands or not world.s.selected[id], f"an acknowledged event is in the history: {id}")
        elif result != LOST:
            must(not stands, f"a refused event never happened: {id}")
