// The persistent children of one instance and what one step does about them and other instances, in order.

import { type Address, isSame, type Outgoing, type Spawned, type Target } from "./instances.ts";

/** A persistent child as its parent has it; `forwards`: it is sent every event that its parent takes. */
export type Child = readonly [machine: string, name: string, forwards?: 1];

/** Each persistent child by the id that its parent has for it. */
export type Linked = ReadonlyMap<string, Child>;

/** As a snapshot keeps them: nothing when there are none. */
export type Stored = Readonly<Record<string, Child>>;

export const addressIn = ([machine, name]: Child): Address => [machine, name];

export const NO_CHILDREN: Linked = new Map();

export function stored(linked: Linked): { instances?: Stored } {
  return linked.size === 0 ? {} : { instances: Object.fromEntries(linked) };
}

export function restored({ instances }: { readonly instances?: Stored }): Linked {
  return instances === undefined ? NO_CHILDREN : new Map(Object.entries(instances));
}

export class Family {
  readonly outgoing: Outgoing[] = [];
  #now: Map<string, Child> | null = null;

  constructor(private readonly before: Linked) {}

  get linked(): Linked {
    return this.#now ?? this.before;
  }

  send(to: Target, event: unknown): void {
    this.outgoing.push({ kind: "send", to, event });
  }

  spawn(spawned: Spawned, forwards = false): void {
    const { id, child } = spawned;
    this.outgoing.push(spawned);
    this.#own().set(id, forwards ? [...child, 1] : child);
  }

  /** The machine is done with that child; whether there was one. */
  unlink(id: string): boolean {
    const child = this.linked.get(id);
    if (child === undefined) return false;
    this.#own().delete(id);
    this.#takeBack(id, child);
    const isKnown = this.before.has(id);
    if (isKnown && !this.outgoing.some((item) => item.kind === "unlink" && item.id === id)) {
      this.outgoing.push({ kind: "unlink", id });
    }
    return true;
  }

  /** That child is done, or was never made: who asked for it knows. */
  forget(id: string): void {
    if (this.linked.has(id)) this.#own().delete(id);
  }

  /** As xstate does not start a service that the same step stops, a child of this very step is not made. */
  #takeBack(id: string, child: Child): void {
    const { outgoing } = this;
    const at = outgoing.findLastIndex((item) => item.kind === "spawn" && item.id === id);
    if (at < 0) return;
    outgoing.splice(at, 1);
    for (let i = outgoing.length - 1; i >= at; i--) {
      const item = outgoing[i]!;
      if (item.kind === "send" && item.to !== null && isSame(child, item.to)) outgoing.splice(i, 1);
    }
  }

  #own(): Map<string, Child> {
    return this.#now ??= new Map(this.before);
  }
}
