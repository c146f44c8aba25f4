// The worker loop: frames from the host in, frames to the host out. Everything that touches the process comes in
// as `Host`; everything that differs between the majors of XState comes in as an adapter.

import { Activation, type Held, type Run } from "./activation.ts";
import { Activations } from "./activations.ts";
import type { Adapter, Outlet } from "./adapter.ts";
import { Job } from "./compute.ts";
import type { Fetches } from "./fetch.ts";
import {
  type Compute,
  FRAME_BYTES_MAX,
  type HostHeader,
  type Limits,
  PROTOCOL,
  type Read,
  type Upgrade,
  type WorkerHeader,
} from "./frames.ts";
import type { SpawnEphemeral } from "./instances.ts";
import { eventText, hasType, placedMessageOf } from "./json.ts";
import type { Stream } from "./log.ts";
import { Losses } from "./losses.ts";
import { type Upgrades, upgradesOf } from "./migrate.ts";
import { computing, type Owner, performing, serving, speakerOf } from "./owner.ts";
import { examinedBy, explain, type Exports, type Program, programOf } from "./program.ts";
import { type Frame, utf8Length } from "./protocol.ts";
import { type Judges, read, readEach } from "./reading.ts";
import { type Parts, upgrade } from "./upgrade.ts";

const LIVE_BYTES_MAX = 64_000_000;

type Load = Extract<HostHeader, { readonly t: "load" }>;

/** What the loop needs from the process. */
export interface Host {
  /** Send a frame; false when it is longer than `bytesMax`. */
  post(header: WorkerHeader, sections: readonly string[], bytesMax: number): boolean;
  log(a: number, stream: Stream, text: string): void;
  within<T>(owner: Owner, run: () => T): T;
  owner(): Owner | undefined;
  importBundle(source: string): Promise<Exports>;
  /** The worker itself is broken. */
  fatal(thrown: unknown): never;
}

/** One major of XState, as built into this worker. */
export interface Library {
  readonly version: string;
  createAdapter(limits: { readonly microstepsMax: number }): Adapter;
  /** `spawn` of this major, for the runtime global. */
  readonly spawn: SpawnEphemeral;
  /** Whether a machine was made by the copy that this worker links. */
  made(machine: unknown): boolean;
}

/** What a compute needs from the loop. */
export interface Services {
  readonly limits: Limits;
  readonly program: Program;
  readonly losses: Losses;
  post(header: WorkerHeader, sections: readonly string[], bytesMax: number): boolean;
  within<T>(owner: Owner, run: () => T): T;
  /** A line for the machine's log. */
  tell(activation: Activation, line: string): void;
  keep(activation: Activation): void;
  forget(activation: Activation): void;
  fatal(thrown: unknown): never;
}

export class Worker implements Services, Judges {
  readonly #host: Host;
  readonly #library: Library;
  readonly #fetches: Fetches;
  readonly #activations = new Activations(LIVE_BYTES_MAX);
  readonly losses = new Losses();
  #limits: Limits | null = null;
  #adapter: Adapter | null = null;
  #program: Program | null = null;
  #upgrades: Upgrades | null = null;
  #tokens = 0;

  constructor(host: Host, library: Library, fetches: Fetches) {
    this.#host = host;
    this.#fetches = fetches;
    this.#library = library;
  }

  get limits(): Limits {
    return this.#limits!;
  }

  get program(): Program {
    return this.#program!;
  }

  get adapter(): Adapter {
    return this.#adapter!;
  }

  receive(frame: Frame): void {
    const header = frame.header as HostHeader;
    switch (header.t) {
      case "compute":
        this.#compute(header, frame.sections);
        break;
      case "perform":
        this.#perform(header.a, header.seq);
        break;
      case "read":
        this.#read(header, frame.sections);
        break;
      case "read-each":
        readEach(this, header, frame.sections);
        break;
      case "ping":
        this.#post({ t: "pong", n: header.n });
        break;
      case "stop":
        this.#stop(header.a, header.services);
        break;
      case "close":
        this.#close(header.a);
        break;
      case "leave":
      case "migrate":
      case "arrive":
        this.#upgrade(header, frame.sections);
        break;
      case "fetch_head":
      case "fetch_chunk":
      case "fetch_upload_more":
      case "fetch_failed":
        this.#fetches.receive(header, frame.bytes);
        break;
      case "load":
        this.#load(frame.sections[0]!, header).catch((thrown) => this.fatal(thrown));
        break;
      case "boot":
        this.#boot(header);
        break;
      default:
        throw new Error(`a frame of unknown type: ${JSON.stringify(header satisfies never)}`);
    }
  }

  // --- the life of the worker

  #boot(header: { readonly protocol: number } & Limits): void {
    if (header.protocol !== PROTOCOL) throw new Error(`protocol ${header.protocol} is not spoken here`);
    this.#limits = header;
    this.#fetches.limits = header.fetch;
    this.#adapter = this.#library.createAdapter({ microstepsMax: header.microsteps_max });
    this.#post({ t: "ready", protocol: PROTOCOL, xstate: this.#library.version });
  }

  async #load(bundle: string, { selectors = [], migration = false, examine = false }: Load): Promise<void> {
    try {
      const exports = await this.#host.importBundle(bundle);
      if (migration) {
        this.#upgrades = upgradesOf(exports);
        this.#post({ t: "loaded", major: this.#adapter!.major, inlined: false });
        return;
      }
      const { made } = this.#library;
      const program = this.#program = programOf(
        exports,
        selectors,
        this.#adapter!,
        (machine) => made(machine),
      );
      const { major, inlined } = program;
      const examined = examine ? examinedBy(this.#adapter!, program) : null;
      this.#post({ t: "loaded", major, inlined, ...(examined === null ? {} : { examined }) });
    } catch (thrown) {
      const { message, missingExport } = explain(thrown);
      this.#post({ t: "unloadable", message: message.slice(0, 10_000), missing_export: missingExport });
    }
  }

  // --- one event

  #compute(header: Compute, payloads: readonly string[]): void {
    const { n, a, seq } = header;
    let activation = this.#activations.get(a);
    try {
      if (header.base || seq === 0) activation = this.#open(header, payloads);
      else if (activation !== undefined && !activation.standOn(seq)) activation = undefined;
    } catch (thrown) {
      this.#close(a);
      this.#post({
        t: "refused",
        n,
        a,
        code: "machine-error",
        message: placedMessageOf(thrown).slice(0, 10_000),
      });
      return;
    }
    if (activation === undefined) {
      this.#post({ t: "lacks", n, a });
      return;
    }
    const on = activation;
    on.job = null; // a compute that the host has given up is not answered
    new Job(this, on, header, payloads).start();
    if (!on.isClosed) this.#activations.keep(on);
  }

  #open({ a, seq, name, base }: Compute, payloads: readonly string[]): Activation {
    if (this.program.major !== this.#adapter!.major) {
      throw new Error(
        `this worker runs XState ${this.#adapter!.major}, the machine is one of XState ${this.program.major}`,
      );
    }
    this.#activations.close(a);
    const activation = new Activation(
      a,
      name,
      this.#adapter!,
      this.program.machine,
      (of) => this.#outlet(of),
    );
    if (base) this.within(computing(activation), () => activation.restore(seq, payloads[0]!, payloads[1]!));
    return activation;
  }

  #perform(a: number, seq: number): void {
    const activation = this.#activations.get(a);
    if (activation === undefined || activation.textsOf(seq) === null) return;
    const sent: NonNullable<Activation["sent"]> = { entries: [], events: [], after: 0 };
    if (activation.unperformed === seq) {
      activation.unperformed = null;
      activation.sent = sent;
      activation.isTouched = true;
      this.within(
        performing(activation),
        () => activation.instance.perform((after) => void (sent.after = after)),
      );
      activation.sent = null;
    }
    if (!this.#host.post({ t: "performed", a, seq, sent: sent.entries }, sent.events, FRAME_BYTES_MAX)) {
      this.#postOversized(activation, seq, sent);
    }
    this.#activations.keep(activation);
  }

  /** Too much was sent in one go: the largest events give way to errors of their senders until the frame fits. */
  #postOversized(activation: Activation, seq: number, sent: NonNullable<Activation["sent"]>): void {
    const { entries, events } = sent;
    const fits = (): boolean =>
      this.#host.post({ t: "performed", a: activation.a, seq, sent: entries }, events, FRAME_BYTES_MAX);
    while (!fits()) {
      let largest = 0;
      for (let i = 0; i < events.length; i++) if (events[i]!.length > events[largest]!.length) largest = i;
      this.tell(activation, "the events sent at once take too many bytes: the largest was dropped");
      activation.held.delete(entries[largest]!.token);
      entries.splice(largest, 1);
      events.splice(largest, 1);
    }
  }

  #stop(a: number, services: readonly Run[]): void {
    const activation = this.#activations.get(a);
    if (activation === undefined) return;
    activation.isTouched = true;
    this.within(performing(activation), () => activation.stop(services));
  }

  #close(a: number): void {
    const activation = this.#activations.get(a);
    if (activation === undefined) return;
    this.within(performing(activation), () => this.#activations.close(a));
  }

  // --- what machine code sends to its own instance

  #outlet(activation: Activation): Outlet {
    return {
      sent: (event, service, ends) => this.#sent(activation, event, service, ends),
      within: (service, run) => {
        return this.#host.within(serving(activation, service), run);
      },
    };
  }

  #sent(activation: Activation, event: unknown, service: string | null, ends: boolean): void {
    if (activation.isClosed) return;
    const run = this.#sender(activation, service);
    if (run === undefined) return;
    if (!hasType(event)) {
      this.tell(activation, "something without a string type was sent to the machine and dropped");
      return;
    }
    if (run === null && activation.sent === null) {
      this.tell(
        activation,
        `${event.type} was sent after its action had ended and dropped: use a delay or a service`,
      );
      return;
    }
    const [said, text] = this.#fitting(activation, event, run, ends);
    if (ends && run !== null) activation.runs.delete(run[0]);
    const token = ++this.#tokens;
    const held: Held = { event: said, service: run };
    activation.held.set(token, held);
    if (activation.sent !== null) {
      const { entries, events, after } = activation.sent;
      entries.push({
        token,
        after,
        ...(run === null ? {} : { service: run }),
        ...(ends ? { ends: true } : {}),
      });
      events.push(text);
    } else {this.#host.post(
        { t: "inside", a: activation.a, token, service: run!, ends },
        [text],
        FRAME_BYTES_MAX,
      );}
  }

  /** The run that sends; null: the machine itself; undefined: one that is over, which is not heard. */
  #sender(activation: Activation, service: string | null): Run | null | undefined {
    const owner = this.#host.owner();
    const scoped = owner !== undefined && owner.activation === activation ? owner.service : null;
    const id = service ?? scoped?.[0];
    if (id === undefined) return null;
    const seq = activation.runs.get(id);
    if (seq === undefined || (service === null && scoped?.[1] !== seq)) return undefined;
    return [id, seq];
  }

  /** An event too large for a frame becomes the error of the service that it ends, or only its type. */
  #fitting(
    activation: Activation,
    event: { type: string },
    run: Run | null,
    ends: boolean,
  ): [unknown, string] {
    const text = eventText(event);
    const max = FRAME_BYTES_MAX - 10_000; // less the header
    if (3 * text.length < max || utf8Length(text) < max) return [event, text];
    this.tell(activation, `${event.type.slice(0, 200)} takes too many bytes to be recorded`);
    const tooLarge = ends && run !== null
      ? activation.instance.serviceError(run[0], new Error("the result takes too many bytes"))
      : { type: event.type.slice(0, 1_000) };
    return [tooLarge, eventText(tooLarge)];
  }

  // --- upgrading

  #upgrade(header: Upgrade, sections: readonly string[]): void {
    const parts: Parts = {
      adapter: this.#adapter!,
      limits: this.limits,
      program: this.#program,
      upgrades: this.#upgrades,
      post: (answer, texts, bytesMax) => this.#host.post(answer, texts, bytesMax),
    };
    const counter = { fetches: 0 };
    const owner: Owner = { activation: null, service: null, claim: null, counter, read: header.n };
    this.#host.within(owner, () => upgrade(parts, header, sections));
  }

  // --- reading

  #read(header: Read, payloads: readonly string[]): void {
    const { n, a, seq, base } = header;
    const activation = a === 0 ? undefined : this.#activations.get(a);
    const texts = base ? null : activation?.textsOf(seq) ?? null;
    if (base) read(this, header, payloads, null);
    else if (texts !== null) read(this, header, payloads, { activation: activation!, texts });
    else this.#post({ t: "lacks", n });
  }

  answerRead(n: number, ok: readonly boolean[]): void {
    this.#post({ t: "readable", n, ok });
  }

  tellOwner(owner: Owner, line: string): void {
    this.#host.log(speakerOf(owner), "stderr", line);
  }

  // --- for computes, and for reads

  post(header: WorkerHeader, sections: readonly string[], bytesMax: number): boolean {
    return this.#host.post(header, sections, bytesMax);
  }

  within<T>(owner: Owner, run: () => T): T {
    return this.#host.within(owner, run);
  }

  tell(activation: Activation, line: string): void {
    this.#host.log(activation.a, "stderr", line);
  }

  keep(activation: Activation): void {
    this.#activations.keep(activation);
  }

  forget(activation: Activation): void {
    this.#activations.close(activation.a);
    if (!activation.isClosed) activation.close();
  }

  fatal(thrown: unknown): never {
    return this.#host.fatal(thrown);
  }

  #post(header: WorkerHeader): void {
    this.#host.post(header, [], FRAME_BYTES_MAX);
  }
}
