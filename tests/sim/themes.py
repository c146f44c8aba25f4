"""What a seed is like: each world is rich in something, has a few kinds of faults, and some narrow bounds."""

from dataclasses import dataclass
from random import Random

from statebacked.core.policy import Policy
from statebacked.model.envelopes import Control, Delete, Pause, Resume, Wish
from statebacked.model.ids import VersionId
from tests.sim.surroundings import Faults
from tests.sim.worker import INSIDE_BYTES

EVENT_BYTES = 64  # of an event of a client, or twice that: so that a bound in bytes is reached exactly
VERSIONS = (None, VersionId("ver"), VersionId("other"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """Shares of requests: `controls`, those for `children` of others, and events that are for `kin`, by the
    manners of `kinship` (see machine.Event). The other four weigh the controls."""

    kin: float = 0.0
    kinship: int = 1
    children: float = 0.0
    controls: float = 0.09
    pauses: int = 2
    resumes: int = 2
    deletes: int = 1
    wishes: int = 6
    gives_up_soon: bool = False
    hurries: bool = True  # not: what the machine causes itself often waits for its bucket

    def control(self, rng: Random) -> Control:
        weights = (self.pauses, self.resumes, self.deletes, self.wishes)
        wish = Wish(rng.choice(VERSIONS))
        return rng.choices((Pause(), Resume(), Delete(), wish), weights)[0]


FAMILY = Theme(kin=0.4, children=0.15)
ORPHANS = Theme(kin=0.7, kinship=2, children=0.4, controls=0.15, deletes=6, wishes=1)
PAUSES = Theme(kin=0.3, controls=0.3, pauses=4, resumes=5, wishes=1, hurries=False)
LETTERS = Theme(kin=0.2, gives_up_soon=True)
UPGRADES = Theme(kin=0.3, children=0.3, controls=0.3, pauses=1, resumes=1)
THEMES = (Theme(), Theme(), Theme(hurries=False), FAMILY, ORPHANS, PAUSES, LETTERS, UPGRADES)


def faults_of(rng: Random, theme: Theme) -> Faults:
    """Each seed has a few kinds of faults, so that each meets quiet and noisy surroundings."""
    faults = Faults(unload_per_s=rng.choice((0, 0.2)), redrive_per_s=rng.choice((0, 0.3, 3)))
    kinds: tuple[dict[str, float], ...] = (
        {"commit_before": 0.05, "load_fails": 0.05},
        {"commit_after": 0.05},
        {"die": 0.04, "worker_dies_per_s": 0.1},
        {"die": 0.15},
        {"hang": 0.03, "late": 0.05},
        {"odd": 0.1},
        {"crash_per_s": 0.1},
        {"handover_per_s": 0.1},
        {"drain_per_s": rng.choice((0.1, 0.4))},
        {"clock_jump_per_s": 0.3},
        {"duplicate": 0.3},
        {"stray_per_s": 3},
        {"upgrade_fails": 0.4},
        {"upgrade_lost": 0.3},
        {"execute_fails": 0.004},
    )
    for kind in kinds:
        if rng.random() < 0.25:
            for name, value in kind.items():
                setattr(faults, name, value)
    if theme is UPGRADES and rng.random() < 0.5:  # for what is gone, or while the server goes down
        faults.upgrade_drained, faults.upgrade_lost, faults.upgrade_fails = 0.6, 0.5, 0.6
        faults.stray_per_s = 6
    return faults


def policy_of(rng: Random, theme: Theme) -> Policy:
    """Often so narrow that what waits reaches each bound exactly."""
    is_tight = rng.random() < 0.4
    return Policy(
        settle_ms=rng.choice((1_500, 3_000)),
        compute_ms=rng.choice((400, 1_000)),
        upgrade_ms=rng.choice((300, 2_000)),
        batch_max=rng.choice((1, 1, 4, 64)),
        mailbox_max=rng.randint(3, 8) if is_tight else 1_000,
        mailbox_bytes_max=EVENT_BYTES * rng.choice((1, 2, 3, 6, 8, 1_000)) if is_tight else 1_000_000,
        mailbox_per_auth_max=rng.randint(1, 4) if is_tight else 100,
        mailbox_per_service_max=rng.choice((1, 2, 6)) if is_tight else 1_000,
        inside_bytes_max=INSIDE_BYTES * rng.choice((1, 3)) if is_tight else 1_000_000,
        timers_max=rng.choice((2, 3, 1_000)),
        undelivered_max=rng.choice((1, 2, 1_000)),
        spawn_depth_max=rng.choice((1, 2, 64)),
        unasked_per_s=rng.choice((15, 200)) if theme.hurries else 15,
        unasked_burst=rng.choice((2, 20, 5_000)) if theme.hurries else 2,
        throttled_ms=100,
        attempts_max=1 if theme.gives_up_soon else 3,
        retry_first_ms=200,
        retry_longest_ms=500,
        losses_max=rng.choice((2, 3)),
    )
