"""The logs on the memory store: a clock by hand, a store that fails when told to."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from statebacked.logs.capture import Capture
from statebacked.logs.reading import Logs
from statebacked.logs.retention import Retention
from statebacked.logs.watching import Watches
from statebacked.model.ids import (
    InstanceKey,
    InstanceName,
    Instant,
    MachineName,
    Monotonic,
    OrgId,
    VersionId,
)
from statebacked.model.logs import LogEntry, LogErasure, LogFilter, LogPage, LogPosition, OutputType
from statebacked.model.values import Now
from statebacked.ports.machines import Code
from statebacked.ports.store import StoreFailed
from statebacked.store.memory import MemoryStore
from statebacked.store.memory_logs import MemoryLogs

ORG, OTHER = OrgId("org_1"), OrgId("org_2")
START = 1_750_000_000_000
DAY_MS = 86_400_000


def code_of(org: OrgId = ORG, machine: str = "m", version: str = "ver_1") -> Code:
    return Code(org, MachineName(machine), VersionId(version), "5.33.3")


CODE = code_of()


def key_of(name: str, code: Code = CODE) -> InstanceKey:
    return InstanceKey(code.org, code.machine, InstanceName(name))


ONE = key_of("one")


@dataclass
class HandClock:
    """Moves when told to."""

    wall: int = START
    mono: int = 0

    def now(self) -> Now:
        return Now(Instant(self.wall), Monotonic(self.mono))

    def pass_ms(self, ms: int) -> None:
        self.wall += ms
        self.mono += ms


class FaultyLogs(MemoryLogs):
    """`faults` are taken from, one an append: whether it is written before it fails. While `gate` is clear,
    appending waits. While `is_down`, nothing can be read."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[bool] = []
        self.batches: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_down = False

    async def read(self, wanted: LogFilter, after: LogPosition, until: Instant, *, limit: int) -> LogPage:
        if self.is_down:
            raise StoreFailed("the disk is gone")
        return await super().read(wanted, after, until, limit=limit)

    async def append(self, entries: Sequence[LogEntry]) -> None:
        await self.gate.wait()
        self.batches.append(len(entries))
        if self.faults:
            if self.faults.pop(0):
                await super().append(entries)
            raise StoreFailed("the disk is gone")
        await super().append(entries)


class Erasures(MemoryStore):
    """Tells when erasures were carried out."""

    def __init__(self) -> None:
        super().__init__()
        self.has_erased = asyncio.Event()

    async def log_erased(self, erasures: Sequence[LogErasure]) -> None:
        await super().log_erased(erasures)
        self.has_erased.set()


@dataclass
class Rig:
    clock: HandClock
    store: FaultyLogs
    erasures: Erasures
    capture: Capture
    logs: Logs
    retention: Retention
    heard: list[LogEntry] = field(default_factory=list)

    def write(
        self, line: str, key: InstanceKey | None = ONE, output: OutputType = "stdout", code: Code = CODE
    ) -> None:
        self.capture.write(code, key, output, line)

    async def entries(self) -> list[LogEntry]:
        """All that was written, stored."""
        await self.capture.settle()
        return [row.entry for row in self.store.held]

    async def texts(self) -> list[str]:
        return [entry.text for entry in await self.entries()]


def everything(org: OrgId = ORG) -> LogFilter:
    return LogFilter(org=org)


@asynccontextmanager
async def rig(
    *, store: FaultyLogs | None = None, clock: HandClock | None = None, bytes_max: int = 10**9
) -> AsyncIterator[Rig]:
    clock, store, erasures, watches = clock or HandClock(), store or FaultyLogs(), Erasures(), Watches()
    heard: list[LogEntry] = []

    def stored(entries: Sequence[LogEntry]) -> None:
        heard.extend(entries)
        watches.stored(entries)

    capture = await Capture.open(store, clock, stored)
    retention = Retention(store, erasures, capture, clock, days=2, bytes_max=bytes_max)
    logs = Logs(store, capture, retention, watches)
    yield Rig(clock, store, erasures, capture, logs, retention, heard)
    await capture.aclose()
