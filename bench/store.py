"""Durable commits a second into the embedded store, and the CPU time of one, by thread.

    python -m bench.store [--seconds 5] [--committers 64] [--context-bytes 1000] [--work-us 0]

Every committer owns one instance and commits its next step as soon as the one before is durable: the plain
case, an UPDATE and an INSERT. `--work-us` burns that much CPU on the event loop per commit, as the rest of a
server would, so that the two threads compete for the interpreter. The budget (docs: the stack) is 10 for the
hand-off on the loop and 28 to 37 for the writer thread.
"""

import argparse
import asyncio
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import uvloop

from statebacked.model.ids import (
    EnvelopeId,
    Epoch,
    InstanceId,
    InstanceKey,
    InstanceName,
    Instant,
    MachineName,
    OrgId,
    Seq,
    VersionId,
)
from statebacked.model.rows import Birth, Commit, Head, Outcome, StateView, Transition
from statebacked.model.values import Json
from statebacked.store.sqlite.store import SqliteStore

CommitCall = Callable[[Commit], Awaitable[Outcome]]
_VERSION = VersionId("ver_0123456789abcdefghijkl")
_ACTOR = Json(b'{"sub":"user-0123456789","auth":"anonymous"}')
_EVENT = Json(b'{"type":"toggle","at":1750000000000}')
_SNAPSHOT = Json(b'{"status":"active","historyValue":{},"children":{},"value":"on","tags":[]}' + b" " * 200)


@dataclass(frozen=True, slots=True)
class Load:
    committers: int
    context_bytes: int
    work_us: int


class Committer:
    """Commits the steps of one instance, one after the other."""

    def __init__(self, number: int, epoch: Epoch, load: Load) -> None:
        self._id = InstanceId("ins_" + sha256(b"%d" % number).hexdigest()[:22])  # scattered, as real ones are
        self._key = InstanceKey(
            OrgId("org_0123456789"), MachineName("toggler"), InstanceName(f"user-{number}")
        )
        self._epoch = epoch
        self._work_s = load.work_us / 1e6
        self._filler = b"x" * load.context_bytes
        self.seq = 0

    async def run(self, commit: CommitCall, until: float) -> None:
        while time.perf_counter() < until:
            outcome = await commit(self._next())
            assert outcome is Outcome.COMMITTED
            self.seq += 1
            _burn(self._work_s)

    def _next(self) -> Commit:
        seq = Seq(self.seq + 1)
        now = Instant(1_750_000_000_000 + seq)
        value = Json(b'"on"' if seq % 2 else b'"off"')
        context = Json(b'{"public":{"count":%d},"filler":"%b"}' % (seq, self._filler))
        view = StateView(seq=seq, ts=now, value=value, tags=Json(b"[]"), done=False, public=None)
        transition = Transition(
            seq=seq,
            ts=now,
            at=now,
            event_id=EnvelopeId(f"{self._id}-{seq}"),
            event=_EVENT,
            value=value,
            source="client",
            actor=_ACTOR,
            version=_VERSION,
        )
        return Commit(
            instance=self._id,
            epoch=self._epoch,
            base=Seq(self.seq),
            birth=None if self.seq else Birth(key=self._key, version=_VERSION, created_at=now),
            head=Head(view=view, snapshot=_SNAPSHOT, context=context),
            transitions=(transition,),
        )


@dataclass(frozen=True, slots=True)
class Measured:
    commits: int
    seconds: float
    loop_us: float
    writer_us: float


async def measure(store: SqliteStore, load: Load, seconds: float) -> Measured:
    epoch = await store.acquire("bench")
    committers = [Committer(number, epoch, load) for number in range(load.committers)]
    await _run(committers, store.commit, 0.5)  # births, caches
    before = sum(one.seq for one in committers)
    started, loop_cpu, writer_cpu = time.perf_counter(), time.thread_time(), _writer_cpu()
    await _run(committers, store.commit, seconds)
    commits = sum(one.seq for one in committers) - before
    return Measured(
        commits=commits,
        seconds=time.perf_counter() - started,
        loop_us=(time.thread_time() - loop_cpu) * 1e6 / commits,
        writer_us=(_writer_cpu() - writer_cpu) * 1e6 / commits,
    )


async def measure_committers(load: Load, seconds: float) -> float:
    """CPU microseconds that a committer itself costs, with a store that only answers."""
    loop = asyncio.get_running_loop()

    def answer(commit: Commit) -> Awaitable[Outcome]:
        future: asyncio.Future[Outcome] = loop.create_future()
        loop.call_soon(future.set_result, Outcome.COMMITTED)
        return future

    committers = [Committer(number, Epoch(1), load) for number in range(load.committers)]
    cpu = time.thread_time()
    await _run(committers, answer, seconds)
    return (time.thread_time() - cpu) * 1e6 / sum(one.seq for one in committers)


async def _run(committers: list[Committer], commit: CommitCall, seconds: float) -> None:
    until = time.perf_counter() + seconds
    await asyncio.gather(*(one.run(commit, until) for one in committers))


def _writer_cpu() -> float:
    (writer,) = (thread for thread in threading.enumerate() if thread.name == "store-writer")
    assert writer.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(writer.ident))


def _burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


async def bench(load: Load, seconds: float) -> None:
    own_us = await measure_committers(load, min(seconds, 1.0))
    with tempfile.TemporaryDirectory(dir=".") as folder:
        store = await SqliteStore.open(Path(folder) / "bench.sqlite3")
        measured = await measure(store, load, seconds)
        await store.aclose()
    print(
        f"{load.committers:4} committers, context {load.context_bytes} B, other work {load.work_us} µs: "
        f"{measured.commits / measured.seconds:7.0f} commits/s, "
        f"loop {measured.loop_us - own_us:5.1f} µs, writer {measured.writer_us:5.1f} µs a commit"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--committers", type=int, default=64)
    parser.add_argument("--context-bytes", type=int, default=1_000)
    parser.add_argument("--work-us", type=int, default=0)
    options = parser.parse_args()
    load = Load(options.committers, options.context_bytes, options.work_us)
    uvloop.run(bench(load, options.seconds))


if __name__ == "__main__":
    main()
