// What user code holds, as JSON text that the host stores without looking into it.

import { isNative, plainText } from "./builtins.ts";
import { framesOf, readable, sourceOf } from "./places.ts";
import { asData, DEPTH_MAX, type Form, holdsPattern, MARK, revived } from "./tagged.ts";

const { parse, stringify } = JSON;
const { getPrototypeOf, prototype } = Object;

export { DEPTH_MAX };

/**
 * The JSON of a value, to be read by `fromText`; `null` for what JSON has no word for. Throws for cycles, bigints, and
 * nesting beyond DEPTH_MAX. `known` is returned, the very string, when the JSON equals it: it has been looked at before.
 */
export function jsonText(value: unknown, known?: string): string {
  return textOf(value, "tagged", known);
}

/** The JSON of a value, for readers: what it holds besides plain data is shown as such. */
export function shownText(value: unknown): string {
  return textOf(value, "shown");
}

/** What `jsonText` was given, as far as it is kept. Never for the text of a client, who could write anything into it. */
export function fromText(text: string): unknown {
  const value: unknown = parse(text);
  return text.includes(MARK) ? revived(value) : value;
}

function textOf(value: unknown, form: Form, known?: string): string {
  let text = plainText(value);
  if (text === undefined) return "null";
  if (text !== null && text === known) return known;
  if (text === null || isMore(text, value, form)) {
    text = stringify(asData(value, form)) as string | undefined ?? "null";
    if (text === known) return known;
  }
  if (isTooDeep(text)) throw new TypeError(`a value is nested deeper than ${DEPTH_MAX}`);
  return text.includes("\\ud") ? withoutLoneSurrogates(text) : text;
}

/** Whether the JSON of a value leaves out what is kept of it, or has in it what would be taken for a tag. */
function isMore(text: string, value: unknown, form: Form): boolean {
  return (form === "tagged" && text.includes(MARK)) || (text.includes("{}") && holdsPattern(value));
}

/** The JSON of an event that user code made, for the history: what has none leaves its type. */
export function eventText(event: unknown): string {
  try {
    if (hasType(event)) return jsonText(asRecord(event));
  } catch {
    // A cycle or a bigint: the machine still gets the very object, the history only its type.
  }
  return stringify({ type: hasType(event) ? event.type : String(event) });
}

/** An event has members, of which the host reads one: no tag stands in its place, be it an Error or a Map. */
export function asRecord(event: { type: string }): { type: string } {
  const of: unknown = getPrototypeOf(event);
  if (of === prototype || of === null) return event;
  const { toJSON } = event as { toJSON?: unknown };
  if (typeof toJSON !== "function" || isNative(toJSON)) return { ...event, type: event.type };
  const said = (toJSON as (key: string) => unknown).call(event, "");
  if (!hasType(said)) throw new TypeError("the toJSON of an event gives no object with a string type");
  return { ...said, toJSON: undefined, type: said.type } as { type: string };
}

export function hasType(event: unknown): event is { type: string } {
  return typeof event === "object" && event !== null &&
    typeof (event as { type?: unknown }).type === "string";
}

/** JSON.stringify writes a lone surrogate as an escape (a backslash before it would be escaped itself). */
function withoutLoneSurrogates(text: string): string {
  return text.replace(/\\(?:ud[89a-f][0-9a-f]{2}|.)/g, (escape) => escape.length === 6 ? "\\ufffd" : escape);
}

/** Whether valid JSON nests deeper than DEPTH_MAX. Text with fewer brackets is not looked into. */
function isTooDeep(text: string): boolean {
  if (text.length <= 2 * DEPTH_MAX) return false;
  if (countUpTo(DEPTH_MAX, text, "{") + countUpTo(DEPTH_MAX, text, "[") <= DEPTH_MAX) return false;
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if (unit === 34) at = endOfString(text, at);
    else if (unit === 123 || unit === 91) {
      if (++depth > DEPTH_MAX) return true;
    } else if (unit === 125 || unit === 93) depth -= 1;
  }
  return false;
}

function countUpTo(max: number, text: string, bracket: string): number {
  let count = 0;
  for (let at = text.indexOf(bracket); at >= 0 && count <= max; at = text.indexOf(bracket, at + 1)) count++;
  return count;
}

/** Where the string that begins at `at` has its closing quote. The search is native: most of a text is in strings. */
function endOfString(text: string, at: number): number {
  do at = text.indexOf('"', at + 1); while (text.charCodeAt(at - 1) === 92 && isEscaped(text, at));
  return at;
}

function isEscaped(text: string, at: number): boolean {
  let backslashes = 0;
  while (text.charCodeAt(at - 1 - backslashes) === 92) backslashes += 1;
  return backslashes % 2 === 1;
}

/** What to tell about something thrown: its message, or what it says of itself. */
export function messageOf(thrown: unknown): string {
  if (thrown instanceof Error) return thrown.message || thrown.name;
  if (typeof thrown === "string") return thrown;
  try {
    return String((thrown as { message?: unknown } | null | undefined)?.message ?? thrown);
  } catch {
    return "something was thrown that has no text";
  }
}

/** The message of something thrown, and the place in the source where it was thrown if a source map tells. */
export function placedMessageOf(thrown: unknown): string {
  const message = messageOf(thrown);
  const place = sourceOf(thrown);
  return place === null ? message : `${message} (${place})`;
}

/** The message of something thrown and where it was thrown, as far as that is machine code. */
export function traceOf(thrown: unknown): string {
  return [messageOf(thrown), ...framesOf(thrown).map(readable)].join("\n");
}
