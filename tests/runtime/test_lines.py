"""Whose log a line of machine code goes to, with real workers."""

import re

import pytest

from statebacked.model.step import Performed, Refused, WorkerLost
from statebacked.model.values import Json
from tests.event_loop import run
from tests.runtime.rig import Log, real_sandbox, rig
from tests.runtime.test_pool_real import MAJORS, POLICY, VERSIONS

pytestmark = pytest.mark.worker

# Everything speaks. `cond` is version 4's word for `guard`; each ignores the other's.
TALKER = """import { assign, createMachine } from "xstate";
console.log("module");
const say = (text) => () => { console.log(text); return true; };
const talk = (text) => { console.log(text); return new Promise((done) => setTimeout(() => {
  console.log(`${text} later`); done(); })); };
export const allowRead = ({ authContext }) => {
  console.log("allowRead"); return authContext.throws ? authContext.throws.at() : true; };
export const allowWrite = ({ event }) => { console.warn("allowWrite"); return true; };
const bad = () => { throw new Error("no good"); };
export default createMachine({ initial: "a", context: {}, predictableActionArguments: true, states: {
  a: { on: { next: { target: "b", guard: say("guard"), cond: say("guard"), actions: say("action") },
    guard: { target: "b", guard: bad, cond: bad }, assign: { target: "b", actions: assign(bad) } } },
  b: { invoke: { id: "svc", src: SERVICE } } } });
"""
SERVICES = {4: '() => talk("service")', 5: 'fromPromise(() => talk("service"))'}


def talker(major: int) -> bytes:
    imported = TALKER.replace("{ assign,", "{ assign, fromPromise,") if major == 5 else TALKER
    return imported.replace("SERVICE", SERVICES[major]).encode()


@MAJORS
def test_each_line_goes_to_the_log_of_its_instance_and_the_modules_to_the_machines(major: int) -> None:
    @run
    async def test() -> None:
        async with rig({"v": talker(major)}, sandbox=real_sandbox(), policy=POLICY) as r:

            async def lines(count: int) -> list[Log]:
                return [await r.logs.get() for _ in range(count)]

            lodger = r.lodger("one", "v", xstate=VERSIONS[major])
            await lodger.step("init")
            (module,) = await lines(1)
            assert (module.key, module.stream, module.line) == (None, "stdout", "module")

            await lodger.step("next")
            lodger.attached.perform(lodger.seq)
            await lodger.hear(Performed)
            said = await lines(4)
            assert {log.key for log in said} == {lodger.key}
            assert [log.line for log in said] == ["guard", "action", "service", "service later"]

            assert lodger.saved is not None
            assert await lodger.attached.may_read(lodger.seq, [Json(b"{}")]) == [True]
            # Of a state that is read from the store, no activation knows the name.
            assert await r.pool.may_read(lodger.code, lodger.key, lodger.saved, [Json(b"{}")]) == [True]
            throws = [Json(b'{"throws": 1}')]
            assert await r.pool.may_read(lodger.code, lodger.key, lodger.saved, throws) == [False]
            said = await lines(4)
            assert {log.key for log in said} == {lodger.key}
            assert [log.line for log in said][:3] == ["allowRead"] * 3
            assert re.fullmatch(r"allowRead threw: .*at is not a function", said[3].line)

    test()


@MAJORS
def test_a_refusal_tells_where_the_machines_code_threw(major: int) -> None:
    @run
    async def test() -> None:
        async with rig({"v": talker(major)}, sandbox=real_sandbox(), policy=POLICY) as r:
            lodger = r.lodger("one", "v", xstate=VERSIONS[major])
            await lodger.step("init")
            lodger.compute("guard")
            assert (await lodger.hear(Refused)).code == "machine-error"
            await r.logged("no good")  # after what XState says of the guard
            lodger.compute("assign")
            assert (await lodger.hear(Refused)).code == "machine-error"
            first = await r.logged("an event is refused: no good")
            assert (first.key, first.stream) == (lodger.key, "stderr")
            frame = await r.logs.get()
            assert re.fullmatch(r" +at (\S+ )?\(?bundle:\d+:\d+\)?", frame.line), frame.line

    test()


@run
async def test_the_death_of_a_worker_is_told_to_the_machine_and_to_those_it_takes_along() -> None:
    async with rig({"v": talker(5)}, sandbox=real_sandbox(), policy=POLICY) as r:
        busy, idle = (r.lodger(name, "v", xstate=VERSIONS[5]) for name in ("busy", "idle"))
        await busy.step("init")
        await idle.step("init")
        await busy.step("next")  # its service is to be started
        [worker] = r.workers()
        worker.kill("ran out of memory: it passed 320 MiB")
        await busy.hear(WorkerLost)
        whole = await r.logged("the worker ran out of memory: it passed 320 MiB")
        assert whole.key is None
        own = await r.logs.get()
        assert own.line == "the worker in which this instance was ran out of memory: it passed 320 MiB"
        assert own.key == busy.key
        assert r.logs.empty()
