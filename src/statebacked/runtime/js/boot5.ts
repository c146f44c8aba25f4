// The entry of a worker that links XState 5.

import { StateMachine } from "xstate5";
import { boot } from "./boot.ts";
import versions from "./deno.json" with { type: "json" };
import { createAdapter, spawnEphemeral } from "./xstate5.ts";

await boot({
  version: versions.imports.xstate5.slice("npm:xstate@".length),
  createAdapter,
  spawn: spawnEphemeral,
  made: (machine) => machine instanceof StateMachine,
});
