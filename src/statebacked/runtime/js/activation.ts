// One instance as the worker holds it: one durable state, and at most one computed, unconfirmed step above it.
//
// Theory of operation. `durable` is the newest state that the host has named; its JSON is kept, so that whatever
// user code did to the live objects, the state can be put back from what the store holds. `pending` is a step that
// was answered and not yet named by the host. A host frame that names its seq confirms it; one that names `durable`
// drops it. Services are the reason why a state is put back in place and not loaded anew: they go on.

import type { Adapter, Instance, Outlet } from "./adapter.ts";
import { fromText } from "./json.ts";
import type { Indexed } from "./selectors.ts";

/** A state as JSON. `indexes`: what its context gives the indexes; null when there are none, or nobody has looked. */
export interface Texts {
  readonly seq: number;
  readonly value: string;
  readonly snapshot: string;
  readonly context: string;
  readonly indexes: Indexed | null;
}

export type Run = readonly [id: string, seq: number];

/** An answered step. `isInPlace`: the instance stands on it already and has nothing to confirm. */
export interface Pending {
  readonly texts: Texts;
  readonly starts: readonly string[];
  readonly stops: readonly string[];
  readonly hasEffects: boolean;
  readonly isInPlace: boolean;
}

/** An event that user code made and that the host has announced; it keeps its identity and what JSON cannot say. */
export interface Held {
  readonly event: unknown;
  readonly service: Run | null;
}

/** An event sent while performing. */
export interface Sent {
  readonly token: number;
  readonly after: number;
  readonly service?: Run;
  readonly ends?: true;
}

const ACTIVATION_BYTES = 12_000; // an actor, its system and the records around it, roughly

export class Activation {
  instance: Instance;
  durable: Texts | null = null;
  pending: Pending | null = null;
  /** The seq whose effects are confirmed and not yet performed. */
  unperformed: number | null = null;
  readonly runs = new Map<string, number>();
  readonly held = new Map<number, Held>();
  /** What is being sent while performing; null at any other time. */
  sent: { entries: Sent[]; events: string[]; after: number } | null = null;
  /** The compute under way, when its authorizer is asynchronous. */
  job: object | null = null;
  isClosed = false;
  /** Requests of its code that are under way. */
  fetches = 0;
  /** The live context may differ from what its JSON gives. */
  isTouched = false;
  readonly #create: () => Instance;

  constructor(
    readonly a: number,
    readonly name: string,
    adapter: Adapter,
    machine: unknown,
    outlet: (of: Activation) => Outlet,
  ) {
    const mine = outlet(this);
    this.#create = () => adapter.instantiate(machine, name, mine);
    this.instance = this.#create();
  }

  /** Resume a durable state from the store. */
  restore(seq: number, snapshot: string, context: string): void {
    this.instance.restore(fromText(snapshot), fromText(context));
    const value = JSON.stringify(this.instance.current()?.value);
    this.durable = { seq, value, snapshot, context, indexes: null };
  }

  /** Stand on the state `seq`, if it is here. */
  standOn(seq: number): boolean {
    if (this.pending?.texts.seq === seq) this.#confirm(this.pending);
    else if (this.durable?.seq !== seq) return false;
    else if (this.pending !== null || this.job !== null) return this.putBack(this.durable);
    return true;
  }

  /** The state `seq` as JSON, for readers; naming it confirms it. */
  textsOf(seq: number): Texts | null {
    if (this.pending?.texts.seq === seq) this.#confirm(this.pending);
    return this.durable?.seq === seq ? this.durable : null;
  }

  #confirm(step: Pending): void {
    this.pending = null;
    this.durable = step.texts;
    if (!step.isInPlace) this.instance.confirm();
    for (const id of step.stops) this.#endRun(id);
    for (const id of step.starts) {
      this.#endRun(id); // one that has ended, and whose last event nobody took
      this.runs.set(id, step.texts.seq);
    }
    if (step.hasEffects) this.unperformed = step.texts.seq;
  }

  /** Before user code looks at the context: while no service runs it is exactly what its JSON gives. */
  canonicalise(texts: Texts | null): void {
    if (!this.isTouched || texts === null || this.instance.hasServices()) return;
    this.instance.canonicalise(fromText(texts.context));
    this.isTouched = false;
  }

  /** A step was refused or given up: the live state becomes `texts` again. False: it is lost, and the services too. */
  putBack(texts: Texts): boolean {
    this.pending = null;
    this.job = null;
    const { instance } = this;
    try {
      if (instance.hasServices()) {
        if (instance.revert === undefined) return false;
        instance.revert(fromText(texts.snapshot), fromText(texts.context));
      } else {
        instance.dispose();
        this.instance = this.#create();
        this.instance.restore(fromText(texts.snapshot), fromText(texts.context));
      }
    } catch {
      return false; // the machine does not take back its own state: it is as good as lost
    }
    this.isTouched = false;
    return true;
  }

  stop(runs: readonly Run[]): void {
    for (const [id, seq] of runs) {
      const isRunning = this.runs.get(id) === seq;
      this.#endRun(id, seq);
      if (isRunning) this.instance.stop(id);
    }
  }

  /** Nothing of that run (of every run of the service so far) is of use to the host any more. */
  #endRun(id: string, seq = this.runs.get(id)): void {
    if (this.runs.get(id) === seq) this.runs.delete(id);
    for (const [token, { service }] of this.held) {
      if (service?.[0] === id && (seq === undefined || service[1] <= seq)) this.held.delete(token);
    }
  }

  close(): void {
    this.isClosed = true;
    this.held.clear();
    this.instance.dispose();
  }

  /** Whether forgetting it costs no more than loading it again. */
  isIdle(): boolean {
    return this.job === null && this.sent === null && this.unperformed === null && this.held.size === 0 &&
      this.fetches === 0 && !this.pending?.hasEffects && !this.instance.hasServices();
  }

  /** An estimate of what it holds of the heap: texts of one byte a character, and the live objects made of them. */
  bytes(): number {
    return ACTIVATION_BYTES + textBytes(this.durable) + textBytes(this.pending?.texts ?? null);
  }
}

function textBytes(texts: Texts | null): number {
  return texts === null ? 0 : 4 * (texts.snapshot.length + texts.context.length);
}
