// Plain data in a live context: what JSON could hold, among whatever else user code puts there.

import { kindOf } from "./builtins.ts";

/** A copy of plain objects and arrays, and of what is kept besides (a Map, a Date); everything else by reference. */
export function copyPlain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copyPlain);
  if (typeof value !== "object" || value === null) return value;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    const kind = kindOf(value);
    if (kind === null || kind.prototype !== prototype || value instanceof Error) return value;
    return kind.make(copyPlain(kind.tell(value)) as never);
  }
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, copyPlain(part)]));
}
