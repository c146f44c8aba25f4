// What actors of XState 5 get from outside: time, and the machine's log for what goes wrong after the commit.

import { messageOf } from "./json.ts";

const TIMEOUT_MS_MAX = 2_147_483_647;
const { setTimeout, clearTimeout } = globalThis;

/** The clock of ephemeral children. A delay that setTimeout cannot hold would fire at once: they end before it. */
export const clock = {
  setTimeout: (run: () => void, ms: number) => ms > TIMEOUT_MS_MAX ? undefined : setTimeout(run, ms),
  clearTimeout: (id: ReturnType<typeof setTimeout>): void => clearTimeout(id),
};

export const logger = (...said: unknown[]): void => console.log(...said);

/** What goes wrong after the commit goes to the machine's log; the transition stands. */
export function attempt(run: () => unknown): void {
  try {
    run();
  } catch (thrown) {
    console.error(thrown instanceof Error ? thrown : `thrown after the commit: ${messageOf(thrown)}`);
  }
}
