"""A store as a node meets it: slow, in order, and sometimes it fails, with or without having written."""

from collections.abc import Callable, Generator, Iterable
from typing import Any

from statebacked.core.policy import Policy
from statebacked.model.envelopes import Cause
from statebacked.model.ids import Epoch, InstanceId, InstanceKey, Instant, Seq, ServiceRun
from statebacked.model.rows import Commit, DeadLetter, InstanceRecord, Outcome
from statebacked.model.values import Json
from statebacked.ports.machines import Saved
from statebacked.ports.store import StoreFailed
from statebacked.store.memory_instances import MemoryInstances
from statebacked.store.memory_letters import dead_letters, redrive
from tests.sim import family, letters
from tests.sim.laws import Life, follow, index_rows_are_those_of_the_head
from tests.sim.surroundings import Surroundings
from tests.sim.upgrades import follow_upgrade


class Answer:
    """What the driver takes for a future; done when the world says so. Never needs an event loop."""

    _asyncio_future_blocking = False

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self._failure: BaseException | None = None
        self._tell: Callable[[Any], None] | None = None
        self.heard: Callable[[Outcome | BaseException], None] | None = None  # called when the driver knows

    def add_done_callback(self, tell: Callable[[Any], None]) -> None:
        self._tell = tell

    def cancelled(self) -> bool:
        return False

    def exception(self) -> BaseException | None:
        return self._failure

    def result(self) -> Outcome:
        assert self.outcome is not None
        return self.outcome

    def settle(self, outcome: Outcome | BaseException) -> None:
        if isinstance(outcome, Outcome):
            self.outcome = outcome
        else:
            self._failure = outcome
        if self._tell is not None:
            self._tell(self)
        if self.heard is not None:
            self.heard(outcome)

    def __await__(self) -> Generator[Any, None, Outcome]:
        raise NotImplementedError("the driver listens, it does not await")


class Disk:
    """The rows, by the rules of the in-memory store, and the witness of each life. Outlives every node."""

    def __init__(self, policy: Policy) -> None:
        self.lives: dict[InstanceId, Life] = {}
        self.rows = MemoryInstances()
        self.redriven: set[Cause] = set()  # messages that were given up once
        self.miscounted: set[InstanceId] = set()  # who was not told of all that is not on its way any more
        self.applied = 0  # commits
        self.gone_at: dict[Cause, int] = {}  # messages to others: the commit that was the last of each
        self._policy = policy

    @property
    def epoch(self) -> Epoch:
        return self.rows.epoch

    def life(self, key: InstanceKey) -> Life | None:
        row = self.rows.names.get(key)
        return None if row is None else self.lives[row.id]

    def letters(self) -> list[DeadLetter]:
        return list(dead_letters(self.rows))

    def redrive(self, letter: DeadLetter, at: Instant) -> DeadLetter | None:
        found = redrive(self.rows, letter.sender.org, letter.id, at)
        if found is not None:
            self.redriven.add(Cause("message", found.key, found.instance))
            letters.follow_redriven(self.lives, found, at, self._policy)
        return found

    def apply(self, commit: Commit, asked_at: Instant, ended_in_silence: Iterable[ServiceRun]) -> Outcome:
        if commit.deleted_at is not None and commit.instance in self.lives:
            gone = self.lives[commit.instance].key
            self.miscounted |= {row.instance for row in self.rows.messages.values() if row.to == gone}
        rows = family.foreign_rows(self.rows, commit)
        firsts = family.first_of_pairs(self.rows, rows)
        outcome = self.rows.apply(commit)
        if outcome is Outcome.COMMITTED:
            self.applied += 1
            self.gone_at.update((cause, self.applied) for cause in family.gone(rows, self.rows))
            family.order_of_a_pair_is_kept(rows, firsts, self.redriven)
            if commit.birth is None and commit.instance not in self.lives:
                family.nobody_was_there(commit, rows)
                family.refusals_are_counted(commit, rows, asked_at, self._policy, self.redriven)
                return outcome
            if commit.birth is not None:
                self.lives[commit.instance] = Life(commit.instance, commit.birth.key)
                self.lives[commit.instance].floor = self.rows.graves.get(commit.birth.key, 0)
            life = self.lives[commit.instance]
            life.ended_in_silence.update(ended_in_silence)
            fired = [
                life.timers[c.key] for c in commit.consumed if c.table == "timer" and c.key in life.timers
            ]
            if commit.version is not None:
                steps = follow_upgrade(life, commit, asked_at, self.epoch)
            else:
                steps = follow(life, commit, asked_at, self.epoch, self._policy)
            family.follow(life, commit, steps, rows, fired)
            family.refusals_are_counted(commit, rows, asked_at, self._policy, self.redriven)
            _, indexed = self.rows.indexes.rows.get(commit.instance, (None, ()))
            index_rows_are_those_of_the_head(life, indexed)
        return outcome


def saved_state(record: InstanceRecord | None) -> Saved:
    if record is None:
        return Saved(Seq(0), Json(b"null"), Json(b"null"))
    return Saved(record.view.seq, record.snapshot, record.context)


class Line:
    """One node's connection to the disk: requests are applied in their order, answers come later."""

    def __init__(self, disk: Disk, s: Surroundings) -> None:
        self._disk = disk
        self._epoch = disk.epoch
        self._clockwork = s.clockwork
        self._faults = s.faults
        self._latency = s.commit_latency
        self._last_ms = 0.0
        self.is_cut = False

    def commit(self, commit: Commit, ended_in_silence: frozenset[ServiceRun]) -> Answer:
        answer, asked_at = Answer(), self._clockwork.now().wall
        self._in_order(lambda: self._apply(commit, asked_at, ended_in_silence, answer))
        return answer

    def load(
        self,
        key: InstanceKey,
        done: Callable[[InstanceRecord | StoreFailed | None], None],
        note: Callable[[int], None] = lambda _: None,
    ) -> None:
        def read() -> None:
            note(self._disk.applied)
            failed = self._clockwork.rng.random() < self._faults.load_fails
            found = StoreFailed("the disk is away") if failed else self._disk.rows.load(key)
            self._clockwork.after(self._latency(), lambda: None if self.is_cut else done(found))

        self._in_order(read)

    def redrive(
        self, letter: DeadLetter, may: Callable[[], bool], done: Callable[[DeadLetter], None]
    ) -> None:
        """Heard at once: the one writer answers in the order of its writes."""

        def write() -> None:
            if self.is_cut or self._epoch != self._disk.epoch:
                return
            if not may():
                self._in_order(write)
                return
            at = self._clockwork.now().wall
            found = self._disk.redrive(letter, at)
            if found is not None:
                done(found)

        self._in_order(write)

    def _in_order(self, call: Callable[[], None]) -> None:
        self._last_ms = max(self._last_ms, self._clockwork.ms + self._latency())
        self._clockwork.at(self._last_ms, call)

    def _apply(
        self, commit: Commit, asked_at: Instant, ended_in_silence: frozenset[ServiceRun], answer: Answer
    ) -> None:
        if self.is_cut and self._clockwork.rng.random() < 0.5:
            return  # the process died before its request went out
        dice = self._clockwork.rng.random()
        outcome: Outcome | BaseException
        if dice < self._faults.commit_before:
            outcome = StoreFailed("nothing was written")
        else:
            outcome = self._disk.apply(commit, asked_at, ended_in_silence)
            if dice < self._faults.commit_before + self._faults.commit_after:
                outcome = StoreFailed("the answer was lost")
        self._clockwork.after(self._latency(), lambda: None if self.is_cut else answer.settle(outcome))
