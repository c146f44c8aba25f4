// The machine of the kill test: every event has an id, timers carry one, and a service answers after a moment.
import { assign, fromPromise, raise, sendTo, setup } from "xstate";

export const allowRead = () => true;
export const allowWrite = () => true;

declare const __statebacked_rt: { spawn(instance: object, options: object): unknown };

type Tell = { type: "tell"; id: string; to: string };

/** The instance that the event names: any that is known can be sent to. */
const other = ({ event }: { event: unknown }) =>
  ({ type: "statebacked.instance", machineName: "ledger", machineInstanceName: (event as Tell).to }) as never;

export default setup({
  types: {} as {
    context: { public: { added: number; rang: number; worked: number }; last: string };
    events:
      | { type: "add"; id: string }
      | { type: "arm"; id: string; ms: number }
      | { type: "rang"; id: string }
      | Tell
      | { type: "heard"; id: string }
      | { type: "spawn"; id: string }
      | { type: "xstate.done.actor.*" }
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
    tell: { actions: sendTo(other, ({ event }) => ({ type: "heard", id: (event as Tell).id }) as never) },
    heard: { actions: ({ event }) => console.log(`heard ${event.id}`) },
    spawn: {
      actions: assign(({ event, context }) => {
        const child = { machineName: "leaf", machineInstanceName: event.id };
        __statebacked_rt.spawn(child, { name: `kid-${event.id}`, context: { id: event.id } });
        return context;
      }),
    },
    "xstate.done.actor.*": { actions: ({ event }) => console.log(event.type) },
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
