// Parallel regions, an invoked promise with input, final states with output, `after` with a named delay, raise, tags.
import { assign, enqueueActions, fromPromise, log, raise, setup } from "xstate";

const note = (text: string): void => (globalThis as { note?: (text: string) => void }).note?.(text);
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Context {
  total: number;
  paid: number;
  attempts: number;
  grace: number;
}

type Event =
  | { type: "ADD"; price: number }
  | { type: "PLACE" }
  | { type: "SHIP"; parcel: string }
  | { type: "LOSE" }
  | { type: "CHANGE_ADDRESS" }
  | { type: "PACKED" };

export default setup({
  types: { context: {} as Context, events: {} as Event },
  delays: { grace: ({ context }) => context.grace },
  actors: {
    charge: fromPromise(async ({ input }: { input: { total: number; attempts: number } }) => {
      note(`charge ${input.total}`);
      await pause(40);
      if (input.attempts % 2 === 0) throw new Error("declined");
      return input.total;
    }),
  },
}).createMachine({
  id: "order",
  context: { total: 0, paid: 0, attempts: 0, grace: 80 },
  initial: "cart",
  states: {
    cart: {
      tags: ["open"],
      on: {
        ADD: {
          actions: [
            assign({ total: ({ context, event }) => context.total + event.price }),
            ({ context }) => note(`added, now ${context.total}`),
          ],
        },
        PLACE: [{ target: "placed", guard: ({ context }) => context.total > 0 }, {
          actions: log("nothing to place"),
        }],
      },
    },
    placed: {
      type: "parallel",
      tags: "busy",
      entry: () => note("placed"),
      onDone: "complete",
      states: {
        payment: {
          initial: "charging",
          states: {
            charging: {
              invoke: {
                id: "charge",
                src: "charge",
                input: ({ context }) => context,
                onDone: { target: "paid", actions: assign({ paid: ({ event }) => event.output }) },
                onError: {
                  target: "failed",
                  actions: ({ event }) => note(`failed: ${(event.error as Error).message}`),
                },
              },
              exit: () => note("left charging"),
            },
            failed: {
              tags: ["waiting"],
              entry: assign({ attempts: ({ context }) => context.attempts + 1 }),
              after: { grace: "charging" },
              exit: () => note("grace is over"),
            },
            paid: { type: "final", output: ({ context }) => ({ paid: context.paid }) },
          },
        },
        delivery: {
          initial: "packing",
          states: {
            packing: {
              entry: raise({ type: "PACKED" }),
              on: { PACKED: "ready", CHANGE_ADDRESS: { actions: () => note("new address") } },
            },
            ready: {
              on: {
                SHIP: {
                  target: "shipped",
                  actions: enqueueActions(({ context, enqueue }) => {
                    enqueue(() => note(context.attempts > 1 ? "at last" : "quick"));
                    if (context.attempts <= 1) enqueue.assign({ attempts: context.attempts + 10 });
                  }),
                },
              },
            },
            shipped: { after: { 150: "arrived" }, on: { LOSE: "packing" } },
            arrived: { type: "final" },
          },
        },
      },
    },
    complete: {
      entry: ({ event }) => note(`complete by ${event.type}`),
      after: { 60: "archived" },
    },
    archived: { type: "final", tags: ["closed"] },
  },
});

export const allowRead = (): boolean => true;
export const allowWrite = (): boolean => true;
