// Whose code is running: what it may fetch and where its lines go follow from that.

import type { Activation, Run } from "./activation.ts";
import type { Fetching } from "./fetch.ts";
import type { Claim } from "./frames.ts";

/**
 * Whose code runs: an instance's own, that of one run of a service of it, or (no activation) what a read or a part of an
 * upgrade asks.
 */
export interface Owner {
  readonly activation: Activation | null;
  readonly service: Run | null;
  /** As what it may fetch; null: not at all, since it is computing. */
  claim: Claim | null;
  readonly counter: Fetching;
  readonly read?: number;
}

/** An event of the instance is computed. */
export function computing(activation: Activation): Owner {
  return { activation, service: null, claim: null, counter: activation };
}

/** The instance's own code, after a commit. */
export function performing(activation: Activation): Owner {
  return { activation, service: null, claim: { a: activation.a }, counter: activation };
}

/** A service of the instance, while it runs. */
export function serving(activation: Activation, id: string): Owner {
  const seq = activation.runs.get(id);
  if (seq === undefined) return performing(activation);
  const service: Run = [id, seq];
  return { activation, service, claim: { a: activation.a, service }, counter: activation };
}

/** How a log frame names it: the activation, or the read below zero; 0: the module. */
export function speakerOf(owner: Owner | undefined): number {
  if (owner === undefined) return 0;
  return owner.activation?.a ?? -(owner.read ?? 0);
}
