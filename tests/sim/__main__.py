"""python -m tests.sim --seed N replays one seed with its story; --seeds N runs that many on all cores."""

import argparse
import os
import sys
import time
from collections.abc import Iterable
from multiprocessing import get_context

from tests.sim.world import World

CHUNK = 50


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this seed and print what happens")
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds to run (200)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--last-lines", type=int, default=0, help="print only that many lines of the story")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return _replay(arguments.seed, arguments.last_lines)
    return _run(arguments.first, arguments.seeds)


def _replay(seed: int, last_lines: int) -> int:
    world = World(seed, is_traced=True)
    failure = _failure(world)
    assert world.s.story is not None
    for line in world.s.story[-last_lines:]:
        print(*line)
    print(f"seed {seed}: {failure or 'every law holds'}")
    return 1 if failure else 0


def _run(first: int, count: int) -> int:
    began = time.monotonic()
    failures: list[tuple[int, str]] = []
    chunks = [range(n, min(n + CHUNK, first + count)) for n in range(first, first + count, CHUNK)]
    with get_context("fork").Pool(os.cpu_count()) as pool:
        for done, found in enumerate(pool.imap_unordered(_failures, chunks), start=1):
            for seed, failure in found:
                print(f"seed {seed}: {failure}", flush=True)
            failures += found
            if done % 20 == 0:
                print(
                    f"{min(done * CHUNK, count)} seeds, {len(failures)} failed", file=sys.stderr, flush=True
                )
    print(f"{count} seeds in {time.monotonic() - began:.1f} s, {len(failures)} failed")
    return 1 if failures else 0


def _failures(seeds: Iterable[int]) -> list[tuple[int, str]]:
    found = ((seed, _failure(World(seed))) for seed in seeds)
    return [(seed, failure) for seed, failure in found if failure]


def _failure(world: World) -> str:
    try:
        world.run()
    except Exception as failure:  # a fault of the core is a failure as a broken law is
        return f"{type(failure).__name__}: {failure}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
