// The adapter for XState 4.
//
// Theory of operation. `machine.transition` is pure but for its fourth argument, which executes actions at once
// (predictableActionArguments): here it records them. Machines without that option leave their actions in the state
// that comes out. Either way a step is computed first, and performed when it is durable. Children run in a real
// interpreter (Services) that is never sent an event itself; what they send to the machine is announced to the outlet
// and comes back as the event of a later step.

import { type Adapter, type Computed, type Instance, type Outlet, UNCHANGED } from "./adapter.ts";
import { changeParts } from "./builtins.ts";
import { type Linked, NO_CHILDREN, restored, type Stored } from "./family.ts";
import { type Address, computing, isPlainReference, type Reference, voiced } from "./instances.ts";
import { copyPlain } from "./plain.ts";
import { arrive4, outline4 } from "./xstate4_outline.ts";
import { show, type Told, toldBy } from "./xstate4_meta.ts";
import { report } from "./xstate4_report.ts";
import { OVER, Services } from "./xstate4_services.ts";
import {
  type Action,
  type Envelope,
  envelope,
  ERROR_PLATFORM,
  type Event,
  isObject,
  type Machine,
  type State,
} from "./xstate4_shape.ts";
import {
  type Effect,
  outputOf,
  Recording,
  restorable,
  senderIn,
  snapshotOf,
  tagsOf,
} from "./xstate4_step.ts";

/** Where an announced event came from, kept with the event until it comes back. */
interface Origin {
  envelope: Envelope;
  /** The service, or the persistent child, that is over when the event is taken. */
  ending: string | null;
}

interface Step {
  state: State;
  computed: Computed;
  recording: Recording;
  told: Told;
}

class Instance4 implements Instance {
  readonly #services: Services;
  /** The services that the durable state started and that have neither ended, as far as it knows, nor been stopped. */
  readonly #running = new Set<string>();
  readonly #origins = new WeakMap<object, Origin>();
  #linked: Linked = NO_CHILDREN;
  #state: State | null = null;
  #told: Told = {};
  #step: Step | null = null;
  #unperformed: Recording | null = null;

  constructor(private readonly machine: Machine, private readonly outlet: Outlet) {
    machine._init(); // else `after` of a restored state is unknown
    this.#services = new Services(
      machine,
      (event, service, ends) => this.#announce(event, service, ends),
      (service, run) => (outlet.within ? outlet.within(service, run) : run()),
    );
  }

  current(): { value: unknown; context: unknown } | null {
    const state = this.#step?.state ?? this.#state;
    return state && { value: this.#inOrder(state.value), context: state.context };
  }

  initialize(context: unknown): Computed {
    const { machine } = this;
    const recording = this.#record();
    const state = this.#compute(recording, () => {
      const own = copyPlain(machine.context); // one object for all instances, unless it comes from a function
      // A machine without a context has an empty one: what is kept in it is counted from its first event on.
      const given = own === undefined || (isObject(context) && Object.keys(context).length > 0);
      const merged = given ? { ...(own as object | undefined), ...(context as object | undefined) } : own;
      return machine.getInitialState(machine.initialStateValue, merged);
    });
    recording.actionsOf(state); // nothing records an initial state: its actions are in it, in both modes
    return this.#hold(state, recording, state._event, true);
  }

  restore(snapshot: unknown, context: unknown): void {
    this.#step = null;
    this.#linked = restored(snapshot as { instances?: Stored });
    const state = this.machine.resolveState(restorable(snapshot, withVoices(context, this.#linked)));
    state.value = (snapshot as State).value; // resolved in the order of the machine; in the order that it had, regions act as they would have
    this.#adopt(state, (snapshot as { told?: Told }).told ?? {});
  }

  revert(snapshot: unknown, context: unknown): void {
    const held = this.#state?.context;
    this.restore(snapshot, withActors(context, held));
    this.#services.attach();
  }

  transition(event: unknown, sentBy?: Address): Computed {
    const state = this.#durable();
    this.#step = null;
    const origin = this.#origins.get(event as object);
    const sender = sentBy === undefined ? null : senderIn(this.#linked, sentBy);
    const incoming = origin?.envelope ?? envelope(withoutMark(event as Event), sender?.origin);
    if (origin?.ending) this.#running.delete(origin.ending);
    if (state.done || isInert(incoming) || this.#isUnhandledError(state, incoming)) return UNCHANGED;
    show(this.machine, state, this.#told, (id) => this.#services.has(id));
    const recording = this.#record();
    recording.sender = sender;
    if (origin?.ending) recording.family.forget(origin.ending);
    recording.forward(incoming);
    const isEager = Boolean(this.machine.config.predictableActionArguments);
    const recorder = isEager
      ? (action: Action, context: unknown, cause: Envelope) => recording.action(action, context, cause)
      : undefined;
    const next = this.#compute(
      recording,
      () => this.machine.transition(state, incoming, undefined, recorder),
    );
    if (!isEager) recording.actionsOf(next);
    return recording.isEmpty && !this.#isSelected(state, next, incoming)
      ? UNCHANGED
      : this.#hold(next, recording, incoming, origin === undefined);
  }

  serviceError(id: string, error: unknown): { type: string } {
    const event = { type: `${ERROR_PLATFORM}.${id}`, data: error };
    this.#origins.set(event, { envelope: envelope(event, id), ending: id });
    return event;
  }

  childDone(id: string, output: unknown): { type: string } {
    const event = { type: `done.invoke.${id}`, data: output };
    this.#origins.set(event, { envelope: envelope(event, id), ending: id });
    return event;
  }

  confirm(): void {
    const step = this.#step;
    if (!step) return;
    this.#step = null;
    for (const id of step.computed.stops) this.#running.delete(id);
    for (const id of step.computed.starts) this.#running.add(id);
    this.#linked = step.recording.family.linked;
    this.#adopt(step.state, step.told);
    this.#unperformed = step.recording;
  }

  perform(position: (after: number) => void): void {
    const recording = this.#unperformed;
    if (!recording) return;
    this.#unperformed = null;
    for (const effect of recording.effects) {
      position(effect.after);
      this.#performOne(effect);
    }
    position(recording.sends.length);
    this.#services.flush();
    if (this.#durable().done) this.#services.stopAll();
  }

  stop(id: string): void {
    this.#running.delete(id);
    this.#services.stop(id);
  }

  dispose(): void {
    this.#services.dispose();
    this.#running.clear();
    this.#state = this.#step = this.#unperformed = null;
  }

  canonicalise(context: unknown): void {
    const linked = this.#step?.recording.family.linked ?? this.#linked;
    (this.#step?.state ?? this.#durable()).context = withVoices(context ?? undefined, linked);
  }

  hasServices(): boolean {
    return this.#services.size > 0;
  }

  #durable(): State {
    if (!this.#state) throw new Error("the instance has no state");
    return this.#state;
  }

  #record(): Recording {
    return new Recording(this.machine, this.#services, this.#running, this.#linked);
  }

  #compute(recording: Recording, run: () => State): State {
    computing.spawner = (descriptor, options) => recording.spawnInstance(descriptor, options);
    try {
      return this.#services.compute((entity, name, options) => recording.spawn(entity, name, options), run);
    } catch (thrown) {
      if (!(thrown instanceof RangeError) || !/call stack/.test(thrown.message)) throw thrown;
      throw new Error("the stack is full: is there an `always` or a `raise` that goes on without end?");
    } finally {
      computing.spawner = null;
    }
  }

  #adopt(state: State, told: Told): void {
    this.#told = told;
    state._sessionid = this.#services.root.sessionId;
    this.#state = this.#services.root._state = state;
  }

  /** A value as the machine has it: regions in the order of the document. */
  #inOrder(value: unknown): unknown {
    return typeof value === "string" ? value : this.machine.resolve(value);
  }

  #hold(state: State, recording: Recording, event: Envelope, isStored: boolean): Computed {
    const told = toldBy(state, isStored);
    const { started, stopped, effects, timers, sends, family } = recording;
    const computed: Computed = {
      changed: true,
      value: this.#inOrder(state.value),
      tags: tagsOf(state),
      done: state.done,
      snapshot: snapshotOf(state, family.linked, told),
      context: state.context ?? null,
      timers,
      sends,
      starts: state.done ? [] : [...started],
      stops: state.done ? [...this.#running] : [...stopped],
      outgoing: family.outgoing,
      output: state.done ? outputOf(this.machine, state, event) : undefined,
      hasEffects: effects.length > 0 || (state.done && this.hasServices()),
    };
    this.#step = { state, computed, recording, told };
    return computed;
  }

  /** Of a step that recorded nothing: was a transition selected, in it or in one of its microsteps? */
  #isSelected(state: State, next: State, event: Envelope): boolean {
    const [before, after] = [state.configuration, next.configuration];
    if (after === before) return false; // xstate makes a new one whenever a transition is selected
    if (next.context !== state.context || after.length !== before.length) return true;
    if (after.some((node) => !before.includes(node))) return true;
    // A forbidden transition, without target and actions, is selected and still none.
    const own = next.transitions.length > 0
      ? next.transitions
      : this.machine.getTransitionData(state, event)?.transitions;
    return (own ?? []).some(({ target, actions }) => target !== undefined || actions.length > 0);
  }

  /** Plain xstate throws the error out of the interpreter when no active state handles any error. */
  #isUnhandledError(state: State, { name }: Envelope): boolean {
    if (!name.startsWith(ERROR_PLATFORM)) return false;
    return !state.nextEvents.some((handled) => handled.startsWith(ERROR_PLATFORM));
  }

  #announce(event: Envelope, service: string | null, ends: boolean): void {
    if (service !== null && !this.#running.has(service)) return; // started and stopped by one and the same step
    const data = { ...event.data }; // a copy of its own: senders share constants, origins differ
    this.#origins.set(data, { envelope: { ...event, data }, ending: ends ? service : null });
    this.outlet.sent(data, service, ends);
  }

  #performOne(effect: Effect): void {
    const { root } = this.#services;
    switch (effect.kind) {
      case "tell":
        return console.error(effect.text);
      case "forward":
        return this.#services.forward(effect.event);
      case "start":
        return this.#services.start(
          effect.id,
          effect.passing,
          () => root._exec(effect.action, effect.context, effect.event),
        );
      case "spawn":
        return this.#services.start(effect.id, effect.passing, () => {
          effect.deferred.started(root.spawn(effect.entity, effect.id, effect.options));
        });
      case "action":
        return report.guard(`action "${effect.action.type}"`, () => {
          root._exec(effect.action, effect.context, effect.event);
        });
    }
  }
}

/** `""` is what xstate calls the event of `always`; OVER is what we call the end of a service that says nothing. */
const isInert = ({ name }: Envelope): boolean => name === "" || name === OVER;

/** An event from outside never passes for one that xstate has wrapped: its `name` would be taken for its type. */
const withoutMark = (event: Event): Event => {
  if (!("$$type" in event)) return event;
  const { $$type: _, ...rest } = event;
  return rest as Event;
};

/** A context fresh from JSON, with the actors that stand in the same places of the one that it replaces. */
const withActors = (fresh: unknown, held: unknown): unknown => {
  if (!isObject(fresh) || !isObject(held)) return fresh;
  if (typeof held.send === "function" && held.id === fresh.id && !isPlainReference(held)) return held;
  if (fresh instanceof Map && held instanceof Map) {
    for (const [key, part] of fresh) fresh.set(key, withActors(part, held.get(key)));
  } else if (!ArrayBuffer.isView(fresh)) {
    for (const key of Object.keys(fresh)) fresh[key] = withActors(fresh[key], held[key]);
  }
  return fresh;
};

/** A context fresh from JSON, whose references to persistent instances can be told to send, which they only log. */
const withVoices = <T>(context: T, linked: Linked): T => {
  if (linked.size > 0) voice(context);
  return context;
};

const voice = (value: unknown): void => {
  if (!isObject(value)) return;
  if (isPlainReference(value)) voiced(value as unknown as Reference);
  else {
    changeParts(value, (part) => {
      voice(part);
      return part;
    });
  }
};

/** The reason why a default export is no usable machine of this major, or null. */
const check = (value: unknown): string | null => {
  if (!isObject(value) || value.__xstatenode !== true) return "the default export is not an XState machine";
  const machine = value as unknown as Machine;
  const methods = ["transition", "getInitialState", "resolveState", "resolve", "_init"] as const;
  if (methods.some((name) => typeof machine[name] !== "function")) {
    return "the default export is not a machine of XState 4";
  }
  if (machine.parent) return "the default export is a state inside a machine, not a machine";
  try {
    machine._init();
    for (const node of [machine, ...Object.values(machine.idMap)]) {
      void node.transitions; // resolves every target
      if (node.type === "history") node.resolveHistory();
      else void node.initialStateValue;
    }
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
};

export const xstate4: Adapter = {
  major: 4,
  check,
  instantiate: (machine, _name, outlet) => new Instance4(machine as Machine, outlet),
  outline: (machine, snapshot, timers) => outline4(machine as Machine, snapshot, timers),
  arrive: (machine, outline, context) => arrive4(machine as Machine, outline, context),
};
