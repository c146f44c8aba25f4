// A reference to an actor that `spawn` inside an assign asked for: handed out while the step is computed, started when
// it is performed. From then on it is the actor itself, through a proxy, since the machine keeps it in its context.

import { type Actor, isObject } from "./xstate4_shape.ts";

type Observer = [next?: unknown, error?: unknown, complete?: unknown];
interface Subscription {
  unsubscribe(): void;
}
interface Subscribable {
  subscribe(...observer: Observer): Subscription;
}

export interface Deferred {
  reference: Actor;
  /** The actor runs: hand it what waited. */
  started(actor: Actor): void;
}

const observableKey: PropertyKey = (Symbol as { observable?: symbol }).observable ?? "@@observable";

export function defer(entity: unknown, id: string): Deferred {
  let actor: Actor | null = null;
  const mail: unknown[] = [];
  const observers = new Map<Observer, Subscription | null>();
  const pending = {
    id,
    deferred: true,
    send: (event: unknown) => (actor ? actor.send(event) : void mail.push(event)),
    subscribe(...observer: Observer): Subscription {
      observers.set(observer, null);
      return {
        unsubscribe: () => {
          observers.get(observer)?.unsubscribe();
          observers.delete(observer);
        },
      };
    },
    getSnapshot: () => (isObject(entity) && "__xstatenode" in entity ? entity.initialState : undefined),
    toJSON: () => ({ id }),
    [observableKey]: () => reference,
  };
  const reference = new Proxy(pending, {
    get: (_, key) => Reflect.get(actor ?? pending, key),
    set: (_, key, value) => Reflect.set(actor ?? pending, key, value),
    has: (_, key) => Reflect.has(actor ?? pending, key),
  }) as unknown as Actor;
  const started = (running: Actor) => {
    actor = running;
    for (const [observer] of observers) {
      observers.set(observer, (running as Actor & Subscribable).subscribe(...observer));
    }
    for (const event of mail.splice(0)) running.send(event);
  };
  return { reference, started };
}
