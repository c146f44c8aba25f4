"""docs/quick-start.md, pasted block by block in a new folder with an empty home."""

import json
import os
import re
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.fences import Block, blocks_of
from tests.e2e.servers import BIN, ROOT, RealServer, real_server
from tests.e2e.test_dev import dev

PATIENCE_S = 30
DOCUMENT = ROOT / "docs" / "quick-start.md"


class Reader:
    """Somebody who follows the document for one major of XState."""

    def __init__(self, server: RealServer, folder: Path, major: str) -> None:
        self._server = server
        self._folder = folder
        self._major = major
        self._printed = ""
        self._command: str | None = None  # to be run until it prints what it should
        self.runs = 0
        self.outputs = 0

    def read(self, block: Block) -> None:
        if block.xstate not in (None, self._major):
            return
        if block.title is not None:
            # A block for this major alone comes after the one for all, and takes its place.
            (self._folder / block.title).write_text(self._filled_in(block.text))
        if block.source is not None:
            assert block.text in (ROOT / block.source).read_text(), f"not in {block.source}:\n{block.text}"
        if block.is_run:
            command = f"node {block.title}" if block.title is not None else self._filled_in(block.text)
            self._command = command if block.is_soon else None
            if not block.is_soon:
                self._printed = self._paste(command)
            self.runs += 1
        if block.is_output:
            self._compare(block)
            self.outputs += 1

    def _filled_in(self, text: str) -> str:
        text = text.replace("org_YOUR_ORG_ID", self._server.admin["orgId"])
        text = text.replace("http://127.0.0.1:7070", self._server.url)
        return text.replace("install --save xstate ", f"install --save xstate@{self._major} ")

    def _paste(self, command: str) -> str:
        home = self._folder.parent / "home"
        home.mkdir(exist_ok=True)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self._folder,
            env={
                **os.environ,
                "HOME": str(home),
                "PATH": f"{BIN}:{os.environ['PATH']}",
                "STATEBACKED_DATA": str(self._server.data),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
        )
        log = self._server.log.read_text()[-2000:]
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}\n{log}"
        return done.stdout

    def _compare(self, block: Block) -> None:
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                if self._command is not None:
                    self._printed = self._paste(self._command)
                return self._compare_now(block)
            except AssertionError:
                if self._command is None or time.monotonic() > until:
                    raise

    def _compare_now(self, block: Block) -> None:
        if block.language == "json":
            assert contains(json.loads(self._printed), json.loads(block.text)), self._printed
        else:
            assert self._printed == block.text


def contains(whole: object, part: object) -> bool:
    """`part` may leave out members of objects; lists have the same length."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            key in whole and contains(whole[key], value) for key, value in part.items()
        )
    if isinstance(part, list):
        return (
            isinstance(whole, list)
            and len(whole) == len(part)
            and all(contains(one, other) for one, other in zip(whole, part, strict=True))
        )
    return whole == part


@pytest.mark.parametrize("major", ["5", "4"])
def test_the_quick_start_is_true_as_pasted(tmp_path: Path, major: str) -> None:
    folder = tmp_path / "my-app"
    folder.mkdir()
    with real_server(tmp_path / "data") as server:
        reader = Reader(server, folder, major)
        for block in blocks_of(DOCUMENT):
            reader.read(block)

    assert (reader.runs, reader.outputs) == (7, 4)
    installed = json.loads((folder / "node_modules" / "xstate" / "package.json").read_text())
    assert installed["version"].startswith(f"{major}.")


def test_the_quick_start_is_true_after_the_commands_of_the_readme(tmp_path: Path) -> None:
    (pasted,) = (block for block in blocks_of(ROOT / "README.md") if "smply instances create" in block.text)
    makefile = (ROOT / "Makefile").read_text()
    (files,) = re.findall(r"^\t\.venv/bin/statebacked dev (.*)$", makefile, re.MULTILINE)
    folder, log = tmp_path / "my-app", tmp_path / "server.log"
    folder.mkdir()
    log.touch()
    with dev(tmp_path / "data", *(str(ROOT / file) for file in files.split())) as running:
        url = running.until(r"^server +(\S+)$")[1]
        running.until(r"In another terminal")
        server = RealServer(process=running.process, url=url, data=tmp_path / "data", log=log)  # type: ignore[arg-type]  # its output is not looked at here
        reader = Reader(server, folder, "5")
        reader.read(replace(pasted, is_run=True, text=pasted.text.replace("$PWD/.venv/bin", str(BIN))))
        for block in blocks_of(DOCUMENT):
            reader.read(block)
    assert (reader.runs, reader.outputs) == (8, 4)


def test_every_block_that_is_not_run_is_said_to_be_for_elsewhere() -> None:
    """A new block is run, or stands here with its reason."""
    clone = "/path/to/statebacked"
    elsewhere = {
        "make dev\n",  # in the clone
        "make setup && .venv/bin/statebacked serve\n",
        f'export PATH={clone}/.venv/bin:"$PATH" STATEBACKED_DATA={clone}/.statebacked\n',
        "node client.mjs\n",  # run as the block of that file
    }
    idle = {
        block.text
        for block in blocks_of(DOCUMENT)
        if not block.is_run and not block.is_output and block.title is None
    }
    assert {text for text in idle if "machine-versions" not in text} == elsewhere


def test_the_command_for_a_taken_name_makes_a_new_version(tmp_path: Path) -> None:
    (command,) = (block.text for block in blocks_of(DOCUMENT) if "machine-versions create" in block.text)
    machine = next(block.text for block in blocks_of(DOCUMENT) if block.title == "example-machine.ts")
    (tmp_path / "example-machine.ts").write_text(machine)
    with real_server(tmp_path / "data") as server:
        server.smply("machines", "create", "--machine", "example-machine")
        first, *rest = command.split()
        assert first == "smply"
        made = json.loads(server.smply(*rest, cwd=tmp_path))
        held = json.loads(server.smply("machines", "get", "--machine", "example-machine"))
    assert held["currentVersion"]["id"] == made["machineVersionId"]
