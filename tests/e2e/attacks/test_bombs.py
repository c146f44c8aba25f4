"""Steps, contexts and events that are too much: refused, cut or dropped, at a bounded cost for the server."""

from concurrent.futures import Future

import httpx
import pytest

from tests.e2e.asking import answered, refused
from tests.e2e.attacks.arena import ATTACKER, Arena, Attacker, sending

# Its name: where the code runs, the code, the code of the refusal.
REFUSED = {
    "a large context": ("assign", "return { x: 'x'.repeat(400001) }", "context-too-large"),
    "a context of megabytes": ("assign", "return { x: 'x'.repeat(2e7) }", "context-too-large"),
    "a context that is large in UTF-8": (
        "assign",
        "return { x: '\\u20ac'.repeat(140000) }",
        "context-too-large",
    ),
    "a million entries": ("assign", "return { x: new Array(1e6).fill(0) }", "context-too-large"),
    "a million keys": (
        "assign",
        "return Object.fromEntries(Array.from({ length: 1e6 }, (_, n) => ['k' + n, n]))",
        None,
    ),
    "the same text many times": (
        "assign",
        "const s = 'x'.repeat(1e5); return { x: new Array(1000).fill(s) }",
        "context-too-large",
    ),
    "a context that doubles": (
        "assign",
        "let x = ['x']; for (let n = 0; n < 40; n++) x = [x, x]; return { x }",
        None,
    ),
    "a deep context": (
        "assign",
        "let x = 1; for (let n = 0; n < 1000; n++) x = { x }; return { x }",
        None,
    ),
    "a context without bottom": (
        "assign",
        "let x = 1; for (let n = 0; n < 1e5; n++) x = { x }; return { x }",
        None,
    ),
    "a large initial context": ("context", "return { x: 'x'.repeat(400001) }", "context-too-large"),
    "a circle": ("assign", "const x = {}; x.x = x; return { x }", "machine-error"),
}

# Its name: where the code runs and the code. The event is answered, what is too much is dropped and logged.
CUT = {
    "a large event to itself": ("action", "scope.self.send({ type: 'count', x: 'x'.repeat(2e6) })"),
    "ten thousand events to itself": (
        "action",
        "for (let n = 0; n < 10000; n++) scope.self.send({ type: 'unknown' })",
    ),
    "large events to itself": (
        "action",
        "const x = 'x'.repeat(900000); for (let n = 0; n < 200; n++) scope.self.send({ type: 'unknown', x })",
    ),
    "a large line": ("action", "console.log('x'.repeat(5e7))"),
    "lines without end": ("action", "for (let n = 0; n < 1e5; n++) console.log(n)"),
    "a large thing on the console": ("action", "console.log(new Array(1e6).fill({ a: [1, [2, [3]]] }))"),
    "a large result": ("service", "return 'x'.repeat(2e6)"),
    "a large error": ("service", "throw new Error('x'.repeat(2e6))"),
}

TIMERS = ATTACKER.replace(
    "      count: {",
    """
      timers: { actions: Array.from({ length: 1000 }, (_, n) =>
        raise({ type: "count" }, { delay: 1e9, id: `t${n}` })) },
      sends: { actions: Array.from({ length: 3 }, () => sendTo(({ self }) => self, { type: "sends" })) },
      count: {""",
    1,
).replace("import { assign,", "import { assign, raise, sendTo,")

FLOODS = ATTACKER.replace(
    "fromPromise(({ input }) => Async(input)())",
    """fromCallback(({ sendBack }) => {
      const x = "x".repeat(900000);
      for (let n = 0; n < 500; n++) setTimeout(() => sendBack({ type: "guard", x, code:
        "for (const end = Date.now() + 100; Date.now() < end;); return 'no'" }));
      return () => {};
    })""",
).replace("fromPromise }", "fromCallback }")

Begun = dict[str, "Future[tuple[Attacker, httpx.Response]]"]


@pytest.fixture(scope="module")
def attacks(field: Arena) -> Begun:
    begun = {name: field.begin(sending(where, code)) for name, (where, code, _) in REFUSED.items()}
    return {**begun, **{name: field.begin(sending(where, code)) for name, (where, code) in CUT.items()}}


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_is_too_much_is_refused(name: str, attacks: Begun) -> None:
    attacker, response = attacks[name].result(timeout=100)
    refused(response, 400, REFUSED[name][2] or response.json()["code"])
    assert attacker.must_count() == 2


@pytest.mark.parametrize("name", list(CUT))
def test_what_is_too_much_after_the_transition_is_cut(name: str, attacks: Begun) -> None:
    attacker, response = attacks[name].result(timeout=100)
    state = answered(response)
    assert state["state"] == "idle"
    assert len(response.content) < 500_000
    attacker.must_count()


def test_an_instance_has_ten_thousand_timers_and_no_more(field: Arena) -> None:
    attacker = field.attacker(TIMERS)
    for _ in range(10):
        answered(attacker.asker.send(attacker.machine, "i", "timers"))
    message = refused(attacker.asker.send(attacker.machine, "i", "timers"), 400, "too-many-effects")
    assert "10000" in message
    assert attacker.must_count() == 2


def test_an_instance_that_sends_itself_three_events_for_each_is_bounded(field: Arena) -> None:
    """10,000 wait, those beyond never happened; the machine works them off for as long as it wants to."""
    attacker = field.attacker(TIMERS)
    answered(attacker.asker.send(attacker.machine, "i", "sends"))
    response = attacker.count()
    assert response.status_code == 200 or refused(response, 429, "mailbox-full")


def test_a_service_that_sends_megabytes_is_stopped(field: Arena) -> None:
    attacker = field.attacker(FLOODS)
    answered(attacker.send("service", "unused"))
    attacker.must_count()
    state = answered(attacker.asker.get(attacker.machine, "i"))
    assert state["state"] == "idle"
    assert "too many events" in state["publicContext"]["outcome"]
