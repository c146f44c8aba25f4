// The machine that the benchmarks send events to: everyone may, one counter in a small context.
import { assign, setup } from "xstate";

export const allowRead = () => true;
export const allowWrite = () => true;

export default setup({
  types: {} as { context: { public: { toggleCount: number } }; events: { type: "toggle" } },
  actions: {
    count: assign({ public: ({ context }) => ({ toggleCount: context.public.toggleCount + 1 }) }),
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
