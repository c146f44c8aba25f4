// The entry of a worker that links XState 4.

import { StateNode } from "xstate4";
import { boot } from "./boot.ts";
import versions from "./deno.json" with { type: "json" };
import { xstate4 } from "./xstate4.ts";
import { spawnEphemeral } from "./xstate4_services.ts";

await boot({
  version: versions.imports.xstate4.slice("npm:xstate@".length),
  createAdapter: () => xstate4,
  spawn: spawnEphemeral,
  made: (machine) => machine instanceof StateNode,
});
