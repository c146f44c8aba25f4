// Plain xstate on a machine of tests/fidelity_machines and its script, in virtual time: prints, after each step, what
// it shows and whether time alone would change it.
// `deno run --config tests/runtime/fidelity/deno5.json tests/e2e/oracle.ts order`.

import { clock } from "../runtime/fidelity/clock.ts";
import { major, PlainSide } from "major";
import scripts from "machines/scripts.json" with { type: "json" };
import type { Script } from "../runtime/fidelity/run.ts";

const print = console.log;
console.log = () => {}; // machines may log

const pending = new Set<number>();
const { setTimeout, clearTimeout } = clock;

clock.setTimeout = (run, ms) => {
  const id = setTimeout(() => {
    pending.delete(id);
    run();
  }, ms);
  pending.add(id);
  return id;
};
clock.clearTimeout = (id) => {
  if (id !== undefined) pending.delete(id);
  clearTimeout(id);
};
Object.assign(globalThis, { setTimeout: clock.setTimeout, clearTimeout: clock.clearTimeout });

const name = Deno.args[0];
const script = (scripts as unknown as Record<string, Script>)[name];
const { default: machine } = await import(`../fidelity_machines/${major}/${name}.ts`);
clock.reset();
const plain = new PlainSide(machine, script);
await plain.start();
const shown = [{ ...plain.view(), waits: pending.size > 0 }];
for (const step of script.steps) {
  await plain.act(step);
  if (plain.over !== null) throw new Error(plain.over);
  shown.push({ ...plain.view(), waits: pending.size > 0 });
}
print(JSON.stringify(shown));
Deno.exit();
