// Parallel regions, an invoked promise, final states with data, `after` with a delay of its own, raise, tags.
import { actions, assign, createMachine } from "xstate";

const { raise, choose, log } = actions;
const note = (text: string): void => (globalThis as { note?: (text: string) => void }).note?.(text);

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
  | { type: "PACKED" }
  | { type: "done.invoke.charge"; data: number }
  | { type: "error.platform.charge"; data: unknown };

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export default createMachine<Context, Event>(
  {
    predictableActionArguments: true,
    id: "order",
    context: { total: 0, paid: 0, attempts: 0, grace: 80 },
    initial: "cart",
    states: {
      cart: {
        tags: ["open"],
        on: {
          ADD: { actions: ["add", ({ total }) => note(`added, now ${total}`)] },
          PLACE: [{ target: "placed", cond: ({ total }) => total > 0 }, { actions: log("nothing to place") }],
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
                  onDone: { target: "paid", actions: assign({ paid: (_, event) => event.data }) },
                  onError: {
                    target: "failed",
                    actions: (_, event) => note(`failed: ${(event.data as Error).message}`),
                  },
                },
                exit: () => note("left charging"),
              },
              failed: {
                tags: ["waiting"],
                entry: assign({ attempts: ({ attempts }) => attempts + 1 }),
                after: { grace: "charging" },
                exit: () => note("grace is over"),
              },
              paid: { type: "final", data: ({ paid }) => ({ paid }) },
            },
          },
          delivery: {
            initial: "packing",
            states: {
              packing: {
                entry: raise("PACKED"),
                on: { PACKED: "ready", CHANGE_ADDRESS: { actions: () => note("new address") } },
              },
              ready: {
                on: {
                  SHIP: {
                    target: "shipped",
                    actions: choose([
                      { cond: ({ attempts }) => attempts > 1, actions: () => note("at last") },
                      {
                        actions: [assign({ attempts: ({ attempts }) => attempts + 10 }), () => note("quick")],
                      },
                    ]),
                  },
                },
              },
              shipped: {
                after: { 150: "arrived" },
                on: { LOSE: "packing" },
              },
              arrived: { type: "final" },
            },
          },
        },
      },
      complete: {
        entry: (_, event) => note(`complete by ${event.type}`),
        after: { 60: "archived" },
      },
      archived: { type: "final", tags: ["closed"] },
    },
  },
  {
    delays: { grace: ({ grace }) => grace },
    actions: {
      add: assign({ total: ({ total }, event) => total + (event.type === "ADD" ? event.price : 0) }),
    },
    services: {
      charge: async ({ total, attempts }) => {
        note(`charge ${total}`);
        await pause(40);
        if (attempts % 2 === 0) throw new Error("declined");
        return total;
      },
    },
  },
);

export const allowRead = (): boolean => true;
export const allowWrite = (): boolean => true;
