import type { AllowRead, AllowWrite, AnonymousAuthContext } from "@statebacked/machine";
import { assign, setup } from "xstate";

interface Context {
  /** Whoever may read an instance sees this part of its context, and no other. */
  public: { toggleCount: number };
}

/** An instance is its session's own: only a session with its name may read it. */
export const allowRead: AllowRead<Context, AnonymousAuthContext> = ({ machineInstanceName, authContext }) =>
  machineInstanceName === authContext.sid;

/** And only that session may create it and send it events. */
export const allowWrite: AllowWrite<Context, AnonymousAuthContext> = ({ machineInstanceName, authContext }) =>
  machineInstanceName === authContext.sid;

export default setup({
  types: {
    context: {} as Context,
    events: {} as { type: "toggle" },
  },
  actions: {
    count: assign(({ context }) => ({
      public: { ...context.public, toggleCount: context.public.toggleCount + 1 },
    })),
  },
}).createMachine({
  id: "toggler",
  initial: "off",
  context: { public: { toggleCount: 0 } },
  states: {
    off: { on: { toggle: { target: "on", actions: "count" } } },
    on: { on: { toggle: { target: "off", actions: "count" } } },
  },
});
