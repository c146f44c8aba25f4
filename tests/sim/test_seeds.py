"""The laws of laws.py and watch.py hold in 200 worlds, and in every world in which one did not hold once."""

from pathlib import Path

import pytest

from statebacked.core import phases
from statebacked.model.rows import Outcome
from tests.sim.world import World

SEEDS = 200
CHUNK = 20
FAILED_ONCE = [
    int(line.split()[0])
    for line in Path(__file__).with_name("seeds.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_law_holds(first: int) -> None:
    for seed in range(first, first + CHUNK):
        _run(seed)


@pytest.mark.parametrize("seed", FAILED_ONCE)
def test_a_seed_that_failed_once_does_not_fail_again(seed: int) -> None:
    _run(seed)


def test_the_worlds_see_everything_that_can_happen() -> None:
    seen = set[str]()
    results = set[str | None]()
    for seed in range(60):
        world = _run(seed)
        seen |= world.s.seen
        results |= set(world.s.results.values())
    commands = {command.__name__ for command in phases.Command.__args__}
    signals = {signal.__name__ for signal in phases.Signal.__args__} - {"CauseGone"}
    outcomes = {outcome.name for outcome in Outcome} - {"NAME_TAKEN"}  # one owner never races itself
    assert commands | signals | outcomes | {"StoreFailed"} <= seen
    assert {None, "lost", "conflict", "not-found", "unavailable", "mailbox-full"} <= results
    assert {"machine-error", "machine-timeout", "machine-fault", "rejected-by-machine-authorizer"} <= results


def _run(seed: int) -> World:
    world = World(seed)
    try:
        world.run()
    except Exception as failure:
        failure.add_note(f"make sim SEED={seed}")
        raise
    return world
