// A machine that sets many timers at once and counts in which order they ring; its public part can be made large.
import { assign, createMachine, enqueueActions } from "xstate";

export const allowRead = () => true;
export const allowWrite = () => true;

export default createMachine({
  id: "bells",
  context: () => ({ public: { rung: 0, text: "" }, order: [] }),
  on: {
    arm: {
      actions: enqueueActions(({ enqueue, event }) => {
        for (let n = 0; n < event.count; n++) enqueue.raise({ type: "rang", n }, { delay: event.ms + n });
      }),
    },
    rang: {
      actions: assign(({ context, event }) => ({
        public: { ...context.public, rung: context.public.rung + 1 },
        order: [...context.order, event.n],
      })),
    },
    say: { actions: assign({ public: ({ context, event }) => ({ ...context.public, text: event.text }) }) },
  },
});
