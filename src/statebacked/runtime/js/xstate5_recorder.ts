// Keeps what a macrostep of XState 5 wants done, without doing it. XState 5 itself performs in two passes:
// custom actions while it computes, and afterwards, in order, what its built-in actions deferred (starts, stops,
// sends to children). Here both wait for the commit, in the same order.

import type { Computed } from "./adapter.ts";
import { Family, type Linked } from "./family.ts";
import {
  addressOf,
  idOf,
  isSame,
  isSource,
  newName,
  type Reference,
  type Spawned,
  spawned,
  type SpawnOptions,
  type Target,
} from "./instances.ts";
import { createReference, isReference, PARENT, standFor } from "./xstate5_reference.ts";
import { type Actor5, type Recorded5, type Scope5, type Snapshot5, STOPPED } from "./xstate5_types.ts";

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

/** What is for other instances, until it is known how the step ends. */
type Other =
  | { readonly kind: "send"; readonly to: Target; readonly event: unknown }
  | { readonly kind: "spawn"; readonly child: Spawned; readonly actor: Actor5 }
  | { readonly kind: "unlink"; readonly actor: Actor5 & Reference };

/** A send of an entry action to a child that the same state invokes: what that is comes to light after it. */
interface Early {
  readonly to: string;
  readonly params: SendParams;
  readonly deferred: Deferred | undefined;
}

export class Recorder {
  actions: Recorded5[] = [];
  deferred: Deferred[] = [];
  timers: Timers = [];
  sends: unknown[] = [];
  /** Children by the actions that spawn and stop them: one without an id shadows another in the snapshot. */
  spawned: Actor5[] = [];
  stopped = new Set<Actor5>();
  others: Other[] = [];
  /** Persistent children that XState does not know of, since the runtime global made them. */
  strays: Actor5[] = [];
  #early: Early[] = [];
  /** The next that XState defers is the start of a persistent child, which has none. */
  #isStartNext = false;
  /** System ids given up while computing, to be given back if the step is refused. */
  #released: [systemId: string, actor: Actor5][] = [];
  /** Send ids of delayed sends to children: those are ephemeral and stay native. */
  #native = new Set<string>();
  #self: Actor5 | null = null;

  /** Take over an actor's scope, before any user code runs in it. */
  install(scope: Scope5): void {
    const { self } = scope;
    this.#self = self;
    self._parent = PARENT;
    scope.defer = (run) => {
      if (this.#isStartNext) this.#isStartNext = false;
      else this.deferred.push({ run, after: this.sends.length });
    };
    scope.actionExecutor = (action) => this.#record(action, self);
    const { system } = self;
    const inspect = system._sendInspectionEvent;
    system._sendInspectionEvent = (event) => {
      if (event.type === "@xstate.actor") this.#constructed(event.actorRef, self);
      inspect(event);
    };
  }

  begin(): void {
    this.actions = [];
    this.deferred = [];
    this.timers = [];
    this.sends = [];
    this.spawned = [];
    this.stopped = new Set();
    this.others = [];
    this.strays = [];
    this.#early = [];
    this.#isStartNext = false;
    this.#released = [];
  }

  get isEmpty(): boolean {
    const { actions, deferred, timers, sends, others } = this;
    return actions.length + deferred.length + timers.length + sends.length + others.length === 0;
  }

  /** A persistent child that is over has no system id any more, like any actor. */
  free(actor: Actor5 | undefined): void {
    if (actor === undefined) return;
    this.#release(actor);
    actor.system._unregister(actor);
  }

  /** `spawn` of the runtime global, with the descriptor of a persistent instance. */
  spawnInstance(descriptor: Readonly<Record<string, unknown>>, options: SpawnOptions): Reference {
    const child = spawned(idOf(options), descriptor, options.context);
    const actor = createReference(this.#self!, child.id, child.child);
    this.others.push({ kind: "spawn", child, actor });
    this.strays.push(actor);
    return actor;
  }

  /** What the step does about other instances, and the persistent children after it. `ended`: one that is over. */
  family(linked: Linked, next: Snapshot5, ended: string | null): Family {
    const family = new Family(linked);
    if (ended !== null) family.forget(ended);
    // Of a machine that is done XState stops every child, last of all, and leaves it in its place.
    const left = next.status === "done" ? Object.values(next.children) : [];
    for (const other of this.others) {
      if (other.kind === "send") family.send(other.to, other.event);
      else if (other.kind === "spawn") family.spawn(other.child);
      else if (!left.includes(other.actor)) {
        const { actor } = other;
        if (isSame(family.linked.get(actor.id), addressOf(actor)!)) family.unlink(actor.id);
      }
    }
    return family;
  }

  /** The step is refused: forget it, and undo what computing had to do at once. */
  rollBack(): void {
    const system = this.#self?.system;
    if (system !== undefined) {
      for (const actor of Object.values(system.getAll())) {
        if (actor._processingStatus === 0) system._unregister(actor);
      }
      for (const other of this.others) if (other.kind === "spawn") system._unregister(other.actor);
      for (const [systemId, actor] of this.#released) {
        if (actor._processingStatus !== STOPPED || isReference(actor)) system._set(systemId, actor);
      }
    }
    this.begin();
  }

  /** An actor comes into being. One whose logic asks for a persistent child never starts, and becomes a reference. */
  #constructed(actor: Actor5, self: Actor5): void {
    const isOwn = actor._parent === self;
    if (!isSource(actor.logic)) {
      if (isOwn && this.#early.length > 0) this.#early = this.#early.filter(({ to }) => to !== actor.id);
      return;
    }
    if (!isOwn) {
      console.error(
        `"${actor.id}" was not made: only the instance's own machine can have persistent children`,
      );
      return;
    }
    const { id, input } = actor.options;
    if (id === undefined) actor.id = newName(); // else it is a number that is given again after a restart
    const child = spawned(actor.id, actor.logic, input);
    standFor(actor, child.child);
    this.others.push({ kind: "spawn", child, actor });
    this.#isStartNext = true;
    for (const { to, params, deferred } of this.#early) {
      if (to !== actor.id) continue;
      this.deferred = this.deferred.filter((entry) => entry !== deferred);
      this.#native.delete(String(params.id));
      this.#sendOut(params, child.child);
    }
    this.#early = this.#early.filter(({ to }) => to !== actor.id);
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
    const other = isOwn ? undefined : targetOf(params.to);
    if (other !== undefined) {
      this.#sendOut(params, other);
      return;
    }
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
    if (isOver(params.to)) this.deferred.push({ run: () => tellOver(params), after: this.sends.length });
    defer(action);
    if (typeof params.to === "string") {
      this.#early.push({ to: params.to, params, deferred: this.deferred.at(-1) });
    }
  }

  /** To another instance: data, like what the machine sends itself. */
  #sendOut(params: SendParams, to: Target): void {
    if ((params.event as { type?: unknown } | undefined)?.type === ESCALATION) {
      this.deferred.push({ run: tellEscalation, after: this.sends.length });
    } else if (typeof params.delay === "number") this.#setTimer(params, params.delay, to);
    else this.others.push({ kind: "send", to, event: params.event });
  }

  #setTimer(params: SendParams, delay: number, to?: Target): void {
    const id = params.id === undefined ? UNNAMED : String(params.id);
    this.#native.delete(id);
    const own = ["set", id, delayMs(delay), params.event] as const;
    this.timers.push(to === undefined ? [...own] : [...own, to]);
  }

  #cancel(action: Recorded5, sendId: unknown): void {
    const id = String(sendId);
    if (this.#native.delete(id)) {
      this.#early = this.#early.filter(({ params }) => String(params.id) !== id);
      defer(action);
    } else this.timers.push(["cancel", id]);
  }

  #spawn(action: Recorded5, actor: Actor5 | undefined): void {
    if (actor === undefined) return;
    if (isReference(actor)) {
      this.#isStartNext = false;
      return;
    }
    this.spawned.push(actor);
    defer(action);
  }

  #stop(action: Recorded5, actor: Actor5 | undefined): void {
    if (actor === undefined) return;
    if (isReference(actor)) this.others.push({ kind: "unlink", actor });
    else this.stopped.add(actor);
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

/** The other instance that an event is for; undefined: none, it is for an actor of this process. */
function targetOf(to: unknown): Target | undefined {
  return to === PARENT ? null : addressOf(to) ?? undefined;
}

const isOver = (to: unknown): to is Actor5 =>
  typeof to === "object" && to !== null && (to as Actor5)._processingStatus === STOPPED;

function tellOver({ to, event }: SendParams): void {
  const { type } = event as { type?: unknown };
  console.error(
    `${String(type)} was sent to ${
      (to as Actor5).id
    }, which is over (a child lives while an event is processed)`,
  );
}

/** What XState turns into the error event of the sender, for its parent. */
const ESCALATION = "xstate.error";
const tellEscalation = (): void =>
  console.error("an escalated error reaches no persistent parent: send it an event of your own");

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

/** What the host takes for a delay. */
export function delayMs(delay: number): number {
  if (!(delay > 0)) return 0; // also what is not a number
  return Math.min(Math.trunc(delay), DELAY_MS_MAX);
}
