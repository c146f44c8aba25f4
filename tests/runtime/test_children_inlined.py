"""Bundles that bring their own copy of XState: their persistent children are data of the step too."""

import subprocess
from collections.abc import Callable

import pytest

from tests.runtime.driver import DIST, WorkerProcess, find_deno
from tests.runtime.host import Instance
from tests.runtime.test_worker_xstate5 import step

pytestmark = pytest.mark.worker

HEAD = """
export const allowRead = () => true, allowWrite = () => true;
function spawnEphemeralInstance(...args) { return globalThis.__statebacked_rt.spawn(...args) }
function source(machineInstanceName) {
  return { type: "statebacked.invoke", machineName: "kid", machineInstanceName };
}
"""
MACHINE4 = """
import { assign, createMachine, sendParent, sendTo } from "%s";
export default createMachine({ predictableActionArguments: true, context: {}, initial: "a",
  on: { spawn: { actions: assign({ ref: () => spawnEphemeralInstance({ machineName: "kid",
      machineInstanceName: "k2" }, { name: "spawned" }) }) },
    service: { actions: assign({ run: () => spawnEphemeralInstance(createMachine({ id: "inner",
      predictableActionArguments: true,
      entry: () => console.log("inner runs") }), "run") }) },
    up: { actions: sendParent({ type: "up" }) } },
  states: { a: { on: { go: "b" } }, b: { invoke: { id: "k", src: source("k1"), onDone: "c" },
    entry: sendTo("k", { type: "hi" }), on: { ref: { actions: sendTo(({ ref }) => ref, { type: "x" }) } } },
    c: { type: "final", data: (_, { data }) => data } } });
"""
MACHINE5 = """
import { assign, createMachine, fromCallback, sendParent, sendTo, spawnChild } from "%s";
export default createMachine({ context: {}, initial: "a",
  on: { spawn: { actions: assign({ ref: ({ spawn }) => spawn(source("k2"), { id: "spawned" }) }) },
    service: { actions: spawnChild(fromCallback(() => console.log("inner runs")), { id: "run" }) },
    up: { actions: sendParent({ type: "up" }) } },
  states: { a: { on: { go: "b" } }, b: { invoke: { id: "k", src: source("k1"), onDone: {
      target: "c" } }, entry: sendTo("k", { type: "hi" }),
    on: { ref: { actions: sendTo(({ context }) => context.ref, { type: "x" }) } } },
    c: { type: "final" } }, output: ({ context }) => 7 });
"""


@pytest.fixture(scope="module")
def inlined(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    def bundle(major: int) -> str:
        source = tmp_path_factory.mktemp("inlined") / "machine.js"
        machine, entry = {4: (MACHINE4, "index.js"), 5: (MACHINE5, "xstate.js")}[major]
        source.write_text(machine % (DIST / str(major) / entry).as_uri() + HEAD)
        flags = ["--quiet", "--minify", "--platform", "browser", "--no-config", "--no-lock"]
        command = [find_deno(), "bundle", *flags, str(source)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return bundle


@pytest.mark.parametrize("major", [4, 5])
def test_an_inlined_copy_has_persistent_children_too(major: int, inlined: Callable[[int], str]) -> None:
    with WorkerProcess(major) as worker:
        assert worker.load(inlined(major)) == {"t": "loaded", "major": major, "inlined": True}
        instance = Instance(worker)
        step(instance.create())
        spawn = step(instance.send("spawn"))
        assert spawn.out == [("spawn", "spawned", ["kid", "k2"], None, None)]
        go = step(instance.send("go"))
        assert go.out == [("spawn", "k", ["kid", "k1"], None, None), ("send", ["kid", "k1"], {"type": "hi"})]
        instance.drop()
        assert step(instance.send("ref")).out == [("send", ["kid", "k2"], {"type": "x"})]
        assert step(instance.send("up")).out == [("send", None, {"type": "up"})]
        service = step(instance.send("service"))
        assert (service.header["starts"], service.out) == (["run"], [])
        done = step(instance.child_done(("k", 3), 7))
        assert (done.value, done.output) == ("c", 7)
        assert worker.log_lines(instance.a) == ["inner runs"]
