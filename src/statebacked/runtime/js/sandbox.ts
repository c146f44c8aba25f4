// Closes the process before user code comes: takes what the worker needs from Deno, then removes from the global
// scope what machine code must not have. It runs with no permissions at all; this is the second wall, not the first.

/** What the worker took for itself. */
export interface Natives {
  /** Bytes from the host; null at the end of stdin. */
  read(buffer: Uint8Array): Promise<number | null>;
  write(bytes: Uint8Array): void;
  exit(): never;
  /** The worker itself is broken (user code may have broken what it stands on): die visibly, never hang. */
  fatal(thrown: unknown): never;
}

export type Print = (stream: "stdout" | "stderr", text: string) => void;

/** Of the inside of Deno, the console that formats as Deno does and prints where we say. */
interface DenoInside {
  readonly Console: new (print: (text: string, level: number) => void) => Console;
}

/** The native code behind these (graphics drivers, decoders of pictures, sockets) is a wall that may have holes. */
const NATIVE = [
  "WebSocket",
  "EventSource",
  "createImageBitmap",
  "ImageBitmap",
  "ImageBitmapRenderingContext",
  "OffscreenCanvas",
  "CacheStorage",
  "Cache",
  "Storage",
];

const REMOVED = [
  ...NATIVE,
  "Deno",
  "process",
  "Buffer",
  "global",
  "Worker",
  "localStorage",
  "sessionStorage",
  "caches",
  "prompt",
  "alert",
  "confirm",
  "close",
  "Performance",
  "PerformanceEntry",
  "PerformanceMark",
  "PerformanceMeasure",
  "PerformanceObserver",
  "PerformanceObserverEntryList",
];

const WARN_LEVEL = 2;

/** What machine code may call that is ours: `spawn` is that of the runtime global. */
export interface Given {
  spawn(what: unknown, options?: unknown): unknown;
  fetch: typeof globalThis.fetch;
}

/** Removes, replaces and installs; `print` gets what machine code says on its console and what it fails to catch. */
export function closeSandbox(print: Print, { spawn, fetch }: Given): Natives {
  const natives = takeNatives();
  const console = captureConsole(print);
  define("console", console);
  define("performance", coarsePerformance());
  coarsenTemporal();
  define("fetch", fetch);
  const runtime = Object.freeze({ spawn });
  define("__statebacked_rt", runtime);
  define("__statebaked_rt", runtime); // the published @statebacked/machine 0.6.0 spells it so
  catchErrors(console);
  for (const name of ["setTimeout", "setInterval", "queueMicrotask"] as const) catchErrorsOf(name, console);
  const graphics = Object.getOwnPropertyNames(globalThis).filter((name) => name.startsWith("GPU"));
  for (const name of [...REMOVED, ...graphics]) delete (globalThis as Record<string, unknown>)[name];
  delete (Navigator.prototype as unknown as Record<string, unknown>)["gpu"];
  return natives;
}

function takeNatives(): Natives {
  const { stdin, stdout, stderr, exit } = Deno;
  const encoder = new TextEncoder();
  const encode = encoder.encode.bind(encoder);
  return {
    read: (buffer) => stdin.read(buffer),
    write(bytes) {
      let at = 0;
      while (at < bytes.length) at += stdout.writeSync(at === 0 ? bytes : bytes.subarray(at));
    },
    exit: () => exit(0),
    fatal(thrown) {
      try {
        stderr.writeSync(encode(`the worker failed: ${thrown instanceof Error ? thrown.stack : thrown}\n`));
      } catch {
        // Nobody reads any more.
      }
      return exit(70);
    },
  };
}

function captureConsole(print: Print): Console {
  const inside = (Deno as unknown as Record<symbol, DenoInside>)[
    (Deno as unknown as { internal: symbol }).internal
  ]!;
  return new inside.Console((text, level) => print(level < WARN_LEVEL ? "stdout" : "stderr", text));
}

/** A clock that shows milliseconds and no less: a finer one tells about other code on the machine. */
function coarsePerformance(): object {
  const now = Date.now;
  const timeOrigin = now();
  const nothing = (): void => {};
  return Object.freeze({
    timeOrigin,
    now: () => now() - timeOrigin,
    mark: nothing,
    measure: nothing,
    clearMarks: nothing,
    clearMeasures: nothing,
    getEntries: () => [],
    getEntriesByName: () => [],
    getEntriesByType: () => [],
    toJSON: () => ({ timeOrigin }),
  });
}

interface ZonedTime {
  toPlainDateTime(): unknown;
  toPlainDate(): unknown;
  toPlainTime(): unknown;
}

interface TemporalNames {
  readonly Now: { timeZoneId(): string };
  readonly Instant: {
    fromEpochMilliseconds(ms: number): { toZonedDateTimeISO(zone: unknown): ZonedTime };
  };
}

/** `Temporal.Now` counts nanoseconds; here its times are those of `Date.now`. */
function coarsenTemporal(): void {
  const names = (globalThis as unknown as { Temporal?: TemporalNames }).Temporal;
  if (names === undefined) return;
  const { Now, Instant } = names;
  const now = Date.now;
  const ownZone = Now.timeZoneId;
  const ofMs = Instant.fromEpochMilliseconds.bind(Instant);
  const zoned = (zone: unknown = ownZone()): ZonedTime => ofMs(now()).toZonedDateTimeISO(zone);
  const coarse = {
    instant: () => ofMs(now()),
    zonedDateTimeISO: (zone?: unknown) => zoned(zone),
    plainDateTimeISO: (zone?: unknown) => zoned(zone).toPlainDateTime(),
    plainDateISO: (zone?: unknown) => zoned(zone).toPlainDate(),
    plainTimeISO: (zone?: unknown) => zoned(zone).toPlainTime(),
  };
  for (const [name, value] of Object.entries(coarse)) Object.defineProperty(Now, name, { value });
}

function catchErrors(console: Console): void {
  globalThis.addEventListener("error", (event) => {
    event.preventDefault();
    console.error("uncaught:", (event as ErrorEvent).error);
  });
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    console.error("unhandled rejection:", (event as PromiseRejectionEvent).reason);
  });
}

/** What a callback throws is told where it is thrown, so that the line belongs to its instance. */
function catchErrorsOf(name: "setTimeout" | "setInterval" | "queueMicrotask", console: Console): void {
  const native = globalThis[name] as (run: unknown, ...rest: unknown[]) => unknown;
  const guarded = (run: (...args: unknown[]) => unknown) => (...args: unknown[]): void => {
    try {
      run(...args);
    } catch (thrown) {
      console.error("uncaught:", thrown);
    }
  };
  define(
    name,
    (run: unknown, ...rest: unknown[]) =>
      native(typeof run === "function" ? guarded(run as (...args: unknown[]) => unknown) : run, ...rest),
  );
}

function define(name: string, value: unknown): void {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
}
