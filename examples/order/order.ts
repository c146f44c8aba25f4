import type { AllowRead, AllowWrite, AnonymousAuthContext } from "@statebacked/machine";
import { assign, fromPromise, setup } from "xstate";

interface Context {
  /** How long a priced order is kept for its customer. A creator may choose it; the default is half an hour. */
  payWithinMs: number;
  public: {
    items: string[];
    cents: number | null;
    receipt: string | null;
    problem: string | null;
  };
}

type OrderEvent = { type: "add"; item: string } | { type: "checkout" } | { type: "pay" };

const PRICES: Record<string, number> = { coffee: 320, tea: 280, cake: 450 };

/** An order is its session's own. */
export const allowRead: AllowRead<Context, AnonymousAuthContext> = ({ machineInstanceName, authContext }) =>
  machineInstanceName === authContext.sid;
export const allowWrite: AllowWrite<Context, AnonymousAuthContext> = ({ machineInstanceName, authContext }) =>
  machineInstanceName === authContext.sid;

/** Stands for a call to a price list elsewhere. The reply to `checkout` waits until it is done. */
async function priceOf(items: string[]): Promise<number> {
  const prices = items.map((item) => PRICES[item]);
  const unknown = items.find((_, index) => prices[index] === undefined);
  if (unknown !== undefined) {
    throw new Error(`we do not sell ${unknown}`);
  }
  return prices.reduce<number>((sum, price) => sum + (price ?? 0), 0);
}

/** A receipt that anybody can compute again: the SHA-256 of what was bought. */
async function receiptFor(items: string[], cents: number): Promise<string> {
  const text = new TextEncoder().encode(JSON.stringify({ items, cents }));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", text));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export default setup({
  types: {
    context: {} as Context,
    events: {} as OrderEvent,
  },
  actors: {
    price: fromPromise(({ input }: { input: { items: string[] } }) => priceOf(input.items)),
    receipt: fromPromise(({ input }: { input: { items: string[]; cents: number } }) =>
      receiptFor(input.items, input.cents),
    ),
  },
  guards: {
    hasItems: ({ context }) => context.public.items.length > 0,
  },
  delays: {
    payWithin: ({ context }) => context.payWithinMs,
  },
}).createMachine({
  id: "order",
  initial: "open",
  context: {
    payWithinMs: 30 * 60 * 1000,
    public: { items: [], cents: null, receipt: null, problem: null },
  },
  states: {
    open: {
      on: {
        add: {
          actions: assign(({ context, event }) => ({
            public: { ...context.public, items: [...context.public.items, event.item], problem: null },
          })),
        },
        checkout: { target: "pricing", guard: "hasItems" },
      },
    },
    pricing: {
      invoke: {
        src: "price",
        input: ({ context }) => ({ items: context.public.items }),
        onDone: {
          target: "awaitingPayment",
          actions: assign(({ context, event }) => ({ public: { ...context.public, cents: event.output } })),
        },
        onError: {
          target: "open",
          actions: assign(({ context, event }) => ({
            public: { ...context.public, items: [], problem: String(event.error) },
          })),
        },
      },
    },
    awaitingPayment: {
      // A timer of the server's: it fires once, also after a restart, also in a year.
      after: { payWithin: "expired" },
      on: { pay: "issuingReceipt" },
    },
    issuingReceipt: {
      invoke: {
        src: "receipt",
        input: ({ context }) => ({ items: context.public.items, cents: context.public.cents ?? 0 }),
        onDone: {
          target: "paid",
          actions: assign(({ context, event }) => ({ public: { ...context.public, receipt: event.output } })),
        },
        onError: "awaitingPayment",
      },
    },
    paid: { type: "final" },
    expired: { type: "final" },
  },
});
