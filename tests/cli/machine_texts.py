"""Machines as people write them, for the bundler."""

AUTHORIZERS = """
import type { AllowRead, AllowWrite } from "@statebacked/machine";
export const allowRead: AllowRead = (request) => request.machineInstanceName === request.authContext.sid;
export const allowWrite: AllowWrite = (request) => request.machineInstanceName === request.authContext.sid;
"""

XSTATE_5 = (
    """
import { assign, setup } from "xstate";
"""
    + AUTHORIZERS
    + """
export default setup({
  types: { context: {} as { public: { toggleCount: number } }, events: {} as { type: "toggle" } },
}).createMachine({
  initial: "off",
  context: { public: { toggleCount: 0 } },
  states: { off: { on: { toggle: "on" } }, on: { on: { toggle: "off" } } },
});
"""
)

XSTATE_4 = (
    """
import { assign, createMachine } from "xstate";
"""
    + AUTHORIZERS
    + """
const count = assign<{ public: { toggleCount: number } }>({
  public: (context) => ({ toggleCount: context.public.toggleCount + 1 }),
});
export default createMachine<{ public: { toggleCount: number } }, { type: "toggle" }>({
  predictableActionArguments: true,
  initial: "off",
  context: { public: { toggleCount: 0 } },
  states: { off: { on: { toggle: { target: "on", actions: count } } }, on: {} },
});
"""
)

JAVASCRIPT = """
import { createMachine } from "xstate";
export const allowRead = () => true;
export const allowWrite = allowRead;
export default createMachine({ initial: "off", states: { off: {} } });
"""
