"""What one call of a worker costs the server's CPU: `python -m bench.worker_call [--real] [--instances 64]`.

Counts this process's CPU time alone, the worker has its own: encode, write, read, decode, check, and the
signal to the caller. A wall figure stands beside it. --real: Deno and a counter machine of XState 5.
"""

import argparse
import asyncio
import json
import time

import uvloop
from tests.runtime.rig import FAKE

from statebacked.model.envelopes import Envelope, External, Initialize
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
from statebacked.model.step import Stepped, WorkerSignal
from statebacked.model.values import Json
from statebacked.ports.machines import Attached, Code, Saved
from statebacked.runtime.pool import Pool, PoolPolicy
from statebacked.runtime.process import find_sandbox

COUNTER = b"""import { assign, createMachine } from "xstate";
export const allowRead = () => true, allowWrite = () => true;
const count = assign({ count: ({ context }) => context.count + 1 });
export default createMachine({ initial: "off",
  context: { count: 0, public: { on: false }, words: ["a", "b"] },
  states: { off: { on: { toggle: { target: "on", actions: count } } }, on: { on: { toggle: "off" } } } });"""
TOGGLE = Envelope(
    id=EnvelopeId("evt_1"),
    payload=External(Json(b'{"type":"toggle"}')),
    source="client",
    auth=Json(b'{"sub":"user-1"}'),
)
CREATE = Envelope(id=EnvelopeId("evt_0"), payload=Initialize(None), source="client", auth=TOGGLE.auth)


class Caller:
    """One instance whose next event follows its last at once."""

    def __init__(self, pool: Pool, number: int, total: "Total") -> None:
        self._total = total
        self._seq = Seq(0)
        self._n = 0
        code = Code(OrgId("org_1"), MachineName("m"), VersionId("ver_1"), "5.33.3")
        key = InstanceKey(code.org, code.machine, InstanceName(f"i{number}"))
        self._attached: Attached = pool.attach(
            code, key, InstanceId(f"ins_{number}"), ActivationNumber(number), self._receive
        )

    def begin(self) -> None:
        self._attached.compute(1, Seq(0), [CREATE], self._load)

    def _receive(self, signal: WorkerSignal) -> None:
        assert isinstance(signal, Stepped), signal
        self._seq = Seq(self._seq + 1)
        self._n += 1
        if self._total.count():
            self._attached.compute(self._n + 1, self._seq, [TOGGLE], self._load)

    async def _load(self) -> Saved:
        raise AssertionError("the worker holds every state")


class Total:
    def __init__(self) -> None:
        self.left = 0
        self.done = asyncio.Event()

    def count(self) -> bool:
        self.left -= 1
        if self.left <= 0:
            self.done.set()
        return self.left > 0


async def measure(*, is_real: bool, instances: int, calls: int) -> None:
    async def load_bundle(code: CodeId) -> bytes:
        return COUNTER if is_real else json.dumps({}).encode()

    sandbox = find_sandbox({}) if is_real else FAKE
    pool = Pool(sandbox, PoolPolicy(prewarmed=0), load_bundle, lambda *_: None)
    try:
        for name, of in (("warming up", calls // 4), ("", calls)):
            total = Total()
            total.left = of
            callers = [Caller(pool, number + len(name) * 1_000, total) for number in range(1, instances + 1)]
            cpu, wall = time.process_time(), time.perf_counter()
            for caller in callers:
                caller.begin()
            await total.done.wait()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if not name:
                print(
                    f"worker call, {instances} in flight: {cpu / of * 1e6:.1f} us of server CPU, "
                    f"{of / wall:,.0f} calls a second"
                )
    finally:
        await pool.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--instances", type=int, default=64)
    parser.add_argument("--calls", type=int, default=40_000)
    arguments = parser.parse_args()
    uvloop.run(measure(is_real=arguments.real, instances=arguments.instances, calls=arguments.calls))


if __name__ == "__main__":
    main()
