// Runs a script on plain xstate and on the adapter, and tells the first difference.

import { adapter, PlainSide } from "major";
import { clock, turn } from "./clock.ts";
import { Host } from "./host.ts";
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

/** `build` makes the machine anew: what one run leaves behind in it does not help another. */
export async function compare(build: () => unknown, script: Script): Promise<Outcome> {
  const plain = new PlainSide(build(), script);
  const expected = await record(plain, script, () => plain.over !== null);
  const outcome = { difference: null, drops: 0, compared: expected.length, over: plain.over };
  if (expected.length === 0) return outcome;
  const shorter = { ...script, steps: script.steps.slice(0, expected.length - 1) };
  const kept = new Host(adapter, build(), script, { drops: false });
  const restored = new Host(adapter, build(), script, { drops: true });
  for (const [host, how] of [[kept, "kept alive"], [restored, "restored"]] as const) {
    const actual = await record(host, shorter, () => false);
    const difference = firstDifference(script, expected, actual) ?? host.faults[0];
    if (difference) return { ...outcome, difference: `${how}: ${difference}` };
  }
  return { ...outcome, drops: restored.drops, difference: differentStore(kept.stored, restored.stored) };
}

/** A state that was kept and one that was restored are stored alike. */
function differentStore(kept: readonly string[], restored: readonly string[]): string | null {
  const index = kept.findIndex((stored, at) => stored !== restored[at]);
  return index < 0 && kept.length === restored.length
    ? null
    : `stored ${kept[index]} and, restored before, ${restored[index]}`;
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
