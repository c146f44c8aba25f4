"""The pool with real Deno workers: what machine code does to them, and to whom it does nothing."""

import asyncio
import os
import re
import signal
from dataclasses import replace

import pytest

from statebacked.model.errors import InvalidMachine
from statebacked.model.ids import Seq
from statebacked.model.step import Chattered, Performed, Refused, Stepped, WorkerLost
from statebacked.model.values import Json
from statebacked.ports.machines import Saved
from statebacked.runtime.pool import PoolPolicy
from tests.event_loop import run
from tests.runtime.rig import Lodger, Rig, real_sandbox, rig

pytestmark = pytest.mark.worker

POLICY = PoolPolicy(step_ms=1_500, load_ms=3_000, prewarmed=0, prewarmed_majors=())
VERSIONS = {4: "4.38.3", 5: "5.33.3"}
MAJORS = pytest.mark.parametrize("major", [4, 5])

TOGGLER = b"""import { createMachine } from "xstate";
export const allowRead = ({ authContext }) => authContext.ok === true, allowWrite = () => true;
export default createMachine({ id: "toggler", initial: "off", context: { public: { n: 1 } },
  states: { off: { on: { toggle: "on" } }, on: { on: { toggle: "off" } } } });"""

# `cond` is version 4's word for `guard`; each ignores the other's.
FAULTY = b"""import { createMachine } from "xstate";
export const allowRead = ({ authContext }) => { if (authContext.loop) for (;;); return true; };
export const allowWrite = () => true;
const on = Object.fromEntries(Object.entries({
  loop: () => { for (;;); },
  expression: () => /^(a+)+$/.test("a".repeat(60) + "!"),
  heap: () => { for (const kept = []; ;) kept.push({ x: [kept.length] }); },
  arrays: () => { for (const kept = []; ;) kept.push(new Uint8Array(20_000_000).fill(1)); },
  buffers: () => { for (const kept = []; ;) kept.push(new WebAssembly.Memory({ initial: 500 }).buffer, 0)
    && new Uint8Array(kept.at(-2)).fill(1); },
}).map(([name, guard]) => [name, { guard, cond: guard, target: "b" }]));
export default createMachine({ initial: "a", context: {}, states: {
  a: { on: { ...on, next: "b", act: { target: "b", actions: () => { for (;;); } } } },
  b: { on: { next: "a" } } } });"""

SERVICE4 = b"""import { createMachine } from "xstate";
export const allowRead = () => true, allowWrite = () => true;
export default createMachine({ initial: "idle", context: {}, predictableActionArguments: true, states: {
  idle: { on: { go: "busy" } },
  busy: { invoke: { id: "svc", src: () => (send) => { setTimeout(() => send("beat"), 1); } },
    on: { beat: "idle", "error.platform.svc": "idle" } } } });"""
SERVICE5 = b"""import { createMachine, fromCallback } from "xstate";
export const allowRead = () => true, allowWrite = () => true;
export default createMachine({ initial: "idle", context: {}, states: {
  idle: { on: { go: "busy" } },
  busy: { invoke: { id: "svc",
      src: fromCallback(({ sendBack }) => { setTimeout(() => sendBack({ type: "beat" }), 1); }) },
    on: { beat: "idle" } } } });"""


def code(major: int) -> dict[str, bytes]:
    return {"v1": FAULTY, "v2": TOGGLER, "service": SERVICE4 if major == 4 else SERVICE5}


async def settled(r: Rig, major: int, name: str = "i", version: str = "v1") -> Lodger:
    lodger = r.lodger(name, version, xstate=VERSIONS[major])
    await lodger.step("init")
    return lodger


async def value_of(lodger: Lodger, type: str) -> bytes:
    lodger.compute(type)
    stepped = await lodger.hear(Stepped)
    lodger.keep(stepped)
    return stepped.steps[-1].value


@MAJORS
def test_a_state_outlives_its_worker(major: int) -> None:
    @run
    async def test() -> None:
        async with rig(code(major), sandbox=real_sandbox(), policy=POLICY) as r:
            lodger = await settled(r, major, version="v2")
            assert await value_of(lodger, "toggle") == b'"on"'
            [worker] = r.workers()
            os.kill(r.pool.pids()[0], signal.SIGKILL)
            await worker.gone
            assert await value_of(lodger, "toggle") == b'"off"'
            assert lodger.loads == 1

    test()


@MAJORS
def test_a_worker_that_is_killed_in_a_step_loses_only_the_step(major: int) -> None:
    @run
    async def test() -> None:
        async with rig(code(major), sandbox=real_sandbox(), policy=POLICY) as r:
            lodger = await settled(r, major)
            lodger.compute("loop")
            await asyncio.sleep(0)
            os.kill(r.pool.pids()[0], signal.SIGKILL)
            assert await lodger.heard() == WorkerLost(guilty=False)
            lodger.compute("next", losses=1)
            assert (await lodger.hear(Stepped)).steps[0].value == b'"b"'

    test()


@pytest.mark.parametrize("fault", ["loop", "expression", "heap", "arrays", "buffers"])
def test_a_guard_that_never_ends_is_guilty_and_other_versions_go_on(fault: str) -> None:
    @run
    async def test() -> None:
        async with rig(code(5), sandbox=real_sandbox(), policy=POLICY) as r:
            lodger, neighbour = await settled(r, 5), await settled(r, 5, "n", "v2")
            for losses, verdict in enumerate([WorkerLost(guilty=False), WorkerLost(guilty=True)]):
                lodger.compute(fault, losses=losses)
                while lodger.signals.empty():
                    assert await value_of(neighbour, "toggle") in {b'"on"', b'"off"'}
                assert await lodger.heard() == verdict
            assert await value_of(lodger, "next") == b'"b"'
            assert neighbour.loads == 0

    test()


@MAJORS
def test_an_action_that_loops_is_lost_and_sets_its_instance_apart(major: int) -> None:
    @run
    async def test() -> None:
        async with rig(code(major), sandbox=real_sandbox(), policy=POLICY) as r:
            lodger, neighbour = await settled(r, major), await settled(r, major, "n")
            assert await value_of(lodger, "act") == b'"b"'
            lodger.attached.perform(lodger.seq)
            assert await lodger.heard() == WorkerLost(guilty=False)
            assert await value_of(lodger, "next") == b'"a"'
            assert await value_of(neighbour, "next") == b'"b"'
            assert len(r.workers()) == 2

    test()


@MAJORS
def test_services_are_heard_and_lost(major: int) -> None:
    @run
    async def test() -> None:
        async with rig(code(major), sandbox=real_sandbox(), policy=POLICY) as r:
            lodger = await settled(r, major, version="service")
            assert await value_of(lodger, "go") == b'"busy"'
            lodger.attached.perform(lodger.seq)
            assert (await lodger.hear(Performed)).sent == ()
            chattered = await lodger.hear(Chattered)
            assert chattered.sent.service == ("svc", 2)
            os.kill(r.pool.pids()[0], signal.SIGKILL)
            assert await lodger.heard() == WorkerLost(guilty=False)

    test()


@run
async def test_an_authorizer_that_loops_ends_the_read() -> None:
    async with rig(code(5), sandbox=real_sandbox(), policy=POLICY) as r:
        lodger = await settled(r, 5)
        saved = lodger.saved
        assert saved is not None
        assert await r.pool.may_read(lodger.code, lodger.key, saved, [Json(b"{}")]) == [True]
        with pytest.raises(Exception, match="did not answer"):
            await r.pool.may_read(lodger.code, lodger.key, saved, [Json(b'{"loop":true}')])


@MAJORS
def test_readers_are_judged_on_live_and_on_saved_states(major: int) -> None:
    @run
    async def test() -> None:
        async with rig(code(major), sandbox=real_sandbox(), policy=POLICY) as r:
            lodger = await settled(r, major, version="v2")
            saved, auths = lodger.saved, [Json(b'{"ok":true}'), Json(b'{"ok":1}')]
            assert saved is not None
            assert await lodger.attached.may_read(saved.seq, auths) == [True, False]
            assert await r.pool.may_read(lodger.code, lodger.key, saved, auths) == [True, False]

    test()


@run
async def test_a_broken_saved_state_refuses_the_event() -> None:
    async with rig(code(5), sandbox=real_sandbox(), policy=POLICY) as r:
        lodger = r.lodger(xstate=VERSIONS[5])
        lodger.saved = Saved(Seq(3), Json(b'{"value":"nowhere"}'), Json(b"{}"))
        lodger.compute("next")
        assert (await lodger.hear(Refused)).code == "machine-error"


# --- validating


@pytest.mark.parametrize(
    ("bundle", "hint", "xstate"),
    [
        (TOGGLER, "5.33.3", "5.33.3"),
        (TOGGLER, "^4.38.3", "4.38.3"),
        (TOGGLER, None, "4.38.3"),
        (SERVICE5, None, "5.33.3"),
        (SERVICE4, None, "4.38.3"),
    ],
)
def test_a_bundle_is_linked_with_its_major(bundle: bytes, hint: str | None, xstate: str) -> None:
    @run
    async def test() -> None:
        async with rig({}, sandbox=real_sandbox(), policy=POLICY) as r:
            assert (await r.pool.validate(bundle, hint)).xstate == xstate

    test()


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [
        (b"export default {", "SyntaxError"),
        (b"export default 1;", "allowRead"),
        (b"throw new Error('at load');", "at load"),
        (b"import fs from 'node:fs'; export default fs;", "fs"),
        (b"import fs from 'fs'; export default fs;", "fs"),
        (b"import x from 'lodash'; export default x;", "lodash"),
        (b"import x from './x.js'; export default x;", "x.js"),
        (b"import x from 'file:///etc/passwd'; export default x;", "import"),
        (b"import x from 'https://example.org/x.js'; export default x;", "import"),
        (b"import x from 'npm:left-pad'; export default x;", "import"),
        (b"await import('node:fs');", "fs"),
        (b"for (;;);", "did not answer for 1.5 seconds"),
        (b"await new Promise(() => {});", "did not finish loading in 3 seconds"),
        (b"for (const kept = []; ;) kept.push([kept.length]);", "out of memory"),
        (b"for (const kept = []; ;) kept.push(new Uint8Array(2e7).fill(1));", "out of memory"),
        (FAULTY.replace(b"xstate", b"xstate/nope"), "nope"),
    ],
)
def test_a_broken_bundle_is_refused_without_a_path_of_the_host(bundle: bytes, reason: str) -> None:
    @run
    async def test() -> None:
        patient = PoolPolicy(prewarmed=0)  # a heap fills slowly on a busy machine
        policy = patient if reason == "out of memory" else POLICY
        async with rig({}, sandbox=real_sandbox(), policy=policy) as r:
            with pytest.raises(InvalidMachine) as refused:
                await r.pool.validate(bundle, "5.33.3")
            message = refused.value.message
            assert reason in message
            assert not re.search(r"file://(?!/etc)|/dist/|blob:|statebacked/runtime", message), message

    test()


@run
async def test_a_spare_serves_the_first_event() -> None:
    policy = replace(POLICY, prewarmed=1, prewarmed_majors=(5,))
    async with rig(code(5), sandbox=real_sandbox(), policy=policy) as r:
        r.pool.prewarm()
        await r.restocked()
        spares = r.pool.pids()
        await settled(r, 5)
        assert spares[0] in r.pool.pids()


FLOODS = b"""import { createMachine } from "xstate";
export const allowRead = () => true, allowWrite = () => true;
const flood = async () => { for (;;) { console.log("x".repeat(1000)); await null; } };
const again = () => { for (const t = Date.now() + 50; Date.now() < t;); setTimeout(again); };
const loops = { flood, busy: again, late: () => setTimeout(() => { for (;;); }, 50) };
const on = Object.entries(loops).map(([name, run]) => [name, { target: "b", actions: () => void run() }]);
export default createMachine({ initial: "a", context: {}, states: {
  a: { on: { next: "b", ...Object.fromEntries(on) } },
  b: { on: { next: "a" } } } });"""


@pytest.mark.parametrize(
    ("kind", "end"), [("flood", "did not answer"), ("late", "did not answer"), ("busy", "kept a CPU busy")]
)
def test_code_that_goes_on_after_its_step_is_ended(kind: str, end: str) -> None:
    # Only code that answers is to be known by the CPU that it burns; others may use the CPUs too.
    policy = replace(POLICY, burned_looks_max=2, burning_s=0.05) if kind == "busy" else POLICY

    @run
    async def test() -> None:
        async with rig({"v1": FLOODS, "v2": TOGGLER}, sandbox=real_sandbox(), policy=policy) as r:
            lodger, neighbour = await settled(r, 5), await settled(r, 5, "n", "v2")
            lodger.compute(kind)
            stepped = await lodger.hear(Stepped)
            lodger.keep(stepped)
            lodger.attached.perform(lodger.seq)
            await lodger.hear(Performed)
            gone = next(w for w in r.workers() if w.code == lodger.code).gone
            while not gone.done():
                assert await value_of(neighbour, "toggle") in {b'"on"', b'"off"'}
                await asyncio.sleep(0.01)
            assert end in (await said_of_its_end(r))
            assert await value_of(lodger, "next") == b'"a"'

    test()


async def said_of_its_end(r: Rig) -> str:
    while True:
        line = (await r.logs.get()).line
        if line.startswith("the worker "):
            return line
