"""What machine code has: the web's own functions, today's language, memory; no fine clock."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.asking import XSTATE, Asker, answered, refused
from tests.e2e.attacks.arena import ATTACKER, ATTACKER4
from tests.e2e.servers import RealServer, real_server

CODES = {4: (ATTACKER4, "4.38.3"), 5: (ATTACKER, XSTATE)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with real_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def admin(server: RealServer) -> Asker:
    asker = Asker(server)
    for major, (code, xstate) in CODES.items():
        asker.deploy(f"runs{major}", code, xstate=xstate)
        answered(asker.create(f"runs{major}", "i"))
    return asker


# Each is the body of an async function, and what it returns.
WORKS: dict[str, tuple[str, object]] = {
    "crypto": (
        """const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode("x"));
           return new Uint8Array(digest)[0]""",
        0x2D,
    ),
    "text": ('return new TextDecoder().decode(new TextEncoder().encode("☃"))', "☃"),
    "addresses": ('return new URL("../b?c=1", "https://a.example/x/y").href', "https://a.example/b?c=1"),
    "forms": (
        """const form = new FormData(); form.set("a", "b");
           return (await new Response(form).formData()).get("a")""",
        "b",
    ),
    "blobs": ('return await new Blob(["he", "llo"]).slice(1, 4).text()', "ell"),
    "compression": (
        """const packed = new Blob(["hello"]).stream().pipeThrough(new CompressionStream("gzip"));
           return await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).text()""",
        "hello",
    ),
    "WebAssembly": (
        """const text = "AGFzbQEAAAABBwFgAn9/AX8DAgEABwcBA2FkZAAACgkBBwAgACABags=";
           const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
           const { instance } = await WebAssembly.instantiate(bytes);
           return instance.exports.add(40, 2)""",
        42,
    ),
    "promises": (
        "return (await Promise.allSettled([Promise.reject(1), 2])).map((p) => p.status)[0]",
        "rejected",
    ),
    "whole milliseconds": (
        """const seen = new Set(); for (let n = 0; n < 100_000; n++) seen.add(performance.now());
           return [...seen, new Event("x").timeStamp].every(Number.isInteger)""",
        True,
    ),
    "no Deno": (
        'return ["Deno", "process", "require", "Buffer"].filter((name) => name in globalThis).length',
        0,
    ),
}


@pytest.mark.parametrize("major", CODES)
@pytest.mark.parametrize("name", WORKS)
def test_what_the_web_has_works_in_a_service(admin: Asker, major: int, name: str) -> None:
    code, expected = WORKS[name]
    told = f"return JSON.stringify(await (async () => {{ {code} }})())"
    state = answered(admin.send(f"runs{major}", "i", {"type": "service", "code": told}))
    assert json.loads(state["publicContext"]["outcome"]) == expected


MODERN = """
import { assign, createMachine } from "xstate";
class Tally {
  #n = 0;
  static first;
  static { this.first = new Tally(); }
  static isOne(it) { return #n in it; }
  get n() { return this.#n ??= 1; }
}
const loaded = await Promise.resolve([1, 2, 3].at(-1));
const parts = "2022-06".match(/(?<year>\\d+)-/d).indices.groups.year;
const cause = new Error("one", { cause: new Error("other") }).cause.message;
export const allowRead = () => true;
export const allowWrite = () => true;
export default createMachine({ context: { public: {
  loaded, parts, cause, own: Object.hasOwn({ a: 1 }, "a"), one: Tally.isOne(Tally.first),
  n: Tally.first?.n } } });
"""


def test_the_language_is_that_of_2022(admin: Asker) -> None:
    admin.deploy("modern", MODERN)
    shown = answered(admin.create("modern", "i"))["publicContext"]
    assert shown == {"loaded": 3, "parts": [0, 4], "cause": "other", "own": True, "one": True, "n": 0}


# Megabytes of numbers on the heap.
HELD = "const kept = []; for (let n = 0; n < {mb}; n++) kept.push(new Array(131072).fill(n + 0.5))"


@pytest.mark.parametrize("major", CODES)
def test_a_machine_has_128_mb(admin: Asker, major: int) -> None:
    machine = f"runs{major}"
    before = answered(admin.get(machine, "i"))["publicContext"]["count"]
    state = answered(admin.send(machine, "i", {"type": "guard", "code": HELD.format(mb=90)}))
    assert state["publicContext"]["count"] == before + 1
    refused(admin.send(machine, "i", {"type": "guard", "code": HELD.format(mb=400)}), 400, "machine-fault")
    assert answered(admin.get(machine, "i")) == state
