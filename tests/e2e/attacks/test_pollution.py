"""Code that changes what all code stands on: prototypes, constructors, the global object, the machine.

Its version may break, it is its own: nobody else's shares its process. It answers rightly or refuses with a
code, never hangs, and works again in a new worker.
"""

from collections.abc import Callable
from concurrent.futures import Future

import httpx
import pytest

from tests.e2e.asking import refused
from tests.e2e.attacks.arena import Arena, Attacker

# Code of an assign: it runs once, in the step of the event that carries it.
POLLUTIONS = {
    "then": "Promise.prototype.then = function () { return this }",
    "then that throws": "Promise.prototype.then = () => { throw new Error('then') }",
    "constructor of promises": "Promise.prototype.constructor = class { constructor() { throw 1 } }",
    "species": "Object.defineProperty(Promise, Symbol.species, { get() { throw 1 } })",
    "stringify": """JSON.stringify = () => '{"public":{"count":1000}}'""",
    "parse": "JSON.parse = () => ({ t: 'close', a: 1 })",
    "toJSON of objects": "Object.prototype.toJSON = () => ({ public: { count: 1000 } })",
    "toJSON of strings": "String.prototype.toJSON = () => 'x'.repeat(1e6)",
    "toJSON of arrays": "Array.prototype.toJSON = () => []",
    "setter of every object": (
        "Object.defineProperty(Object.prototype, 't', { set() { throw 1 }, get() { return 'close' } })"
    ),
    "a field of every frame": (
        "Object.prototype.base = true; Object.prototype.auth = false; Object.prototype.raw = [9]"
    ),
    "a code of every refusal": "Object.prototype.code = 'unheard-of'; Object.prototype.changed = true",
    "numbers of every array": "Object.defineProperty(Array.prototype, 0, { set() {}, get() { return 7 } })",
    "push": "Array.prototype.push = function () { return 0 }",
    "iteration of arrays": "Array.prototype[Symbol.iterator] = function* () {}",
    "map": "Array.prototype.map = () => ['x']",
    "join": "Array.prototype.join = () => 'x'",
    "slice of texts": "String.prototype.slice = () => 'x'",
    "get of maps": "Map.prototype.get = () => undefined",
    "get of maps that throws": "Map.prototype.get = () => { throw new Error('get') }",
    "set of maps": "Map.prototype.set = function () { return this }",
    "iteration of maps": "Map.prototype[Symbol.iterator] = function* () {}",
    "bytes": "Uint8Array.prototype.set = () => {}",
    "part of bytes": "Uint8Array.prototype.subarray = () => new Uint8Array(0)",
    "encoding": "TextEncoder.prototype.encodeInto = () => ({ read: 1, written: 1 })",
    "decoding": "TextDecoder.prototype.decode = () => '{}'",
    "call": "Function.prototype.call = Function.prototype.apply = () => { throw new Error('call') }",
    "bind": "Function.prototype.bind = () => () => 1",
    "regular expressions": "RegExp.prototype.test = () => true; RegExp.prototype.exec = () => null",
    "errors": "globalThis.Error = function () { throw 1 }; globalThis.TypeError = Error",
    "prepared stacks": "Error.prepareStackTrace = () => { for (;;); }; throw new Error('with a stack')",
    "globals": "for (const n of Reflect.ownKeys(globalThis)) try { delete globalThis[n] } catch {}",
    "frozen globals": (
        "for (const n of Object.getOwnPropertyNames(globalThis)) "
        "try { Object.freeze(globalThis[n]) } catch {}"
    ),
    "time": "Date.now = () => NaN; globalThis.Date = class { static now() { throw 1 } }",
    "timers": "globalThis.setTimeout = globalThis.queueMicrotask = () => { throw 1 }",
    "chance": "Math.random = () => 2; crypto.getRandomValues = () => { throw 1 }",
    "the console": "globalThis.console = null",
    "proxies of everything": "Object.setPrototypeOf(globalThis, new Proxy({}, {}))",
    "the machine": "scope.self.logic.transition = () => { throw new Error('machine') }",
    "the context": "scope.context.public = { count: 1000 }; scope.context.__proto__ = { public: 1 }",
    "an own key __proto__": """return JSON.parse('{"__proto__": {"count": 5}, "constructor": 1}')""",
    "then in the context": "return { then(ok) { ok({ public: { count: 1000 } }) } }",
    "then in what is public": "return { public: { count: 1, then: () => { for (;;); } } }",
    "a symbol in the context": "return { [Symbol.toPrimitive]: () => { throw 1 }, x: Object(Symbol()) }",
    "an object without a prototype": "return { x: Object.create(null), y: Object.create({ z: 1 }) }",
    "a revoked proxy": "const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); return { x: proxy }",
    "a context that changes as it is read": "let n = 0; return { get x() { return n++ } }",
    "an unreadable error": "throw { get message() { throw 1 }, toString: null, [Symbol.toPrimitive]: 1 }",
    "something thrown that is no error": "throw { toString: () => 'thrown all the same' }",
}

CODES = {
    "reserved-event",
    "machine-error",
    "machine-fault",
    "machine-timeout",
    "context-too-large",
    "step-too-large",
}
Begun = dict[str, "Future[tuple[Attacker, list[httpx.Response]]]"]


def polluting(code: str) -> Callable[[Attacker], list[httpx.Response]]:
    """What follows once a version's process is polluted."""

    def pollute(attacker: Attacker) -> list[httpx.Response]:
        first = attacker.send("assign", code)
        other = attacker.asker.create(attacker.machine, "other")
        return [first, attacker.count(), other, attacker.asker.get(attacker.machine, "i"), attacker.count()]

    return pollute


@pytest.fixture(scope="module")
def attacks(field: Arena) -> Begun:
    return {name: field.begin(polluting(code)) for name, code in POLLUTIONS.items()}


@pytest.mark.parametrize("name", list(POLLUTIONS))
def test_its_version_answers_or_refuses(name: str, attacks: Begun) -> None:
    _, responses = attacks[name].result(timeout=100)
    for response in responses:
        if response.status_code == 503:
            assert response.json()["code"] == "unavailable"
        elif response.status_code == 403:
            assert response.json()["code"] == "rejected-by-machine-authorizer"
        elif response.status_code != 200:
            assert response.json()["code"] in CODES, response.text
            refused(response, 400, response.json()["code"])


def test_every_version_works_again_in_a_new_worker(attacks: Begun) -> None:
    """One that is idle for a second ends here; whoever asks in between keeps the polluted one busy."""
    for attack in attacks.values():
        attacker = attack.result(timeout=100)[0]
        if isinstance(answered_count(attacker), int):
            attacker.until_it_counts()


def answered_count(attacker: Attacker) -> object:
    """What is stored; some pollutions leave a context that does not count."""
    return attacker.asker.admin_state(attacker.machine, "i")["context"]["public"].get("count")
