"""What machine code reaches, and what it does not; how a bundle that cannot run is told."""

import json
import re
from pathlib import Path

import pytest

from tests.runtime.driver import WorkerProcess, find_deno
from tests.runtime.host import Instance

pytestmark = pytest.mark.worker

MACHINE = """
import { createMachine } from "xstate";
export const allowRead = () => true;
export const allowWrite = () => true;
export default createMachine({});
"""


def run(worker: WorkerProcess, code: str) -> object:
    """What an async function body gives, run while the module loads."""
    tried = f"""{MACHINE}
    const outcome = await (async () => {{ {code} }})().catch((e) => `${{e.name}}: ${{e.message}}`);
    console.log("OUTCOME" + JSON.stringify(outcome));"""
    answer = worker.load(tried)
    assert answer["t"] == "loaded", answer
    (line,) = [line for line in worker.log_lines() if line.startswith("OUTCOME")]
    outcome: object = json.loads(line.removeprefix("OUTCOME"))
    return outcome


GONE = [
    *("Deno", "process", "Buffer", "global", "Worker", "localStorage", "sessionStorage", "caches", "prompt"),
    *("alert", "confirm", "close", "Performance", "PerformanceMark", "PerformanceObserver"),
    *("WebSocket", "EventSource", "createImageBitmap", "OffscreenCanvas", "GPU", "GPUAdapter", "GPUDevice"),
]


def test_globals_that_are_not_of_the_web_are_gone(worker5: WorkerProcess) -> None:
    code = (
        f"return {json.dumps(GONE)}.filter((n) => n in globalThis || typeof (0, eval)('typeof ' + n) === 'x')"
    )
    assert run(worker5, code) == []


def test_no_graphics_driver_is_in_reach(worker5: WorkerProcess) -> None:
    code = """const left = Object.getOwnPropertyNames(globalThis).filter((name) => /^gpu/i.test(name));
      return [...left, typeof navigator.gpu, "gpu" in navigator, typeof navigator.userAgent]"""
    assert run(worker5, code) == ["undefined", False, "string"]


CLOCKS = {
    "Date": "Date.now()",
    "a new Date": "new Date().getTime()",
    "performance.now": "performance.now()",
    "performance.timeOrigin": "performance.timeOrigin",
    "performance.toJSON": "performance.toJSON().timeOrigin",
    "Temporal.Now.instant": "rest(Temporal.Now.instant())",
    "Temporal.Now.zonedDateTimeISO": "rest(Temporal.Now.zonedDateTimeISO())",
    "its zone": "rest(Temporal.Now.zonedDateTimeISO('Asia/Tokyo'))",
    "Temporal.Now.plainDateTimeISO": "below(Temporal.Now.plainDateTimeISO())",
    "Temporal.Now.plainTimeISO": "below(Temporal.Now.plainTimeISO('UTC'))",
    "an event": "new Event('x').timeStamp",
    "a file": "new File([], 'x').lastModified",
}


def test_no_clock_is_finer_than_a_millisecond(worker5: WorkerProcess) -> None:
    reads = ", ".join(f"{json.dumps(name)}: () => {read}" for name, read in CLOCKS.items())
    code = f"""const rest = (t) => Number(t.epochNanoseconds % 1000000n) / 1e6;
      const below = (t) => (t.microsecond * 1000 + t.nanosecond) / 1e6;
      const fine = [];
      for (const [name, read] of Object.entries({{ {reads} }})) {{
        const seen = [];
        for (let i = 0; i < 300; i++) seen.push(read());
        if (!seen.every((t) => Number.isInteger(t))) fine.push(name);
      }}
      return fine;"""
    assert run(worker5, code) == []


def test_the_events_of_messages_and_readers_tell_no_finer_time(worker5: WorkerProcess) -> None:
    code = """const { port1, port2 } = new MessageChannel();
      const came = new Promise((done) => { port2.onmessage = done; port2.start?.() });
      port1.postMessage(1);
      const reader = new FileReader();
      const read = new Promise((done) => { reader.onload = done });
      reader.readAsText(new Blob(["x"]));
      const stamps = [(await came).timeStamp, (await read).timeStamp];
      port1.close(); port2.close();
      return stamps.filter((stamp) => !Number.isInteger(stamp))"""
    assert run(worker5, code) == []


def test_the_day_of_temporal_is_that_of_date(worker5: WorkerProcess) -> None:
    code = """const [day, time] = new Date().toISOString().split("T");
      return [Temporal.Now.plainDateISO("UTC").toString() === day,
        Temporal.Now.instant().toString().slice(0, 16) === `${day}T${time}`.slice(0, 16),
        typeof Temporal.Now.timeZoneId()]"""
    assert run(worker5, code) == [True, True, "string"]


def test_no_line_of_a_log_names_where_the_worker_is_on_the_server(worker5: WorkerProcess) -> None:
    code = """console.error(new Error("one"));
      console.log(new Error("two").stack);
      setTimeout(() => { throw new Error("three") });
      Promise.reject(new Error("four"));
      await new Promise((done) => setTimeout(done, 20));"""
    tried = f"{MACHINE} await (async () => {{ {code} }})();"
    assert worker5.load(tried)["t"] == "loaded"
    text = "\n".join(worker5.log_lines())
    assert all(word in text for word in ("one", "two", "three", "four"))
    assert "file:" not in text
    assert "/dist/" not in text


MODULES = [
    *(
        "node:fs",
        "node:process",
        "node:worker_threads",
        "node:child_process",
        "node:net",
        "node:module",
        "node:os",
    ),
    *(
        "node:async_hooks",
        "node:vm",
        "node:inspector",
        "node:sqlite",
        "node:buffer",
        "node:fs/promises",
        "node:v8",
    ),
    *("fs", "process", "module", "child_process", "async_hooks", "fs/promises"),
    *(
        "file:///etc/hostname",
        "http://127.0.0.1:9/x.js",
        "https://example.com/x.js",
        "npm:lodash",
        "jsr:@std/fs",
    ),
    *("./boot.js", "/etc/hostname", "lodash", "xstate/lib/utils", "data:text/javascript,import 'node:fs'"),
]


@pytest.mark.parametrize("major", [4, 5])
def test_no_module_but_xstate_can_be_imported(major: int) -> None:
    asked = [module for module in MODULES if major == 5 or "xstate" not in module]
    code = f"""const found = [];
      for (const m of {json.dumps(asked)}) try {{ await import(m); found.push(m) }} catch {{}}
      return found;"""
    with WorkerProcess(major) as worker:
        assert run(worker, code) == []


def test_every_builtin_module_that_deno_holds_is_out_of_reach(worker5: WorkerProcess) -> None:
    held = set(re.findall(rb"node:[A-Za-z_][A-Za-z0-9_/]{1,40}", Path(find_deno()).read_bytes()))
    names = sorted(name.decode() for name in held)
    assert {"node:fs", "node:_http_client", "node:sqlite"} <= set(names)
    code = f"""const found = []; for (const m of {json.dumps(names)})
      try {{ await import(m); found.push(m) }}
      catch (e) {{ if (/is not defined/.test(e.message)) found.push(m) /* it ran, and failed */ }}
      return found;"""
    assert run(worker5, code) == []


def test_the_files_of_the_worker_give_nothing_away(worker5: WorkerProcess) -> None:
    code = """const boot = new URL("boot.js", import.meta.resolve("xstate")).href;
      return Object.keys(await import(boot));"""
    assert run(worker5, code) == []
    with WorkerProcess(5) as other:
        code = """const map = new URL("import-map.json", import.meta.resolve("xstate")).href;
          return Object.keys(await import(map, { with: { type: "json" } }));"""
        assert "Requires read access" in str(run(other, code))


@pytest.mark.parametrize(
    "code",
    [
        "new Worker('data:text/javascript,1', { type: 'module' })",
        "new globalThis.constructor.Worker('data:text/javascript,1')",
        """await new Promise((onopen, onerror) =>
             Object.assign(new WebSocket("ws://127.0.0.1:9"), { onopen, onerror }))""",
        """const { default: type } = await import("data:text/javascript,export default typeof Deno");
           if (type !== "object") throw "gone";""",
    ],
)
def test_there_is_no_other_way_out(worker5: WorkerProcess, code: str) -> None:
    assert isinstance(run(worker5, f"{code}; return 1"), str)


def test_a_module_that_loads_may_not_fetch(worker5: WorkerProcess) -> None:
    assert str(run(worker5, "return await fetch('http://127.0.0.1:9')")).startswith(
        "TypeError: fetch is not allowed while the module loads"
    )


def test_the_clock_shows_milliseconds(worker5: WorkerProcess) -> None:
    code = """const seen = new Set(); for (let i = 0; i < 1e6; i++) seen.add(performance.now());
      return [...seen].every(Number.isInteger) && new Event("x").timeStamp % 1 === 0"""
    assert run(worker5, code) is True


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (
            """const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode("x"));
               return new Uint8Array(digest).toHex().slice(0, 8)""",
            "2d711642",
        ),
        (
            """const hmac = { name: "HMAC", hash: "SHA-256" };
               const key = await crypto.subtle.generateKey(hmac, true, ["sign", "verify"]);
               const data = crypto.getRandomValues(new Uint8Array(9));
               return crypto.subtle.verify("HMAC", key, await crypto.subtle.sign("HMAC", key, data), data)""",
            True,
        ),
        ("return crypto.randomUUID().length", 36),
        (
            """const text = "AGFzbQEAAAABBwFgAn9/AX8DAgEABwcBA2FkZAAACgkBBwAgACABags=";
               const { instance } = await WebAssembly.instantiate(Uint8Array.fromBase64(text));
               return instance.exports.add(40, 2)""",
            42,
        ),
        ("return new URL('../b?c=1#d', 'https://a.example/x/y').href", "https://a.example/b?c=1#d"),
        ("return new URLSearchParams({ a: 'b c' }).toString()", "a=b+c"),
        (
            """const packed = new Blob(["hello"]).stream().pipeThrough(new CompressionStream("gzip"));
               return await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).text()""",
            "hello",
        ),
        (
            """const s = new ReadableStream({ start(c) { c.enqueue(1); c.enqueue(2); c.close() } });
               const all = []; for await (const n of s.pipeThrough(new TransformStream({
                 transform(n, c) { c.enqueue(n * 2) } }))) all.push(n); return all""",
            [2, 4],
        ),
        ("return structuredClone({ d: new Date(0) }).d.getTime()", 0),
        (
            "return [atob(btoa('x')), new Headers({ a: 'b' }).get('A'), new Request('http://x/').method]",
            ["x", "b", "GET"],
        ),
        ("return await new Promise((ok) => setTimeout(ok, 1, 'later'))", "later"),
        (
            """const target = new EventTarget(); let n = 0; target.addEventListener("x", () => n++);
               target.dispatchEvent(new Event("x")); new AbortController().abort(); return n""",
            1,
        ),
        (
            """return await new Promise((ok) => { const { port1, port2 } = new MessageChannel();
               port1.onmessage = (e) => { port1.close(); ok(e.data) }; port2.postMessage("hi") })""",
            "hi",
        ),
        (
            "return [typeof queueMicrotask, typeof Intl.NumberFormat, new URLPattern({ pathname: '/:a' }).test('http://x/b')]",
            ["function", "function", True],
        ),
    ],
)
def test_what_the_web_has_works(worker5: WorkerProcess, code: str, outcome: object) -> None:
    assert run(worker5, code) == outcome


def test_both_names_of_the_runtime_are_one_object(worker5: WorkerProcess) -> None:
    code = """const rt = globalThis.__statebacked_rt;
      if (rt !== globalThis.__statebaked_rt || typeof rt.spawn !== "function") return "no";
      return rt.spawn({ machineName: "m" })"""
    assert "can be spawned only in an assign" in str(run(worker5, code))


def test_code_cannot_end_the_process_or_answer_for_the_worker(worker5: WorkerProcess) -> None:
    code = """setTimeout(() => { throw new Error("uncaught one") });
      Promise.reject(new Error("unhandled one"));
      queueMicrotask(() => { throw new Error("micro one") }); reportError(new Error("reported one"));
      JSON.stringify = JSON.parse = () => "broken"; Promise.prototype.then = undefined;
      TextEncoder.prototype.encodeInto = undefined;
      globalThis.setTimeout = globalThis.queueMicrotask = undefined;"""
    assert worker5.load(MACHINE + code)["t"] == "loaded"
    Instance(worker5).create()
    text = "\n".join(worker5.log_lines())
    for word in ("uncaught one", "unhandled one", "micro one", "reported one"):
        assert word in text


@pytest.mark.parametrize("broken", ["Uint8Array.prototype.set", "Array.prototype.push", "Map.prototype.get"])
def test_a_worker_that_user_code_broke_dies_and_never_hangs(broken: str) -> None:
    def use(worker: WorkerProcess) -> None:
        worker.load(f"{MACHINE} {broken} = null;")
        worker.compute(1, 0, [{"k": "init", "source": "client", "auth": True, "context": False}], ["{}"])
        worker.log_lines()

    with WorkerProcess(5) as worker, pytest.raises(AssertionError, match="the worker is gone"):
        use(worker)


def test_console_lines_are_attributed_across_awaits() -> None:
    bundle = MACHINE.replace(
        "createMachine({})",
        """createMachine({ context: ({ input }) => input, entry: async ({ context: { id } }) => {
          for (let i = 0; i < 10; i++) {
            console.log(id, i);
            await new Promise((ok) => setTimeout(ok, i % 3));
          }
          console.error("%s ended with %d\\nand a second line", id, 7, { a: [1] });
        } })""",
    )
    with WorkerProcess(5) as worker:
        worker.load(f"console.log('loading'); {bundle}")
        assert worker.log_lines() == ["loading"]
        for a in range(1, 51):
            Instance(worker, a).create({"id": f"i{a}"})
        while sum(frame["stream"] == "stderr" for frame in worker.logs) < 50:
            worker.log_lines()
        for a in range(1, 51):
            lines = [line for frame in worker.logs if frame.get("a") == a for line in frame["lines"]]
            assert lines[:10] == [f"i{a} {i}" for i in range(10)]
            assert lines[10:] == [f"i{a} ended with 7", "and a second line { a: [ 1 ] }"]


def test_errors_that_nobody_catches_are_attributed(worker5: WorkerProcess) -> None:
    bundle = MACHINE.replace(
        "createMachine({})",
        """createMachine({ entry: [
          async () => { await 0; throw new Error("rejected") },
          () => queueMicrotask(() => { throw new Error("in a microtask") }),
          () => setTimeout(() => { throw new Error("in a timer"); }, 1),
          () => { const t = setInterval((x) => { clearInterval(t); throw x }, 1, Error("in an interval")) },
        ] })""",
    )
    worker5.load(bundle)
    Instance(worker5, 7).create()
    awaited = {"rejected", "in a microtask", "in a timer", "in an interval"}
    while awaited:
        text = "\n".join(worker5.log_lines(7))
        awaited = {word for word in awaited if word not in text}
    assert worker5.log_lines() == []


def test_a_flood_of_lines_is_cut(worker5: WorkerProcess) -> None:
    worker5.load(f"for (let i = 0; i < 5000; i++) console.log(i); {MACHINE}")
    lines = worker5.log_lines()
    assert len(lines) == 1_000
    while not any("dropped" in frame for frame in worker5.logs):  # told when the tenth of a second is over
        worker5.log_lines()
    assert sum(frame.get("dropped", 0) for frame in worker5.logs) == 4_000


# --- bundles that cannot run

AUTHORIZERS = "export const allowRead = () => true, allowWrite = () => true;"


@pytest.mark.parametrize(
    ("bundle", "message", "missing_export"),
    [
        ("let x = ;", "Expression expected", False),
        ("throw new RangeError('at load')", "RangeError: at load", False),
        ("export const x = 1", "no default export", False),
        (f"export default 1; {AUTHORIZERS}", "not an XState machine", False),
        (f"export default () => {{}}; {AUTHORIZERS}", "not an XState machine", False),
        (MACHINE.replace("allowRead", "allowReed"), "allowRead", False),
        (MACHINE.replace("const allowWrite = () => true", "const allowWrite = 1"), "allowWrite", False),
        (
            f'import {{ interpret2 }} from "xstate"; {MACHINE}',
            "does not provide an export named 'interpret2'",
            True,
        ),
        (f'import "xstate/lib/utils"; {MACHINE}', '"xstate/lib/utils"', True),
        (f'import "npm:xstate@4"; {MACHINE}', '"npm:xstate@4"', True),
        (f'import "xstate/nowhere"; {MACHINE}', '"xstate/nowhere"', True),
        (f'import fs from "node:fs"; {MACHINE}', 'module "node:fs" is not available', False),
        (f'import "left-pad"; {MACHINE}', '"left-pad"', False),
        (f'import "npm:left-pad"; {MACHINE}', "bundle all dependencies", False),
        (f'import "file:///etc/passwd"; {MACHINE}', "bundle all dependencies", False),
        (f'import "https://example.com/x.js"; {MACHINE}', "bundle all dependencies", False),
    ],
)
def test_a_bundle_that_cannot_run_is_explained(
    worker5: WorkerProcess, bundle: str, message: str, missing_export: bool
) -> None:
    answer = worker5.load(bundle)
    assert answer["t"] == "unloadable"
    assert message in answer["message"]
    assert answer["missing_export"] is missing_export
    assert "blob:" not in answer["message"]
    assert "statebacked/runtime" not in answer["message"]
    assert "--allow" not in answer["message"]


@pytest.mark.parametrize(
    "specifier",
    ["xstate", "npm:xstate", "npm:xstate@5", "npm:xstate@^5", "npm:xstate@5.33.3", "npm:xstate@^5.33.3"],
)
def test_every_name_of_the_package_is_one_copy(worker5: WorkerProcess, specifier: str) -> None:
    subpaths = "".join(
        f'import * as {name} from "{specifier}/{name}";' for name in ("actions", "actors", "guards")
    )
    bundle = f"""{subpaths} import * as X from "xstate"; import * as Y from "{specifier}";
      if (X.createMachine !== Y.createMachine || actions.assign !== X.assign || guards.and !== X.and
        || actors.fromPromise !== X.fromPromise) throw new Error("another copy"); {MACHINE}"""
    assert worker5.load(bundle) == {"t": "loaded", "major": 5, "inlined": False}


def test_a_machine_of_the_other_major_is_recognised() -> None:
    by_shape = f"""{AUTHORIZERS} const f = () => {{}};
      export default {{ __xstatenode: true, transition: f, withContext: f, resolveState: f }}"""
    with WorkerProcess(5) as worker:
        assert worker.load(by_shape) == {"t": "loaded", "major": 4, "inlined": True}
        refused = worker.compute(1, 0, [{"k": "init", "source": "client", "auth": False, "context": False}])[
            0
        ]
        assert refused["t"] == "refused"
    with WorkerProcess(4) as worker:
        assert worker.load(MACHINE) == {"t": "loaded", "major": 4, "inlined": False}
