// A machine that never rests, in each of the ways that there are; `turns` counts what it has done.
import { assign, createMachine, enqueueActions, fromPromise, raise, sendTo, spawnChild } from "xstate";

export const allowRead = () => true;
export const allowWrite = () => true;

const turn = assign({ turns: ({ context }) => context.turns + 1 });
const child = { type: "statebacked.invoke", machineName: "restless" };
const other = ({ context }) =>
  ({ type: "statebacked.instance", machineName: "restless", machineInstanceName: context.other });
const atOnce = { src: fromPromise(async () => {}) };

export default createMachine({
  id: "restless",
  context: () => ({ turns: 0, other: "" }),
  initial: "still",
  on: {
    // sends itself events for ever
    spin: { actions: [turn, sendTo(({ self }) => self, { type: "spin" })] },
    // makes ten children at a time, as often as it may
    beat: { actions: [raise({ type: "breed" }, { delay: 0 }), raise({ type: "beat" }, { delay: 5 })] },
    breed: {
      actions: [
        assign({ turns: ({ context }) => context.turns + 10 }),
        ...Array.from({ length: 10 }, () => spawnChild(child, { input: { turns: 0 } })),
      ],
    },
    // sets a thousand timers that are due soon
    wind: {
      actions: enqueueActions(({ enqueue, event }) => {
        for (let n = 0; n < 1000; n++) enqueue.raise({ type: "rung" }, { delay: event.ms });
      }),
    },
    rung: { actions: turn },
    // sets a timer of no length, for ever
    tick: { actions: [turn, raise({ type: "tick" }, { delay: 0 })] },
    // answers the other one, for ever
    meet: { actions: assign({ other: ({ event }) => event.other }) },
    ping: { actions: [turn, sendTo(other, { type: "ping" })] },
    // starts services for ever
    serve: ".left",
  },
  states: {
    still: {},
    left: { entry: turn, invoke: { ...atOnce, onDone: "right" } },
    right: { entry: turn, invoke: { ...atOnce, onDone: "left" } },
  },
});
