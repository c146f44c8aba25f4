// Keeps what a macrostep of XState 5 wants done, without doing it. XState 5 itself performs in two passes:
// custom actions while it computes, and afterwards, in order, what its built-in actions deferred (starts, stops,
// sends to children). Here both wait for the commit, in the same order.

import type { Computed } from "./adapter.ts";
import { type Actor5, type Recorded5, type Scope5, STOPPED } from "./xstate5_types.ts";

/** Later than any life of this system; a longer delay would leave the range of dates. */
const DELAY_MS_MAX = 1e14;
const UNNAMED = "statebacked.unnamed"; // a delayed send without an id cannot be cancelled

type Timers = Computed["timers"];

interface SendParams {
  readonly to?: unknown;
  readonly event: unknown;
  readonly id?: unknown;
  readonly delay?: unknown;
}

/** An effect that waits; `after` counts the machine's own sends before it. */
interface Deferred {
  readonly run: () => void;
  readonly after: number;
}

export class Recorder {
  actions: Recorded5[] = [];
  deferred: Deferred[] = [];
  timers: Timers = [];
  sends: unknown[] = [];
  /** Children by the actions that spawn and stop them: one without an id shadows another in the snapshot. */
  spawned: Actor5[] = [];
  stopped = new Set<Actor5>();
  /** System ids given up while computing, to be given back if the step is refused. */
  #released: [systemId: string, actor: Actor5][] = [];
  /** Send ids of delayed sends to children: those are ephemeral and stay native. */
  #native = new Set<string>();
  #self: Actor5 | null = null;

  /** Take over an actor's scope, before any user code runs in it. */
  install(scope: Scope5): void {
    this.#self = scope.self;
    scope.defer = (run) => {
      this.deferred.push({ run, after: this.sends.length });
    };
    scope.actionExecutor = (action) => this.#record(action, scope.self);
  }

  begin(): void {
    this.actions = [];
    this.deferred = [];
    this.timers = [];
    this.sends = [];
    this.spawned = [];
    this.stopped = new Set();
    this.#released = [];
  }

  get isEmpty(): boolean {
    return this.actions.length + this.deferred.length + this.timers.length + this.sends.length === 0;
  }

  /** The step is refused: forget it, and undo what computing had to do at once. */
  rollBack(): void {
    const system = this.#self?.system;
    if (system !== undefined) {
      for (const actor of Object.values(system.getAll())) {
        if (actor._processingStatus === 0) system._unregister(actor);
      }
      for (const [systemId, actor] of this.#released) {
        if (actor._processingStatus !== STOPPED) system._set(systemId, actor);
      }
    }
    this.begin();
  }

  #record(action: Recorded5, self: Actor5): void {
    if (action.exec === undefined) return;
    if (!isBuiltIn(action, self)) {
      this.actions.push(action);
      return;
    }
    switch (action.type) {
      case "xstate.raise":
        this.#raise(action.params as SendParams);
        break;
      case "xstate.sendTo":
        this.#send(action, action.params as SendParams, self);
        break;
      case "xstate.cancel":
        this.#cancel(action, (action.params as { sendId: unknown }).sendId);
        break;
      case "xstate.spawnChild":
        this.#spawn(action, (action.params as { actorRef?: Actor5 }).actorRef);
        break;
      case "xstate.stopChild":
        this.#stop(action, action.params as Actor5 | undefined);
        break;
      case "xstate.emit":
        if (self.eventListeners.size > 0 || this.actions.length > 0) defer(action);
        break;
    }
  }

  /** Without a delay XState has put the event into its own queue already. */
  #raise(params: SendParams): void {
    if (typeof params.delay === "number") this.#setTimer(params, params.delay);
  }

  #send(action: Recorded5, params: SendParams, self: Actor5): void {
    const isOwn = params.to === self;
    if (typeof params.delay === "number") {
      if (isOwn) {
        this.#setTimer(params, params.delay);
        return;
      }
      if (params.id !== undefined) this.#native.add(String(params.id));
    } else if (isOwn) {
      this.sends.push(params.event);
      return;
    }
    defer(action);
  }

  #setTimer(params: SendParams, delay: number): void {
    const id = params.id === undefined ? UNNAMED : String(params.id);
    this.#native.delete(id);
    this.timers.push(["set", id, delayMs(delay), params.event]);
  }

  #cancel(action: Recorded5, sendId: unknown): void {
    const id = String(sendId);
    if (this.#native.delete(id)) defer(action);
    else this.timers.push(["cancel", id]);
  }

  #spawn(action: Recorded5, actor: Actor5 | undefined): void {
    if (actor === undefined) return;
    this.spawned.push(actor);
    defer(action);
  }

  #stop(action: Recorded5, actor: Actor5 | undefined): void {
    if (actor === undefined) return;
    this.stopped.add(actor);
    this.#release(actor);
    defer(action);
  }

  /** XState frees the system ids of a stopped child at once, so that its successor may take them. */
  #release(actor: Actor5): void {
    if (actor.systemId !== undefined && actor.system.get(actor.systemId) === actor) {
      this.#released.push([actor.systemId, actor]);
    }
    for (const child of Object.values(actor.getSnapshot()?.children ?? {})) {
      if (child !== undefined) this.#release(child);
    }
  }
}

/** A built-in action's own execution defers into the scope what there is to do. */
function defer(action: Recorded5): void {
  action.exec?.(action.info, action.params);
}

const BUILT_IN = new Set([
  "xstate.raise",
  "xstate.sendTo",
  "xstate.cancel",
  "xstate.spawnChild",
  "xstate.stopChild",
  "xstate.emit",
]);

/** User code may give an action of its own any name. */
function isBuiltIn(action: Recorded5, self: Actor5): boolean {
  if (!BUILT_IN.has(action.type) || action.exec?.name === action.type) return false;
  return self._snapshot?.machine?.implementations.actions[action.type] !== action.exec;
}

function delayMs(delay: number): number {
  if (!(delay > 0)) return 0; // also what is not a number
  return Math.min(Math.trunc(delay), DELAY_MS_MAX);
}
