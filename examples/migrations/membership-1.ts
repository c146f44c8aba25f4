import type { AllowRead, AllowWrite } from "@statebacked/machine";
import { assign, setup } from "xstate";

/** What instances of the first version keep. */
export interface Context {
  email: string;
  public: { plan: string };
}
type MembershipEvent = { type: "join" } | { type: "choose"; plan: string } | { type: "cancel" };

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
  context: ({ input }) => ({ email: input.email, public: { plan: "monthly" } }),
  initial: "trial",
  states: {
    trial: { after: { [14 * DAYS]: "expired" }, on: { join: "active" } },
    active: {
      on: {
        choose: { actions: assign({ public: ({ event }) => ({ plan: event.plan }) }) },
        cancel: "expired",
      },
    },
    expired: { on: { join: "active" } },
  },
});
