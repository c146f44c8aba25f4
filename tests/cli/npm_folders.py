"""Folders as the quick start's own npm commands make them, installed once and copied for each test."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def deno_environment() -> dict[str, str]:
    """The environment of a bundling test: the repository's own cache of deno, as the Makefile sets it."""
    return {"DENO_DIR": str(REPOSITORY / ".deno-dir"), **os.environ}


def npm_folder(config: pytest.Config, target: Path, *packages: str) -> Path:
    """`target`, with what `npm init` and `npm install --save <packages>` leave there."""
    assert shutil.which("npm"), "npm is needed to make the folders that people have: install Node"
    kept = config.cache.mkdir("npm") / "_".join(packages).replace("/", "-")
    if not (kept / "node_modules").is_dir():
        with tempfile.TemporaryDirectory(dir=kept.parent) as name:
            made = Path(name) / "made"
            made.mkdir()
            for command in ("npm init -y", "npm install --save --no-audit --no-fund " + " ".join(packages)):
                subprocess.run(command.split(), cwd=made, check=True, capture_output=True)
            if not kept.exists():
                made.rename(kept)
    return Path(shutil.copytree(kept, target, symlinks=True))
