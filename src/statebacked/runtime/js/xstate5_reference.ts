// Persistent instances as XState 5 sees them: actors that are never started, and carry an address. A machine can keep
// them in its context, find them in `children`, send to them and stop them; what comes of it is recorded as data.

import { createActor } from "xstate5";
import {
  type Address,
  addressOf,
  isPlainReference,
  isSame,
  type Reference,
  referenceTo,
} from "./instances.ts";
import { type Actor5, STOPPED } from "./xstate5_types.ts";

/** What is kept of a child that is over. */
export interface Ended {
  readonly status: "done" | "error" | "stopped";
  readonly output?: unknown;
  readonly error?: unknown;
}

const inertSnapshot = { status: "active", output: undefined, error: undefined, context: undefined };
let made = 0;

/** An actor that only stands for something: it does not count among those that the machine makes. */
function inert(options: { readonly parent: Actor5 }): Actor5 {
  const { system } = options.parent;
  const book = system._bookId;
  system._bookId = () => `statebacked:${made++}`;
  try {
    return createActor(inertLogic as never, options as never) as unknown as Actor5;
  } finally {
    system._bookId = book;
  }
}

/** Stands for a child that is over: takes every event and does nothing. */
export function createEnded(parent: Actor5, id: string, ended: Ended): Actor5 {
  const actor = inert({ id, parent } as { parent: Actor5 });
  actor._processingStatus = STOPPED;
  showEnded(actor, ended);
  return actor;
}

export function showEnded(actor: Actor5, ended: Ended): void {
  actor._snapshot = { ...inertSnapshot, ...ended } as unknown as Actor5["_snapshot"];
}

/** Logic that does nothing, for actors that only stand for something. */
export const inertLogic = {
  transition: (snapshot: unknown) => snapshot,
  getInitialSnapshot: () => inertSnapshot,
  getPersistedSnapshot: (snapshot: unknown) => snapshot,
};

/** Stands for whoever spawned this instance; whether anybody did, the host knows. */
export const PARENT = createActor(inertLogic as never, {} as never) as unknown as Actor5;
PARENT._processingStatus = STOPPED;

export function isReference(value: unknown): value is Actor5 & Reference {
  return typeof value === "object" && value !== null &&
    (value as { type?: unknown }).type === "statebacked.instance" && "sessionId" in value;
}

/** Make an actor stand for a persistent instance, be it still under construction. */
export function standFor(actor: Actor5, address: Address): Actor5 & Reference {
  return Object.assign(actor, {
    ...referenceTo(actor.id, address),
    logic: inertLogic,
    toJSON: () => referenceTo(actor.id, address),
    _processingStatus: STOPPED,
  });
}

/** A reference of its own, as a child of `parent`. */
export function createReference(
  parent: Actor5,
  id: string,
  address: Address,
  systemId?: string,
): Actor5 & Reference {
  const isFree = systemId !== undefined && parent.system.get(systemId) === undefined;
  const options = { id, parent, ...(isFree ? { systemId } : {}) };
  return standFor(inert(options), address);
}

/** The references that the context of one instance holds. */
export class References {
  #made = new Map<string, Actor5 & Reference>();
  #before = this.#made;

  /** Another context is read: what it holds no more is forgotten after it. */
  begin(): void {
    this.#before = this.#made;
    this.#made = new Map();
  }

  /** What stands for the instance `address` under `id`: the child, if it is one of now. */
  at(root: Actor5, id: string, address: Address): Actor5 {
    const child = root._snapshot.children[id];
    if (child !== undefined && isReference(child) && isSame(addressOf(child) ?? undefined, address)) {
      return child;
    }
    const key = JSON.stringify([id, ...address]);
    const made = this.#made.get(key) ?? this.#before.get(key) ?? createReference(root, id, address);
    this.#made.set(key, made);
    return made;
  }

  /** What JSON has kept of a reference becomes one again; anything else is null. */
  revived(root: Actor5, node: Readonly<Record<string, unknown>>): Actor5 | null {
    if (!isPlainReference(node)) return null;
    const { id, machineName, machineInstanceName } = node as unknown as Reference;
    return this.at(root, id, [machineName, machineInstanceName]);
  }
}
