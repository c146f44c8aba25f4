import assert from "node:assert/strict";
import { copyPlain } from "../../../src/statebacked/runtime/js/plain.ts";
import {
  DEPTH_MAX,
  eventText,
  fromText,
  jsonText,
  shownText,
} from "../../../src/statebacked/runtime/js/json.ts";
import { sentText } from "../../../src/statebacked/runtime/js/outgoing.ts";
import { changeParts } from "../../../src/statebacked/runtime/js/builtins.ts";
import { randomValue } from "./random_values.ts";

const kept = <T>(value: T): T => fromText(jsonText(value)) as T;
const SEEDS = 3_000;

Deno.test("random values come back as they were, and their text is the same again", () => {
  for (let seed = 0; seed < SEEDS; seed++) {
    const value = randomValue(seed);
    const text = jsonText(value);
    const back = fromText(text);
    assert.deepEqual(withoutStacks(back), withoutStacks(value), `seed ${seed}`);
    assert.equal(jsonText(back), text, `seed ${seed}`);
    assert.equal(jsonText(back, text), text, `seed ${seed}`);
    assert.equal(shownText(back), shownText(value), `seed ${seed}`);
    assert.deepEqual(withoutStacks(copyPlain(value)), withoutStacks(value), `seed ${seed}`);
  }
});

/** Where an error was made is not kept. */
function withoutStacks<T>(value: T): T {
  if (value instanceof Error) Object.defineProperty(value, "stack", { value: "", enumerable: false });
  if (value instanceof Map) { for (const entry of value) entry.forEach(withoutStacks); }
  else if (value instanceof Set) value.forEach(withoutStacks);
  else if (typeof value === "object" && value !== null && !ArrayBuffer.isView(value)) {
    Object.values(value).forEach(withoutStacks);
    if (value instanceof Error) [value.cause, (value as { errors?: unknown }).errors].forEach(withoutStacks);
  }
  return value;
}

Deno.test("an error keeps its class, name, message, code, cause and members", () => {
  class HttpError extends TypeError {
    override name = "HttpError";
    constructor(readonly status: number, message: string) {
      super(message, { cause: new RangeError("inner") });
    }
  }
  const error = kept(new HttpError(404, "none"));
  assert.ok(error instanceof TypeError);
  assert.deepEqual([error.name, error.message, error.status], ["HttpError", "none", 404]);
  assert.ok(error.cause instanceof RangeError);
  assert.equal((error.cause as Error).message, "inner");
  assert.equal(error.stack, "HttpError: none");
  assert.deepEqual(Object.keys(error), ["status", "name"]);
  const abort = kept(new DOMException("stopped", "AbortError"));
  assert.ok(abort instanceof DOMException);
  assert.deepEqual([abort.name, abort.message, abort.code], ["AbortError", "stopped", 20]);
});

Deno.test("a pattern is kept wherever it stands, and empty objects stay plain", () => {
  class Rule {
    constructor(readonly pattern: RegExp) {}
  }
  const told = { toJSON: () => ({ pattern: /d/ }) };
  const value = { empty: {}, list: [{}, { a: [/a/g] }], rule: new Rule(/b/), told, date: "none" };
  assert.deepEqual(kept(value), {
    empty: {},
    list: [{}, { a: [/a/g] }],
    rule: { pattern: /b/ },
    told: { pattern: /d/ },
    date: "none",
  });
  assert.deepEqual(kept(/x/y), /x/y);
  assert.equal(jsonText({ empty: {}, list: [{}] }), '{"empty":{},"list":[{}]}');
  assert.equal(shownText({ empty: {}, pattern: /x/ }), '{"empty":{},"pattern":"/x/"}');
});

Deno.test("a view keeps what it shows, not what is beside it", () => {
  const view = kept(new Uint8Array([1, 2, 3, 4]).subarray(1, 3));
  assert.deepEqual([...view], [2, 3]);
  assert.equal(view.buffer.byteLength, 2);
});

Deno.test("of a subclass the kind is kept, and what a class says of itself goes before", () => {
  class Basket extends Map<string, number> {}
  const basket = kept(new Basket([["a", 1]]));
  assert.deepEqual(basket, new Map([["a", 1]]));
  class Money extends Date {
    override toJSON(): string {
      return `${super.toJSON().slice(0, 10)} in money`;
    }
  }
  assert.equal(jsonText({ at: new Money(0), b: new Map() }).split(",")[0], '{"at":"1970-01-01 in money"');
  class Price {
    constructor(readonly at: Date, readonly tags: Map<string, number>) {}
    toJSON(): unknown {
      return { at: this.at.toJSON().slice(0, 4), tags: JSON.stringify(this.tags), keep: this.tags };
    }
  }
  assert.deepEqual(kept({ p: new Price(new Date(0), new Map([["a", 1]])) }), {
    p: { at: "1970", tags: "{}", keep: new Map([["a", 1]]) },
  });
});

Deno.test("plain JavaScript is as it was: no built-in object has a toJSON that it had not", () => {
  assert.equal(
    JSON.stringify([new Map([[1, 2]]), new Set([1]), new Error("x"), /a/, new Uint8Array(1)]),
    '[{},{},{},{},{"0":0}]',
  );
  assert.equal(JSON.stringify(new Date(0)), '"1970-01-01T00:00:00.000Z"');
  assert.equal((new Error("x") as { toJSON?: unknown }).toJSON, undefined);
  assert.equal(new Date(0).toJSON(), "1970-01-01T00:00:00.000Z");
  assert.equal(Object.keys(Error.prototype).length, 0);
  assert.equal(Object.hasOwn(RegExp.prototype, "toJSON"), false, "else the engine gives up its quick way");
});

Deno.test("a toJSON that the machine puts on a prototype counts", () => {
  const native = Object.getOwnPropertyDescriptor(Map.prototype, "toJSON")!;
  (Map.prototype as { toJSON?: unknown }).toJSON = function (this: Map<unknown, unknown>) {
    return [...this];
  };
  try {
    assert.equal(jsonText({ m: new Map([["a", 1]]) }), '{"m":[["a",1]]}');
    assert.deepEqual(kept({ m: new Map([["a", 1]]), d: new Date(0) }), { m: [["a", 1]], d: new Date(0) });
  } finally {
    Object.defineProperty(Map.prototype, "toJSON", native);
  }
});

Deno.test("prototypes that the machine has broken break no text", () => {
  const broken = [
    [Map.prototype, "forEach"],
    [Map.prototype, "size"],
    [Map.prototype, "set"],
    [Set.prototype, "add"],
    [Date.prototype, "getTime"],
    [Date.prototype, "toISOString"],
    [URL.prototype, "href"],
    [Uint8Array.prototype, "toBase64"],
  ] as const;
  const before = broken.map(([of, name]) => Object.getOwnPropertyDescriptor(of, name)!);
  const value = {
    m: new Map([["a", new Date(7)]]),
    s: new Set([1]),
    u: new URL("http://a/"),
    b: new Uint8Array(2),
  };
  const text = jsonText(value);
  try {
    for (const [of, name] of broken) {
      Object.defineProperty(of, name, {
        configurable: true,
        get: () => () => {
          throw new Error("broken");
        },
      });
    }
    assert.equal(jsonText(value), text);
    const back = fromText(text);
    assert.equal(jsonText(back), text);
  } finally {
    broken.forEach(([of, name], n) => Object.defineProperty(of, name, before[n]!));
  }
  assert.deepEqual(fromText(text), value);
});

Deno.test("what only looks like a tag stays what it is", () => {
  const forged = JSON.parse(
    '{"$$statebacked":"Date","value":"1970-01-01T00:00:00.000Z","$$statebacked$":1,"$$statebacked$$":[{"$$statebacked":"Map","value":[]}]}',
  );
  assert.deepEqual(kept(forged), forged);
  assert.deepEqual(kept({ forged, at: new Date(1) }), { forged, at: new Date(1) });
  assert.deepEqual(JSON.parse(shownText(forged)), forged);
  for (
    const [kind, value] of [["Date", { a: 1 }], ["Map", 5], ["URL", "no"], ["RegExp", ["(", "g"]], [
      "Nothing",
      1,
    ]]
  ) {
    const text = `{"a":{"$$statebacked":${JSON.stringify(kind)},"value":${JSON.stringify(value)}}}`;
    fromText(text); // never throws
  }
  const looksLike = Object.create(Map.prototype) as object;
  assert.deepEqual(kept({ a: looksLike, b: new Proxy(new Map(), {}) }), { a: {}, b: {} });
});

Deno.test("__proto__ is a member like any other, and nothing gets a prototype from a text", () => {
  const value = JSON.parse('{"__proto__":{"isAdmin":true},"d":0}') as Record<string, unknown>;
  value["d"] = new Date(0);
  const back = kept(value);
  assert.equal(Object.getPrototypeOf(back), Object.prototype);
  assert.equal(({} as { isAdmin?: boolean }).isAdmin, undefined);
  assert.deepEqual(Object.keys(back), ["__proto__", "d"]);
  const error = fromText(
    '{"$$statebacked":"Error","value":{"own":{"__proto__":{"x":1},"toString":2}}}',
  ) as object;
  assert.equal(Object.getPrototypeOf(error), Error.prototype);
  const hidden = fromText('{"$$statebacked":"Error","value":{"constructor":1,"message":"m"}}') as Error;
  assert.equal(hidden.constructor, Error);
});

Deno.test("nesting is bounded through every kind, and a cycle is told", () => {
  let deep: unknown = 1;
  for (let n = 0; n < DEPTH_MAX; n++) deep = n % 2 ? new Map([["a", deep]]) : new Set([deep]);
  assert.throws(() => jsonText(deep), /nested deeper than 128/);
  const cycle = new Map<string, unknown>();
  cycle.set("a", cycle).set("b", cycle);
  assert.throws(() => jsonText({ cycle }), /holds itself/);
  const error = new Error("x");
  error.cause = error;
  assert.throws(() => jsonText({ error }), /holds itself/);
  assert.throws(() => jsonText(new Map([["n", 1n]])), /BigInt/);
  assert.equal(eventText({ type: "e", error }), '{"type":"e"}');
});

Deno.test("what is shared by many doubles no more than the bound allows", () => {
  let shared: unknown = new Date(0);
  for (let n = 0; n < 40; n++) shared = new Map([["a", shared], ["b", shared]]);
  assert.throws(() => jsonText(shared), /more than 2000000 parts/);
});

Deno.test("the parts of every kind are changed in place", () => {
  const mark = { mark: true };
  const error = new Error("x", { cause: mark });
  const value = {
    m: new Map<unknown, unknown>([[mark, mark], ["k", [mark]]]),
    s: new Set([mark, 1]),
    e: error,
  };
  const change = (part: unknown): unknown => {
    if (part === mark) return "changed";
    if (typeof part === "object" && part !== null) changeParts(part, change);
    return part;
  };
  change(value);
  assert.deepEqual([...value.m], [["changed", "changed"], ["k", ["changed"]]]);
  assert.deepEqual([...value.s], ["changed", 1]);
  assert.equal(error.cause, "changed");
});

Deno.test("an event has its type where the host looks for it, whatever object it is", () => {
  const error = Object.assign(new Error("boom"), { type: "failed" });
  assert.deepEqual(JSON.parse(sentText(error)), { type: "failed" });
  assert.deepEqual(JSON.parse(eventText(error)), { type: "failed" });
  class Said {
    get type(): string {
      return "said";
    }
    at = new Date(0);
  }
  assert.deepEqual(fromText(sentText(new Said())), { type: "said", at: new Date(0) });
  assert.throws(() =>
    sentText({ type: "x", toJSON: () => 5 }) && sentText(
      new (class {
        type = "x";
        toJSON = () => 5;
      })(),
    ), /toJSON/);
});

Deno.test("readers get plain JSON", () => {
  const cause = new RangeError("inner");
  const shown = shownText({
    at: new Date(0),
    bad: new Date(NaN),
    scores: new Map<unknown, unknown>([["a", 1], [{ k: 1 }, new Set([2])]]),
    error: Object.assign(new TypeError("boom", { cause }), { code: "E1" }),
    url: new URL("http://a/b"),
    query: new URLSearchParams("a=1"),
    pattern: /x/g,
    bytes: new Uint8Array([1, 2]),
    wide: new BigInt64Array([-5n]),
    buffer: new ArrayBuffer(2),
  });
  assert.deepEqual(JSON.parse(shown), {
    at: "1970-01-01T00:00:00.000Z",
    bad: null,
    scores: [["a", 1], [{ k: 1 }, [2]]],
    error: {
      name: "TypeError",
      message: "boom",
      code: "E1",
      cause: { name: "RangeError", message: "inner" },
    },
    url: "http://a/b",
    query: "a=1",
    pattern: "/x/g",
    bytes: [1, 2],
    wide: ["-5"],
    buffer: [0, 0],
  });
});
