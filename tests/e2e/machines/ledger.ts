// The machine of the kill test: every event has an id, timers carry one, and a service answers after a moment.
import { assign, fromPromise, raise, setup } from "xstate";

export const allowRead = () => true;
export const allowWrite = () => true;

export default setup({
  types: {} as {
    context: { public: { added: number; rang: number; worked: number }; last: string };
    events:
      | { type: "add"; id: string }
      | { type: "arm"; id: string; ms: number }
      | { type: "rang"; id: string }
      | { type: "work"; id: string };
  },
  actors: {
    work: fromPromise(() => new Promise((resolve) => setTimeout(resolve, 20, "worked"))),
  },
}).createMachine({
  id: "ledger",
  initial: "open",
  context: { public: { added: 0, rang: 0, worked: 0 }, last: "" },
  on: {
    add: {
      actions: [
        assign({
          public: ({ context }) => ({ ...context.public, added: context.public.added + 1 }),
          last: ({ event }) => event.id,
        }),
        ({ event }) => console.log(`added ${event.id}`),
      ],
    },
    arm: {
      actions: raise(({ event }) => ({ type: "rang", id: event.id }), {
        delay: ({ event }) => event.ms,
      }),
    },
    rang: {
      actions: [
        assign({ public: ({ context }) => ({ ...context.public, rang: context.public.rang + 1 }) }),
        ({ event }) => console.log(`rang ${event.id}`),
      ],
    },
  },
  states: {
    open: { on: { work: "working" } },
    working: {
      invoke: {
        src: "work",
        id: "work",
        onDone: {
          target: "open",
          actions: assign({
            public: ({ context }) => ({ ...context.public, worked: context.public.worked + 1 }),
          }),
        },
        onError: "open",
      },
    },
  },
});
