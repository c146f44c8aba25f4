// One macrostep as it is recorded: what xstate would have done while computing it, in order, and not yet done.

import type { Computed } from "./adapter.ts";
import { defer, type Deferred } from "./xstate4_deferred.ts";
import { report } from "./xstate4_report.ts";
import type { Services } from "./xstate4_services.ts";
import {
  act,
  type Action,
  type Activity,
  type Actor,
  type Envelope,
  INTERNAL,
  INVOKE,
  isObject,
  type Machine,
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
  );

export class Recording {
  readonly effects: Effect[] = [];
  readonly timers: Computed["timers"] = [];
  readonly sends: unknown[] = [];
  readonly started = new Set<string>();
  readonly stopped = new Set<string>();
  #timesChildren = false;

  constructor(
    private readonly machine: Machine,
    private readonly services: Services,
    private readonly running: ReadonlySet<string>,
  ) {}

  get isEmpty(): boolean {
    return this.effects.length + this.timers.length + this.sends.length === 0;
  }

  /** xstate forwards before it computes: the children hear of the event first. */
  forward(event: Envelope): void {
    if (this.services.forwards) this.#add({ kind: "forward", event });
  }

  spawn(entity: unknown, id: string, options: SpawnOptions | undefined): Actor {
    const deferred = defer(entity, id);
    this.#start(id);
    this.#add({ kind: "spawn", id, passing: false, entity, ...(options && { options }), deferred });
    return deferred.reference;
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
    if (!this.#isSelf(to)) {
      this.#timesChildren ||= isDelayed;
      this.#add(effect);
    } else if (isDelayed) {
      this.timers.push(["set", sendIdOf(action.id), wholeMs(delay), event]);
    } else {
      this.sends.push(event);
    }
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
    if (!this.#isImplemented(activity)) {
      report.once(`machine "${this.machine.id}" has no implementation of service "${nameOf(activity)}"`);
      return;
    }
    const id = String(activity.id);
    this.#start(id);
    this.#add({ kind: "start", id, passing: false, action, context, event });
  }

  #isImplemented(activity: Activity): boolean {
    const { services, activities } = this.machine.options;
    const creator = activity.type === INVOKE ? services?.[nameOf(activity)] : activities?.[nameOf(activity)];
    return Boolean(creator) && typeof creator !== "string";
  }

  #start(id: string): void {
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
    const isStarted = this.started.delete(name);
    if (isStarted) this.#pass(name);
    if (this.running.has(name)) this.stopped.add(name);
    if (isStarted || this.stopped.has(name) || this.services.has(name)) this.#add(effect);
  }
}

/** `Omit` over each member of a union. */
type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;

/** A timer without a send id cannot be cancelled: the empty id never is. */
const sendIdOf = (
  id: unknown,
): string => (typeof id === "string" || typeof id === "number" ? String(id) : "");

/** Later than any life of this system; a longer delay would leave the range of dates. */
const DELAY_MS_MAX = 1e14;

/** What `setTimeout` makes of a delay, without its limit of 31 bits. */
const wholeMs = (delay: number): number =>
  Number.isFinite(delay) ? Math.min(Math.max(Math.trunc(delay), 0), DELAY_MS_MAX) : 0;

const nameOf = ({ type, src }: Activity): string => {
  if (type !== INVOKE) return String(type);
  return isObject(src) ? String(src.type) : String(src);
};

/** What is stored of a state: what `resolveState` cannot find out again from its value. */
export const snapshotOf = (state: State): unknown => ({
  value: state.value,
  historyValue: state.historyValue,
  activities: Object.fromEntries(activeOf(state).map((id) => [id, true])),
  tags: tagsOf(state),
  done: state.done,
});

const activeOf = ({ activities }: State): string[] =>
  Object.keys(activities).filter((id) => activities[id]).sort();

/** In the order of the document: the same after a restore. */
export const tagsOf = (state: State): string[] => {
  if (state.tags.size < 2) return [...state.tags];
  const nodes = [...state.configuration].sort((a, b) => a.order - b.order);
  return [...new Set(nodes.flatMap((node) => node.tags))];
};
