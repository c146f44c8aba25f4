// The entry of a worker that links XState 4.

import { StateNode } from "xstate4";
import { boot } from "./boot.ts";
import versions from "./deno.json" with { type: "json" };
import { xstate4 } from "./xstate4.ts";

await boot({
  version: versions.imports.xstate4.slice("npm:xstate@".length),
  createAdapter: () => xstate4,
  made: (machine) => machine instanceof StateNode,
});
