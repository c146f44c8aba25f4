// The small pure parts of the worker: authorizers, selectors, console lines, memory.

import assert from "node:assert/strict";
import type { Activation } from "../../../src/statebacked/runtime/js/activation.ts";
import { Activations } from "../../../src/statebacked/runtime/js/activations.ts";
import { ask, type ReadRequest } from "../../../src/statebacked/runtime/js/authorize.ts";
import { Log } from "../../../src/statebacked/runtime/js/log.ts";
import { explain } from "../../../src/statebacked/runtime/js/program.ts";
import { compile, select, selectAll } from "../../../src/statebacked/runtime/js/selectors.ts";
import paths from "../golden/selectors.json" with { type: "json" };

const request: ReadRequest = { machineInstanceName: "i", state: "s", context: {}, authContext: {} };

Deno.test("only true admits", async () => {
  const told: string[] = [];
  const tell = (reason: string) => void told.push(reason);
  const verdict = (authorizer: () => unknown) => ask(authorizer, request, 20, tell);
  assert.equal(verdict(() => true), true);
  assert.equal(verdict(() => false), false);
  assert.deepEqual(told, []);
  for (const value of [1, "true", {}, null, undefined]) assert.equal(verdict(() => value), false);
  assert.equal(told.length, 5);
  assert.equal(
    verdict(() => {
      throw new Error("no");
    }),
    false,
  );
  assert.match(told.at(-1)!, /threw: no/);
  assert.equal(await verdict(async () => await Promise.resolve(true)), true);
  assert.equal(await verdict(() => Promise.resolve(1)), false);
  assert.equal(await verdict(() => Promise.reject(new Error("later"))), false);
  assert.match(told.at(-1)!, /rejected: later/);
  assert.equal(await verdict(() => new Promise(() => {})), false);
  assert.match(told.at(-1)!, /no answer within 20 ms/);
});

Deno.test("a selector finds strings by name, position and wildcard", () => {
  const context = { a: { b: "x", "c d": ["y", "z", 1] }, list: [{ n: "p" }, { n: "q" }, { n: 2 }], "é": "u", twice: ["v", "w", "v"] };
  const at = (path: string) => select(compile("i", path), context);
  assert.deepEqual(at("$.a.b"), ["x"]);
  assert.deepEqual(at("$['a']['c d']"), ["y", "z"]);
  assert.deepEqual(at('$.a["c d"][1]'), ["z"]);
  assert.deepEqual(at('$.a["c d"][-3]'), ["y"]);
  assert.deepEqual(at("$.list[*].n"), ["p", "q"]);
  assert.deepEqual(at("$.a.*"), ["x", "y", "z"]);
  assert.deepEqual(at("$.é"), ["u"]);
  assert.deepEqual(at("$.list.length"), []);
  assert.deepEqual(at("$.constructor.name"), []);
  assert.deepEqual(at("$.twice"), ["v", "w"]);
});

Deno.test("the host and the worker take the same paths", () => {
  for (const path of paths.taken) compile("i", path);
  for (const path of paths.refused) assert.throws(() => compile("i", path), /index "i"/, path);
});

Deno.test("an instance is found by what is stored of it, not by live objects", () => {
  const context = { at: new Date(0), shy: { toJSON: () => undefined }, own: { toJSON: () => ["a", "b"] } };
  const at = (path: string) => select(compile("i", path), context);
  assert.deepEqual(at("$.at"), ["1970-01-01T00:00:00.000Z"]);
  assert.deepEqual(at("$.shy"), []);
  assert.deepEqual(at("$.own[1]"), ["b"]);
  assert.deepEqual(select(compile("i", "$.l"), { l: ["\ud800"] }), ["\ufffd"]);
});

Deno.test("the values of an instance's indexes are bounded, all together and each", () => {
  const limits = { index_values_max: 3, index_value_bytes_max: 10 };
  const all = (context: unknown) => selectAll([compile("i", "$.l"), compile("j", "$.k")], context, limits);
  assert.deepEqual(all({ l: ["x", "y"], k: "é".repeat(5) }), [["i", ["x", "y"]], ["j", ["ééééé"]]]);
  assert.throws(() => all({ l: ["x", "y", "z"], k: "a" }), /4 values; an instance may have 3/);
  assert.throws(() => all({ l: ["x".repeat(11)] }), /"i" has a value longer than 10 bytes/);
  assert.throws(() => all({ k: "é".repeat(6) }), /"j" has a value longer than 10 bytes/);
});

Deno.test("console lines keep their order, apart by instance and stream, within bounds", () => {
  let now = 1_000;
  const log = new Log(() => now);
  log.add(1, "stdout", "a\nb\n");
  log.add(0, "stderr", "\n");
  log.add(1, "stdout", "\ud800" + "x".repeat(20_000));
  log.add(1, "stderr", "c");
  log.add(1, "stdout", "d");
  for (let i = 0; i < 2_000; i++) log.add(2, "stdout", "y");
  now += 100;
  const frames = log.take();
  assert.deepEqual(frames.map(({ a, stream, dropped }) => [a, stream, dropped]), [
    [1, "stdout", undefined],
    [undefined, "stderr", undefined],
    [1, "stdout", undefined],
    [1, "stderr", undefined],
    [1, "stdout", undefined],
    [2, "stdout", undefined],
    [2, "stdout", 1_000],
  ]);
  assert.deepEqual(frames[0]!.lines, ["a", "b"]);
  assert.deepEqual(frames[1]!.lines, [""]);
  assert.equal(frames[2]!.lines[0]!.length, 4_000);
  assert.equal(frames[2]!.lines[0]![0], "\ufffd");
  assert.deepEqual([frames[3]!.lines, frames[4]!.lines], [["c"], ["d"]]);
  assert(log.isEmpty);
});

Deno.test("alternating between the streams drops no more and tells it once for each", () => {
  let now = 0;
  const log = new Log(() => now);
  for (let i = 0; i < 3_000; i++) log.add(1, i % 2 ? "stderr" : "stdout", "z");
  now += 100;
  const frames = log.take();
  assert.equal(frames.length, 2_002);
  assert.deepEqual(frames.map(({ dropped }) => dropped ?? 0).filter((dropped) => dropped), [500, 500]);
  assert.deepEqual(log.take(), []);
});

Deno.test("lines are counted over a tenth of a second, however often they are taken", () => {
  let now = 0;
  const log = new Log(() => now);
  let kept = 0;
  for (let i = 0; i < 5_000; i++) {
    log.add(1, "stdout", "");
    for (const { lines } of log.take()) kept += lines.length;
  }
  assert.equal(kept, 1_000);
  for (let a = 2; a < 100; a++) {
    for (let i = 0; i < 100; i++) log.add(a, "stdout", "\n\n\n");
  }
  kept += log.take().flatMap(({ lines }) => lines).length;
  assert.equal(kept, 2_000);
  assert(log.isEmpty && log.isDropping);
  now += 100;
  assert(!log.isEmpty);
  const told = log.take();
  assert(told.every(({ lines }) => lines.length === 0));
  assert.equal(told.reduce((sum, { dropped }) => sum + dropped!, 0), 5_000 + 98 * 300 - 2_000);
  assert(log.isEmpty && !log.isDropping);
  log.add(1, "stdout", "again");
  assert.deepEqual(log.take()[0]!.lines, ["again"]);
});

Deno.test("the least recently used idle activation is forgotten when memory is full", () => {
  const closed: number[] = [];
  const fake = (a: number, idle = true) =>
    ({ a, bytes: () => 10, isIdle: () => idle, close: () => void closed.push(a) }) as unknown as Activation;
  const live = new Activations(30);
  const [one, two, busy, four] = [fake(1), fake(2), fake(3, false), fake(4)] as const;
  live.keep(busy);
  live.keep(one);
  live.keep(two);
  live.keep(one); // used again
  live.keep(four);
  assert.deepEqual(closed, [2]);
  live.keep(fake(5));
  live.keep(fake(6));
  assert.deepEqual(closed, [2, 1, 4]);
  assert.equal(live.get(3), busy);
  live.close(3);
  live.keep(fake(7));
  assert.deepEqual(closed, [2, 1, 4, 3]);
});

Deno.test("a failed import is explained without the sandbox's names", () => {
  const told = (message: string) => explain(new TypeError(message));
  const dist = 'Requires read access to "/srv/js/dist/5/';
  assert.deepEqual(told(`${dist}not-available/node:fs.js", run again with the --allow-read flag`), {
    message: 'the module "node:fs" is not available to machine code',
    missingExport: false,
  });
  assert.deepEqual(
    told(`${dist}other-major/xstate/lib/utils.js", run again with the --allow-read flag`),
    {
      message: 'this version of XState has no module "xstate/lib/utils"',
      missingExport: true,
    },
  );
  assert.equal(
    told('Import "xstate/lib/x" not a dependency and not in import map from "blob:null/1-2"').missingExport,
    true,
  );
  assert.equal(
    told("The requested module 'xstate' does not provide an export named 'interpret' at blob:null/0a-1:1:9")
      .missingExport,
    true,
  );
  assert.match(
    told("npm specifiers were requested; but --no-npm is specified").message,
    /bundle all dependencies/,
  );
  assert.doesNotMatch(
    told('Import "left-pad" not a dependency and not in import map from "blob:null/1"').message,
    /blob/,
  );
});
