// A host in miniature around one adapter instance: compute, commit (a turn of the event loop), perform, deliver what
// was sent. It keeps only what a store would keep, and puts the state back from that after every settled event.

import type { Adapter, Computed, Instance, Outlet } from "js/adapter.ts";
import type { Address, Target } from "js/instances.ts";
import { fromText, jsonText } from "js/json.ts";
import { clock, turn } from "./clock.ts";
import { type Action, asJson, asKept, inOrder, type Script, shown, type Side, type View } from "./run.ts";
import { noted, takeNotes } from "./trace.ts";

interface Item {
  event: unknown;
  /** Sent by a step or while it was performed: goes before all that arrives, also from services. */
  isOwn: boolean;
  service: string | null;
  run: number;
  ends: boolean;
  /** Another instance that sent it. */
  sender?: Address;
}

interface Durable {
  snapshot: string;
  context: string;
  value: unknown;
  tags: string[];
  done: boolean;
}

interface Row {
  sendId: string;
  handle: number;
}

export interface HostOptions {
  /** Drop the live instance whenever no service runs. */
  drops: boolean;
  /** Who delivers to other instances. */
  relay?: Relay;
}

export interface Relay {
  committed(from: Host, computed: Computed, seq: number): void;
  send(from: Host, to: Target, event: unknown): void;
}

export class Host implements Side {
  /** Everything that contradicts what the adapter said; must stay empty. */
  readonly faults: string[] = [];
  /** Each state as it was stored. */
  readonly stored: string[] = [];
  drops = 0;
  refusals = 0;
  #instance: Instance;
  #durable: Durable | null = null;
  #seq = 0;
  #mailbox: Item[] = [];
  #timers: Row[] = [];
  /** As the core knows them, from the commit on. */
  readonly #services = new Map<string, number>();
  /** As the worker knows them, from performing on: what arrives in between is of the run before. */
  readonly #runs = new Map<string, number>();
  /** What is sent synchronously while a step is performed, by how many of the step's own sends were before. */
  #performed: { item: Item; after: number }[] | null = null;
  #after = 0;
  #isBusy = false;

  constructor(
    private readonly adapter: Adapter,
    private readonly machine: unknown,
    private readonly script: Script,
    private readonly options: HostOptions,
  ) {
    const reason = adapter.check(machine);
    if (reason !== null) throw new Error(reason);
    this.#instance = this.#instantiate();
  }

  async start(): Promise<void> {
    await this.#step(() => this.#instance.initialize(this.script.context));
    await this.#drain();
    await this.#quiet();
  }

  async act(action: Action): Promise<void> {
    if ("send" in action) {
      this.#arrive(outside(asJson(action.send)));
      await this.#quiet();
    } else {
      await clock.advance(action.advance, () => this.#quiet());
    }
  }

  /** An event of another instance. */
  message(event: unknown, sender: Address): void {
    this.#arrive({ ...outside(asJson(event)), sender });
  }

  /** A persistent child is done. */
  childDone(id: string, output: unknown): void {
    this.#arrive(outside(this.#instance.childDone(id, output)));
  }

  get isBusy(): boolean {
    return this.#isBusy;
  }

  settle(): Promise<void> {
    return this.#quiet();
  }

  view(): View {
    const { value, context, tags, done } = this.#durable!;
    return {
      value: inOrder(value),
      context: inOrder(shown(fromText(context))),
      tags: [...tags].sort(),
      done,
      notes: takeNotes(),
    };
  }

  stop(): void {
    this.#mailbox = [];
    this.#instance.dispose();
  }

  #instantiate(): Instance {
    const outlet: Outlet = { sent: (event, service, ends) => this.#sent(event, service, ends) };
    return this.adapter.instantiate(this.machine, "fidelity", outlet);
  }

  async #quiet(): Promise<void> {
    do await turn(); while (this.#isBusy);
    const alive = this.#instance.hasServices();
    if (alive !== this.#services.size > 0) {
      this.faults.push(`services: adapter ${alive}, host ${[...this.#services.keys()]}`);
    }
    if (!alive) this.#settle();
  }

  /** What the worker does at rest: either keeps the state with its context made canonical, or loses it. */
  #settle(): void {
    this.#runs.clear();
    const { snapshot, context } = this.#durable!;
    if (this.options.drops) {
      this.drops += 1;
      this.#instance.dispose();
      this.#instance = this.#instantiate();
      this.#instance.restore(fromText(snapshot), fromText(context));
    } else {
      this.#instance.canonicalise(fromText(context));
    }
  }

  #sent(event: unknown, service: string | null, ends: boolean): void {
    const run = service === null ? 0 : this.#runs.get(service);
    if (run === undefined) this.faults.push(`an event of service ${service}, which does not run`);
    const item = { event, isOwn: this.#performed !== null, service, ends, run: run ?? -1 };
    if (this.#performed) this.#performed.push({ item, after: this.#after });
    else if (service === null) this.faults.push("an event of nobody, outside of performing");
    else this.#arrive(item);
  }

  #arrive(item: Item): void {
    this.#mailbox.push(item);
    void this.#drain();
  }

  async #drain(): Promise<void> {
    if (this.#isBusy) return;
    this.#isBusy = true;
    for (let item = this.#mailbox.shift(); item; item = this.#mailbox.shift()) await this.#deliver(item);
    this.#isBusy = false;
  }

  async #deliver({ event, service, run, ends, sender }: Item): Promise<void> {
    if (service !== null && this.#services.get(service) !== run) return; // stopped, or started again
    if (service !== null && ends) this.#services.delete(service);
    await this.#step(() => this.#instance.transition(event, sender));
  }

  async #step(compute: () => Computed): Promise<void> {
    const before = noted();
    let computed: Computed;
    try {
      computed = compute();
    } catch {
      this.#refuse();
      return;
    }
    if (noted() !== before) this.faults.push("something was performed before the commit");
    if (!computed.changed) return;
    const sends = computed.sends.map((event) => ({ ...outside(asKept(event)), isOwn: true }));
    this.#commit(computed);
    await turn();
    if (noted() !== before && computed.hasEffects && this.#services.size === 0) {
      this.faults.push("something was performed before it was confirmed");
    }
    for (const id of computed.stops) this.#runs.delete(id);
    for (const id of computed.starts) this.#runs.set(id, this.#seq);
    this.#instance.confirm();
    this.#putFirst(computed.hasEffects ? this.#perform(sends) : sends);
  }

  /** Behind what the machine had sent itself before: xstate has all of it in one queue, and takes nothing else until it is empty. */
  #putFirst(sent: Item[]): void {
    const waiting = this.#mailbox.findIndex((item) => !item.isOwn);
    this.#mailbox.splice(waiting < 0 ? this.#mailbox.length : waiting, 0, ...sent);
  }

  #commit(computed: Computed): void {
    this.#seq += 1;
    const { value, tags, done, snapshot, context } = computed;
    this.#durable = {
      snapshot: jsonText(snapshot),
      context: jsonText(context),
      value: asJson(value),
      tags,
      done,
    };
    this.stored.push(JSON.stringify([snapshot, JSON.parse(jsonText(context))], nodesInOrder));
    for (const id of computed.stops) {
      if (!this.#services.delete(id)) this.faults.push(`service ${id} stops and does not run`);
    }
    for (const id of computed.starts) this.#services.set(id, this.#seq);
    for (const operation of computed.timers) {
      if (operation[0] === "set") {
        this.#setTimer(operation[1], operation[2], asKept(operation[3]), operation[4]);
      } else this.#cancelTimer(operation[1]);
    }
    this.options.relay?.committed(this, computed, this.#seq);
    if (done) { for (const { handle } of this.#timers.splice(0)) clock.clearTimeout(handle); }
  }

  #perform(sends: Item[]): Item[] {
    const performed = this.#performed = [];
    this.#after = 0;
    this.#instance.perform((after) => (this.#after = after));
    this.#performed = null;
    return merge(sends, performed);
  }

  /** A refusal changes nothing. */
  #refuse(): void {
    this.refusals += 1;
    const durable = this.#durable;
    if (durable) this.#instance.revert?.(fromText(durable.snapshot), fromText(durable.context));
  }

  #setTimer(sendId: string, ms: number, event: unknown, to?: Target): void {
    const handle = clock.setLong(() => {
      this.#timers = this.#timers.filter((row) => row.handle !== handle);
      if (to === undefined) this.#arrive(outside(event));
      else this.options.relay?.send(this, to, event);
    }, ms);
    this.#timers.push({ sendId, handle });
  }

  /** The newest of its send id. */
  #cancelTimer(sendId: string): void {
    const index = this.#timers.findLastIndex((row) => row.sendId === sendId);
    if (index < 0) return;
    clock.clearTimeout(this.#timers[index].handle);
    this.#timers.splice(index, 1);
  }
}

/** XState 5 keeps the nodes of a history state in the order in which they were left, which means nothing. */
const nodesInOrder = (_: string, part: unknown): unknown =>
  Array.isArray(part) && part.every((node) => typeof node?.id === "string")
    ? part.toSorted((a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1))
    : part;

const outside = (event: unknown): Item => ({ event, isOwn: false, service: null, run: 0, ends: false });

const merge = (sends: Item[], performed: { item: Item; after: number }[]): Item[] => {
  const merged: Item[] = [];
  let position = 0;
  for (const { item, after } of performed) {
    while (position < after) merged.push(sends[position++]);
    merged.push(item);
  }
  return [...merged, ...sends.slice(position)];
};
