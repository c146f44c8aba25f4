"""python -m tests.sim.mutants: does anybody notice? Every mutant of the core and the driver must break a law
in one of 1,000 seeds; those that cannot be told apart are listed, with the reason, in equivalent.txt.

Each mutant runs in a forked process that imports the mutated module in place of the real one. A mutant that
runs on without end (livelock) is killed by the bound on happenings or by time, and counts as noticed.
"""

import argparse
import importlib
import importlib.abc
import importlib.machinery
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, ModuleType

import statebacked.store.memory  # noqa: F401 - all that does not import the core, once, before the forks
import tests.sim.machine  # noqa: F401
from tests.sim.mutate import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_DECISIONS = {"__init__.py", "phases.py", "policy.py", "indexes.py"}  # words, numbers, and queries
CORE = sorted(path.name for path in (ROOT / "src/statebacked/core").glob("*.py"))
FILES = (*(f"core/{name}" for name in CORE if name not in WITHOUT_DECISIONS), "engine/driver.py")
EQUIVALENT = Path(__file__).with_name("equivalent.txt")
SEEDS = 1_000
SECONDS_A_SEED = 10
MEMORY_BYTES = 2 * 1024**3


class Stuck(Exception):
    """Too slow to be right."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants", description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose name contains this")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--results", type=Path, help="append a line of JSON for each mutant; known ones are skipped"
    )
    arguments = parser.parse_args()
    equivalent = _equivalent()
    known = _known(arguments.results)
    every = [m for file in FILES for m in mutants(file, (ROOT / "src/statebacked" / file).read_text())]
    chosen = [m for m in every if arguments.only in m.name and m.name not in equivalent | known]
    print(f"{len(every)} mutants, {len(equivalent)} of them equivalent, {len(chosen)} to run", flush=True)
    survivors = _run_all(chosen, arguments.seeds, arguments.results)
    for name in sorted(equivalent - {m.name for m in every}):
        print(f"not a mutant any more: {name}")
    print(f"{len(survivors)} survived")
    return 1 if survivors else 0


def _equivalent() -> set[str]:
    lines = EQUIVALENT.read_text().splitlines()
    return {line for line in lines if line and not line.startswith(("#", " "))}


def _known(results: Path | None) -> set[str]:
    if results is None or not results.exists():
        return set()
    return {json.loads(line)["name"] for line in results.read_text().splitlines()}


def _run_all(chosen: Sequence[Mutant], seeds: int, results: Path | None) -> list[str]:
    survivors: list[str] = []
    context = multiprocessing.get_context("fork")
    jobs = [(mutant, seeds) for mutant in chosen]
    with context.Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        for name, verdict in pool.imap_unordered(_judge, jobs, chunksize=1):
            if results is not None:
                with results.open("a") as file:
                    file.write(json.dumps({"name": name, "verdict": verdict}) + "\n")
            if verdict == "survived":
                survivors.append(name)
                print(f"survived: {name}", flush=True)
    return survivors


# --- in the forked process -----------------------------------------------------------------------------


def _judge(job: tuple[Mutant, int]) -> tuple[str, str]:
    mutant, seeds = job
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGALRM, _stuck)
    file = mutant.name.split(" ", 1)[0]
    sys.meta_path.insert(0, _Planted(f"statebacked.{file[:-3].replace('/', '.')}", mutant.source))
    try:
        _notice(seeds)
    except BaseException as noticed:
        return mutant.name, f"{_where(noticed)}: {type(noticed).__name__}: {noticed}"[:200]
    return mutant.name, "survived"


def _notice(seeds: int) -> None:
    signal.alarm(SECONDS_A_SEED)
    world = importlib.import_module("tests.sim.world")
    for seed in range(seeds):
        signal.alarm(SECONDS_A_SEED)
        try:
            world.World(seed).run()
        except BaseException as noticed:
            noticed.add_note(f"seed {seed}")
            raise


def _where(noticed: BaseException) -> str:
    notes: list[str] = getattr(noticed, "__notes__", ["import"])
    return notes[-1]


def _stuck(_: int, __: FrameType | None) -> None:
    raise Stuck


class _Planted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from the mutated source."""

    def __init__(self, module: str, source: str) -> None:
        self._module = module
        self._source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._module:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, f"<mutated {self._module}>", "exec"), module.__dict__)


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.0f} s")
    sys.exit(code)
