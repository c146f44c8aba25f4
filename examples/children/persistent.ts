import type { ActorLogic, AnyEventObject, EventObject, Snapshot } from "xstate";

/** Which instance a persistent child is. */
export interface Descriptor<TInput> {
  machineName: string;
  /** Left out: a new UUID each time. A function gets the input of the child. */
  machineInstanceName?: string | ((input: TInput) => string);
  /** Left out: the current version of the machine. */
  machineVersionId?: string;
}

/**
 * Actor logic for `invoke`, `spawn` and `spawnChild` that stands for an instance of another machine. On a server
 * the instance is created with the `input` as its own, takes what is sent to the actor, and its output is the
 * actor's. In plain XState the actor does nothing, so that tests and tools take the machine as it is.
 */
export function persistent<
  TInput extends object = Record<string, unknown>,
  TOutput = unknown,
  TEvent extends EventObject = AnyEventObject,
>(descriptor: Descriptor<TInput>): ActorLogic<Snapshot<TOutput>, TEvent, TInput> {
  const inert = {
    getInitialSnapshot: (): Snapshot<TOutput> => ({ status: "active", output: undefined, error: undefined }),
    transition: (snapshot: Snapshot<TOutput>) => snapshot,
    getPersistedSnapshot: (snapshot: Snapshot<TOutput>) => snapshot,
  };
  return { type: "statebacked.invoke", ...descriptor, ...inert } as ActorLogic<
    Snapshot<TOutput>,
    TEvent,
    TInput
  >;
}
