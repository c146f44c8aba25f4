// XState 5: the adapter under test, and plain xstate to compare it with.

import { clock, turn } from "./clock.ts";
import { createActor } from "xstate";
import { createAdapter } from "js/xstate5.ts";
import { type Action, asJson, inOrder, type Json, type Plain, type Script, shown, type View } from "./run.ts";
import { takeNotes, tick } from "./trace.ts";

export const adapter = createAdapter({ microstepsMax: 1_000 });
export const major = 5;

interface Snapshot {
  value: unknown;
  context: unknown;
  tags: Set<string>;
  status: string;
  children: Record<string, Child>;
  _nodes: unknown[];
  machine: Machine & { resolveState(state: unknown): Snapshot };
}

interface Child {
  _processingStatus: number;
  _stop(): void;
}

interface Source {
  sessionId: string;
}

interface Scheduler {
  schedule(source: Source, target: object, event: object, delay: number, id?: string): void;
  cancel(source: Source, id: string): void;
}

interface Actor {
  system: {
    _relay: (source: object | undefined, target: unknown, event: object) => void;
    _snapshot: { _scheduledEvents: object };
    scheduler: Scheduler;
  };
  start(): void;
  stop(): void;
  send(event: unknown): void;
  getSnapshot(): Snapshot;
  subscribe(observer: { next(): void; error(thrown: unknown): void }): void;
}

interface Machine {
  config: { context: object };
  implementations: object;
  transition(snapshot: Snapshot, event: object, scope: unknown): Snapshot;
  getTransitionData(snapshot: Snapshot, event: object): unknown[];
  constructor: new (config: object, implementations: object) => unknown;
}

const isRunning = (actor: { _processingStatus: number }): boolean => actor._processingStatus === 1;

export class PlainSide implements Plain {
  over: string | null = null;
  beforeTimer = (): void => {};
  readonly #actor: Actor;
  readonly #origins = new WeakMap<object, object>();
  #children: Snapshot["children"] = {};
  /** In the order of their start. */
  readonly #services = new Map<Child, string>();
  #isScheduling = false;

  constructor(machine: unknown, script: Script) {
    const { config, implementations, constructor: Machine } = machine as Machine;
    const isMerged = script.context && typeof config.context !== "function";
    const context = { ...config.context, ...script.context };
    const own = isMerged ? new Machine({ ...config, context }, implementations) : machine;
    const options = {
      clock: this.#clock(),
      input: script.context,
      logger: (...said: unknown[]) => console.log(...said),
    };
    this.#actor = createActor(
      heedless(own as Machine, this.#origins) as never,
      options as never,
    ) as unknown as Actor;
    const relay = this.#actor.system._relay;
    this.#actor.system._relay = (source, target, event) => {
      const copy = { ...event }; // senders share constants, origins differ
      if (target === this.#actor && source && source !== this.#actor) this.#origins.set(copy, source);
      relay(source, target, copy);
    };
    cancelNewest(this.#actor.system);
    this.#markOwnTimers(this.#actor.system.scheduler);
    this.#actor.subscribe({
      next: () => {
        try {
          tick();
          if (!this.#isCoherent()) throw new Error("incoherent");
          if (this.#hasLeft()) throw new Error("a service was started twice");
        } catch (error) {
          // Whoever runs in circles may never let the event loop turn: it is stopped from inside.
          this.over = (error as Error).message;
          this.#actor.stop();
        }
      },
      error: () => (this.over ??= "failed"),
    });
  }

  async start(): Promise<void> {
    this.#actor.start();
    await this.#rest();
  }

  async act(action: Action): Promise<void> {
    if ("send" in action) this.#actor.send(asJson(action.send));
    else await clock.advance(action.advance, turn);
    await this.#rest();
  }

  view(): View {
    const { value, context, tags, status } = this.#actor.getSnapshot();
    return {
      value: inOrder(value),
      context: this.#counted(inOrder(shown(context))),
      tags: [...tags].sort(),
      done: status === "done",
      notes: takeNotes(),
    };
  }

  /** XState counts the ids that it makes up for the whole process, the adapter for each instance. */
  #counted(context: Json): Json {
    const base = Number((this.#actor as unknown as Source).sessionId.slice("x:".length));
    const text = JSON.stringify(context);
    return JSON.parse(text.replace(/"x:(\d+)"/g, (_, id: string) => `"x:${Number(id) - base}"`)) as Json;
  }

  /** Of a child that runs. */
  viewOf(id: string): { value: Json; context: Json } | null {
    const child = this.#actor.getSnapshot().children[id] as unknown as Actor | undefined;
    if (child === undefined) return null;
    const { value, context } = child.getSnapshot();
    return { value: inOrder(value), context: inOrder(shown(context)) };
  }

  running(): string[] {
    const { children } = this.#actor.getSnapshot();
    for (const [id, child] of Object.entries(children)) this.#services.set(child, id);
    for (const child of this.#services.keys()) if (!isRunning(child)) this.#services.delete(child);
    return [...this.#services.values()];
  }

  lose(id: string): void {
    this.#actor.getSnapshot().children[id]._stop();
  }

  fail(id: string, error: Error): void {
    const event = { type: `xstate.error.actor.${id}`, error, actorId: id };
    const snapshot = this.#actor.getSnapshot();
    if (snapshot.machine.getTransitionData(snapshot, event).length > 0) this.#actor.send(event);
  }

  stop(): void {
    this.#actor.stop();
  }

  /** Timers of the machine itself are told before they fire. */
  #clock(): typeof clock {
    const setTimeout = (run: () => void, ms?: number) => {
      const isOwn = this.#isScheduling;
      return clock.setTimeout(() => {
        if (isOwn) this.beforeTimer();
        run();
      }, ms);
    };
    return { ...clock, setTimeout };
  }

  #markOwnTimers(scheduler: Scheduler): void {
    const { schedule } = scheduler;
    scheduler.schedule = (source, target, ...rest) => {
      this.#isScheduling = target === this.#actor;
      schedule(source, target, ...rest);
      this.#isScheduling = false;
    };
  }

  /** Like xstate 4, 5 can come to a configuration that its own value does not have. */
  #isCoherent(): boolean {
    const { value, context, status, _nodes, machine } = this.#actor.getSnapshot();
    return status !== "active" || machine.resolveState({ value, context })._nodes.length === _nodes.length;
  }

  /** A state that is entered again without being left leaves its old service behind; here the new one replaces it. */
  #hasLeft(): boolean {
    const { children } = this.#actor.getSnapshot();
    const before = this.#children;
    this.#children = children;
    return Object.keys(children).some((id) =>
      before[id] && before[id] !== children[id] && isRunning(before[id])
    );
  }

  async #rest(): Promise<void> {
    await turn();
    if (this.#actor.getSnapshot().status === "error") this.over ??= "failed";
  }
}

/** Here, unlike in plain xstate, a cancel takes the newest timer of its id that has not fired, another the next. */
function cancelNewest({ scheduler, _snapshot }: Actor["system"]): void {
  const { schedule, cancel } = scheduler;
  const set = new Map<string, string[]>();
  let count = 0;
  const named = (source: Source, id: string) => `${source.sessionId}.${id}`;
  scheduler.schedule = (source, target, event, delay, id = "") => {
    const unique = `${id} ${count++}`;
    const key = named(source, id);
    set.set(key, [...(set.get(key) ?? []), unique]);
    schedule(source, target, event, delay, unique);
  };
  scheduler.cancel = (source, id) => {
    const pending = (set.get(named(source, id)) ?? []).filter((unique) =>
      named(source, unique) in _snapshot._scheduledEvents
    );
    cancel(source, pending.pop() ?? id);
    set.set(named(source, id), pending);
  };
}

/** Here, unlike in plain xstate, a service is not heard any more once it was stopped, whatever it had sent before. */
function heedless(machine: Machine, origins: WeakMap<object, object>): Machine {
  const transition = (snapshot: Snapshot, event: object, scope: unknown): Snapshot => {
    const origin = origins.get(event);
    const isHeard = origin === undefined || Object.values<unknown>(snapshot.children).includes(origin);
    return isHeard ? machine.transition(snapshot, event, scope) : snapshot;
  };
  return Object.create(machine, { transition: { value: transition } }) as Machine;
}

export { dialect5 as dialect } from "./dialect5.ts";
