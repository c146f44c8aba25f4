// One compute: authorise and compute the first items of a list on a durable state, and answer with their steps, or
// with the refusal of the first. What a refused item did to the live state is undone before the answer.

import type { Activation, Texts } from "./activation.ts";
import type { Computed } from "./adapter.ts";
import { ask, type WriteRequest } from "./authorize.ts";
import type { Compute, Item, Refusal, StepHeader } from "./frames.ts";
import { RESERVED } from "./instances.ts";
import { eventText, fromText, hasType, jsonText, placedMessageOf, shownText, traceOf } from "./json.ts";
import { outHead, outSections, senderOf, sentText, timerHead } from "./outgoing.ts";
import { computing, type Owner } from "./owner.ts";
import { utf8Length } from "./protocol.ts";
import { type Indexed, isSame, selectAll } from "./selectors.ts";
import type { Services } from "./worker.ts";

const { parse } = JSON;

class Refused extends Error {
  constructor(readonly code: Refusal, message: string) {
    super(message);
  }
}

/** An item with what it brings: the value that the machine would get. */
interface Prepared {
  readonly item: Item;
  readonly value: unknown;
  readonly auth: unknown;
}

export class Job {
  readonly #steps: StepHeader[] = [];
  readonly #sections: string[] = [];
  #texts: Texts | null;
  #last: Computed | null = null;
  /** The live state is that of #texts: nothing is left to confirm. */
  #isInPlace = true;
  #characters = 0;
  #index = 0;
  #cursor: number;
  #owner: Owner;
  /** As whom the authorizer runs. */
  #judging: Owner | null = null;

  constructor(
    private readonly worker: Services,
    private readonly on: Activation,
    private readonly header: Compute,
    private readonly payloads: readonly string[],
  ) {
    this.#texts = on.durable;
    this.#owner = computing(on);
    this.#cursor = header.base ? 2 : 0;
  }

  /** Answers before it returns, unless an authorizer is asynchronous. */
  start(): void {
    this.worker.within(this.#owner, () => this.#run());
  }

  #run(): void {
    while (this.#index < this.header.items.length) {
      let verdict: boolean | Promise<boolean> = true;
      let prepared: Prepared | null = null;
      try {
        prepared = this.#prepare(this.header.items[this.#index]!);
        if (prepared.item.auth) verdict = this.#judge(prepared);
      } catch (thrown) {
        this.#refuse(thrown, false);
        return;
      }
      if (typeof verdict !== "boolean") {
        this.#await(verdict, prepared);
        return;
      }
      if (!this.#decide(prepared, verdict)) return;
    }
    this.#answer();
  }

  #await(verdict: Promise<boolean>, prepared: Prepared): void {
    this.on.job = this;
    verdict.then((allowed) => {
      if (this.on.job !== this || this.on.isClosed) return;
      this.on.job = null;
      this.#judging!.claim = null;
      this.#owner = computing(this.on);
      this.worker.within(this.#owner, () => {
        if (this.#decide(prepared, allowed)) this.#run();
      });
    }).catch((thrown) => this.worker.fatal(thrown));
  }

  #prepare(item: Item): Prepared {
    let value: unknown;
    if (item.k === "event") value = eventOf(this.#next(), item, this.worker.program.major);
    else if (item.k === "init") value = item.context ? valueOf(this.#next(), item) : undefined;
    else if (item.k === "inside") value = this.#held(item.token);
    else if (item.k === "done") value = this.on.instance.childDone(item.service[0], fromText(this.#next()));
    else value = this.on.instance.serviceError(item.service[0], failure(item.code, item.message));
    const auth: unknown = item.auth ? parse(this.#next()) : undefined;
    return { item, value, auth };
  }

  #next(): string {
    return this.payloads[this.#cursor++]!;
  }

  #held(token: number): unknown {
    const held = this.on.held.get(token);
    if (held === undefined) {
      throw new Refused("machine-error", "the event was dropped with the service that sent it");
    }
    return held.event;
  }

  /** Ask the authorizer, which may fetch until it has answered. Code of earlier items may not: it has run as this owner. */
  #judge(prepared: Prepared): boolean | Promise<boolean> {
    const owner = this.#judging = this.#index === 0 ? this.#owner : computing(this.on);
    const { n, a } = this.header;
    owner.claim = { a, compute: n };
    const verdict = owner === this.#owner
      ? this.#authorise(prepared)
      : this.worker.within(owner, () => this.#authorise(prepared));
    if (typeof verdict === "boolean") owner.claim = null;
    return verdict;
  }

  #authorise({ item, value, auth }: Prepared): boolean | Promise<boolean> {
    this.on.canonicalise(this.#texts);
    const machineInstanceName = this.header.name;
    const request: WriteRequest = item.k === "init"
      ? { type: "initialization", machineInstanceName, context: value, authContext: auth }
      : {
        type: "event",
        machineInstanceName,
        state: this.on.instance.current()?.value,
        context: this.on.instance.current()?.context,
        event: value,
        authContext: auth,
      };
    const { allowWrite } = this.worker.program;
    return ask(allowWrite, request, this.worker.limits.authorize_ms, (reason) => {
      this.worker.tell(this.on, `allowWrite ${reason}`);
    });
  }

  /** Whether the next item may be computed; if not, the answer is sent. */
  #decide(prepared: Prepared, allowed: boolean): boolean {
    if (!allowed) {
      this.on.isTouched = true; // by the authorizer
      this.#refuse(new Refused("rejected-by-machine-authorizer", "allowWrite did not return true"), false);
      return false;
    }
    try {
      this.#compute(prepared);
    } catch (thrown) {
      this.#refuse(thrown, true);
      return false;
    }
    this.#index += 1;
    const last = this.#last;
    const goesOn = last === null ||
      !(last.hasEffects ||
        last.sends.length + last.starts.length + last.stops.length + last.outgoing.length > 0);
    if (goesOn) return true;
    this.#answer();
    return false;
  }

  #compute({ item, value, auth }: Prepared): void {
    const { instance } = this.on;
    if (!this.#isInPlace) instance.confirm(); // the step before, which had nothing to perform
    this.#isInPlace = true;
    this.#last = null;
    if (!item.auth) this.on.canonicalise(this.#texts);
    const wasTouched = this.on.isTouched;
    this.on.isTouched = true;
    const isOwn = item.k === "event" && (item.source === "timer" || item.source === "self");
    const event = isOwn ? instance.stored?.(value) ?? value : value;
    const before = instance.current()?.context;
    const computed = item.k === "init"
      ? instance.initialize(value)
      : instance.transition(event, item.source === "instance" ? senderOf(auth) : undefined);
    if (computed.changed) {
      const isSame = this.#add(computed, item, value) && computed.context === before;
      this.on.isTouched = wasTouched || !isSame;
      if (computed.isUnhandled) this.#tellUnhandled(value);
    } else {
      this.#steps.push({ changed: false });
      if (item.k === "failed" || item.k === "inside") this.#tellUnhandled(value);
    }
  }

  /** Whether the JSON of the context is that of the step before. */
  #add(computed: Computed, item: Item, value: unknown): boolean {
    this.#checkCounts(computed);
    const texts = this.#textsOf(computed);
    const base = this.on.durable;
    const hasContext = texts.context !== this.#texts?.context || texts.context !== base?.context;
    const isIndexedAnew = texts.indexes !== null && !isSame(texts.indexes, this.#texts?.indexes ?? null);
    const shown = publicOf(computed.context);
    const step: StepHeader = {
      changed: true,
      done: computed.done,
      ctx: hasContext,
      pub: hasContext && shown !== undefined,
      ev: item.k === "failed" || item.k === "done",
      effects: computed.hasEffects,
      timers: computed.timers.map(timerHead),
      sends: computed.sends.length,
      starts: computed.starts,
      stops: computed.stops,
      ...(isIndexedAnew ? { idx: texts.indexes! } : {}),
    };
    const hasOut = computed.outgoing.length > 0 || computed.output !== undefined;
    if (hasOut) Object.assign(step, outHead(computed));
    const sections: string[] = [];
    if (step.ev) sections.push(eventText(value));
    sections.push(texts.value, jsonText(computed.tags), texts.snapshot);
    if (step.ctx) sections.push(texts.context);
    if (step.pub) sections.push(shownText(shown));
    for (const timer of computed.timers) if (timer[0] === "set") sections.push(sentText(timer[3]));
    for (const event of computed.sends) sections.push(sentText(event));
    if (hasOut) sections.push(...outSections(computed));
    this.#checkSize(sections);
    this.#steps.push(step);
    this.#sections.push(...sections);
    const isContextSame = texts.context === this.#texts?.context;
    this.#texts = texts;
    this.#last = computed;
    this.#isInPlace = false;
    return isContextSame;
  }

  #checkCounts({ timers, sends, starts, stops, outgoing }: Computed): void {
    const { limits } = this.worker;
    const services = this.on.runs.size + starts.length - stops.length;
    let [events, spawns] = [sends.length, 0];
    for (const { kind } of outgoing) {
      if (kind === "send") events += 1;
      else if (kind === "spawn") spawns += 1;
    }
    if (
      timers.length <= limits.timer_operations_max && events <= limits.sends_max &&
      spawns <= limits.spawns_max && services <= limits.services_max
    ) return;
    throw new Refused(
      "too-many-effects",
      `one step may hold ${limits.timer_operations_max} timer operations, ${limits.sends_max} sends and ` +
        `${limits.spawns_max} persistent children, an instance ${limits.services_max} services: ` +
        `got ${timers.length}, ${events}, ${spawns} and ${services}`,
    );
  }

  #checkSize(sections: readonly string[]): void {
    const max = this.worker.limits.step_bytes_max;
    for (const section of sections) this.#characters += section.length;
    if (3 * this.#characters <= max) return;
    const bytes = [...this.#sections, ...sections].reduce((sum, section) => sum + utf8Length(section), 0);
    if (bytes > max) throw new Refused("step-too-large", `the step would take ${bytes} bytes; ${max} may be`);
  }

  #textsOf(computed: Computed): Texts {
    const known = this.#texts?.context;
    const context = jsonText(computed.context, known);
    const max = this.worker.limits.context_bytes_max;
    const isLong = context.length > max || (3 * context.length > max && utf8Length(context) > max);
    if (context !== known && isLong) {
      throw new Refused(
        "context-too-large",
        `the context would take ${utf8Length(context)} bytes of JSON; ${max} may be`,
      );
    }
    if (context !== known) {
      this.worker.losses.look(computed.context, (line) => this.worker.tell(this.on, line));
    }
    return {
      seq: (this.#texts?.seq ?? 0) + 1,
      value: jsonText(computed.value),
      snapshot: jsonText(computed.snapshot),
      context,
      indexes: this.#indexesOf(computed.context, context),
    };
  }

  /** A context whose JSON stays leaves the indexes as they were. */
  #indexesOf(context: unknown, text: string): Indexed | null {
    const { program, limits } = this.worker;
    if (program.selectors.length === 0) return null;
    return text === this.#texts?.context
      ? this.#texts.indexes
      : selectAll(program.selectors, context, limits);
  }

  #answer(): void {
    const { n, a } = this.header;
    const sizeMax = this.worker.limits.step_bytes_max;
    if (!this.worker.post({ t: "step", n, a, steps: this.#steps }, this.#sections, sizeMax)) {
      this.#steps.length = 0;
      this.#refuse(new Refused("step-too-large", `the step would take more than ${sizeMax} bytes`), true);
      return;
    }
    this.#consume(this.#steps.length);
    const texts = this.#texts;
    if (texts === null || texts === this.on.durable) return;
    this.on.pending = {
      texts,
      starts: this.#last?.starts ?? [],
      stops: this.#last?.stops ?? [],
      hasEffects: this.#last?.hasEffects ?? false,
      isInPlace: this.#isInPlace,
    };
    this.worker.keep(this.on);
  }

  /** The first item's refusal is the answer; a later one's is left to a compute of its own. */
  #refuse(thrown: unknown, hasComputed: boolean): void {
    const isFirst = this.#steps.length === 0;
    const standing = isFirst ? this.on.durable : this.#texts;
    if (standing === null || (hasComputed && !this.on.putBack(standing))) this.worker.forget(this.on);
    if (!isFirst) {
      if (hasComputed) {
        this.#isInPlace = true;
        this.#last = null;
      }
      this.#answer();
      return;
    }
    this.#consume(1);
    const { n, a } = this.header;
    const code = thrown instanceof Refused ? thrown.code : "machine-error";
    // The answer has the message only.
    if (code === "machine-error") this.worker.tell(this.on, `an event is refused: ${traceOf(thrown)}`);
    this.worker.post(
      { t: "refused", n, a, code, message: placedMessageOf(thrown).slice(0, 10_000) },
      [],
      this.worker.limits.step_bytes_max,
    );
  }

  /** The host has no more use for the events of the first `count` items. */
  #consume(count: number): void {
    for (const item of this.header.items.slice(0, count)) {
      if (item.k === "inside") this.on.held.delete(item.token);
    }
  }

  #tellUnhandled(value: unknown): void {
    if (!hasType(value) || !/^(?:xstate\.)?error\./.test(value.type)) return;
    const { error, data } = value as { error?: unknown; data?: unknown };
    this.worker.tell(this.on, `no state handles ${value.type}: ${placedMessageOf(error ?? data)}`);
  }
}

/** What a client sends is plain data, whatever it looks like; all else a worker has written. */
function valueOf(payload: string, { source }: Item): unknown {
  return source === "client" ? parse(payload) : fromText(payload);
}

/** What XState 5 lets whoever may send an event name a state by. */
const ROUTE = "xstate.route";

function eventOf(payload: string, item: Item, major: 4 | 5): { type: string } {
  const event = valueOf(payload, item);
  if (!hasType(event)) throw new Refused("machine-error", "an event is an object with a string type");
  const isOutside = item.source === "client" || item.source === "instance";
  const isRoute = major === 5 && item.source === "client" && event.type === ROUTE;
  if (isOutside && RESERVED.test(event.type) && !isRoute) {
    throw new Refused(
      "reserved-event",
      `events named xstate.*, done.*, error.* or statebacked.* are the machine's own`,
    );
  }
  return event;
}

/** What readers may see of a context. */
export function publicOf(context: unknown): unknown {
  return typeof context === "object" && context !== null
    ? (context as { public?: unknown }).public
    : undefined;
}

/** The error of a service that was lost or stopped. */
function failure(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}
