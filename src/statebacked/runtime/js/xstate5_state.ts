// What of an XState 5 snapshot is stored, and how it comes back. Children are ephemeral: of them only the ids are
// kept. A reference to one that is over becomes a stopped actor of that id, both after a restore and when an
// instance settles, so that a state from the cache and one from the store are the same.

import { changeParts } from "./builtins.ts";
import { type Linked, type Stored, stored } from "./family.ts";
import { fromText, jsonText } from "./json.ts";
import { type Ended, isReference } from "./xstate5_reference.ts";
import { type Actor5, type Node5, type Snapshot5, STOPPED } from "./xstate5_types.ts";

/** JSON. The context is stored beside it. */
export interface Persisted {
  readonly value: unknown;
  readonly status: Snapshot5["status"];
  readonly output?: unknown;
  readonly historyValue: Record<string, { id: string }[]>;
  readonly children: string[];
  /** Those of the children that are persistent, and more that only their ids are left of. */
  readonly instances?: Stored;
  /** System ids of persistent children, by their ids. */
  readonly systemIds?: Readonly<Record<string, string>>;
  /** How many actors were made, the instance included; left out while there is but that. */
  readonly made?: number;
  /** How those of the children ended that have not just been stopped. */
  readonly ended?: Readonly<Record<string, Ended>>;
}

/** Of all results of children that are kept; what comes on top of it is not. */
const ENDED_CHARACTERS_MAX = 100_000;

/** How the children ended after this event, each as its JSON gives it. */
export function endedAfter(
  event: { readonly type: string },
  snapshot: Snapshot5,
  before: Readonly<Record<string, Ended>>,
): Readonly<Record<string, Ended>> {
  const told = toldBy(event as unknown as Record<string, unknown>);
  const isKnown = told !== null && snapshot.children[told.id] !== undefined;
  const ids = Object.keys(before);
  if (!isKnown && ids.every((id) => isOver(snapshot.children[id]))) return before;
  const after: Record<string, Ended> = {};
  for (const id of ids) if (isOver(snapshot.children[id])) after[id] = before[id]!;
  if (isKnown) after[told.id] = told.ended;
  return isKnown ? bounded(after, told.id) : after;
}

const isOver = (actor: Actor5 | undefined): boolean =>
  actor !== undefined && actor._processingStatus === STOPPED && !isReference(actor);

function toldBy(event: Record<string, unknown>): { id: string; ended: Ended } | null {
  const { type, actorId: id } = event;
  if (typeof id !== "string") return null;
  if (type === `xstate.done.actor.${id}`) return { id, ended: { status: "done", output: event["output"] } };
  return type === `xstate.error.actor.${id}`
    ? { id, ended: { status: "error", error: event["error"] } }
    : null;
}

function bounded(ended: Record<string, Ended>, newest: string): Record<string, Ended> {
  const { status } = ended[newest]!;
  try {
    const text = jsonText(ended[newest]);
    const all = text.length + jsonText({ ...ended, [newest]: null }).length;
    ended[newest] = all <= ENDED_CHARACTERS_MAX ? fromText(text) as Ended : { status };
  } catch {
    ended[newest] = { status }; // it has no JSON
  }
  return ended;
}

export function persist(
  snapshot: Snapshot5,
  linked: Linked,
  made = 1,
  ended: Readonly<Record<string, Ended>> = {},
): Persisted {
  const historyValue: Persisted["historyValue"] = {};
  for (const key in snapshot.historyValue) {
    historyValue[key] = snapshot.historyValue[key]!.map((node) => ({ id: node.id }));
  }
  const children = Object.keys(snapshot.children).filter((id) => snapshot.children[id] !== undefined);
  const { value, status, output } = snapshot;
  return {
    value,
    status,
    ...(output === undefined ? {} : { output }),
    historyValue,
    children,
    ...instancesIn(snapshot, linked),
    ...(made === 1 ? {} : { made }),
    ...(Object.keys(ended).length === 0 ? {} : { ended }),
  };
}

function instancesIn({ children }: Snapshot5, linked: Linked): Pick<Persisted, "instances" | "systemIds"> {
  if (linked.size === 0) return {};
  const systemIds: Record<string, string> = {};
  for (const actor of Object.values(children)) {
    if (isReference(actor) && actor.systemId !== undefined) systemIds[actor.id] = actor.systemId;
  }
  return { ...stored(linked), ...(Object.keys(systemIds).length === 0 ? {} : { systemIds }) };
}

/**
 * By a transition to several targets that do not fit together, XState 5 can come to a configuration that its own
 * state value does not have. A restore would lose it, so it is given up at once: the value decides.
 */
export function settleNodes(snapshot: Snapshot5): void {
  if (isCoherent(snapshot._nodes)) return;
  snapshot._nodes = snapshot.machine.resolveState({ value: snapshot.value, context: {} })._nodes;
  snapshot.tags = new Set(snapshot._nodes.flatMap((node) => node.tags));
}

/** One active child in every active compound state, all of them in a parallel one. */
function isCoherent(nodes: readonly Node5[]): boolean {
  const active = new Map<Node5, number>();
  for (const node of nodes) if (!active.has(node)) active.set(node, 0);
  if (active.size !== nodes.length) return false;
  for (const { parent } of nodes) {
    if (parent === undefined) continue;
    const count = active.get(parent);
    if (count === undefined) return false;
    active.set(parent, count + 1);
  }
  for (const [node, count] of active) {
    if (node.type === "compound" ? count !== 1 : node.type === "parallel" && count !== regions(node)) {
      return false;
    }
  }
  return true;
}

function regions(node: Node5): number {
  let count = 0;
  for (const key in node.states) if (node.states[key]!.type !== "history") count += 1;
  return count;
}

/**
 * Replaces, in a tree fresh from JSON, each mark that XState left for an actor by what `resolve` gives, and each
 * reference to a persistent instance by what `refer` gives.
 */
export function revive(
  value: unknown,
  resolve: (id: string) => Actor5,
  refer: (node: Record<string, unknown>) => Actor5 | null,
): unknown {
  if (typeof value !== "object" || value === null) return value;
  const node = value as Record<string, unknown>;
  const referred = node["type"] === "statebacked.instance" ? refer(node) : null;
  if (referred !== null) return referred;
  if (node["xstate$$type"] === 1 && typeof node["id"] === "string") return resolve(node["id"]);
  changeParts(node, (part) => revive(part, resolve, refer));
  return node;
}
