"""Code that writes frames of its own to the server: broken ones end its worker, forged ones change nothing.

The way in: the buffer of frames is a Uint8Array, and its methods can be replaced.
"""

from concurrent.futures import Future

import httpx
import pytest

from tests.e2e.asking import answered, refused
from tests.e2e.attacks.arena import Arena, Attacker, sending

FORGE = """
const encoder = new TextEncoder();
const frame = (header, ...parts) => {
  const texts = [typeof header === "string" ? header : JSON.stringify(header), ...parts];
  const [head, ...sections] = texts.map((text) => typeof text === "string" ? encoder.encode(text) : text);
  const size = sections.reduce((sum, part) => sum + part.length, head.length);
  const out = new Uint8Array(8 + size), view = new DataView(out.buffer);
  view.setUint32(0, 4 + size);
  view.setUint32(4, head.length);
  let at = 8;
  for (const part of [head, ...sections]) { out.set(part, at); at += part.length }
  return out;
};
const fetches = (claim) => frame({ t: "fetch", f: 999, ...claim, method: "GET", url: "http://192.0.2.1/",
  headers: [], redirect: "follow", body: false });
const joined = (...all) => new Uint8Array(all.flatMap((bytes) => [...bytes]));
const native = Uint8Array.prototype.subarray;
const instead = (forge) => {
  let isOver = false;
  Uint8Array.prototype.subarray = function (from, to) {
    const real = native.call(this, from, to);
    if (from !== 0 || !(to > 12) || isOver || this[8] !== 123) return real;
    const view = new DataView(real.buffer, real.byteOffset, real.length);
    for (let start = 0; start < to;) {
      const end = start + 4 + view.getUint32(start), length = view.getUint32(start + 4);
      if (end > to || end <= start) return real;
      const header = JSON.parse(new TextDecoder().decode(real.slice(start + 8, start + 8 + length)));
      if (header.t === "step") {
        const sections = [];
        let at = start + 8 + length;
        for (const size of header.raw ?? []) sections.push(real.slice(at, at += size));
        isOver = true;
        return joined(real.slice(0, start), forge(real.slice(start, end), header, sections), real.slice(end));
      }
      start = end;
    }
    return real;
  };
};
"""

# What is written instead of the frame that answers the event. All of these end the worker.
BROKEN = {
    "garbage": "() => new Uint8Array(64).fill(255)",
    "a frame that never ends": "() => new Uint8Array([0, 61, 9, 0, 0, 0, 0, 9])",
    "a frame without a header": "() => new Uint8Array([0, 0, 0, 0])",
    "a header longer than its frame": "() => new Uint8Array([0, 0, 0, 8, 0, 0, 0, 99, 123, 125, 32, 32])",
    "no JSON": "() => frame('{{{{')",
    "JSON without end": "() => frame('['.repeat(100000))",
    "no text": "() => frame(new Uint8Array([123, 34, 255, 254, 34]))",
    "an unknown frame": "() => frame({ t: 'shell', command: 'id' })",
    "a greeting": "() => frame({ t: 'ready', protocol: 1, xstate: '5.0.0' })",
    "a load": "() => frame({ t: 'loaded', major: 5, inlined: false })",
    "a refused load": "() => frame({ t: 'unloadable', message: 'x', missing_export: true })",
    "sections that do not fill it": "(_, h, s) => frame({ ...h, raw: [1] }, ...s)",
    "sections of negative length": "(_, h, s) => frame({ ...h, raw: h.raw.map((n) => -n) }, ...s)",
    "no sections": "(_, h) => frame({ ...h, raw: [] })",
    "too many steps": "(_, h, s) => frame({ ...h, steps: [...h.steps, ...h.steps] }, ...s, ...s)",
    "no steps": "(_, h) => frame({ ...h, steps: [], raw: [] })",
    "broken JSON in a state": "(_, h, [v, ...s]) => frame(h, v.fill(123), ...s)",
    "deep JSON": (
        "(_, h, s) => { s[0] = encoder.encode('['.repeat(200) + ']'.repeat(200));"
        "return frame({ ...h, raw: s.map((x) => x.length) }, ...s) }"
    ),
    "an index that is not declared": (
        "(_, h, s) => frame({ ...h, steps: [{ ...h.steps[0], idx: [['secret', ['x']]] }] }, ...s)"
    ),
    "a thousand services": (
        "(_, h, s) => frame({ ...h, steps: [{ ...h.steps[0], starts: Array(1000).fill('s') }] }, ...s)"
    ),
    "sends that are not there": "(_, h, s) => frame({ ...h, steps: [{ ...h.steps[0], sends: 9 }] }, ...s)",
    "a delay into the past": (
        "(_, h, s) => frame({ ...h, steps: [{ ...h.steps[0], timers: [['set', 'x', -1]] }] }, ...s)"
    ),
    "a refusal with a code of its own": (
        "(_, { n, a }) => frame({ t: 'refused', n, a, code: 'missing-user', message: 'x' })"
    ),
    "a refusal of megabytes": (
        "(_, { n, a }) => frame({ t: 'refused', n, a, code: 'machine-error', message: 'x'.repeat(2e6) })"
    ),
    "a step of megabytes": (
        "(_, h, s) => { s[3] = encoder.encode(JSON.stringify('x'.repeat(5e6)));"
        "return frame({ ...h, raw: s.map((x) => x.length) }, ...s) }"
    ),
    "numbers that are none": "(_, h, s) => frame({ ...h, n: 'x', a: null }, ...s)",
    "a fetch that is none": "() => frame({ t: 'fetch', f: 1, url: 'http://127.0.0.1/' })",
    "a hundred fetches": (
        "(_, { a, n: compute }) => joined(...Array.from({ length: 100 },"
        " (_, at) => fetches({ a, compute, f: 1000 + at })))"
    ),
    "bytes where there is text": ("(real) => { const out = real.slice(); out[4] |= 0x80; return out }"),
    "numbers without end": '(_, h, s) => frame(JSON.stringify(h).replace(/"n":\\d+/, \'"n":1e999\'), ...s)',
}

# Instead of the answer, something that is none: the worker lives, and the event is given up.
NO_ANSWER = {
    "the answer of another": "(_, h, s) => frame({ ...h, a: h.a + 1000 }, ...s)",
    "the answer to another": "(_, h, s) => frame({ ...h, n: h.n + 1000 }, ...s)",
    "silence": "() => new Uint8Array(0)",
}

# What is written before the frame that answers the event: nobody asked for it.
UNASKED = {
    "a step of another": "(real, h, s) => joined(frame({ ...h, a: h.a + 1000 }, ...s), real)",
    "a step of nobody": "(real, h, s) => joined(frame({ ...h, a: -1, n: 2 ** 40 }, ...s), real)",
    "a step of before": "(real, h, s) => joined(frame({ ...h, n: h.n - 1 }, ...s), real)",
    "the same step again": "(real) => joined(real, real)",
    "a refusal of before": (
        "(real, { n, a }) => joined("
        "frame({ t: 'refused', n: n - 1, a, code: 'machine-error', message: '' }), real)"
    ),
    "performed": "(real, h) => joined(frame({ t: 'performed', a: h.a, seq: 9999, sent: [] }), real)",
    "an event of no service": (
        "(real, { a }) => joined("
        "frame({ t: 'inside', a, token: 1, service: ['x', 1], ends: true, raw: [16] },"
        """ '{"type":"count"}'), real)"""
    ),
    "a read": "(real) => joined(frame({ t: 'readable', n: 1, ok: [true] }), real)",
    "pongs": "(real) => joined(...[1, 2, 3].map((n) => frame({ t: 'pong', n })), real)",
    "what it lacks": "(real, h) => joined(frame({ t: 'lacks', n: h.n - 1, a: h.a }), real)",
    "a fetch of another": "(real, { a }) => joined(fetches({ a: a + 1000 }), real)",
    "a fetch of no service": "(real, { a }) => joined(fetches({ a, service: ['x', 1] }), real)",
    "a fetch of a read": "(real) => joined(fetches({ read: 1 }), real)",
    "a fetch of no compute": "(real, { a, n }) => joined(fetches({ a, compute: n - 1 }), real)",
    "a fetch of nobody": "(real) => joined(fetches({}), real)",
    "credit for nothing": "(real) => joined(frame({ t: 'fetch_more', f: 9, bytes: 2 ** 50 }), real)",
    "a body of nothing": (
        "(real) => joined(frame({ t: 'fetch_upload', f: 9, ends: false, raw: [1] }, 'x'), real)"
    ),
    "lines of another": (
        "(real, h) => joined(frame({ t: 'log', a: h.a + 7, stream: 'stdout', lines: ['x'] }), real)"
    ),
}

# The same loop of frames, written for ever.
ENDLESS = """
  const pong = frame({ t: "pong", n: 1 });
  Uint8Array.prototype.subarray = function (from, to) {
    const real = native.call(this, from, to);
    return from === 0 && to > 12 && real[8] === 123 ? pong : real;
  };
  for (;;) { console.log("x"); await null }
"""

Begun = dict[str, "Future[tuple[Attacker, httpx.Response]]"]


@pytest.fixture(scope="module")
def attacks(field: Arena) -> Begun:
    return {
        name: field.begin(sending("guard", f"{FORGE} instead({forge})"))
        for name, forge in {**NO_ANSWER, **BROKEN, **UNASKED}.items()
    }


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_frame_ends_the_worker_and_refuses_the_event(name: str, attacks: Begun) -> None:
    attacker, response = attacks[name].result(timeout=100)
    refused(response, 400, "machine-fault")
    assert attacker.must_count() == 2


@pytest.mark.parametrize("name", list(NO_ANSWER))
def test_an_event_that_is_not_answered_is_given_up(name: str, attacks: Begun) -> None:
    attacker, response = attacks[name].result(timeout=100)
    refused(response, 400, "machine-timeout")
    assert attacker.must_count() == 2


@pytest.mark.parametrize("name", list(UNASKED))
def test_a_frame_that_nobody_asked_for_changes_nothing(name: str, attacks: Begun) -> None:
    attacker, response = attacks[name].result(timeout=100)
    assert answered(response)["publicContext"] == {"count": 2}
    assert attacker.must_count() == 3


def test_frames_without_end_are_no_sign_of_life(field: Arena) -> None:
    attacker = field.attacker()
    answered(attacker.send("service", f"{FORGE} {ENDLESS}"))
    attacker.must_count()
    state = answered(attacker.asker.get(attacker.machine, "i"))
    assert state["state"] == "idle"
    assert "interrupted" in state["publicContext"]["outcome"]
