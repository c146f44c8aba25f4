// One interface over both majors of xstate. An adapter computes without performing (the recorder), and performs
// only what the host has confirmed to be durable. Everything above this file is the same for both.

import type { Address, Outgoing, Target } from "./instances.ts";
import type { Outline } from "./outline.ts";

/** `to` is left out when the timer is the machine's own. */
export type TimerOperation =
  | ["set", sendId: string, delayMs: number, event: unknown, to?: Target]
  | ["cancel", sendId: string];

/** The outcome of one macrostep, computed and not performed. */
export interface Computed {
  changed: boolean; // a transition was selected, or there is something to perform
  value: unknown;
  tags: string[];
  done: boolean;
  /** What resumes this state, context left out. JSON. */
  snapshot: unknown;
  context: unknown;
  /** Ordered timer operations of the root machine. */
  timers: TimerOperation[];
  /** Undelayed events that the machine sends itself as data, in order. */
  sends: unknown[];
  starts: string[];
  stops: string[];
  /** For other instances, in order. Persistent children stand in neither `starts` nor `stops`. */
  outgoing: readonly Outgoing[];
  /** Final data of a machine that is done; undefined when there is none. */
  output: unknown;
  hasEffects: boolean;
  /** Only that a child is over was taken from it: no state handles the event. */
  isUnhandled?: boolean;
}

/** No transition was selected. */
export const UNCHANGED: Computed = {
  changed: false,
  value: null,
  tags: [],
  done: false,
  snapshot: null,
  context: null,
  timers: [],
  sends: [],
  starts: [],
  stops: [],
  outgoing: [],
  output: undefined,
  hasEffects: false,
};

/** What performing, or a running service, tells the worker loop. `service` null: the machine's own action. */
export interface Outlet {
  sent(event: unknown, service: string | null, ends: boolean): void;
  /** Run a service's code, so that all that it says and sends, then and later, is known to be its own. */
  within?<T>(service: string, run: () => T): T;
}

/** One live instance of a machine: one durable state, and at most one computed step above it. */
export interface Instance {
  /** The state and context that an authorizer sees: null before creation. */
  current(): { value: unknown; context: unknown } | null;
  /** Compute the initial state. Throws what user code throws. */
  initialize(context: unknown): Computed;
  /** Resume a durable state. Its services are gone; their error events come as `failed`. */
  restore(snapshot: unknown, context: unknown): void;
  /** Compute the macrostep of an event, sent by `sender` if another instance did. On a throw the instance must not be used again. */
  transition(event: unknown, sender?: Address): Computed;
  /** An event that this instance had sent itself and that was stored, with the actors that it names. */
  stored?(event: unknown): unknown;
  /** The error event of a service, in this major's words. */
  serviceError(id: string, error: unknown): { type: string };
  /** The event of a persistent child that is done, in this major's words. */
  childDone(id: string, output: unknown): { type: string };
  /** The computed step is durable: it becomes the state. Does not perform. */
  confirm(): void;
  /** Perform the confirmed step's effects, in order; `position` tells how many of its sends came before an effect. */
  perform(position: (after: number) => void): void;
  /** A step was refused while services run: put this durable state back, and keep the services. */
  revert?(snapshot: unknown, context: unknown): void;
  stop(id: string): void;
  /** Stop everything, forget everything. */
  dispose(): void;
  /** No service is alive: the context may be replaced by what its JSON gives back. */
  canonicalise(context: unknown): void;
  hasServices(): boolean;
}

/** A state into which an instance was migrated; nothing of it was started. */
export interface Arrived {
  readonly value: unknown;
  readonly tags: readonly string[];
  readonly done: boolean;
  readonly snapshot: unknown;
  /** Of the timers that the outline names: those that go on, under this send id, and those that do not. */
  readonly kept: readonly (readonly [key: string, sendId: string])[];
  readonly gone: readonly string[];
  /** Delays of the new states that are to be set. */
  readonly fresh: readonly (readonly [sendId: string, delayMs: number])[];
}

export interface Adapter {
  readonly major: 4 | 5;
  /** Does this default export belong to this major? Its reason when it is no usable machine. */
  check(machine: unknown): string | null;
  /** What XState would say only when a state is entered; told when a bundle is uploaded. */
  problem?(machine: unknown): string | null;
  instantiate(machine: unknown, name: string, outlet: Outlet): Instance;
  /** A stored state as an outline. `timers` are the pending ones, by row key and send id. */
  outline(machine: unknown, snapshot: unknown, timers: readonly (readonly [string, string])[]): Outline;
  /** The state of this machine that an outline tells. Throws an Error for the machine's owner. */
  arrive(machine: unknown, outline: Outline, context: unknown): Arrived;
}
