// XState 5 behind the adapter interface: a real root actor whose scope records instead of performing, whose
// inbox is the host's mailbox and whose own delays are the host's timers. Children are native and ephemeral.
// It leans on private fields (xstate5_types.ts), so the version is exact and tests/runtime pins the behaviour.

import { createActor } from "xstate5";
import { type Adapter, type Computed, type Instance, type Outlet, UNCHANGED } from "./adapter.ts";
import { addressIn, type Family, type Linked, NO_CHILDREN, restored } from "./family.ts";
import { computing, type SpawnEphemeral, type Spawner, tellDropped } from "./instances.ts";
import { check, initialSnapshotOf, problemOf, watch, type Watched, withContext } from "./xstate5_machine.ts";
import { arrive5, outline5 } from "./xstate5_outline.ts";
import { Recorder } from "./xstate5_recorder.ts";
import { Ids } from "./xstate5_ids.ts";
import {
  createEnded,
  createReference,
  type Ended,
  isReference,
  PARENT,
  References,
  showEnded,
} from "./xstate5_reference.ts";
import { attempt, clock, logger } from "./xstate5_outside.ts";
import { endedAfter, persist, type Persisted, revive, settleNodes } from "./xstate5_state.ts";
import {
  type Actor5,
  type Event5,
  type Machine5,
  NOT_STARTED,
  RUNNING,
  type Scope5,
  type Snapshot5,
  STOPPED,
} from "./xstate5_types.ts";

const INIT: Event5 = { type: "xstate.init" };
const STOPPED_CHILD: Ended = { status: "stopped" };

export const spawnEphemeral: SpawnEphemeral = () => {
  throw new Error("in XState 5 an ephemeral actor is spawned with the `spawn` that assign gets");
};

export function createAdapter(limits: { readonly microstepsMax: number }): Adapter {
  const watched = new WeakMap<object, Watched>();
  return {
    major: 5,
    check: (machine) => check(machine),
    problem: (machine) => problemOf(machine as Machine5),
    instantiate(machine, name, outlet) {
      const key = machine as object;
      let found = watched.get(key);
      if (found === undefined) watched.set(key, found = watch(key as Machine5, limits.microstepsMax));
      return new Instance5(found, name, outlet);
    },
    outline: (machine, snapshot, timers) => outline5(machine as Machine5, snapshot, timers),
    arrive: (machine, outline, context) => arrive5(machine as Machine5, outline, context),
  };
}

// --- one instance --------------------------------------------------------------------------------

interface Next {
  readonly snapshot: Snapshot5;
  readonly event: Event5;
  readonly starts: Map<string, Actor5>;
  readonly stops: Map<string, Actor5>;
  readonly linked: Linked;
  readonly ended: Readonly<Record<string, Ended>>;
}

class Instance5 implements Instance {
  readonly #watched: Watched;
  readonly #name: string;
  readonly #outlet: Outlet;
  readonly #recorder = new Recorder();
  readonly #services = new Map<string, Actor5>();
  /** Services that have said their end, which no step has taken yet. */
  readonly #ending = new Set<string>();
  readonly #over = new Map<string, Actor5>();
  readonly #ids = new Ids();
  #made = 1;
  #ended: Readonly<Record<string, Ended>> = {};
  readonly #references = new References();
  readonly #spawner: Spawner = (descriptor, options) => this.#recorder.spawnInstance(descriptor, options);
  #linked: Linked = NO_CHILDREN;
  #root: Actor5 | null = null;
  #next: Next | null = null;
  #confirmed: Next | null = null;
  #isDisposed = false;

  constructor(watched: Watched, name: string, outlet: Outlet) {
    this.#watched = watched;
    this.#name = name;
    this.#outlet = outlet;
  }

  current(): { value: unknown; context: unknown } | null {
    const snapshot = this.#next === null ? this.#root?._snapshot : this.#next.snapshot;
    return snapshot === undefined ? null : { value: snapshot.value, context: snapshot.context };
  }

  initialize(context: unknown): Computed {
    const machine = withContext(this.#watched.machine, context);
    const initial = initialSnapshotOf(machine);
    this.#createRoot(machine, { input: context }, {
      getInitialSnapshot: (scope: Scope5, input: unknown) => {
        this.#recorder.install(scope);
        this.#ids.install(scope);
        return this.#spawning(() => initial.call(machine, scope, input));
      },
    });
    const root = this.#root!;
    return this.#computed(root._snapshot, INIT, null);
  }

  restore(snapshot: unknown, context: unknown): void {
    const persisted = snapshot as Persisted;
    this.#linked = restored(persisted);
    this.#createRoot(this.#watched.machine, { snapshot: persisted }, {
      restoreSnapshot: (_persisted: unknown, scope: Scope5) => {
        this.#recorder.install(scope);
        this.#ids.install(scope);
        return this.#revived(persisted, scope);
      },
    });
    this.#complete(persisted, context);
  }

  transition(event: unknown): Computed {
    const root = this.#root!;
    const before = root._snapshot;
    if (before.status !== "active") return UNCHANGED;
    const { actorId } = event as { actorId?: unknown };
    if (typeof actorId === "string") this.#ending.delete(actorId);
    const over = endedAfter(event as Event5, before, this.#ended);
    const tellsEnd = over !== this.#ended;
    if (tellsEnd) this.#tellOver(over); // guards see it
    if (!this.#isExpected(event as Event5, before)) {
      if (!tellsEnd || this.#endedBy(event as Event5) !== null) return UNCHANGED;
      this.#recorder.begin();
      return { ...this.#computed(before, event as Event5, null), isUnhandled: true };
    }
    this.#recorder.begin();
    const ended = this.#endedBy(event as Event5);
    if (ended !== null) this.#recorder.free(before.children[ended]);
    this.#watched.selected = null;
    const next = this.#spawning(() =>
      this.#watched.machine.transition(before, event as Event5, root._actorScope)
    );
    const isSelected = this.#watched.selected === true || next !== before || !this.#recorder.isEmpty;
    if (isSelected || (tellsEnd && ended === null)) return this.#computed(next, event as Event5, ended);
    if (ended !== null) this.#recorder.rollBack();
    if (this.#services.size === 0) this.#ids.next = this.#made; // else their own children may have taken some
    return UNCHANGED;
  }

  stored(event: unknown): unknown {
    return revive(event, (id) => this.#resolve(id), (node) => this.#references.revived(this.#root!, node));
  }

  serviceError(id: string, error: unknown): { type: string; error: unknown; actorId: string } {
    return { type: `xstate.error.actor.${id}`, error, actorId: id };
  }

  childDone(id: string, output: unknown): { type: string; output: unknown; actorId: string } {
    return { type: `xstate.done.actor.${id}`, output, actorId: id };
  }

  confirm(): void {
    const next = this.#next;
    if (next === null) return;
    this.#next = null;
    this.#confirmed = next;
    this.#linked = next.linked;
    this.#ended = next.ended;
    this.#tellOver(next.ended);
    this.#root!._snapshot = next.snapshot;
    for (const id of next.stops.keys()) {
      this.#services.delete(id);
      this.#ending.delete(id);
    }
    for (const [id, actor] of next.starts) {
      this.#services.set(id, actor);
      this.#adopt(id, actor);
    }
  }

  perform(position: (after: number) => void): void {
    const step = this.#confirmed;
    if (step === null) return;
    this.#confirmed = null;
    const { actions, deferred } = this.#recorder;
    this.#recorder.begin();
    position(0);
    if (step.event === INIT) { for (const actor of step.starts.values()) attempt(() => actor.start()); }
    for (const action of actions) attempt(() => action.exec!(action.info, action.params));
    for (const { run, after } of deferred) {
      position(after);
      attempt(run);
    }
    for (const actor of step.stops.values()) {
      if (actor._processingStatus === RUNNING) attempt(() => actor._stop());
    }
    const root = this.#root!;
    if (root.observers.size > 0 || step.snapshot.status !== "active") root.update(root._snapshot, step.event);
  }

  revert(snapshot: unknown, context: unknown): void {
    this.#recorder.rollBack();
    this.#next = null;
    const root = this.#root!;
    const persisted = snapshot as Persisted;
    const { children } = root._snapshot;
    this.#linked = restored(persisted);
    root._snapshot = this.#revived(persisted, root._actorScope);
    this.#complete(persisted, context, children);
  }

  stop(id: string): void {
    const actor = this.#services.get(id);
    if (actor === undefined) return;
    this.#services.delete(id);
    attempt(() => actor._stop());
  }

  dispose(): void {
    this.#isDisposed = true;
    for (const id of [...this.#services.keys()]) this.stop(id);
    this.#root?.system.scheduler.cancelAll(this.#root);
  }

  canonicalise(context: unknown): void {
    const snapshot = this.#root!._snapshot;
    for (const id in snapshot.children) {
      const child = snapshot.children[id];
      if (child !== undefined && !isReference(child)) snapshot.children[id] = this.#stopped(id);
    }
    snapshot.context = this.#revivedContext(context);
  }

  hasServices(): boolean {
    return this.#services.size > 0;
  }

  // --- computing

  #createRoot(machine: Machine5, options: object, hooks: object): void {
    const logic: unknown = Object.assign(Object.create(machine) as object, hooks);
    const root = createActor(
      logic as never,
      { ...options, id: this.#name, clock, logger } as never,
    ) as unknown as Actor5;
    this.#root = root;
    if (root._snapshot.status === "error") throw root._snapshot.error;
    root._snapshot.machine = this.#watched.machine;
    root._processingStatus = RUNNING;
    root.system._register(root.sessionId, root);
    root._send = (event) => this.#receive(undefined, event);
    const relay = root.system._relay;
    root.system._relay = (source, target, event) => {
      if (target === root) this.#receive(source, event);
      else if (isReference(target)) tellDropped(event, target);
      else if (target !== PARENT) relay(source, target, event); // that a root is done, its step has told
    };
  }

  /** Compute with the runtime global spawning for this instance. */
  #spawning<T>(run: () => T): T {
    computing.spawner = this.#spawner;
    try {
      return run();
    } finally {
      computing.spawner = null;
    }
  }

  /** XState lets a machine fail when no state handles the error of a child; here such an event is an unknown one. */
  #isExpected(event: Event5, before: Snapshot5): boolean {
    if (!event.type.startsWith("xstate.error.actor")) return true;
    return this.#watched.machine.getTransitionData(before, event).length > 0;
  }

  #computed(computed: Snapshot5, event: Event5, ended: string | null): Computed {
    if (computed.status === "error") throw computed.error;
    const family = this.#recorder.family(this.#linked, computed, ended);
    const over = endedAfter(event, computed, this.#ended);
    const next = this.#withChildren(computed, ended, family, over);
    if (next._nodes !== this.#root!._snapshot._nodes || event === INIT) settleNodes(next);
    const starts = new Map<string, Actor5>();
    const stops = new Map<string, Actor5>();
    const { actions, deferred, timers, sends, spawned, stopped } = this.#recorder;
    const isActive = next.status === "active";
    for (const actor of isActive ? [...spawned, ...Object.values(next.children)] : []) {
      if (actor?._processingStatus === NOT_STARTED) starts.set(actor.id, actor);
    }
    for (const id of starts.keys()) family.unlink(id);
    for (const [id, actor] of this.#services) {
      const isReplaced = starts.has(id) || family.linked.has(id);
      if (!isActive || stopped.has(actor) || isReplaced) stops.set(id, actor);
    }
    const left = new Set([...stopped].map(({ id }) => id));
    for (const id of this.#ending) {
      if (!isActive || left.has(id) || starts.has(id)) stops.set(id, this.#stopped(id));
    }
    this.#next = { snapshot: next, event, starts, stops, linked: family.linked, ended: over };
    this.#made = this.#ids.next;
    return {
      changed: true,
      value: next.value,
      tags: [...next.tags],
      done: next.status === "done",
      snapshot: persist(next, family.linked, this.#made, over),
      context: next.context,
      timers,
      sends,
      starts: [...starts.keys()],
      stops: [...stops.keys()],
      outgoing: family.outgoing,
      output: next.status === "done" ? next.output : undefined,
      hasEffects:
        actions.length + deferred.length + starts.size + stops.size + this.#root!.observers.size > 0,
    };
  }

  /** The snapshot with the persistent children that XState does not know of, and without one that is over. */
  #withChildren(
    next: Snapshot5,
    ended: string | null,
    family: Family,
    over: Readonly<Record<string, Ended>>,
  ): Snapshot5 {
    const { strays } = this.#recorder;
    if (ended === null && strays.length === 0) return next;
    const children = { ...next.children };
    for (const actor of strays) if (family.linked.has(actor.id)) children[actor.id] = actor;
    if (ended !== null && !family.linked.has(ended) && isReference(children[ended])) {
      children[ended] = createEnded(this.#root!, ended, over[ended] ?? STOPPED_CHILD);
    }
    return { ...next, children };
  }

  /** The persistent child that this event says is done or could not be made. */
  #endedBy(event: Event5): string | null {
    if (this.#linked.size === 0) return null;
    const { actorId } = event as { actorId?: unknown };
    if (typeof actorId !== "string" || !this.#linked.has(actorId)) return null;
    const kinds = ["xstate.done.actor", "xstate.error.actor"];
    return kinds.some((kind) => event.type === `${kind}.${actorId}`) ? actorId : null;
  }

  // --- restoring

  #revived(persisted: Persisted, scope: Scope5): Snapshot5 {
    const { children: _, ...rest } = persisted;
    const restored = this.#watched.machine.restoreSnapshot({ ...rest, context: {}, children: {} }, scope);
    restored.machine = this.#watched.machine;
    return restored;
  }

  /** Children and context need the root to exist. `held`: the children before, some of them alive. */
  #complete(persisted: Persisted, context: unknown, held: Snapshot5["children"] = {}): void {
    const root = this.#root!;
    this.#ended = persisted.ended ?? {};
    this.#ids.next = persisted.made ?? 1;
    for (const key of persisted.children) {
      this.#ids.saw(key);
      const actor = held[key];
      const isAlive = actor !== undefined && (this.#services.get(actor.id) === actor || isReference(actor));
      const child = this.#linked.get(key);
      root._snapshot.children[key] = isAlive
        ? actor
        : child === undefined
        ? this.#stopped(key)
        : createReference(root, key, addressIn(child), persisted.systemIds?.[key]);
    }
    root._snapshot.context = this.#revivedContext(context);
    this.#made = this.#ids.next;
  }

  #revivedContext(context: unknown): unknown {
    const root = this.#root!;
    this.#references.begin();
    return revive(context, (id) => this.#resolve(id), (node) => this.#references.revived(root, node));
  }

  #resolve(id: string): Actor5 {
    const root = this.#root!;
    this.#ids.saw(id);
    return this.#services.get(id) ?? root._snapshot.children[id] ??
      (id === root.id ? root : this.#stopped(id));
  }

  /** Stands for a child that is over: takes every event and does nothing. */
  #stopped(id: string): Actor5 {
    const ended = this.#ended[id] ?? STOPPED_CHILD;
    let actor = this.#over.get(id);
    if (actor === undefined) this.#over.set(id, actor = createEnded(this.#root!, id, ended));
    else showEnded(actor, ended);
    return actor;
  }

  #tellOver(ended: Readonly<Record<string, Ended>>): void {
    for (const [id, actor] of this.#over) showEnded(actor, ended[id] ?? STOPPED_CHILD);
  }

  // --- performing

  #adopt(id: string, actor: Actor5): void {
    const within = this.#outlet.within?.bind(this.#outlet);
    if (within === undefined) return;
    const start = actor.start.bind(actor);
    const send = actor._send.bind(actor);
    const stop = actor._stop.bind(actor);
    actor.start = () => within(id, start);
    actor._stop = () => within(id, stop);
    actor._send = (event) => within(id, () => send(event));
  }

  /** The root's inbox. Only its own children of now are heard as services; a source that is unknown is left to the outlet. */
  #receive(source: Actor5 | undefined, event: Event5): void {
    if (this.#isDisposed) return;
    let service = source;
    while (service !== undefined && service._parent !== this.#root) service = service._parent;
    if (service === undefined) {
      this.#outlet.sent(event, null, false);
      return;
    }
    if (this.#services.get(service.id) !== service) return;
    const ends = service === source && service._processingStatus === STOPPED;
    if (ends) {
      this.#services.delete(service.id);
      this.#ending.add(service.id);
    }
    this.#outlet.sent(event, service.id, ends);
  }
}
