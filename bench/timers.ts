// Sets one durable timer and counts that it rang.
import { createMachine } from "xstate";

export const allowRead = () => true;
export const allowWrite = () => true;

export default createMachine({
  id: "timers",
  initial: "idle",
  states: {
    idle: { on: { start: "waiting" } },
    waiting: { after: { 1000: "rang" } },
    rang: {},
  },
});
