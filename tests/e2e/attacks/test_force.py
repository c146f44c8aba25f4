"""Code that does not end, or takes all memory: it is refused, and nothing else suffers.

All attacks of this module begin at once, a few at a time, each in a machine of its own; a test waits for its
own.
"""

from collections.abc import Callable
from concurrent.futures import Future

import httpx
import pytest

from tests.e2e.asking import answered, refused
from tests.e2e.attacks.arena import ATTACKER, Arena, Attacker, sending

LOOP = "for (;;);"
WASM_LOOP = "[0,97,115,109,1,0,0,0,1,4,1,96,0,0,3,2,1,0,7,5,1,1,102,0,0,10,9,1,7,0,3,64,12,0,11,11]"
FAULT = "machine-fault"
ERROR = "machine-error"

# Its name: where the code runs, the code, the code of the refusal.
ENDLESS = {
    "guard": ("guard", LOOP, FAULT),
    "assign": ("assign", LOOP, FAULT),
    "initial context": ("context", LOOP, FAULT),
    "write authorizer": ("allowWrite", LOOP, FAULT),
    "read authorizer": ("allowRead", LOOP, FAULT),
    "regular expression": ("guard", 'return /^(a+)+$/.test("a".repeat(60) + "!")', FAULT),
    "URL pattern": (
        "guard",
        'new URLPattern({ pathname: "/:x(a*a*a*a*a*a*a*a*a*b)" }).test({ pathname: "/" + "a".repeat(500) })',
        FAULT,
    ),
    "comparison of a sort": ("guard", "[2, 1].sort(() => { for (;;); })", FAULT),
    "toJSON": ("assign", "return { x: { toJSON() { for (;;); } } }", FAULT),
    "getter in the context": (
        "assign",
        "return { x: Object.defineProperty({}, 'y', { enumerable: true, get() { for (;;); } }) }",
        FAULT,
    ),
    "proxy in the context": ("assign", "return { x: new Proxy({}, { ownKeys() { for (;;); } }) }", FAULT),
    "waiting for shared memory": (
        "guard",
        "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)",
        FAULT,
    ),
    "WebAssembly": (
        "guard",
        f"new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array({WASM_LOOP}))).exports.f()",
        FAULT,
    ),
    "spread of a generator": ("guard", "[...(function* () { for (;;) yield; })()]", FAULT),
}

MEMORY = {
    "heap": ("guard", "for (const kept = []; ;) kept.push(new Array(1000).fill({ kept }))", FAULT),
    "strings": ("guard", "for (const kept = []; ;) kept.push('x'.repeat(1e6) + kept.length)", FAULT),
    "typed arrays": ("guard", "for (const kept = []; ;) kept.push(new Uint8Array(2e7).fill(1))", FAULT),
    "WebAssembly memory": (
        "guard",
        """for (const kept = []; ;) { const m = new WebAssembly.Memory({ initial: 500 });
           new Uint8Array(m.buffer).fill(1); kept.push(m) }""",
        FAULT,
    ),
    "growing buffers": (
        "guard",
        """const b = new ArrayBuffer(0, { maxByteLength: 4e9 });
           for (let n = 1e7; ; n += 1e7) { b.resize(n); new Uint8Array(b).fill(1) }""",
        FAULT,
    ),
    "blobs": (
        "guard",
        "const part = new Uint8Array(2e7).fill(1); for (const kept = []; ;) kept.push(new Blob([part]))",
        FAULT,
    ),
}

BOUNDED: dict[str, tuple[str, str, str | None]] = {
    "recursion": ("guard", "const f = () => 1 + f(); f()", ERROR),
    "recursion of toJSON": ("assign", "const o = { toJSON() { return { o } } }; return { o }", ERROR),
    "string that is too long": ("guard", "'x'.repeat(2 ** 29).repeat(2 ** 29)", ERROR),
    "number that is too large": ("guard", "return 7n ** (7n ** 12n)", ERROR),
    "exit": ("guard", "(globalThis.close ?? globalThis.process?.exit ?? Deno.exit)()", ERROR),
    "map that grows": ("guard", "const m = new Map(); for (let n = 0; ; n++) m.set(n, {})", None),
    "array of four billion holes": ("assign", "return { x: new Array(4e9) }", None),
}

REFUSED: dict[str, tuple[str, str, str | None]] = {**MEMORY, **ENDLESS, **BOUNDED}

# What runs when its transition is durable already: the caller is answered.
AFTERWARDS: dict[str, tuple[str, str]] = {
    "loop of an action": ("action", LOOP),
    "memory of an action": ("action", REFUSED["typed arrays"][1]),
    "microtasks": ("action", "const f = () => Promise.resolve().then(f); f()"),
    "microtasks of the queue": ("action", "const f = () => queueMicrotask(f); f()"),
    "microtasks of a guard": ("guard", "const f = () => queueMicrotask(f); f()"),
    "timers": ("action", "for (let n = 0; n < 500000; n++) setTimeout(() => {}, 0)"),
    "timers that set timers": ("action", "const f = () => { setTimeout(f); setTimeout(f) }; f()"),
    "loop of a timer": ("action", f"setTimeout(() => {{ {LOOP} }}, 20)"),
    "loop of a service": ("service", LOOP),
    "memory of a service": ("service", REFUSED["heap"][1]),
    "console in a loop": ("service", "for (;;) { console.log('x'.repeat(10000)); await null }"),
    "console in timers": (
        "action",
        "setInterval(() => { for (let n = 0; n < 900; n++) console.log('x'.repeat(200)) })",
    ),
    "rejections": ("action", "for (let n = 0; n < 100000; n++) Promise.reject(new Error('x'.repeat(100)))"),
    "unpacking of a bomb": (
        "service",
        """const zeros = new Blob([new Uint8Array(5e7)]).stream().pipeThrough(new CompressionStream("gzip"));
           let packed = await new Response(zeros).blob();
           for (const kept = []; ;) kept.push(await new Response(
             packed.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer())""",
    ),
}

# Code that a version cannot be made of; what the refusal says.
MODULES = {
    "loop": (f"{LOOP} {ATTACKER}", "did not answer"),
    "memory": (f"{REFUSED['typed arrays'][1]}; {ATTACKER}", ""),
    "waiting for ever": (f"await new Promise(() => {{}}); {ATTACKER}", "did not finish loading"),
    "definition that loops": (
        f"{ATTACKER.replace('createMachine(', 'createMachine({ get states() { for (;;); } } ?? ', 1)}",
        "did not answer",
    ),
    "exports that are a promise": (f"{ATTACKER} export function then() {{}}", "did not finish loading"),
    "exports that are a refused promise": (
        f"{ATTACKER} export function then(_, no) {{ no(new Error('refused by then')) }}",
        "refused by then",
    ),
    "machine that is a proxy": (
        """export default new Proxy({}, { get() { throw new Error("refused by a proxy") } });
           export const allowRead = () => true, allowWrite = allowRead""",
        "refused by a proxy",
    ),
    "message that cannot be read": (
        "throw { get message() { for (;;); }, toString() { for (;;); } }",
        "",
    ),
}

Begun = dict[str, "Future[tuple[Attacker, httpx.Response]]"]


def adding(code: str) -> Callable[[Attacker], httpx.Response]:
    return lambda attacker: attacker.add_version(code)


@pytest.fixture(scope="module")
def attacks(field: Arena) -> Begun:
    """The longest first."""
    begun: Begun = {}
    for name, (code, _) in MODULES.items():
        begun[name + " at load"] = field.begin(adding(code))
    for name, (where, code, _) in {**MEMORY, **ENDLESS, **BOUNDED}.items():
        begun[name] = field.begin(sending(where, code))
    for name, (where, code) in AFTERWARDS.items():
        begun[name] = field.begin(sending(where, code))
    return begun


@pytest.mark.parametrize("name", list(MODULES))
def test_no_version_is_made_of_code_that_does_not_load(name: str, attacks: Begun) -> None:
    attacker, response = attacks[name + " at load"].result(timeout=110)
    assert MODULES[name][1] in refused(response, 400, "invalid-machine")
    attacker.must_count()


@pytest.mark.parametrize("name", list(REFUSED))
def test_it_is_refused_and_its_instance_goes_on(name: str, attacks: Begun) -> None:
    attacker, response = attacks[name].result(timeout=110)
    code = REFUSED[name][2]
    refused(response, 400, code or response.json()["code"])
    assert attacker.must_count() == 2


@pytest.mark.parametrize("name", list(AFTERWARDS))
def test_what_goes_on_after_its_transition_is_ended_and_the_instance_goes_on(
    name: str, attacks: Begun
) -> None:
    attacker, response = attacks[name].result(timeout=110)
    answered(response)
    attacker.must_count()
    attacker.must_count()
