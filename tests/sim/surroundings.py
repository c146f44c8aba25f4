"""What everybody in a simulated world shares: time, chance, faults, and a notebook."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from random import Random

from statebacked.core.policy import Policy
from statebacked.model.ids import EnvelopeId
from statebacked.model.rows import Outcome
from tests.sim.clockwork import Clockwork


@dataclass(slots=True)
class Faults:
    """Chances of one operation to fail; those that end in `_per_s` happen by themselves."""

    commit_before: float = 0.0  # nothing is written, the answer is an error
    commit_after: float = 0.0  # everything is written, the answer is an error
    load_fails: float = 0.0
    die: float = 0.0  # of a compute or a perform
    hang: float = 0.0  # its answer never comes
    late: float = 0.0  # its answer comes around or after its deadline
    odd: float = 0.0  # its answer is one that no adapter of ours gives
    duplicate: float = 0.0  # of the delivery of a row
    worker_dies_per_s: float = 0.0
    crash_per_s: float = 0.0
    handover_per_s: float = 0.0  # another node takes over, and the old one does not know
    drain_per_s: float = 0.0
    clock_jump_per_s: float = 0.0
    unload_per_s: float = 0.0
    redrive_per_s: float = 0.0  # somebody finds out what was wrong
    stray_per_s: float = 0.0  # an answer to nothing, or to something long over
    upgrade_fails: float = 0.0
    upgrade_lost: float = 0.0  # never answered
    upgrade_drained: float = 0.0  # the server goes down meanwhile
    execute_fails: float = 0.0  # of one command
    unauthorised: float = 0.05

    def cease(self) -> None:
        for field in fields(self):
            setattr(self, field.name, 0.0)


class Surroundings:
    def __init__(
        self, rng: Random, clockwork: Clockwork, faults: Faults, policy: Policy, *, pace: float
    ) -> None:
        self.rng = rng
        self.clockwork = clockwork
        self.faults = faults
        self.policy = policy
        self.kinship = 1  # of events that the worker words for a parent
        self.is_calm = False
        self.is_ending = False  # nothing new begins
        self.selected: dict[EnvelopeId, bool] = {}
        self.results: dict[EnvelopeId, str | None] = {}
        self.when_upgrading: Callable[[], None] = lambda: None
        self.story: list[tuple[object, ...]] | None = None
        self.seen: set[str] = set()  # every kind of thing that happened
        self._pace = pace
        self._numbers = 0

    def policy_of_a_node(self) -> Policy:
        """Who starts a server anew may choose other bounds; what is stored may be more than they allow."""
        timers_max = self.rng.choice((1, self.policy.timers_max, self.policy.timers_max))
        undelivered_max = self.rng.choice((1, self.policy.undelivered_max, self.policy.undelivered_max))
        return replace(self.policy, timers_max=timers_max, undelivered_max=undelivered_max)

    def fuel(self, usual: int) -> int:
        """Of an event that the worker words."""
        return 0 if self.is_ending else usual

    def next_number(self) -> int:
        self._numbers += 1
        return self._numbers

    def pipe_latency(self) -> float:
        return self.rng.random() * self._pace

    def commit_latency(self) -> float:
        return self.rng.random() * self._pace * 2

    def trace(self, kind: str, where: object, what: object) -> None:
        self.seen.add(what.name if isinstance(what, Outcome) else type(what).__name__)
        if self.story is not None:
            self.story.append((round(self.clockwork.ms, 2), kind, where, what))
