import assert from "node:assert/strict";
import { DEPTH_MAX, eventText, jsonText, messageOf } from "../../../src/statebacked/runtime/js/json.ts";

const nested = (depth: number): unknown => depth === 0 ? 1 : { a: nested(depth - 1) };

Deno.test("what JSON has no word for is null", () => {
  assert.equal(jsonText(undefined), "null");
  assert.equal(jsonText(() => 1), "null");
  assert.equal(jsonText({ a: undefined, b: [undefined, NaN], c: -0 }), '{"b":[null,null],"c":0}');
});

Deno.test("lone surrogates become U+FFFD, pairs and escaped backslashes stay", () => {
  assert.equal(jsonText("a\ud800b"), '"a\\ufffdb"');
  assert.equal(jsonText("🐢"), '"🐢"');
  assert.equal(jsonText("\\ud800"), '"\\\\ud800"');
  assert.equal(JSON.parse(jsonText("\\\ud800\\udfff")), "\\\ufffd\\udfff");
});

Deno.test("nesting beyond the limit throws, at the limit it does not", () => {
  jsonText(nested(DEPTH_MAX));
  assert.throws(() => jsonText(nested(DEPTH_MAX + 1)), /nested deeper/);
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  assert.throws(() => jsonText(cycle));
  assert.throws(() => jsonText({ n: 1n }));
});

Deno.test("brackets in texts nest nothing, whatever escapes are around them", () => {
  const texts = ['[{"', "\\", '\\"[[', '"', "\\\\{", "[".repeat(300)];
  const flat = Array.from({ length: 400 }, (_, n) => ({ [texts[n % 6]!]: texts[(n + 1) % 6]! }));
  assert.deepEqual(JSON.parse(jsonText(flat)), flat);
  assert.throws(() => jsonText([flat, nested(DEPTH_MAX)]), /nested deeper/);
  assert.deepEqual(JSON.parse(jsonText([flat, nested(DEPTH_MAX - 1)])), [flat, nested(DEPTH_MAX - 1)]);
});

Deno.test("an object that makes its own JSON is not looked into", () => {
  const actor: Record<string, unknown> = { toJSON: () => ({ id: "x" }), pad: "x".repeat(300) };
  actor.self = actor;
  assert.equal(jsonText({ actor, text: "y".repeat(300) }).startsWith('{"actor":{"id":"x"}'), true);
});

Deno.test("an event always has a text: errors keep their message, what has no JSON keeps its type", () => {
  const error = Object.assign(new TypeError("boom"), { code: 7 });
  assert.equal(
    eventText({ type: "e", error }),
    '{"type":"e","error":{"$$statebacked":"TypeError","value":{"message":"boom","own":{"code":7}}}}',
  );
  assert.equal(eventText({ type: "e", n: 1n }), '{"type":"e"}');
  assert.equal(eventText({ type: "e", deep: nested(200) }), '{"type":"e"}');
});

Deno.test("whatever is thrown has a message", () => {
  assert.equal(messageOf(new Error("a")), "a");
  assert.equal(messageOf(new Error()), "Error");
  assert.equal(messageOf("b"), "b");
  assert.equal(messageOf({ message: "c" }), "c");
  assert.equal(messageOf(undefined), "undefined");
  assert.equal(messageOf(Object.create(null)), "something was thrown that has no text");
});
