"""A pool with fake or real workers, and activations whose signals are read one by one."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from statebacked.model.envelopes import Envelope, External, Initialize, Payload, Source
from statebacked.model.ids import (
    ActivationNumber,
    CodeId,
    EnvelopeId,
    InstanceId,
    InstanceKey,
    InstanceName,
    MachineName,
    OrgId,
    Seq,
    VersionId,
)
from statebacked.model.step import Chattered, Performed, Stepped, WorkerSignal
from statebacked.model.values import Json
from statebacked.ports.egress import Egress
from statebacked.ports.machines import Code, LoadSaved, Saved
from statebacked.runtime.crew import Crew
from statebacked.runtime.pool import Pool, PoolPolicy
from statebacked.runtime.process import Sandbox, find_sandbox
from statebacked.runtime.worker import Worker

PATIENCE_S = 20.0
ORG, MACHINE = OrgId("org_1"), MachineName("m")
T = TypeVar("T")


class FakeSandbox(Sandbox):
    """Runs fake_worker.py, for both majors."""

    def majors(self) -> list[int]:
        return [4, 5]

    def command(self, major: int) -> list[str]:
        return [sys.executable, "-I", "-S", str(Path(__file__).with_name("fake_worker.py")), str(major)]


FAKE = FakeSandbox(deno="", dist=Path("/nowhere"))

# Short enough for tests that wait for it, long enough for a busy machine.
QUICK = PoolPolicy(step_ms=900, load_ms=900, prewarmed=0, prewarmed_majors=(), back_off_ms=20)


@dataclass
class Log:
    code: Code
    key: InstanceKey | None
    stream: str
    line: str


class Rig:
    """`bundles` are the code by version; an unknown version is a KeyError."""

    def __init__(self, pool: Pool, bundles: dict[str, bytes], logs: "asyncio.Queue[Log]") -> None:
        self.pool = pool
        self.bundles = bundles
        self.logs = logs
        self.activations = 0

    def lodger(
        self, name: str = "i", version: str = "v1", org: OrgId = ORG, xstate: str = "5.99.0"
    ) -> "Lodger":
        self.activations += 1
        return Lodger(self, Code(org, MACHINE, VersionId(version), xstate), name, self.activations)

    def workers(self) -> list[Worker]:
        return [*self.pool._workers]

    async def restocked(self) -> None:
        """Wait until the spares that are being started are there."""
        await asyncio.gather(*self.pool._tasks)

    def crew(self) -> Crew:
        """That of the only version in use."""
        [crew] = self.pool._crews.values()
        return crew

    async def opened(self) -> None:
        """Wait until the workers that the version needs now are there, with those who waited in them."""
        await asyncio.gather(*self.crew()._tasks)

    async def logged(self, line: str) -> Log:
        """The next log line of that text; those before it are dropped."""
        while True:
            async with asyncio.timeout(PATIENCE_S):
                log = await self.logs.get()
            if log.line == line:
                return log


class Lodger:
    """One activation, driven by hand."""

    def __init__(self, rig: Rig, code: Code, name: str, number: int) -> None:
        self.code = code
        self.key = InstanceKey(code.org, code.machine, InstanceName(name))
        self.signals: asyncio.Queue[WorkerSignal] = asyncio.Queue()
        self.saved: Saved | None = None
        self.loads = 0
        self.n = 0
        self.number = ActivationNumber(number)
        instance = InstanceId(f"ins_{name}")
        self.attached = rig.pool.attach(code, self.key, instance, self.number, self.signals.put_nowait)

    @property
    def seq(self) -> Seq:
        return Seq(0) if self.saved is None else self.saved.seq

    async def load(self) -> Saved:
        self.loads += 1
        assert self.saved is not None
        return self.saved

    def compute(self, *types: str, losses: int = 0, load: LoadSaved | None = None) -> None:
        """Ask for the steps of events of these types ("init": creation)."""
        self.n += 1
        envelopes = [envelope(type, losses=losses) for type in types]
        self.attached.compute(self.n, self.seq, envelopes, load or self.load)

    async def heard(self) -> WorkerSignal:
        async with asyncio.timeout(PATIENCE_S):
            return await self.signals.get()

    async def hear(self, kind: type[T]) -> T:
        signal = await self.heard()
        assert isinstance(signal, kind), signal
        return signal

    async def step(self, *types: str, losses: int = 0) -> Any:  # Any: a context, looked into freely
        """Compute, take the steps as durable, perform; the context after them."""
        self.compute(*types, losses=losses)
        return self.commit(await self.hear(Stepped))

    async def take(self, signal: Performed | Chattered) -> Any:  # Any: as above
        """Compute what the worker says that machine code has sent, as the core does; the context after it."""
        context = None
        for sent in signal.sent if isinstance(signal, Performed) else [signal.sent]:
            self.n += 1
            inside = Envelope(
                id=EnvelopeId("inside"),
                payload=sent.internal,
                source="self" if sent.service is None else "service",
                service=sent.service,
                ends_service=sent.ends_service,
            )
            self.attached.compute(self.n, self.seq, [inside], self.load)
            context = self.commit(await self.hear(Stepped))
        return context

    def commit(self, stepped: Stepped) -> Any:  # Any: as above
        self.keep(stepped)
        assert self.saved is not None
        return json.loads(self.saved.context)

    def keep(self, stepped: Stepped) -> None:
        """The steps are durable."""
        for step in stepped.steps:
            if step.changed:
                context = step.context
                if context is None:
                    assert self.saved is not None
                    context = self.saved.context
                self.saved = Saved(Seq(self.seq + 1), step.snapshot, context)


def envelope(type: str, *, losses: int = 0, source: Source = "client", auth: Json | None = None) -> Envelope:
    event: dict[str, object] = {"type": type}
    payload: Payload = Initialize(None) if type == "init" else External(Json(json.dumps(event).encode()))
    return Envelope(id=EnvelopeId("e"), payload=payload, source=source, auth=auth, losses=losses)


@asynccontextmanager
async def rig(
    bundles: dict[str, bytes] | None = None,
    *,
    policy: PoolPolicy = QUICK,
    sandbox: Sandbox = FAKE,
    egress: Egress | None = None,
) -> AsyncIterator[Rig]:
    """A pool; at its end no process of it is left."""
    known = {"v1": b"{}", "v2": b"{}"} if bundles is None else bundles
    logs: asyncio.Queue[Log] = asyncio.Queue()

    async def load_bundle(code: CodeId) -> bytes:
        return known[code]

    async def load_selectors(code: Code) -> list[tuple[str, str]]:
        return [("by-user", "$.user")]

    pool = Pool(
        sandbox,
        policy,
        load_bundle,
        lambda *of: logs.put_nowait(Log(*of)),
        load_selectors=load_selectors,
        egress=egress,
    )
    try:
        yield Rig(pool, known, logs)
    finally:
        pids = pool.pids()
        await pool.aclose()
        assert not any(is_running(pid) for pid in pids)


def real_sandbox() -> Sandbox:
    return find_sandbox({})


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
