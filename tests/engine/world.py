"""An engine on the memory store with a fake machine, and a store that fails when told to."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

from statebacked.core.policy import Policy
from statebacked.engine.service import Engine
from statebacked.model.ids import (
    InstanceKey,
    InstanceName,
    Instant,
    MachineName,
    MigrationId,
    Monotonic,
    OrgId,
    UserId,
    VersionId,
)
from statebacked.model.machine import Machine, Migration, Org, Upload, Version
from statebacked.model.rows import Commit, InstanceRecord, Outcome, StateView
from statebacked.model.values import Json, Now
from statebacked.ports.store import StoreFailed
from statebacked.store.memory import MemoryStore
from statebacked.testing.fake_machines import FakeMachines, FakeMigrator

ORG, MACHINE, VERSION = OrgId("org_1"), MachineName("counter"), VersionId("ver_1111111111111111111111")
ANYONE = Json(b'{"sub":"anyone"}')


Told = tuple[InstanceKey | None, str, str]


class Fault(Enum):
    """What becomes of a commit: nothing written, or written and the answer lost."""

    BEFORE = auto()
    AFTER = auto()


class FaultyStore(MemoryStore):
    """`faults` are taken from, one a commit; `loads` counts, and fails while `is_down`."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[Fault | None] = []
        self.loads = 0
        self.is_down = False

    def commit(self, commit: Commit) -> "asyncio.Future[Outcome]":
        fault = self.faults.pop(0) if self.faults else None
        if fault is None:
            return super().commit(commit)
        if fault is Fault.AFTER:
            super().commit(commit)
        failed: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        failed.set_exception(StoreFailed("the disk is gone"))
        return failed

    async def load(self, key: InstanceKey) -> InstanceRecord | None:
        self.loads += 1
        if self.is_down:
            raise StoreFailed("the disk is gone")
        return await super().load(key)


@dataclass(slots=True)
class HandClock:
    """Moves when told to."""

    wall: int = 1_000_000
    mono: int = 0

    def now(self) -> Now:
        return Now(Instant(self.wall), Monotonic(self.mono))


@dataclass(slots=True)
class CountingIds:
    count: int = 0

    def new(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}_{self.count}"


@dataclass(slots=True)
class World:
    engine: Engine
    store: FaultyStore
    machines: FakeMachines
    migrator: FakeMigrator
    clock: HandClock
    told: list[Told] = field(default_factory=list)  # lines for the machine's owner
    seen: list[StateView] = field(default_factory=list)

    async def create(self, name: str, auth: Json = ANYONE) -> StateView:
        return await self.engine.create_instance(key_of(name), None, None, auth)

    async def send(self, name: str, type: str, **data: object) -> StateView:
        event = Json(json.dumps({"type": type, **data}).encode())
        return await self.engine.send_event(key_of(name), event, ANYONE)

    def begin(self, name: str, type: str, **data: object) -> "asyncio.Task[StateView]":
        return asyncio.get_running_loop().create_task(self.send(name, type, **data))


def key_of(name: str) -> InstanceKey:
    return InstanceKey(ORG, MACHINE, InstanceName(name))


def count_of(view: StateView) -> int:
    assert view.public is not None
    count: int = json.loads(view.public)["count"]
    return count


def count(w: World, name: str) -> int | None:
    record = w.store.instances.load(key_of(name))
    return None if record is None else count_of(record.view)


@asynccontextmanager
async def world(
    store: FaultyStore | None = None, clock: HandClock | None = None, policy: Policy | None = None
) -> AsyncIterator[World]:
    """A started engine; a `store` that has been used before is taken over."""
    clock = clock or HandClock()
    if store is None:
        store = FaultyStore()
        await add_machine(store)
    machines, migrator = FakeMachines(), FakeMigrator()
    told: list[Told] = []
    engine = Engine(
        store=store,
        catalogue=store,
        machines=machines,
        migrator=migrator,
        clock=clock,
        ids=CountingIds(),
        policy=policy or Policy(),
        epoch=await store.acquire("test"),
        machine_log=lambda code, key, output, line: told.append((key, output, line)),
    )
    await engine.start()
    try:
        yield World(engine, store, machines, migrator, clock, told)
    finally:
        await engine.aclose()


async def add_machine(store: MemoryStore) -> None:
    now = Instant(1)
    org = Org(id=ORG, name="org", created_at=now, allow_anonymous=True, auth_revision=1)
    await store.create_org(org, UserId("usr_1"))
    await store.create_machine(Machine(org=ORG, name=MACHINE, created_at=now, indexes=(), current=None))
    await add_version(store, VERSION, make_current=True)


async def add_version(store: MemoryStore, id: VersionId, *, make_current: bool = False) -> None:
    now = Instant(1)
    upload = Upload(
        id=id,
        org=ORG,
        machine=MACHINE,
        expires_at=Instant(10**15),
        gzip=False,
        xstate_hint=None,
        bundle=b"code",
        state="pending",
    )
    await store.add_upload(upload, now)
    version = Version(
        id=id,
        org=ORG,
        machine=MACHINE,
        created_at=now,
        client_info=None,
        index_selectors=(),
        xstate="5.33.3",
        bundle_sha256=b"",
    )
    await store.finalize(version, b"code", make_current=make_current)


async def add_migration(store: MemoryStore, id: str, start: VersionId, goal: VersionId) -> None:
    now = Instant(1)
    upload = Upload(
        id=MigrationId(id),
        org=ORG,
        machine=MACHINE,
        expires_at=Instant(10**15),
        gzip=False,
        xstate_hint=None,
        bundle=b"code",
        state="pending",
        migrates=(start, goal),
    )
    await store.add_upload(upload, now)
    migration = Migration(
        id=MigrationId(id),
        org=ORG,
        machine=MACHINE,
        from_version=start,
        to_version=goal,
        created_at=now,
        xstate="5.33.3",
        bundle_sha256=b"",
    )
    await store.finalize_migration(migration, b"code")


async def until(claim: Callable[[], bool]) -> None:
    """Let the loop turn until it holds; bounded by the turns that anything here may take."""
    for _ in range(10_000):
        if claim():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")


def run(story: Callable[[], Awaitable[None]]) -> None:
    """A story on a loop of its own, at most ten seconds."""

    async def bounded() -> None:
        async with asyncio.timeout(10):
            await story()

    asyncio.run(bounded())
