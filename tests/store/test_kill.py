"""kill -9 of a process that commits: everything that was acknowledged is there, and nothing is half there."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from statebacked.model.ids import InstanceId, Seq
from statebacked.store.sqlite.store import SqliteStore
from tests.store.builders import key_of
from tests.store.committing_child import INSTANCES

pytestmark = pytest.mark.anyio


def acknowledged_until_killed(file: Path, lines: int) -> dict[str, int]:
    """Run the child until it has acknowledged so many commits, kill it, and hear it out."""
    command = [sys.executable, "-m", "tests.store.committing_child", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        heard = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        heard += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    said = [line.split() for line in heard if line.endswith("\n")]
    return {name: int(number) for name, number in said}


async def test_what_was_acknowledged_survives_kill_9(file: Path) -> None:
    seen: dict[str, int] = {}
    for round in range(1, 4):
        said = acknowledged_until_killed(file, lines=40 * round)
        assert said.pop("epoch") == round
        seen |= said
        store = await SqliteStore.open(file)
        for instance in INSTANCES:
            await check(store, instance, seen.get(instance, 0))
        await store.aclose()
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def check(store: SqliteStore, instance: InstanceId, acknowledged: int) -> None:
    """The head is at or above what was acknowledged, its history a chain, its one message the last sent."""
    record = await store.load(key_of(instance))
    seq = 0 if record is None else record.view.seq
    assert seq >= acknowledged
    history = await store.list_transitions(key_of(instance), after=Seq(0), limit=100_000)
    assert [one.seq for one in history] == list(range(1, seq + 1))
    if record is not None:
        assert [one.key for one in record.messages] == [f"{seq}.1"]
        assert record.snapshot == b'{"snapshot":%d}' % seq
