// The machines of tests/fidelity_machines/5/family.ts: with ephemeral children, and with persistent ones.

import { kid, type KidInput, type KidLogic, parent } from "machines/5/family.ts";

const persistent = {
  type: "statebacked.invoke",
  machineName: "kid",
  getInitialSnapshot: (_scope: unknown, input: KidInput) => ({ status: "active", output: undefined, input }),
  transition: (snapshot: unknown) => snapshot,
  getPersistedSnapshot: (snapshot: unknown) => snapshot,
} as unknown as KidLogic;

export const ephemeral = () => parent(kid as unknown as KidLogic);
export const inHosts = (): Record<string, unknown> => ({ parent: parent(persistent), kid });
