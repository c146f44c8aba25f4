// A ring of instances: each hop is one durable message to the next.
import { assign, sendTo, setup } from "xstate";

export const allowRead = () => true;
export const allowWrite = () => true;

type Context = { next: string; hops: number };

const next = ({ context }: { context: Context }) =>
  ({ type: "statebacked.instance", machineName: "ring", machineInstanceName: context.next }) as never;

export default setup({
  types: {} as { context: Context; input: { next: string }; events: { type: "hop" } },
}).createMachine({
  id: "ring",
  context: ({ input }) => ({ next: input.next, hops: 0 }),
  on: {
    hop: {
      actions: [assign({ hops: ({ context }) => context.hops + 1 }), sendTo(next, { type: "hop" } as never)],
    },
  },
});
