// Runs a script on plain xstate and on the adapter, and tells the first difference.

import { adapter, PlainSide } from "major";
import { clock, turn } from "./clock.ts";
import { Host, type HostOptions } from "./host.ts";
import type { Script, Side, View } from "./run.ts";
import { takeNotes } from "./trace.ts";

export interface Outcome {
  difference: string | null;
  drops: number;
  /** How many views were compared: a script ends early where plain xstate throws. */
  compared: number;
  /** Why plain xstate could not go on to the end. */
  over: string | null;
}

/** `build` makes the machine anew: what one run leaves behind in it does not help the other. */
export async function compare(build: () => unknown, script: Script, options: HostOptions): Promise<Outcome> {
  const plain = new PlainSide(build(), script);
  const expected = await record(plain, script, () => plain.over !== null);
  if (expected.length === 0) return { difference: null, drops: 0, compared: 0, over: plain.over };
  const host = new Host(adapter, build(), script, options);
  const actual = await record(
    host,
    { ...script, steps: script.steps.slice(0, expected.length - 1) },
    () => false,
  );
  const difference = firstDifference(script, expected, actual) ?? host.faults[0] ?? null;
  return { difference, drops: host.drops, compared: expected.length, over: plain.over };
}

async function record(side: Side, script: Script, isOver: () => boolean): Promise<View[]> {
  clock.reset();
  takeNotes();
  const views: View[] = [];
  await side.start();
  for (const step of [null, ...script.steps]) {
    if (step) await side.act(step);
    if (isOver()) break;
    views.push(side.view());
  }
  side.stop();
  await turn();
  takeNotes();
  return views;
}

function firstDifference(script: Script, expected: View[], actual: View[]): string | null {
  for (const [index, view] of expected.entries()) {
    const [plain, ours] = [JSON.stringify(view), JSON.stringify(actual[index])];
    if (plain === ours) continue;
    const steps = script.steps.slice(0, index).map((step) => JSON.stringify(step)).join("\n  ");
    const from = index > 0 ? `\nfrom    ${JSON.stringify(expected[index - 1])}` : "";
    return `after\n  ${steps}${from}\nplain   ${plain}\nadapter ${ours}`;
  }
  return null;
}
