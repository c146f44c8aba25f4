// fetch of machine code, performed by the host. The web's own Request and Response stay; what travels between them
// and the host are frames, with credit for bodies in both directions.
//
// Theory of operation. Whether a fetch may be is decided twice: here by whose code asks (`Owner.claim`, null while
// something is computed), and by the host by what it knows itself. An exchange lives from its `fetch` frame until
// the host has said its last word on it, or until it is aborted. A piece of a body costs its bytes and PIECE_COST;
// the receiver gives the cost back when the piece is used.

import type {
  Claim,
  FetchHeader,
  FetchLimits,
  Headers as HeaderPairs,
  UploadHeader,
  WorkerHeader,
} from "./frames.ts";
import type { Owner } from "./owner.ts";

const { Error, ReadableStream, Request, Response, TypeError, Uint8Array } = globalThis;
const { defineProperties } = Object;
const later = setTimeout;
const clone = Response.prototype.clone;

const PIECE_COST = 1_000;
const BODILESS = new Set([204, 205, 304]);
const EMPTY = new Uint8Array(0);

type Bytes = Uint8Array<ArrayBuffer>;
type Head = FetchHeader & { t: "fetch_head" };

/** What fetches need from the process. */
export interface FetchHost {
  post(header: WorkerHeader, sections: readonly string[], bytesMax: number): boolean;
  postBytes(header: UploadHeader, bytes: Uint8Array): void;
  owner(): Owner | undefined;
}

/** Counts what is under way for one instance. */
export interface Fetching {
  fetches: number;
}

/** The pieces of a request's body, and their length together if it is known. */
interface Body {
  readonly length?: number;
  readonly pieces: AsyncIterable<Uint8Array>;
}

export class Fetches {
  limits!: FetchLimits;
  readonly #host: FetchHost;
  readonly #exchanges = new Map<number, Exchange>();
  #begun = 0;

  constructor(host: FetchHost) {
    this.#host = host;
  }

  /** What machine code calls. Throws at once where the rule forbids it; everything else is a rejection. */
  readonly fetch = (input: RequestInfo | URL, init?: RequestInit): Promise<Response> => {
    const owner = this.#host.owner();
    if (owner === undefined) throw new TypeError(UNOWNED);
    const claim = owner.claim;
    if (claim === null) throw new TypeError(COMPUTING);
    return this.#begin(owner, claim, input, init);
  };

  receive(header: FetchHeader, bytes: Bytes | undefined): void {
    const exchange = this.#exchanges.get(header.f);
    if (exchange === undefined) return; // aborted meanwhile
    switch (header.t) {
      case "fetch_head":
        return exchange.answered(header);
      case "fetch_chunk":
        return exchange.arrived(bytes!, header.ends);
      case "fetch_upload_more":
        return exchange.mayUpload(header.bytes);
      case "fetch_failed":
        return exchange.failed(failure(header.message));
    }
  }

  async #begin(owner: Owner, claim: Claim, input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    const request = new Request(input, init);
    request.signal.throwIfAborted();
    const headers: HeaderPairs = [...request.headers];
    this.#check(owner, request.url, headers);
    const exchange = new Exchange(++this.#begun, this.#host, this.limits, owner, () => {
      this.#exchanges.delete(exchange.f);
    });
    this.#exchanges.set(exchange.f, exchange);
    exchange.begin(claim, request, headers, isStream(init?.body)).catch((thrown) => exchange.gaveUp(thrown));
    return await exchange.response;
  }

  #check({ activation, service, counter }: Owner, url: string, headers: HeaderPairs): void {
    const { per_instance_max, per_worker_max, headers_bytes_max } = this.limits;
    const isOver = service !== null && activation?.runs.get(service[0]) !== service[1];
    if (activation?.isClosed || isOver) throw failure("the code that asks for it is over: it was stopped");
    if (counter.fetches >= per_instance_max) {
      throw failure(`${per_instance_max} requests of this instance are under way, more may not be`);
    }
    if (this.#exchanges.size >= per_worker_max) {
      throw failure(`${per_worker_max} requests of this machine are under way, more may not be`);
    }
    const bytes = headers.reduce((sum, [name, value]) => sum + name.length + value.length + 4, url.length);
    if (bytes > headers_bytes_max) {
      throw failure(`the URL and the headers take more than ${headers_bytes_max} bytes`);
    }
  }
}

class Exchange {
  readonly response: Promise<Response>;
  #resolve!: (response: Response) => void;
  #reject!: (reason: unknown) => void;
  #signal: AbortSignal | null = null;
  #isOver = false;
  #isAnswered = false;
  /** What the host takes of the request's body now; and who waits for more. */
  #credit: number;
  #wake: (() => void) | null = null;
  /** Pieces of the answer that nobody has read, and who waits for the next. */
  readonly #pieces: Bytes[] = [];
  #hasAll = false;
  #controller: ReadableByteStreamController | null = null;
  #pulled: (() => void) | null = null;

  constructor(
    readonly f: number,
    private readonly host: FetchHost,
    private readonly limits: FetchLimits,
    private readonly owner: Owner,
    private readonly over: () => void,
  ) {
    this.#credit = limits.window_bytes;
    owner.counter.fetches += 1;
    this.response = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  // --- the request

  async begin(claim: Claim, request: Request, headers: HeaderPairs, isStream: boolean): Promise<void> {
    this.#signal = request.signal;
    this.#signal.addEventListener("abort", this.#aborted);
    const body = request.body === null ? null : isStream ? await peeked(request.body) : await whole(request);
    if (this.#isOver) return;
    const { method, redirect } = request;
    const url = request.url.split("#", 1)[0]!;
    const length = body?.length === undefined ? {} : { length: body.length };
    this.#post({
      t: "fetch",
      f: this.f,
      ...claim,
      method,
      url,
      headers,
      redirect,
      body: body !== null,
      ...length,
    });
    if (body !== null) await this.#upload(body);
  }

  async #upload({ pieces }: Body): Promise<void> {
    const { chunk_bytes_max, body_bytes_max } = this.limits;
    let sent = 0;
    for await (const piece of pieces) {
      if (!(piece instanceof Uint8Array)) throw new TypeError("a body is a stream of Uint8Array");
      if ((sent += piece.length) > body_bytes_max) {
        throw failure(`the body of the request is longer than ${body_bytes_max} bytes`);
      }
      for (let at = 0; at < piece.length; at += chunk_bytes_max) {
        const part = piece.subarray(at, at + chunk_bytes_max);
        while (this.#credit < part.length + PIECE_COST && this.#isUploading) {
          await new Promise<void>((resolve) => this.#wake = resolve);
        }
        if (!this.#isUploading) return;
        this.#credit -= part.length + PIECE_COST;
        this.host.postBytes({ t: "fetch_upload", f: this.f, ends: false }, part);
      }
    }
    if (this.#isUploading) this.host.postBytes({ t: "fetch_upload", f: this.f, ends: true }, EMPTY);
  }

  /** A server may answer before it has everything; it wants no more then. */
  get #isUploading(): boolean {
    return !this.#isOver && !this.#isAnswered;
  }

  mayUpload(bytes: number): void {
    this.#credit += bytes;
    this.#wakeUpload();
  }

  #wakeUpload(): void {
    const wake = this.#wake;
    this.#wake = null;
    wake?.();
  }

  // --- the answer

  answered(head: Head): void {
    this.#isAnswered = true;
    this.#wakeUpload();
    try {
      const response = this.#responseOf(head);
      if (!head.body) this.#end();
      this.#resolve(response);
    } catch (thrown) {
      this.gaveUp(thrown); // a header that the web does not have, or code that has broken what this stands on
    }
  }

  #responseOf({ status, text, headers, url, redirected, body }: Head): Response {
    const pairs = headers.map(([name, value]): [string, string] => [name, value]);
    const stream = body && !BODILESS.has(status) ? this.#stream() : null;
    return located(new Response(stream, { status, statusText: text, headers: pairs }), url, redirected);
  }

  #stream(): ReadableStream<Bytes> {
    return new ReadableStream({
      type: "bytes",
      start: (controller) => void (this.#controller = controller),
      pull: () => this.#pull(),
      cancel: () => this.#abort(),
    }, { highWaterMark: 0 });
  }

  #pull(): Promise<void> | void {
    if (this.#give() || this.#isOver) return;
    return new Promise((resolve) => this.#pulled = resolve);
  }

  /** Hand on the next piece, if there is one. */
  #give(): boolean {
    const piece = this.#pieces.shift();
    if (piece === undefined) return false;
    const cost = piece.length + PIECE_COST;
    this.#controller!.enqueue(piece);
    if (!this.#hasAll) this.#post({ t: "fetch_more", f: this.f, bytes: cost });
    this.#closeIfAllIsGiven();
    return true;
  }

  arrived(piece: Bytes, ends: boolean): void {
    if (ends) {
      this.#hasAll = true;
      this.#end();
    }
    if (piece.length > 0) this.#pieces.push(piece);
    const pulled = this.#pulled;
    if (pulled !== null) {
      this.#pulled = null;
      this.#give();
      pulled();
    }
    this.#closeIfAllIsGiven();
  }

  #closeIfAllIsGiven(): void {
    const controller = this.#controller;
    if (!this.#hasAll || this.#pieces.length > 0 || controller === null) return;
    this.#controller = null;
    controller.close();
    controller.byobRequest?.respond(0);
  }

  // --- the end

  readonly #aborted = (): void => this.gaveUp(this.#signal!.reason);

  /** Our side wants no more of it. */
  gaveUp(reason: unknown): void {
    this.#abort();
    this.failed(reason);
  }

  #abort(): void {
    if (this.#isOver) return;
    this.#post({ t: "fetch_abort", f: this.f });
    this.#end();
  }

  failed(reason: unknown): void {
    this.#end();
    this.#reject(reason);
    const controller = this.#controller;
    this.#controller = null;
    this.#pieces.length = 0;
    controller?.error(reason);
    this.#pulled?.();
  }

  #end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.owner.counter.fetches -= 1;
    this.#signal?.removeEventListener("abort", this.#aborted);
    this.#wakeUpload();
    this.over();
  }

  #post(header: WorkerHeader): void {
    this.host.post(header, [], 1_000_000);
  }
}

// --- bodies of requests --------------------------------------------------------------------------

function isStream(body: BodyInit | null | undefined): boolean {
  return body === undefined || body === null || body instanceof ReadableStream;
}

/** A body that machine code has as a whole. */
async function whole(request: Request): Promise<Body> {
  const bytes = new Uint8Array(await request.arrayBuffer());
  return { length: bytes.length, pieces: once(bytes) };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** A stream; one that ends with its first piece, as those behind texts do, is as good as whole. */
async function peeked(stream: ReadableStream<Uint8Array>): Promise<Body> {
  const reader = stream.getReader();
  const first = await reader.read();
  if (first.done) return { length: 0, pieces: once(EMPTY) };
  const second = reader.read();
  second.catch(() => {}); // whoever reads on hears of it
  const isAll = await Promise.race([
    second.then(({ done }) => done, () => false),
    new Promise<boolean>((resolve) => later(() => resolve(false), 0)),
  ]);
  if (isAll) return { length: first.value.length, pieces: once(first.value) };
  return { pieces: from(first.value, second, reader) };
}

async function* from(
  first: Uint8Array,
  second: Promise<ReadableStreamReadResult<Uint8Array>>,
  reader: ReadableStreamDefaultReader<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  try {
    yield first;
    for (let next = await second; !next.done; next = await reader.read()) yield next.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}

// --- answers and errors --------------------------------------------------------------------------

/** Only a response of the host knows where it comes from; its copies know it too. */
function located(response: Response, url: string, redirected: boolean): Response {
  return defineProperties(response, {
    url: { value: url, configurable: true },
    redirected: { value: redirected, configurable: true },
    clone: {
      value: () => located(clone.call(response), url, redirected),
      configurable: true,
      writable: true,
    },
  });
}

const COMPUTING =
  "fetch is not allowed here: a guard, an assign, a context, a delay, an output, a selector or a migration is computed before its " +
  "transition is durable and may have no effect, and an authorizer has no time left once it has answered; " +
  "fetch in a service (invoke), in an action or in an authorizer";
const UNOWNED = "fetch is not allowed while the module loads, nor in code that no instance runs: " +
  "fetch in a service (invoke), in an action or in an authorizer";

function failure(reason: string): TypeError {
  return new TypeError(`fetch failed: ${reason}`, { cause: new Error(reason) });
}
