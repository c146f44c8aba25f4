// The ephemeral services of one XState 4 instance: a real interpreter that runs children and nothing else. Its `send`
// is the gate: what children send to the machine is announced, never processed. Its timers are those for children;
// the machine's own are durable and never get here.

import { Interpreter as Interpreter4, spawn, spawnBehavior } from "xstate4/es/index.js";
import { registry } from "xstate4/es/registry.js";
import { consume, provide } from "xstate4/es/serviceScope.js";
import { isSource, type SpawnEphemeral } from "./instances.ts";
import { report } from "./xstate4_report.ts";
import {
  type Action,
  type Actor,
  type Envelope,
  envelope,
  ERROR_PLATFORM,
  type Event,
  type Interpreter,
  isEnvelope,
  isObject,
  type Machine,
  RUNNING,
  type SpawnOptions,
  UPDATE,
} from "./xstate4_shape.ts";

/** `service` null: nobody that is known by an id. */
export type Sent = (event: Envelope, service: string | null, ends: boolean) => void;
/** Run a service's code so that all that it says, then and later, is known to be its own. */
export type Within = <T>(service: string, run: () => T) => T;
export type Spawn = (entity: unknown, name: string, options: SpawnOptions | undefined) => Actor;

type Timer = ReturnType<typeof setTimeout>;

const TIMEOUT_MAX = 2 ** 31 - 1;
/** Says that a service is over without an event of its own; selects nothing. */
export const OVER = "statebacked.over";

const create = (machine: Machine, options: Record<string, unknown>): Interpreter =>
  new (Interpreter4 as unknown as new (machine: Machine, options: Record<string, unknown>) => Interpreter)(
    machine,
    {
      deferEvents: true,
      devTools: false,
      clock: {
        setTimeout: (run: () => void, ms: number) => setTimeout(run, Math.min(ms, TIMEOUT_MAX)),
        clearTimeout: (handle: number) => clearTimeout(handle),
      },
      logger: (...values: unknown[]) => console.log(...values), // looked up late: the console is replaced at boot
      ...options,
    },
  );

const spawnNow = (Interpreter4.prototype as unknown as Interpreter).spawn;
const actors = registry as unknown as {
  register(id: string, actor: Actor): string;
  get(id: string): Actor | undefined;
  free(id: string): void;
};

/** `spawn` of the linked XState, also for machines of another copy of it. */
export const spawnEphemeral: SpawnEphemeral = (entity, options) => {
  if (consume((service) => service) === undefined) {
    throw new Error("an actor can be spawned only in an assign of a machine");
  }
  return spawn(entity as never, options as never);
};

export class Services {
  readonly root: Interpreter;
  /** Takes what `spawn` inside an assign asks for while a step is computed; null while it is performed. */
  #deferring: Spawn | null = null;
  #starting: string | null = null;
  #endedAtStart = false;
  /** Services that the step which starts them stops again: they are not heard. */
  readonly #passing = new Set<string>();
  readonly #timers = new Set<Timer>();
  readonly #newestTimer = new Map<string, Timer>();

  constructor(machine: Machine, private readonly sent: Sent, private readonly within: Within) {
    const root = this.root = create(machine, { execute: false });
    root.send = (event: unknown, payload?: Record<string, unknown>) => this.#receive(event, payload);
    root.spawn = (entity, name, options) =>
      this.#deferring ? this.#deferring(entity, name, options) : this.#spawnNow(entity, name, options);
    root.spawnMachine = (child, options) => this.#spawnMachine(child, options ?? {});
    root.spawnBehavior = (behavior, id) => this.#spawnBehavior(behavior, id);
    root.defer = (action) => this.#defer(action);
    root.cancel = (sendId) => this.#cancel(sendId);
    root.initialized = true;
    root.status = RUNNING;
    actors.register(root.sessionId, root); // `respond` in a child finds it by its session id
  }

  get size(): number {
    return this.root.children.size;
  }

  get hasTimers(): boolean {
    return this.#timers.size > 0;
  }

  get forwards(): boolean {
    return this.root.forwardTo.size > 0;
  }

  has(id: string): boolean {
    return this.root.children.has(id);
  }

  /** Run machine code with this instance as the one that `spawn` belongs to, collecting instead of spawning. */
  compute<T>(spawning: Spawn, run: () => T): T {
    let outcome: { result: T } | { error: unknown } | undefined;
    this.#deferring = spawning;
    // `provide` does not restore its stack on a throw, so nothing may be thrown through it.
    provide(this.root as never, () => {
      try {
        outcome = { result: run() };
      } catch (error) {
        outcome = { error };
      }
    });
    this.#deferring = null;
    if (!outcome || "error" in outcome) throw outcome?.error;
    return outcome.result;
  }

  /** Start one service: what goes wrong, or is over at once, is announced as its end. */
  start(id: string, isPassing: boolean, run: () => unknown): void {
    if (isPassing) this.#passing.add(id);
    else this.#passing.delete(id);
    this.stop(id); // xstate would leave the older one of the same id running, out of anybody's reach
    this.#starting = id;
    this.#endedAtStart = false;
    try {
      this.within(id, run);
      this.#enclose(id);
      if (!isAlive(this.root.children.get(id)) && !this.#endedAtStart) {
        this.#end(envelope({ type: OVER }), id);
      }
    } catch (error) {
      if (!this.#endedAtStart) this.#end(envelope({ type: `${ERROR_PLATFORM}.${id}`, data: error }), id);
    } finally {
      this.#starting = null;
    }
    if (this.#endedAtStart) this.stop(id);
  }

  stop(id: string): void {
    const child = this.root.children.get(id);
    if (!child) return;
    this.root.removeChild(id);
    report.guard(`stopping service "${id}"`, () => child.stop?.());
  }

  stopAll(): void {
    for (const id of [...this.root.children.keys()]) this.stop(id);
    this.root.forwardTo.clear();
    for (const handle of this.#timers) clearTimeout(handle);
    this.#timers.clear();
    this.#newestTimer.clear();
  }

  dispose(): void {
    this.stopAll();
    this.root._outgoingQueue.length = 0;
    actors.free(this.root.sessionId);
  }

  forward(event: Envelope): void {
    for (const id of [...this.root.forwardTo]) {
      report.guard(`forwarding to service "${id}"`, () => this.root.children.get(id)?.send(event));
    }
  }

  /** Deliver what actions sent to children: with predictableActionArguments xstate does so after the last action. */
  flush(): void {
    for (let next = this.root._outgoingQueue.shift(); next; next = this.root._outgoingQueue.shift()) {
      const [target, event] = next;
      report.guard("sending to a service", () => target.send(event));
    }
    this.attach();
  }

  /** A state knows its children. */
  attach(): void {
    const state = this.root._state;
    if (state) this.root.children.forEach((child) => (state.children[child.id] = child));
  }

  #receive(event: unknown, payload: Record<string, unknown> | undefined, from?: string): void {
    if (Array.isArray(event)) {
      for (const each of event) this.#receive(each, undefined, from);
      return;
    }
    const heard = isEnvelope(event) ? event : envelope(asEvent(event, payload));
    const service = from ?? this.#senderOf(heard);
    if (service !== null && this.#passing.has(service)) return;
    const { type } = heard.data;
    if (service !== null && (type === `done.invoke.${service}` || type === `${ERROR_PLATFORM}.${service}`)) {
      this.#end(heard, service);
    } else {
      this.sent(heard, service, false);
    }
  }

  #end(event: Envelope, service: string): void {
    if (this.#starting === service) this.#endedAtStart = true;
    else this.stop(service); // an actor that says so itself may go on else
    this.sent(event, service, true);
  }

  #senderOf(event: Envelope): string | null {
    const { origin, name, data } = event;
    if (origin === undefined) {
      return name === UPDATE && typeof data.id === "string" ? data.id : this.#starting;
    }
    if (this.root.children.has(origin)) return origin;
    for (let actor = actors.get(origin); actor; actor = actor.parent as Actor | undefined) {
      if (this.root.children.get(actor.id) === actor) return actor.id;
    }
    return origin; // a promise or an observable that is over: it left the children before it said so
  }

  #enclose(id: string): void {
    const child = this.root.children.get(id);
    if (!child) return;
    const { send, stop } = child;
    child.send = (event) => this.within(id, () => send.call(child, event));
    if (stop) child.stop = () => this.within(id, () => stop.call(child));
  }

  #spawnNow(entity: unknown, name: string, options: SpawnOptions | undefined): Actor {
    return spawnNow.call(this.root, entity, name, options);
  }

  #gateOf(id: string): Interpreter {
    const send = (event: unknown, payload?: Record<string, unknown>) => this.#receive(event, payload, id);
    return Object.create(this.root, { send: { value: send } });
  }

  #spawnMachine(machine: Machine, options: SpawnOptions): Actor {
    const id = options.id ?? machine.id;
    tellUnmade(machine);
    const parent = this.#gateOf(id);
    const child = create(machine, { execute: true, parent, id });
    if (options.sync) child.onTransition((state) => parent.send({ type: UPDATE, state, id }));
    this.root.children.set(id, child);
    if (options.autoForward) this.root.forwardTo.add(id);
    child.onDone((event) => {
      this.root.removeChild(id);
      parent.send(envelope(event, id));
    }).start();
    return child;
  }

  #spawnBehavior(behavior: unknown, id: string): Actor {
    const actor =
      (spawnBehavior as unknown as (behavior: unknown, options: { id: string; parent: Actor }) => Actor)(
        behavior,
        { id, parent: this.#gateOf(id) },
      );
    this.root.children.set(id, actor);
    return actor;
  }

  /** A delayed send to a child lives as long as the child: no row, a timer of this process. */
  #defer(action: Action): void {
    const handle = setTimeout(() => {
      this.#timers.delete(handle);
      const event = action._event;
      if (event) report.guard("a delayed send", () => this.root.sendTo(event, action.to, true));
    }, Math.min(Number(action.delay), TIMEOUT_MAX));
    this.#timers.add(handle);
    if (action.id) this.#newestTimer.set(String(action.id), handle);
  }

  #cancel(sendId: unknown): void {
    const handle = this.#newestTimer.get(String(sendId));
    if (handle === undefined) return;
    clearTimeout(handle);
    this.#timers.delete(handle);
    this.#newestTimer.delete(String(sendId));
  }
}

/** Only the instance's own machine has persistent children; in another xstate passes over them in silence. */
function tellUnmade(machine: Machine): void {
  for (const { invoke } of [machine, ...Object.values(machine.idMap)]) {
    for (const { id, src } of invoke) {
      if (isSource(src)) {
        report.once(`"${id}" is not made: only the instance's own machine can have persistent children`);
      }
    }
  }
}

/** Is there anything to wait for? An activity that gave no way to stop it is over when it is started. */
const isAlive = (actor: Actor | undefined): boolean =>
  actor !== undefined && !("stop" in actor && actor.stop === undefined);

const asEvent = (event: unknown, payload: Record<string, unknown> | undefined): Event => {
  if (typeof event === "string" || typeof event === "number") return { type: String(event), ...payload };
  if (isObject(event) && typeof event.type === "string") return event as Event;
  throw new TypeError(
    "a service sent something that is not an event: an event is a string or an object with a string `type`",
  );
};
