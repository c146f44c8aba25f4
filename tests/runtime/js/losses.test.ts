import assert from "node:assert/strict";
import { Losses } from "../../../src/statebacked/runtime/js/losses.ts";

const lost = (context: unknown, losses = new Losses()): string[] => {
  const lines: string[] = [];
  losses.look(context, (line) => void lines.push(line.replace(/ \(see .*/, "")));
  return lines;
};

Deno.test("what is kept is not told", () => {
  const actor = { id: "a", send: () => {}, other: undefined };
  class Price {
    amount = NaN;
    toJSON(): number {
      return 1;
    }
  }
  const bare = Object.assign(Object.create(null) as object, { a: 1 });
  const kept = [
    new Date(),
    new Map([["a", new Set([1])]]),
    new TypeError("x"),
    new URL("http://a/"),
    /x/,
    new Int8Array(1),
  ];
  assert.deepEqual(lost({ kept, actor, price: new Price(), bare, list: [null, "a", 1.5, -0, true] }), []);
});

Deno.test("each loss is told with its path and what becomes of it", () => {
  class Money {}
  class HttpError extends Error {}
  const found = lost({
    a: { "b c": [NaN, undefined] },
    f: () => 1,
    s: Symbol(),
    m: new Map<unknown, unknown>([[Infinity, undefined]]),
    money: new Money(),
    error: new HttpError(),
    headers: new Headers(),
    text: "\udfff",
  });
  assert.deepEqual(found, [
    'context.a["b c"][] is NaN and is stored as null',
    'context.a["b c"][] is undefined and is stored as null',
    "context.f is a function and is left out when stored",
    "context.s is a symbol and is left out when stored",
    "context.m.keys() is Infinity and is stored as null",
    "context.m.values() is undefined and is stored as null",
    "context.money is an instance of Money and is stored as a plain object",
    "context.error is an instance of HttpError and is stored as Error",
    "context.headers is an instance of Headers and is stored as a plain object",
    "context.text holds half of a character, which is stored as U+FFFD",
  ]);
});

Deno.test("a loss is told once, and the look ends by itself", () => {
  const losses = new Losses();
  assert.equal(lost({ a: NaN }, losses).length, 1);
  assert.deepEqual(lost({ a: NaN }, losses), []);
  assert.equal(
    lost(Object.fromEntries(Array.from({ length: 99 }, (_, n) => [`k${n}`, NaN])), losses).length,
    19,
  );
  assert.deepEqual(lost({ other: NaN }, losses), [], "twenty lines a worker");

  let reads = 0;
  const counted = () =>
    Array.from({ length: 5_000 }, () => new Proxy({}, { ownKeys: () => (reads += 1, []) }));
  lost({ list: counted() });
  assert.ok(reads <= 1_000, `${reads} parts of one context`);
  reads = 0;
  const sampled = new Losses();
  for (let n = 0; n < 50; n++) lost(new Proxy({}, { ownKeys: () => (reads += 1, []) }), sampled);
  assert.equal(reads, 20, "contexts of one worker");
});

Deno.test("a cycle, and code that throws, end the look and nothing else", () => {
  const cycle: Record<string, unknown> = { n: NaN };
  cycle["self"] = cycle;
  assert.ok(lost(cycle).length > 0);
  const thrower = {
    get a(): never {
      throw new Error("no");
    },
  };
  assert.deepEqual(lost({ thrower }), []);
});
