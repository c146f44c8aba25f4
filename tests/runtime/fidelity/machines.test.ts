// The machines of tests/fidelity_machines/<major>, each by its script: the same states as plain xstate.

import "./clock.ts";
import { deepStrictEqual, ok } from "node:assert";
import scripts from "machines/scripts.json" with { type: "json" };
import { compare } from "./compare.ts";
import { major } from "major";
import type { Script } from "./run.ts";

for (const [name, script] of Object.entries(scripts as unknown as Record<string, Script>)) {
  const { default: machine } = await import(`../../fidelity_machines/${major}/${name}.ts`);
  for (const drops of [true, false]) {
    Deno.test(`${name} is the same ${drops ? "restored after every settled event" : "kept alive"}`, async () => {
      const outcome = await compare(() => machine, script, { drops });
      deepStrictEqual(outcome.difference, null, outcome.difference ?? "");
      deepStrictEqual(outcome.compared, script.steps.length + 1, "plain xstate threw");
      if (drops) ok(outcome.drops > 5, `only ${outcome.drops} restores`);
    });
  }
}
