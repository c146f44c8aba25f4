// The machines of tests/fidelity_machines/<major>, each by its script: the same states as plain xstate.

import "./clock.ts";
import { deepStrictEqual as equal, ok } from "node:assert";
import scripts from "machines/scripts.json" with { type: "json" };
import { compare } from "./compare.ts";
import { major } from "major";
import type { Script } from "./run.ts";

for (const [name, script] of Object.entries(scripts as unknown as Record<string, Script>)) {
  const { default: machine } = await import(`../../fidelity_machines/${major}/${name}.ts`);
  Deno.test(`${name} is the same, kept alive and restored after every settled event`, async () => {
    const outcome = await compare(() => machine, script);
    equal(outcome.difference, null, outcome.difference ?? "");
    equal(outcome.compared, script.steps.length + 1, `plain xstate ended early: ${outcome.over}`);
    ok(outcome.drops > 5, `only ${outcome.drops} restores`);
  });
}
