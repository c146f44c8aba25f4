"""Machine code reaches for what is not its own: files, secrets, processes, the network, the inside of Deno.

Every attempt fails; what it could have found is planted where anybody may read it.
"""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.asking import answered
from tests.e2e.attacks.arena import ATTACKER, ATTACKER4, CANARY, Arena, Attacker

# FILE is a file that any user may read; PORT one that somebody listens on.
FILE_SPELLINGS = [
    "file://FILE",
    "FILE:FILE",
    "FiLe://FILE",
    "file://localhostFILE",
    "file://FILE?query#hash",
    "file:///proc/self/rootFILE",
    "file:///tmp/../FILE",
    "FILE",
    "../../../../../../../../../../..FILE",
    "node:FILE",
    "npm:FILE",
    "data:text/javascript,import x from 'file://FILE' with { type: 'json' }; export default x",
    "data:text/javascript,export default await import('file://FILE', { with: { type: 'json' } })",
]

MODULES = [
    *("node:fs", "node:process", "node:child_process", "node:worker_threads", "node:net", "node:http"),
    *(
        "node:module",
        "node:vm",
        "node:v8",
        "node:inspector",
        "node:os",
        "node:dns",
        "node:repl",
        "node:sqlite",
    ),
    *(
        "fs",
        "process",
        "child_process",
        "module",
        "bun:ffi",
        "deno:ffi",
        "ext:core/ops",
        "ext:deno_fs/30_fs.js",
    ),
    *(
        "checkin:ops",
        "internal:core",
        "npm:left-pad",
        "jsr:@std/fs",
        "npm:/left-pad@1",
        "https://deno.land/x/a.ts",
    ),
    *(
        "http://127.0.0.1:PORT/x.js",
        "https://127.0.0.1:PORT/x.js",
        "HTTP://127.0.0.1:PORT/",
        "//127.0.0.1:PORT/",
    ),
    *(
        "wasm:FILE",
        "blob:FILE",
        "about:blank",
        "chrome://version",
        "./boot.js",
        "../4/boot.js",
        "import-map.json",
    ),
]

# Each is the body of an async function that must throw.
ATTEMPTS = {
    # files and the environment
    "Deno reads": "return Deno.readTextFileSync('FILE')",
    "process reads": "return process.getBuiltinModule('fs').readFileSync('FILE', 'utf8')",
    "require reads": "return require('fs').readFileSync('FILE', 'utf8')",
    "fetch reads": "return await (await fetch('file://FILE')).text()",
    "a request reads": "return await (await fetch(new Request('file://FILE'))).text()",
    "streaming compilation reads": "return await WebAssembly.compileStreaming(fetch('file://FILE'))",
    "a picker reads": "return await (await showOpenFilePicker())[0].getFile()",
    "the folder of the origin": "return await navigator.storage.getDirectory()",
    "local storage": "localStorage.setItem('a', 'b'); return localStorage.a",
    "a cache": "return await caches.open('a')",
    "an indexed database": "return indexedDB.open('a')",
    "a key-value database": "return await Deno.openKv()",
    "the environment of Deno": "return Deno.env.get('PLANTED')",
    "the environment of process": "return process.env.PLANTED",
    "the environment in /proc": (
        "return await import('file:///proc/self/environ', { with: { type: 'text' } })"
    ),
    # processes and native code
    "a command": "return new Deno.Command('id').outputSync()",
    "a spawn": "return process.binding('spawn_sync')",
    "a library": "return Deno.dlopen('libc.so.6', {})",
    "an addon": "return process.dlopen({}, 'FILE')",
    "an exit": "return Deno.exit(0)",
    "a signal": "return Deno.kill(Deno.ppid)",
    "graphics": "return (await navigator.gpu.requestAdapter()).info.description",
    "a picture": "return await createImageBitmap(new Blob([new Uint8Array(9)], { type: 'image/png' }))",
    # other realms
    "a worker": "return new Worker('data:text/javascript,1', { type: 'module' })",
    "a worker of a blob": "return new Worker(URL.createObjectURL(new Blob(['1'])), { type: 'module' })",
    "a shared worker": "return new SharedWorker('data:text/javascript,1')",
    "a service worker": "return await navigator.serviceWorker.register('data:text/javascript,1')",
    "a worklet": "return new AudioWorkletNode()",
    "a realm": "return new ShadowRealm().evaluate('1')",
    "a frame": "return document.createElement('iframe').contentWindow",
    "imported scripts": "return importScripts('data:text/javascript,1')",
    # the network
    "a web socket": "return await opened(new WebSocket('ws://127.0.0.1:PORT'))",
    "a web socket stream": "return await new WebSocketStream('ws://127.0.0.1:PORT').opened",
    "an event source": "return await opened(new EventSource('http://127.0.0.1:PORT'))",
    "a web transport": "return await new WebTransport('https://127.0.0.1:PORT').ready",
    "a peer connection": "return new RTCPeerConnection()",
    "a request of old": "return new XMLHttpRequest().open('GET', 'http://127.0.0.1:PORT', false)",
    "a beacon": "return navigator.sendBeacon('http://127.0.0.1:PORT', CANARY) || refused()",
    "fetch": "return (await fetch('http://127.0.0.1:PORT')).status",
    "fetch of an unusual address": "return (await fetch('http://0x7f.1:PORT')).status",
    "a connection": "return await Deno.connect({ port: PORT })",
    "a listener": "return Deno.listen({ port: 0 })",
    "a name": "return await Deno.resolveDns('localhost', 'A')",
    # the inside of Deno
    "a known symbol": "return globalThis[Symbol.for('Deno.internal')].core.ops",
    "internals": "return (globalThis.__bootstrap ?? globalThis.Deno.core ?? bootstrap).ops",
    "a constructor": "return globalThis.constructor.Deno.version",
    "a prototype": "return Object.getPrototypeOf(globalThis).constructor.constructor('return Deno')()",
    "a function that is made": "return Function('return Deno')()",
    "an async function that is made": "return await (async () => {}).constructor('return Deno')()",
    "a generator that is made": "return (function* () {}).constructor('return Deno')().next().value",
    "an async generator that is made": (
        "return await (async function* () {}).constructor('yield Deno')().next()"
    ),
    "an indirect evaluation": "return (0, eval)('Deno')",
    "an evaluated import": "return await eval(\"import('node:fs')\")",
    "an import of a made function": "return await Function(\"return import('node:fs')\")()",
    "an import in a timer": (
        "return await new Promise((ok, no) => setTimeout(() => import('node:fs').then(ok, no)))"
    ),
    "this of a sloppy function": "return (function () { return this }).call(undefined).Deno.version",
    "the caller": "return (function f() { return f.caller.caller.arguments })() ?? refused()",
}

HELPERS = """
const refused = () => { throw new Error("refused") };
const opened = (socket) => new Promise((ok, no) => { socket.onopen = ok; socket.onerror = no });
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Somebody listens; nobody may come."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.fixture(scope="module", params=[5, 4])
def attacker(field: Arena, request: pytest.FixtureRequest) -> Attacker:
    major: int = request.param
    return field.attacker({4: ATTACKER4, 5: ATTACKER}[major], major=major)


def outcome(attacker: Attacker, code: str) -> str:
    """What an async function body throws; the test fails when it does not throw."""
    caught = f"""{HELPERS}
      try {{ return "FOUND " + String(await (async () => {{ {code} }})()) }}
      catch (thrown) {{ return "refused: " + (thrown?.message ?? thrown?.type ?? thrown) }}"""
    told: str = answered(attacker.send("service", caught))["publicContext"]["outcome"]
    assert CANARY not in told
    assert told.startswith("refused: "), told
    return told


@pytest.mark.parametrize("name", list(ATTEMPTS))
def test_nothing_is_in_reach(field: Arena, attacker: Attacker, port: int, name: str) -> None:
    code = ATTEMPTS[name].replace("FILE", str(field.secret)).replace("PORT", str(port))
    outcome(attacker, code.replace("CANARY", json.dumps("x")))


@pytest.mark.parametrize("type", [None, "json", "text", "bytes", "css"])
def test_no_file_is_imported_in_any_spelling(field: Arena, attacker: Attacker, type: str | None) -> None:
    attributes = "" if type is None else f", {{ with: {{ type: {json.dumps(type)} }} }}"
    spellings = [s for s in FILE_SPELLINGS if type != "text" or not s.startswith("data:")]  # its own text
    names = json.dumps([s.replace("FILE", str(field.secret)) for s in spellings])
    code = f"""const found = [];
      for (const s of {names}) try {{ found.push(s, JSON.stringify(await import(s{attributes}))) }} catch {{}}
      if (found.length === 0) refused(); return JSON.stringify(found)"""
    outcome(attacker, code)


def test_no_module_is_imported_in_any_spelling(field: Arena, attacker: Attacker, port: int) -> None:
    names = [name.replace("FILE", str(field.secret)).replace("PORT", str(port)) for name in MODULES]
    code = f"""const found = [];
      for (const m of {json.dumps(names)}) try {{ found.push(m, Object.keys(await import(m))) }} catch {{}}
      if (found.length === 0) refused(); return JSON.stringify(found)"""
    outcome(attacker, code)


@pytest.mark.parametrize("attributes", ["", " with { type: 'json' }"])
def test_no_file_is_imported_statically(field: Arena, attacker: Attacker, attributes: str) -> None:
    """By the module that a version is made of: its text is not the entry of the process."""
    for spelling in ("file://FILE", "FILE", "node:fs", "npm:left-pad"):
        specifier = json.dumps(spelling.replace("FILE", str(field.secret)))
        response = attacker.add_version(f"import x from {specifier}{attributes}; export default x")
        assert response.status_code == 400
        assert response.json()["code"] == "invalid-machine"
        assert CANARY not in response.text


# Walks everything that can be reached from the global object without calling anything.
CRAWL = """
const suspicious = /^(op_|readFile|readTextFile|writeFile|openSync|dlopen|internalBinding|createRequire)/;
const seen = new Set(), found = [], queue = [["globalThis", globalThis]];
const look = (name, value) => {
  if ((typeof value !== "object" && typeof value !== "function") || value === null || seen.has(value)) return;
  seen.add(value);
  queue.push([name, value]);
};
for (let at = 0; at < queue.length; at++) {
  const [name, value] = queue[at];
  if (typeof value === "function" && suspicious.test(value.name)) found.push(name);
  look(name + ".__proto__", Object.getPrototypeOf(value));
  for (const key of Reflect.ownKeys(value)) {
    if (suspicious.test(String(key)) || key === "Deno") found.push(name + "." + String(key));
    const held = Object.getOwnPropertyDescriptor(value, key);
    for (const part of [held?.value, held?.get, held?.set]) look(name + "." + String(key), part);
  }
}
if (seen.size > 1000 && found.length === 0) refused();
return seen.size + " " + found.join();"""

# What the frames of a stack give away of the functions below.
STACK = """
const frames = [];
const look = () => { Error.prepareStackTrace = (_, sites) => sites; const sites = new Error().stack;
  delete Error.prepareStackTrace; frames.push(...sites) };
look();
new URL({ toString() { look(); return "http://x" } });
new EventTarget().addEventListener("x", { get handleEvent() { look(); return () => {} } });
const target = new EventTarget(); target.addEventListener("x", look); target.dispatchEvent(new Event("x"));
structuredClone({ get x() { look(); return 1 } });
console.log({ [Symbol.for("Deno.customInspect")]: look, [Symbol.for("nodejs.util.inspect.custom")]: look });
await new Promise((ok) => setTimeout(() => { look(); ok() }));
await new ReadableStream({ pull(c) { look(); c.close() } }).getReader().read();
const others = frames.filter((f) => f.getFileName() !== undefined);
const given = others.filter((f) => f.getThis() !== undefined || f.getFunction() !== undefined);
if (others.length > 10 && given.length === 0) refused();
return others.length + " " + given.map((f) => f.getFileName() + " " + f.getFunctionName()).join();"""


def test_a_walk_over_all_objects_finds_nothing_of_the_inside(attacker: Attacker) -> None:
    outcome(attacker, CRAWL)


def test_a_stack_gives_no_function_and_no_receiver(attacker: Attacker) -> None:
    outcome(attacker, STACK)


def test_what_a_guard_and_an_authorizer_see_is_no_more(field: Arena, attacker: Attacker) -> None:
    reach = f"""const left = ["Deno", "process", "require", "Buffer"].filter((n) => n in globalThis);
      if (left.length || {json.dumps(CANARY)} === JSON.stringify(scope)) throw new Error("reached " + left);
      return true"""
    for where in ("guard", "assign", "allowWrite", "allowRead"):
        body = reach.replace("return true", "return {}") if where == "assign" else reach
        answered(attacker.send(where, body))


def test_what_is_in_force_is_told_at_start(field: Arena) -> None:
    lines = [json.loads(line) for line in field.server.log.read_text().splitlines() if line.startswith("{")]
    (told,) = [line for line in lines if line["event"] == "workers are sandboxed"]
    walls = {"user", "landlock", "seccomp", "capabilities", "no_new_privileges", "cgroups", "missing"}
    assert walls <= told.keys()
    field.attacker()
    statuses = {pid: Path(f"/proc/{pid}/status").read_text() for pid in field.workers()}
    running = {pid: status for pid, status in statuses.items() if "Name:\tdeno\n" in status}
    assert len(running) >= 2
    for pid, status in running.items():
        groups = Path(f"/proc/{pid}/cgroup").read_text()
        assert (f"/statebacked-{field.server.pid}-" in groups) is bool(told["cgroups"])
        assert f"Seccomp:\t{2 if told['seccomp'] else 0}\n" in status
        assert "NoNewPrivs:\t1\n" in status
        assert "CapEff:\t0000000000000000\n" in status
