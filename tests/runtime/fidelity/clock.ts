// Virtual time for everything in this process: imported before anything that may keep `setTimeout`. A run of a
// machine begins with `reset` and moves time only with `advance`.

import { setImmediate } from "node:timers";

interface Timer {
  due: number;
  run: () => void;
}

let now = 0;
let lastId = 0;
let timers = new Map<number, Timer>();

const setVirtual = (run: () => void, ms = 0): number => {
  lastId += 1;
  // Like the platform: truncated, not negative, and at once when it does not fit 31 bits.
  const delay = Math.trunc(Number(ms)) || 0;
  timers.set(lastId, { due: now + (delay < 0 || delay > 2 ** 31 - 1 ? 0 : delay), run });
  return lastId;
};

const clearVirtual = (id?: number): void => {
  if (id !== undefined) timers.delete(id);
};

Object.assign(globalThis, { setTimeout: setVirtual, clearTimeout: clearVirtual });

const nextDue = (until: number): number | null => {
  let found: number | null = null;
  for (const [id, { due }] of timers) {
    if (due <= until && (found === null || due < timers.get(found)!.due)) found = id;
  }
  return found;
};

/** Timers of 31 bits and more, which the platform's own cannot hold. */
const setLong = (run: () => void, ms: number): number => {
  lastId += 1;
  timers.set(lastId, { due: now + ms, run });
  return lastId;
};

export const clock = {
  setTimeout: setVirtual,
  clearTimeout: clearVirtual,
  setLong,

  now: (): number => now,

  isPending: (): boolean => timers.size > 0,

  reset(): void {
    now = 0;
    timers = new Map();
  },

  /** Let `ms` pass; after each timer that fires, wait until what it caused is over. */
  async advance(ms: number, quiet: () => Promise<void>): Promise<void> {
    const until = now + ms;
    for (let id = nextDue(until); id !== null; id = nextDue(until)) {
      const timer = timers.get(id)!;
      timers.delete(id);
      now = timer.due;
      timer.run();
      await quiet();
    }
    now = until;
  },
};

/** One turn of the event loop: every microtask runs, also those that microtasks add. */
export const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));
