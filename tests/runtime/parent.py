"""A server to be killed: a pool with one instance at work. Prints its workers' pids, then waits for ever."""

import asyncio
import sys

from tests.runtime.rig import FAKE, QUICK, real_sandbox, rig

LOOPS = b"""import { createMachine } from "xstate";
export const allowRead = () => true, allowWrite = () => true;
export default createMachine({ on: { loop: { guard: () => { for (;;); } } } });"""


async def main(what: str) -> None:
    sandbox, bundle = (FAKE, b"{}") if what == "hang" else (real_sandbox(), LOOPS)
    policy = QUICK.__class__(step_ms=60_000, prewarmed=1)
    async with rig({"v1": bundle}, sandbox=sandbox, policy=policy) as r:
        r.pool.prewarm()
        await r.restocked()
        lodger = r.lodger(xstate="5.33.3")
        await lodger.step("init")
        await r.restocked()
        if what != "idle":
            lodger.compute(what)
            await asyncio.sleep(0.1)  # the frame goes out at the end of a turn of the loop
        sys.stdout.write(" ".join(map(str, r.pool.pids())) + "\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


asyncio.run(main(sys.argv[1]))
