// What of an XState 5 snapshot is stored, and how it comes back. Children are ephemeral: of them only the ids are
// kept. A reference to one that is over becomes a stopped actor of that id, both after a restore and when an
// instance settles, so that a state from the cache and one from the store are the same.

import type { Actor5, Snapshot5 } from "./xstate5_types.ts";

/** JSON. The context is stored beside it. */
export interface Persisted {
  readonly value: unknown;
  readonly status: Snapshot5["status"];
  readonly output?: unknown;
  readonly historyValue: Record<string, { id: string }[]>;
  readonly children: string[];
}

export function persist(snapshot: Snapshot5): Persisted {
  const historyValue: Persisted["historyValue"] = {};
  for (const key in snapshot.historyValue) {
    historyValue[key] = snapshot.historyValue[key]!.map((node) => ({ id: node.id }));
  }
  const children = Object.keys(snapshot.children).filter((id) => snapshot.children[id] !== undefined);
  const { value, status, output } = snapshot;
  return { value, status, ...(output === undefined ? {} : { output }), historyValue, children };
}

/** Replaces, in a tree fresh from JSON, each mark that XState left for an actor by what `resolve` gives. */
export function revive(value: unknown, resolve: (id: string) => Actor5): unknown {
  if (typeof value !== "object" || value === null) return value;
  const node = value as Record<string, unknown>;
  if (node["xstate$$type"] === 1 && typeof node["id"] === "string") return resolve(node["id"]);
  for (const key in node) {
    const part = node[key];
    if (typeof part !== "object" || part === null) continue;
    const revived = revive(part, resolve);
    if (revived !== part) node[key] = revived;
  }
  return node;
}

/** A copy of plain objects and arrays; everything else by reference. */
export function copyPlain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copyPlain);
  if (typeof value !== "object" || value === null) return value;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, copyPlain(part)]));
}
