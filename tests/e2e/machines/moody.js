// A machine that refuses its timer and every message while it is in a bad mood.
import { assign, createMachine, raise, sendTo } from "xstate";

export const allowRead = () => true;
export const allowWrite = () => true;

const isGood = ({ context }) => {
  if (context.mood !== "good") throw new Error("not in the mood");
  return true;
};
const see = {
  guard: isGood,
  actions: assign({ seen: ({ context, event }) => [...context.seen, event.type] }),
};
const other = ({ event }) => ({ type: "statebacked.instance", machineName: "moody", machineInstanceName: event.to });

export default createMachine({
  id: "moody",
  context: () => ({ mood: "bad", seen: [] }),
  on: {
    cheer: { actions: assign({ mood: "good" }) },
    ring: see,
    hello: see,
    wait: { actions: raise({ type: "ring" }, { delay: 1 }) },
    greet: { actions: sendTo(other, { type: "hello" }) },
  },
});
