// One instance of the XState 4 adapter, driven by hand.

import { deepStrictEqual as equal } from "node:assert";
import { createMachine } from "xstate";
import type { Computed, Instance } from "js/adapter.ts";
import { xstate4 } from "js/xstate4.ts";
import { clock, turn } from "./clock.ts";

export interface Sent {
  event: { type: string; [key: string]: unknown };
  service: string | null;
  ends: boolean;
}

/** One instance, and all that it says. */
export class Rig {
  sent: Sent[] = [];
  positions: number[] = [];
  readonly instance: Instance;

  constructor(machine: unknown) {
    clock.reset();
    equal(xstate4.check(machine), null);
    this.instance = xstate4.instantiate(machine, "rig", {
      sent: (event, service, ends) => void this.sent.push({ event: event as Sent["event"], service, ends }),
    });
  }

  perform(): void {
    this.positions = [];
    this.instance.confirm();
    this.instance.perform((after) => void this.positions.push(after));
  }

  start(context?: unknown): Computed {
    const computed = this.instance.initialize(context);
    this.perform();
    return computed;
  }

  send(event: string | object): Computed {
    const computed = this.instance.transition(typeof event === "string" ? { type: event } : event);
    this.perform();
    return computed;
  }

  /** Everything stored, and nothing else. */
  restored(machine: unknown, computed: Computed): Rig {
    const rig = new Rig(machine);
    rig.instance.restore(
      JSON.parse(JSON.stringify(computed.snapshot)),
      JSON.parse(JSON.stringify(computed.context)),
    );
    return rig;
  }
}

const modes = [true, false] as const;

/** A law for machines with predictableActionArguments and for those without. */
export const law = (
  name: string,
  check: (predictableActionArguments: boolean) => void | Promise<void>,
): void => {
  for (const mode of modes) {
    Deno.test(`${name} (${mode ? "predictable" : "assigns first"})`, () => check(mode));
  }
};

export const machineOf = (
  predictableActionArguments: boolean,
  config: object,
  options: object = {},
): unknown => createMachine({ id: "m", predictableActionArguments, ...config } as never, options as never);

export const aside = async <T>(run: () => T): Promise<{ result: T; said: string[] }> => {
  const said: string[] = [];
  const kept = [console.log, console.warn, console.error];
  console.log = console.warn = console.error = (...words: unknown[]) =>
    void said.push(words.map(String).join(" "));
  try {
    const result = run();
    await turn();
    return { result, said };
  } finally {
    [console.log, console.warn, console.error] = kept;
  }
};
