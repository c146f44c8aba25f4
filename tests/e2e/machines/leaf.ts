// A persistent child of the kill test: done as soon as it is made.
import { setup } from "xstate";

export const allowRead = () => true;
export const allowWrite = ({ authContext }: { authContext: { stateBackedSender?: { machineName: string } } }) =>
  authContext.stateBackedSender?.machineName === "ledger";

export default setup({
  types: {} as { context: { id: string }; input: { id: string }; output: string },
}).createMachine({
  id: "leaf",
  context: ({ input }) => ({ id: input.id }),
  initial: "made",
  states: { made: { type: "final" } },
  output: ({ context }) => context.id,
});
