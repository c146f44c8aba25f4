// The machines of tests/fidelity_machines/4/family.ts: with ephemeral children, and with persistent ones.

import { spawn } from "xstate";
import { runtimeSpawn } from "js/instances.ts";
import { spawnEphemeral } from "js/xstate4_services.ts";
import { kid, parent } from "machines/4/family.ts";

const spawnInstance = runtimeSpawn(spawnEphemeral);

export const ephemeral = () =>
  parent(kid, (name, pieces) => spawn(kid.withContext({ pieces, pings: 0 }) as never, name));

export const inHosts = (): Record<string, unknown> => ({
  parent: parent(
    { type: "statebacked.invoke", machineName: "kid" },
    (name, pieces) => spawnInstance({ machineName: "kid" }, { name, context: { pieces, pings: 0 } }),
  ),
  kid,
});
