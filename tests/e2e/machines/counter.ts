// What the client tests need of a machine: data in events, a durable timer, a long delay, an owner.
import type { AllowRead, AllowWrite } from "@statebacked/machine";
import { assign, setup } from "xstate";

type Public = { count: number; rang: number };

export const allowRead: AllowRead = ({ machineInstanceName, authContext }) =>
  authContext.sid === machineInstanceName || authContext.sid === "everyone-reads";
export const allowWrite: AllowWrite = ({ machineInstanceName, authContext }) =>
  authContext.sid === machineInstanceName;

export default setup({
  types: {} as {
    context: { public: Public };
    input: { public?: Partial<Public> } | undefined;
    events:
      | { type: "increment"; by?: number }
      | { type: "ring" }
      | { type: "far" }
      | { type: "finish" };
  },
}).createMachine({
  id: "counter",
  initial: "counting",
  context: ({ input }) => ({ public: { count: 0, rang: 0, ...input?.public } }),
  states: {
    counting: {
      tags: ["open"],
      on: {
        increment: {
          actions: assign({
            public: ({ context, event }) => ({
              ...context.public,
              count: context.public.count + (event.by ?? 1),
            }),
          }),
        },
        ring: "waiting",
        far: "far",
        finish: "finished",
      },
    },
    waiting: {
      after: {
        300: {
          target: "counting",
          actions: assign({
            public: ({ context }) => ({ ...context.public, rang: context.public.rang + 1 }),
          }),
        },
      },
    },
    far: {
      // 30 days: more than a 32-bit timer holds
      after: { 2592000000: "counting" },
    },
    finished: { type: "final" },
  },
});
