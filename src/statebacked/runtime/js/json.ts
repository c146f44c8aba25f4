// What user code holds, as JSON text that the host stores without looking into it.

import { framesOf, readable, sourceOf } from "./places.ts";

const { stringify } = JSON;

export const DEPTH_MAX = 128;

/**
 * The JSON of a value; `null` for what JSON has no word for. Throws for cycles, bigints, and nesting beyond DEPTH_MAX.
 * `known` is returned, the very string, when the JSON equals it: it has been looked at before.
 */
export function jsonText(value: unknown, known?: string): string {
  const text = stringify(value) as string | undefined;
  if (text === undefined) return "null";
  if (text === known) return known;
  if (text.length > 2 * DEPTH_MAX && isDeeperThan(value, DEPTH_MAX)) {
    throw new TypeError(`a value is nested deeper than ${DEPTH_MAX}`);
  }
  return text.includes("\\ud") ? withoutLoneSurrogates(text) : text;
}

/** The JSON of an event that user code made, for the history: errors keep their message, the rest must not throw. */
export function eventText(event: unknown): string {
  try {
    const text = stringify(event, errorsAsData) as string | undefined;
    if (
      text !== undefined && hasType(event) && !(text.length > 2 * DEPTH_MAX && isDeeperThan(event, DEPTH_MAX))
    ) {
      return text.includes("\\ud") ? withoutLoneSurrogates(text) : text;
    }
  } catch {
    // A cycle or a bigint: the machine still gets the very object, the history only its type.
  }
  return stringify({ type: hasType(event) ? event.type : String(event) });
}

export function hasType(event: unknown): event is { type: string } {
  return typeof event === "object" && event !== null &&
    typeof (event as { type?: unknown }).type === "string";
}

function errorsAsData(_key: string, value: unknown): unknown {
  return value instanceof Error ? { ...value, name: value.name, message: value.message } : value;
}

/** JSON.stringify writes a lone surrogate as an escape (a backslash before it would be escaped itself). */
function withoutLoneSurrogates(text: string): string {
  return text.replace(/\\(?:ud[89a-f][0-9a-f]{2}|.)/g, (escape) => escape.length === 6 ? "\\ufffd" : escape);
}

function isDeeperThan(value: unknown, depth: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (depth === 0) return true;
  if (typeof (value as { toJSON?: unknown }).toJSON === "function") return false; // its JSON is made by itself, and shallow
  for (const key in value) {
    if (isDeeperThan((value as Record<string, unknown>)[key], depth - 1)) return true;
  }
  return false;
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
