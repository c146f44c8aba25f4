// Index selectors: JSONPath (RFC 9535) of names, positions and wildcards, from the context to strings.
// The host has judged a path before it comes here, by the same rules.

import { kindOf } from "./builtins.ts";
import { shownText } from "./json.ts";
import { utf8Length } from "./protocol.ts";

const { parse } = JSON;

const STEP =
  /\.([A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)|\[\s*(?:'((?:[^'\\]|\\['\\])*)'|"((?:[^"\\]|\\["\\])*)"|(-?\d{1,9}))\s*\]|\.\*|\[\s*\*\s*\]/y;

type Step = string | number | null; // null: every part

export interface Selector {
  readonly index: string;
  readonly steps: readonly Step[];
}

/** Every index of a version, with the values that one context gives it. */
export type Indexed = readonly (readonly [index: string, values: readonly string[]])[];

/** What one instance may be found by. */
export interface IndexLimits {
  readonly index_values_max: number;
  readonly index_value_bytes_max: number;
}

/** Throws an Error that names the path when it is none of ours. */
export function compile(index: string, path: string): Selector {
  const steps: Step[] = [];
  let at = 1;
  while (path.startsWith("$") && at < path.length) {
    STEP.lastIndex = at;
    const match = STEP.exec(path);
    if (match === null) break;
    at = STEP.lastIndex;
    const name = match[1] ?? match[2] ?? match[3];
    steps.push(
      name !== undefined ? name.replace(/\\(.)/g, "$1") : match[4] !== undefined ? Number(match[4]) : null,
    );
  }
  if (!path.startsWith("$") || at < path.length) {
    throw new Error(
      `the selector of index "${index}" is not supported: ${path} (use $.a.b, $['a'], $[0], $.a[*])`,
    );
  }
  return { index, steps };
}

/** What every selector finds. Throws beyond the limits. */
export function selectAll(selectors: readonly Selector[], context: unknown, limits: IndexLimits): Indexed {
  const indexed = selectors.map((selector) => [selector.index, select(selector, context)] as const);
  const bytesMax = limits.index_value_bytes_max;
  let count = 0;
  for (const [index, values] of indexed) {
    count += values.length;
    if (values.some((value) => 3 * value.length > bytesMax && utf8Length(value) > bytesMax)) {
      throw new Error(`index "${index}" has a value longer than ${bytesMax} bytes`);
    }
  }
  if (count > limits.index_values_max) {
    throw new Error(`the indexes have ${count} values; an instance may have ${limits.index_values_max}`);
  }
  return indexed;
}

/** Whether the values are the same, in the same order. */
export function isSame(one: Indexed, other: Indexed | null): boolean {
  return other !== null && one.length === other.length && one.every(([index, values], n) => {
    const [otherIndex, others] = other[n]!;
    return index === otherIndex && values.length === others.length &&
      values.every((value, m) => value === others[m]);
  });
}

/** The strings that a selector finds, each once, an array of strings counting as its members. */
export function select(selector: Selector, context: unknown): string[] {
  const found = walk(selector.steps, 0, context).flatMap((node) =>
    Array.isArray(node) ? node as unknown[] : [node]
  );
  const values = found.map(asJson).filter((node) => typeof node === "string");
  return [...new Set(values.map((value) => value.toWellFormed()))];
}

function walk(steps: readonly Step[], depth: number, part: unknown): unknown[] {
  const node = asJson(part);
  if (depth === steps.length) return [node];
  if (typeof node !== "object" || node === null) return [];
  const step = steps[depth]!;
  if (step === null) return Object.values(node).flatMap((part) => walk(steps, depth + 1, part));
  if (typeof step === "number") return Array.isArray(node) ? walk(steps, depth + 1, node.at(step)) : [];
  return Object.hasOwn(node, step) && !Array.isArray(node)
    ? walk(steps, depth + 1, (node as Record<string, unknown>)[step])
    : [];
}

/** What readers get in place of a live value (a Date is a string there): an instance is found by what they see. */
function asJson(node: unknown): unknown {
  if (typeof node !== "object" || node === null || !isToldOtherwise(node)) return node;
  return parse(shownText(node));
}

function isToldOtherwise(node: object): boolean {
  const of: unknown = Object.getPrototypeOf(node);
  if (of === Object.prototype || of === Array.prototype) return "toJSON" in node;
  return kindOf(node) !== null || "toJSON" in node;
}
