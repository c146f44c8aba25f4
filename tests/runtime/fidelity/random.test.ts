// Random machines against plain xstate. SEED=… replays one, SEEDS=… runs that many.

import "./clock.ts";
import { ok } from "node:assert";
import { compare } from "./compare.ts";
import { dialect, major } from "major";
import { makeMachine, makeScript } from "./random.ts";

const only = Deno.env.get("FIDELITY_SEED");
const count = Number(Deno.env.get("FIDELITY_SEEDS") ?? 300);
const seeds = only === undefined ? Array.from({ length: count }, (_, seed) => seed) : [Number(only)];
const say = console.log;
console.error = console.warn = console.log = () => {}; // what random machines complain about is not wrong

Deno.test(`random machines are the same, of XState ${major}`, async () => {
  let drops = 0;
  const over: Record<string, number> = {};
  let compared = 0;
  for (const seed of seeds) {
    const outcome = await compare(() => makeMachine(seed, dialect), makeScript(seed));
    ok(outcome.difference === null, `seed ${seed}, ${outcome.difference}`);
    if (outcome.over) over[outcome.over] = (over[outcome.over] ?? 0) + 1;
    drops += outcome.drops;
    compared += outcome.compared;
  }
  say(`${seeds.length} machines, ${compared} states, ${drops} restores`, over);
  ok(only !== undefined || drops > seeds.length * 5, `only ${drops} restores`);
  ok(only !== undefined || compared > seeds.length * 10, `only ${compared} states were compared`);
});
