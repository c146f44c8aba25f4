// The process: closes the sandbox, then feeds the worker loop from stdin and writes its frames to stdout.
// boot4.ts and boot5.ts are the entries; dist/<major>/boot.js is what the server starts.

import { AsyncLocalStorage } from "node:async_hooks";
import { Fetches } from "./fetch.ts";
import type { UploadHeader } from "./frames.ts";
import { noticingNames, runtimeSpawn } from "./instances.ts";
import { Log } from "./log.ts";
import { type Owner, speakerOf } from "./owner.ts";
import { closed, named } from "./places.ts";
import { type Exports, ofAnyVersion } from "./program.ts";
import { Decoder, Encoder } from "./protocol.ts";
import { closeSandbox, type Natives } from "./sandbox.ts";
import { type Host, type Library, Worker } from "./worker.ts";

const READ_BYTES = 262_144;
const LOG_FRAME_BYTES_MAX = 1_000_000;
const TELL_DROPPED_MS = 110;
const PLACE = new URL(".", import.meta.url).href;

export async function boot(library: Library): Promise<never> {
  const owners = new AsyncLocalStorage<Owner>();
  const writer = new Writer();
  const fetches = new Fetches({
    post: (header, sections, bytesMax) => writer.post(header, sections, bytesMax),
    postBytes: (header, bytes) => writer.postBytes(header, bytes),
    owner: () => owners.getStore(),
  });
  const natives = closeSandbox(
    (stream, text) => writer.log(speakerOf(owners.getStore()), stream, text),
    { spawn: runtimeSpawn(library.spawn), fetch: fetches.fetch },
  );
  writer.start(natives);
  const host: Host = {
    post: (header, sections, bytesMax) => writer.post(header, sections, bytesMax),
    log: (a, stream, text) => writer.log(a, stream, text),
    within: (owner, run) => owners.run(owner, run),
    owner: () => owners.getStore(),
    importBundle: importer(),
    fatal: natives.fatal,
  };
  try {
    return await serve(natives, new Worker(host, library, fetches), writer);
  } catch (thrown) {
    return natives.fatal(thrown);
  }
}

async function serve(natives: Natives, worker: Worker, writer: Writer): Promise<never> {
  const decoder = new Decoder();
  const buffer = new Uint8Array(READ_BYTES);
  for (;;) {
    const count = await natives.read(buffer);
    if (count === null) return natives.exit();
    for (const frame of decoder.feed(buffer.subarray(0, count))) worker.receive(frame);
    writer.flush();
  }
}

/** Traces name the worker's own file; where it is on the server is nobody's business. */
function withoutPlace(text: string): string {
  return text.includes("file://") ? text.replaceAll(PLACE, "statebacked:") : text;
}

/** User code comes from a blob: URL, never by a name of the file system. */
function importer(): (source: string) => Promise<Exports> {
  const { createObjectURL, revokeObjectURL } = URL;
  const Source = Blob;
  const load = async (source: string): Promise<Exports> => {
    const url = createObjectURL(new Source([closed(source)], { type: "text/javascript" }));
    named(url);
    try {
      return await noticingNames(() => import(url) as Promise<Exports>);
    } finally {
      revokeObjectURL(url);
    }
  };
  return async (source) => {
    try {
      return await load(source);
    } catch (thrown) {
      const any = ofAnyVersion(source);
      if (any === source) throw thrown;
      return await load(any);
    }
  };
}

/** Gathers frames and console lines, and writes them once a turn of the loop. */
class Writer {
  readonly #encoder = new Encoder();
  readonly #log = new Log(Date.now);
  readonly #later = queueMicrotask;
  readonly #afterWhile: (run: () => void, ms: number) => unknown = setTimeout;
  #natives: Natives | null = null;
  #isDue = false;
  #isTelling = false;

  start(natives: Natives): void {
    this.#natives = natives;
  }

  post(header: { readonly t: string }, sections: readonly string[], bytesMax: number): boolean {
    this.#drain(); // what was said before comes before
    if (!this.#encoder.push(header, sections, bytesMax)) return false;
    this.#due();
    return true;
  }

  postBytes(header: UploadHeader, bytes: Uint8Array): void {
    this.#drain();
    this.#encoder.pushBytes(header, bytes);
    this.#due();
  }

  log(a: number, stream: "stdout" | "stderr", text: string): void {
    try {
      this.#log.add(a, stream, withoutPlace(text));
      this.#due();
      if (this.#log.isDropping) this.#tellLater();
    } catch (thrown) {
      this.#natives!.fatal(thrown); // not an error of whoever speaks
    }
  }

  flush(): void {
    this.#drain();
    if (!this.#encoder.isEmpty) this.#natives!.write(this.#encoder.take());
  }

  #drain(): void {
    if (this.#log.isEmpty) return;
    for (const frame of this.#log.take()) this.#encoder.push(frame, [], LOG_FRAME_BYTES_MAX);
  }

  /** Somebody hears of dropped lines, also when nothing more is said. */
  #tellLater(): void {
    if (this.#isTelling) return;
    this.#isTelling = true;
    const afterWhile = this.#afterWhile;
    afterWhile(() => {
      this.#isTelling = false;
      this.#due();
    }, TELL_DROPPED_MS);
  }

  #due(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    const later = this.#later;
    later(() => {
      this.#isDue = false;
      try {
        this.flush();
      } catch (thrown) {
        this.#natives!.fatal(thrown);
      }
    });
  }
}
