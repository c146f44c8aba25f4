// One macrostep as it is recorded: what xstate would have done while computing it, in order, and not yet done.

import { mapContext as mapContext4 } from "xstate4/es/utils.js";
import type { Computed } from "./adapter.ts";
import { addressIn, Family, type Linked, stored } from "./family.ts";
import {
  type Address,
  addressOf,
  idOf,
  isSame,
  isSource,
  type Reference,
  referenceTo,
  RESERVED,
  type Spawned,
  spawned,
  type SpawnOptions as InstanceOptions,
  type Target,
  voiced,
} from "./instances.ts";
import { defer, type Deferred } from "./xstate4_deferred.ts";
import { report } from "./xstate4_report.ts";
import type { Told } from "./xstate4_meta.ts";
import type { Services } from "./xstate4_services.ts";
import {
  act,
  type Action,
  type Activity,
  type Actor,
  type Envelope,
  envelope,
  ESCALATION,
  type Event,
  INTERNAL,
  INVOKE,
  isObject,
  type Machine,
  PARENT,
  type SpawnOptions,
  type State,
} from "./xstate4_shape.ts";

/** `after`: how many of the step's own sends came before. `passing`: the same step stops it again. */
export type Effect =
  & { after: number }
  & (
    | { kind: "action"; action: Action; context: unknown; event: Envelope }
    | { kind: "start"; id: string; passing: boolean; action: Action; context: unknown; event: Envelope }
    | {
      kind: "spawn";
      id: string;
      passing: boolean;
      entity: unknown;
      options?: SpawnOptions;
      deferred: Deferred;
    }
    | { kind: "forward"; event: Envelope }
    | { kind: "tell"; text: string }
  );

/** The instance that sent the event of this step, and what its `origin` is called. */
export interface Sender {
  readonly origin: string;
  readonly address: Address;
}

export class Recording {
  readonly effects: Effect[] = [];
  readonly timers: Computed["timers"] = [];
  readonly sends: unknown[] = [];
  readonly started = new Set<string>();
  readonly stopped = new Set<string>();
  readonly family: Family;
  /** Whom `respond` answers, when another instance sent the event. */
  sender: Sender | null = null;
  #timesChildren = false;

  constructor(
    private readonly machine: Machine,
    private readonly services: Services,
    private readonly running: ReadonlySet<string>,
    linked: Linked,
  ) {
    this.family = new Family(linked);
  }

  get isEmpty(): boolean {
    const { effects, timers, sends, family } = this;
    return effects.length + timers.length + sends.length + family.outgoing.length === 0;
  }

  /** xstate forwards before it computes: the children hear of the event first. */
  forward(event: Envelope): void {
    if (this.services.forwards) this.#add({ kind: "forward", event });
    if (this.family.linked.size === 0 || RESERVED.test(event.name)) return;
    for (const child of this.family.linked.values()) {
      if (child[2] === 1) this.family.send(addressIn(child), event.data);
    }
  }

  spawn(entity: unknown, id: string, options: SpawnOptions | undefined): Actor {
    const deferred = defer(entity, id);
    this.#start(id);
    this.#add({ kind: "spawn", id, passing: false, entity, ...(options && { options }), deferred });
    return deferred.reference;
  }

  /** `spawn` of the runtime global, with the descriptor of a persistent instance. */
  spawnInstance(descriptor: Record<string, unknown>, options: InstanceOptions): Reference {
    const child = spawned(idOf(options), descriptor, options.context);
    this.#link(child);
    return voiced(referenceTo(child.id, child.child));
  }

  /** With predictableActionArguments xstate hands over each action while it computes. */
  action(action: Action, context: unknown, event: Envelope): void {
    const { actions } = this.machine.options;
    const effect = { kind: "action", action, context, event } as const;
    if (typeof action.exec === "function" || actions?.[action.type]) return this.#add(effect);
    switch (action.type) {
      case act.send:
      case act.raise:
        return this.#send(action, effect);
      case act.cancel:
        return this.#cancel(action, effect);
      case act.start:
        return this.#startAction(action, context, event);
      case act.stop:
        return this.#stop(action.activity?.id, effect);
      case act.log:
        return this.#add(effect);
      default:
        report.once(`machine "${this.machine.id}" has no implementation of action "${action.type}"`);
    }
  }

  /** Without predictableActionArguments they are in the state that comes out, and see its context. */
  actionsOf(state: State): void {
    for (const action of state.actions) this.action(action, state.context, state._event);
  }

  #add(effect: DistributiveOmit<Effect, "after">): void {
    this.effects.push({ ...effect, after: this.sends.length });
  }

  #send(action: Action, effect: DistributiveOmit<Effect, "after">): void {
    const { delay, to } = action;
    const event = action._event?.data;
    const isDelayed = typeof delay === "number";
    const other = this.#instanceOf(to);
    if (other !== undefined) {
      this.#sendOut(other, event, isDelayed ? delay : null, action);
    } else if (!this.#isSelf(to)) {
      this.#timesChildren ||= isDelayed;
      this.#add(effect);
    } else if (isDelayed) {
      this.timers.push(["set", sendIdOf(action.id), wholeMs(delay), event]);
    } else {
      this.sends.push(event);
    }
  }

  #sendOut(to: Target, event: Event | undefined, delay: number | null, action: Action): void {
    if (event?.type === ESCALATION) {
      this.#add({
        kind: "tell",
        text: "escalate reaches no persistent parent: send it an event of your own",
      });
    } else if (delay !== null) {
      this.timers.push(["set", sendIdOf(action.id), wholeMs(delay), event, to]);
    } else {
      this.family.send(to, event);
    }
  }

  /** The other instance that an event is for; undefined: none, it is for somebody of this process. */
  #instanceOf(to: unknown): Target | undefined {
    if (!to) return undefined;
    if (typeof to !== "string") return addressOf(to) ?? undefined;
    if (to === PARENT) return null;
    const child = this.family.linked.get(to);
    if (child !== undefined) return addressIn(child);
    return to === this.sender?.origin ? this.sender.address : undefined;
  }

  #isSelf(to: unknown): boolean {
    return !to || to === INTERNAL || to === this.services.root.sessionId || to === this.services.root;
  }

  #cancel(action: Action, effect: DistributiveOmit<Effect, "after">): void {
    const sendId = sendIdOf(action.sendId);
    if (sendId !== "") this.timers.push(["cancel", sendId]);
    if (this.#timesChildren || this.services.hasTimers) this.#add(effect);
  }

  #startAction(action: Action, context: unknown, event: Envelope): void {
    const activity = action.activity ?? {};
    const source = this.#sourceOf(activity);
    if (source !== null) {
      const data: unknown = activity.data ? mapContext(activity.data, context, event) : undefined;
      return this.#link(spawned(String(activity.id), source, data), Boolean(activity.autoForward));
    }
    if (!this.#isImplemented(activity)) {
      report.once(`machine "${this.machine.id}" has no implementation of service "${nameOf(activity)}"`);
      return;
    }
    const id = String(activity.id);
    this.#start(id);
    this.#add({ kind: "start", id, passing: false, action, context, event });
  }

  /** The persistent child that an invoke asks for, by its `src` or by what `services` has under that name. */
  #sourceOf(activity: Activity): Record<string, unknown> | null {
    if (activity.type !== INVOKE) return null;
    const { src } = activity;
    if (isSource(src)) return src;
    const named = this.machine.options.services?.[nameOf(activity)];
    return isSource(named) ? named : null;
  }

  #link(child: Spawned, forwards = false): void {
    const { id } = child;
    if (this.running.has(id) || this.started.has(id)) {
      const action = { type: act.stop, activity: { id } };
      this.#stop(id, { kind: "action", action, context: undefined, event: NOBODYS });
    }
    this.family.spawn(child, forwards);
  }

  #isImplemented(activity: Activity): boolean {
    const { services, activities } = this.machine.options;
    const creator = activity.type === INVOKE ? services?.[nameOf(activity)] : activities?.[nameOf(activity)];
    return Boolean(creator) && typeof creator !== "string";
  }

  #start(id: string): void {
    this.family.unlink(id);
    if (this.started.has(id)) this.#pass(id); // twice without a stop: the first gives way
    if (this.running.has(id)) this.stopped.add(id);
    this.started.add(id);
  }

  #pass(id: string): void {
    for (const effect of this.effects) {
      if ((effect.kind === "start" || effect.kind === "spawn") && effect.id === id) effect.passing = true;
    }
  }

  #stop(id: unknown, effect: DistributiveOmit<Effect, "after">): void {
    if (id === undefined) return this.#add(effect); // xstate throws: so will performing it
    const name = String(id);
    if (this.family.unlink(name)) return;
    const isStarted = this.started.delete(name);
    if (isStarted) this.#pass(name);
    if (this.running.has(name)) this.stopped.add(name);
    if (isStarted || this.stopped.has(name) || this.services.has(name)) this.#add(effect);
  }
}

const NOBODYS = envelope({ type: "" });

/** `Omit` over each member of a union. */
type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

/** A timer without a send id cannot be cancelled: the empty id never is. */
const sendIdOf = (
  id: unknown,
): string => (typeof id === "string" || typeof id === "number" ? String(id) : "");

/** Later than any life of this system; a longer delay would leave the range of dates. */
const DELAY_MS_MAX = 1e14;

/** What `setTimeout` makes of a delay, without its limit of 31 bits. */
export const wholeMs = (delay: number): number =>
  Number.isFinite(delay) ? Math.min(Math.max(Math.trunc(delay), 0), DELAY_MS_MAX) : 0;

const nameOf = ({ type, src }: Activity): string => {
  if (type !== INVOKE) return String(type);
  return isObject(src) ? String(src.type) : String(src);
};

const mapContext = mapContext4 as (mapper: unknown, context: unknown, event: Envelope) => unknown;

/** Final data of a machine that is done. */
export const outputOf = (machine: Machine, state: State, event: Envelope): unknown => {
  const final = state.configuration.find(({ type, parent }) => type === "final" && parent === machine);
  return final?.doneData ? mapContext(final.doneData, state.context, event) : undefined;
};

/** How `respond` names whom it answers: a child by its id, another instance by its address. */
export const senderIn = (linked: Linked, address: Address): Sender => {
  const child = [...linked].find(([, linked]) => isSame(linked, address));
  return { origin: child?.[0] ?? address.join("/"), address };
};

/** What is stored of a state: what `resolveState` cannot find out again from its value. */
export const snapshotOf = (state: State, linked: Linked, told: Told = {}): unknown => ({
  ...stored(linked),
  ...(Object.keys(told).length === 0 ? {} : { told }),
  value: state.value,
  historyValue: state.historyValue,
  activities: Object.fromEntries(activeOf(state).map((id) => [id, true])),
  tags: tagsOf(state),
  done: state.done,
});

/** A stored state as `resolveState` takes it: with what only a state that was computed has. */
export const restorable = (snapshot: unknown, context: unknown): unknown => {
  const { value, historyValue, activities, tags } = snapshot as State;
  return {
    value,
    historyValue,
    activities,
    tags,
    context: context ?? undefined,
    _event: envelope({ type: "xstate.init" }),
    _sessionid: null,
    history: undefined,
    children: {},
    configuration: [],
    transitions: [],
    events: [],
    actions: [],
    meta: {},
  };
};

const activeOf = ({ activities }: State): string[] =>
  Object.keys(activities).filter((id) => activities[id]).sort();

/** In the order of the document: the same after a restore. */
export const tagsOf = (state: State): string[] => {
  if (state.tags.size < 2) return [...state.tags];
  const nodes = [...state.configuration].sort((a, b) => a.order - b.order);
  return [...new Set(nodes.flatMap((node) => node.tags))];
};
