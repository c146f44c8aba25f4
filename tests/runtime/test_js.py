"""The JavaScript side: its types, its style, and its own tests."""

import subprocess
from pathlib import Path

from tests.runtime.driver import find_deno

ROOT = Path(__file__).parents[2]
JS = ROOT / "src" / "statebacked" / "runtime" / "js"
CONFIG = ["--config", str(JS / "deno.json")]


def deno(*arguments: str) -> None:
    done = subprocess.run([find_deno(), *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_worker_has_types_everywhere() -> None:
    deno("check", "--quiet", *CONFIG, *(str(JS / f"boot{major}.ts") for major in (4, 5)))


def test_the_worker_passes_the_linter() -> None:
    deno("lint", "--quiet", *CONFIG, *map(str, sorted(JS.glob("*.ts"))), "tests/runtime/js")


def test_the_javascript_tests_pass() -> None:
    deno("test", "--quiet", "--allow-read", *CONFIG, "tests/runtime/js")
