import type { AllowRead, AllowWrite } from "@statebacked/machine";
import { assign, setup } from "xstate";

/** What instances of the second version keep: more than one address, and the plan is a state. */
export interface Context {
  contacts: string[];
  public: Record<string, never>;
}
type MembershipEvent =
  | { type: "join" }
  | { type: "choose"; plan: "monthly" | "yearly" }
  | { type: "cancel" }
  | { type: "add contact"; email: string };

/** A membership is its owner's own. */
export const allowRead: AllowRead<Context, { sid: string }> = ({ machineInstanceName, authContext }) =>
  machineInstanceName === authContext.sid;
export const allowWrite: AllowWrite<Context, { sid: string }> = ({ machineInstanceName, authContext }) =>
  machineInstanceName === authContext.sid;

const DAYS = 24 * 60 * 60 * 1000;

export default setup({
  types: {
    context: {} as Context,
    events: {} as MembershipEvent,
    input: {} as { email: string },
  },
}).createMachine({
  id: "membership",
  context: ({ input }) => ({ contacts: [input.email], public: {} }),
  initial: "trial",
  on: {
    "add contact": {
      actions: assign({ contacts: ({ context, event }) => [...context.contacts, event.email] }),
    },
  },
  states: {
    trial: { after: { [30 * DAYS]: "lapsed" }, on: { join: "member" } },
    member: {
      initial: "monthly",
      on: {
        choose: [
          { guard: ({ event }) => event.plan === "yearly", target: ".yearly" },
          { target: ".monthly" },
        ],
        cancel: "lapsed",
      },
      states: { monthly: {}, yearly: {} },
    },
    lapsed: { on: { join: "member" } },
  },
});
