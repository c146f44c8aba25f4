// Says what it is told to, in every place where machine code runs.
import { assign, createMachine, fromPromise } from "xstate";

console.log("the module loads");

export const allowRead = ({ authContext }) => {
  if (authContext.loud) console.log("allowRead");
  return authContext.fails ? authContext.fails.at() : true;
};
export const allowWrite = ({ authContext, event }) => {
  if (authContext.loud) console.log("allowWrite");
  if (event?.type === "loop") for (;;);
  return true;
};

export default createMachine({
  initial: "idle",
  context: {},
  states: {
    idle: {
      on: {
        say: { actions: ({ event }) => console.log(event.text) },
        work: {
          target: "working",
          guard: () => (console.log("guard"), true),
          actions: assign(() => (console.log("assign"), {})),
        },
        bad: { actions: assign(() => { throw new Error("no good"); }) },
        late: { actions: () => { throw new Error("after the commit"); } },
        flood: { actions: () => { for (let n = 0; n < 300; n++) console.log("x".repeat(500)); } },
      },
    },
    working: {
      invoke: { src: fromPromise(async () => console.error("service")), onDone: "idle" },
    },
  },
  on: { "*": {} },
});
