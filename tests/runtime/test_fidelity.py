"""Both adapters against plain xstate of the same major, event by event, restored whenever no service runs.

The machines of `tests/fidelity_machines` by their scripts, and random ones: FIDELITY_SEEDS says how many,
FIDELITY_SEED replays one. Needs nothing but what building the worker has put into DENO_DIR.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.runtime.driver import find_deno

ROOT = Path(__file__).parents[2]
FIDELITY = ROOT / "tests" / "runtime" / "fidelity"
MAJORS = (4, 5)
SOURCES = {major: ["machines.test.ts", "random.test.ts", "family.test.ts"] for major in MAJORS}
SOURCES[4] += ["adapter4.test.ts", "services4.test.ts"]
READ = ["--allow-read", "--allow-env=NODE_ENV,FIDELITY_SEED,FIDELITY_SEEDS"]

pytestmark = pytest.mark.worker


def deno(command: str, major: int, *arguments: str) -> None:
    config = FIDELITY / f"deno{major}.json"
    environment = {
        "DENO_DIR": str(ROOT / ".deno-dir"),
        "FIDELITY_SEEDS": "200",
        **os.environ,
        "NODE_ENV": "production",  # as the worker is built
    }
    line = [find_deno(), command, "--quiet", "--config", str(config), *arguments]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=FIDELITY, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("major", MAJORS)
def test_the_harness_and_its_machines_have_types(major: int) -> None:
    deno("check", major, *SOURCES[major], f"../../fidelity_machines/{major}")


@pytest.mark.parametrize("major", MAJORS)
def test_machines_give_the_states_of_plain_xstate(major: int) -> None:
    deno("test", major, "--no-check", *READ, "machines.test.ts")


@pytest.mark.parametrize("major", MAJORS)
def test_persistent_children_give_the_states_of_ephemeral_ones_in_plain_xstate(major: int) -> None:
    deno("test", major, "--no-check", *READ, "family.test.ts")


@pytest.mark.parametrize("major", MAJORS)
def test_random_machines_give_the_states_of_plain_xstate(major: int) -> None:
    deno("test", major, "--no-check", *READ, "random.test.ts")


def test_the_adapter_of_xstate_4_keeps_its_laws() -> None:
    deno("test", 4, "--no-check", *READ, "adapter4.test.ts", "services4.test.ts")
