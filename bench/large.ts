// A context of 100 KB: `grow` changes it, `look` does not.
import { assign, setup } from "xstate";

export const allowRead = () => true;
export const allowWrite = () => true;

type Context = { count: number; rows: { id: number; text: string }[] };

const grow = { actions: "grow" as const };

export default setup({
  types: {} as { context: Context; events: { type: "grow" } | { type: "look" } },
  actions: { grow: assign({ count: ({ context }) => context.count + 1 }) },
}).createMachine({
  id: "large",
  initial: "on",
  context: () => ({ count: 0, rows: Array.from({ length: 1000 }, (_, n) => ({ id: n, text: "x".repeat(80) })) }),
  states: {
    on: { on: { grow, look: { target: "off" } } },
    off: { on: { grow, look: { target: "on" } } },
  },
});
