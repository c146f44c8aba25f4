"""A bundle that brings its own copy of XState 5, minified: recognised by its shape, and run all the same."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.runtime.driver import DIST, WorkerProcess, find_deno
from tests.runtime.host import Instance, Refusal
from tests.runtime.test_worker_xstate5 import step

pytestmark = pytest.mark.worker

SOURCE = """
import { assign, createMachine, fromCallback, fromPromise, raise, sendTo } from "%s";
export const allowRead = () => true, allowWrite = () => true;
export default createMachine({ id: "m", initial: "a", context: { n: 0, ref: null },
  on: { bad: { actions: assign(() => { throw new Error("no") }) } },
  states: {
    a: { entry: () => console.log("in a"), after: { 1000: "b" }, on: {
      spawn: { actions: assign({ ref: ({ spawn }) => spawn(fromCallback(({ sendBack, receive }) => {
        receive(() => sendBack({ type: "go" })) }), { id: "s" }) }) },
      ask: { actions: sendTo(({ context }) => context.ref, { type: "please" }) },
      go: { target: "b", actions: [assign({ n: ({ context }) => context.n + 1 }), raise({ type: "x" })] } } },
    b: { invoke: { id: "p", src: fromPromise(async () => 5),
      onDone: { target: "c", actions: assign({ n: ({ context, event }) => context.n + event.output }) } } },
    c: { entry: sendTo(({ self }) => self, { type: "own" }), on: { own: "d" } },
    d: { type: "final" } } });
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    source: Path = tmp_path_factory.mktemp("inlined") / "machine.js"
    source.write_text(SOURCE % (DIST / "5" / "xstate.js").as_uri())
    flags = ["--quiet", "--minify", "--platform", "browser", "--no-config", "--no-lock"]
    command = [find_deno(), "bundle", *flags, str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_machine_of_an_inlined_copy_runs(worker5: WorkerProcess, bundle: str) -> None:
    assert worker5.load(bundle) == {"t": "loaded", "major": 5, "inlined": True}
    instance = Instance(worker5)
    first = step(instance.create())
    assert first.timers == [("set", "xstate.after.1000.m.a", 1_000, {"type": "xstate.after.1000.m.a"})]
    assert not step(instance.send("nobody")).changed
    assert step(instance.send("spawn")).header["starts"] == ["s"]
    assert isinstance(instance.send("bad"), Refusal)
    step(instance.send("ask"))
    assert [waiting.item["service"] for waiting in instance.waiting] == [["s", 2]]
    go = step(instance.deliver())
    assert (go.value, go.timers, go.header["starts"]) == ("b", [("cancel", "xstate.after.1000.m.a")], ["p"])
    instance.stop(("s", 2))
    instance.settle()
    assert (instance.value, instance.done) == ("d", True)
    assert instance.context == {"n": 6, "ref": {"xstate$$type": 1, "id": "s"}}
    instance.drop()
    assert not step(instance.send("go")).changed
    assert worker5.said(1) == ["in a"]


def test_a_copy_too_old_to_record_is_refused_at_load(worker5: WorkerProcess, bundle: str) -> None:
    """Before 5.19 XState ran actions itself while it computed."""
    performs_itself = "((action) => action.exec?.(action.info, action.params))("
    old = re.sub(r"[\w$]+\.actionExecutor\(", performs_itself, bundle)
    assert old != bundle
    answer = worker5.load(old)
    assert answer["t"] == "unloadable"
    assert "too old" in answer["message"]
