// More kinds of services than a workshop has: observables that complete or fail, with snapshots; a child with a child
// of its own; two services of one state; a callback that throws; a reducer and a machine whose snapshots are told;
// delayed events to children; a service that is started again.
import {
  assign,
  fromCallback,
  fromEventObservable,
  fromObservable,
  fromPromise,
  fromTransition,
  sendParent,
  sendTo,
  setup,
  spawnChild,
  stopChild,
} from "xstate";

const note = (text: string): void => (globalThis as { note?: (text: string) => void }).note?.(text);
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Observer<T> {
  next?(value: T): void;
  error?(thrown: unknown): void;
  complete?(): void;
}

/** Two values, then the end or an error. */
const two = <T>(name: string, make: (n: number) => T, fails: boolean) => ({
  subscribe(observer: Observer<T>) {
    note(`${name}: on`);
    const timers = [
      setTimeout(() => observer.next?.(make(1)), 20),
      setTimeout(() => observer.next?.(make(2)), 40),
      setTimeout(() => fails ? observer.error?.(new Error(`${name} broke`)) : observer.complete?.(), 60),
    ];
    return {
      unsubscribe: () => {
        for (const timer of timers) clearTimeout(timer);
        note(`${name}: off`);
      },
    };
  },
});

const clerk = setup({ types: { events: {} as { type: "POKE" } } }).createMachine({
  id: "clerk",
  initial: "busy",
  entry: sendParent({ type: "CLERK" }),
  on: { POKE: { actions: sendParent({ type: "OUCH" }) } },
  states: { busy: { after: { 50: "done" } }, done: { type: "final" } },
  output: { pages: 3 },
});

const office = setup({
  types: { context: {} as { pages: number }, events: {} as { type: "CLERK" | "OUCH" | "POKE" } },
  actors: { clerk },
}).createMachine({
  id: "office",
  context: { pages: 0 },
  initial: "open",
  states: {
    open: {
      invoke: {
        id: "clerk",
        src: "clerk",
        onDone: {
          target: "shut",
          actions: assign({ pages: ({ event }) => (event.output as unknown as { pages: number }).pages }),
        },
      },
      on: {
        CLERK: { actions: sendParent({ type: "HEARD", text: "a clerk" }) },
        OUCH: { actions: sendParent({ type: "HEARD", text: "ouch" }) },
        POKE: { actions: sendTo("clerk", { type: "POKE" }) },
      },
    },
    shut: { type: "final", entry: () => note("office: shut") },
  },
  output: ({ context }) => context.pages + 1,
});

type Event =
  | { type: "OPEN" | "POKE" | "SHUT" | "FLOW" | "LEAK" | "PAIR" | "AGAIN" | "TRIP" }
  | { type: "HIRE" | "COUNT" | "COUNT_LATER" | "FIRE" }
  | { type: "HEARD"; text: string }
  | { type: "DROP"; n: number };

interface Context {
  seen: string[];
}

export default setup({
  types: { context: {} as Context, events: {} as Event },
  actors: {
    office,
    flow: fromObservable(() => two("flow", (n) => n, false) as never),
    leak: fromEventObservable(() => two("leak", (n) => ({ type: "DROP", n }), true) as never),
    quick: fromPromise(async () => {
      note("quick: on");
      await pause(20);
      return "quick";
    }),
    slow: fromPromise(async () => {
      note("slow: on");
      await pause(60);
      throw new Error("too slow");
    }),
    trip: fromCallback(() => {
      note("trip: on");
      throw new Error("tripped");
    }),
    counter: fromTransition((n: number, event: { type: string }) => event.type === "COUNT" ? n + 1 : n, 0),
  },
  actions: {
    see: assign({ seen: ({ context, event }, text?: string) => [...context.seen, text ?? event.type] }),
  },
}).createMachine({
  id: "exchange",
  context: { seen: [] },
  initial: "shut",
  on: {
    SHUT: ".shut",
    HIRE: { actions: spawnChild("counter", { id: "counter", syncSnapshot: true }) },
    COUNT: { actions: sendTo("counter", { type: "COUNT" }) },
    COUNT_LATER: { actions: sendTo("counter", { type: "COUNT" }, { delay: 30 }) },
    FIRE: { actions: [stopChild("counter"), { type: "see", params: "fired" }] },
    "xstate.snapshot.counter": {
      actions: assign({
        seen: ({ context, event }) => [
          ...context.seen,
          `counted ${(event as unknown as { snapshot: { context: number } }).snapshot.context}`,
        ],
      }),
    },
  },
  states: {
    shut: { on: { OPEN: "open", FLOW: "flowing", LEAK: "leaking", PAIR: "pair", TRIP: "tripping" } },
    open: {
      invoke: {
        id: "office",
        src: "office",
        onDone: {
          target: "shut",
          actions: { type: "see", params: ({ event }) => `office: ${event.output}` },
        },
      },
      on: {
        POKE: { actions: sendTo("office", { type: "POKE" }) },
        HEARD: { actions: { type: "see", params: ({ event }) => event.text } },
      },
    },
    flowing: {
      invoke: {
        id: "flow",
        src: "flow",
        onSnapshot: { actions: { type: "see", params: ({ event }) => `flow ${event.snapshot.context}` } },
        onDone: { target: "shut", actions: { type: "see", params: "flow is over" } },
      },
      on: { AGAIN: { target: "flowing", reenter: true } },
    },
    leaking: {
      invoke: {
        id: "leak",
        src: "leak",
        onError: {
          target: "shut",
          actions: { type: "see", params: ({ event }) => (event.error as Error).message },
        },
      },
      on: { DROP: { actions: { type: "see", params: ({ event }) => `drop ${event.n}` } } },
    },
    pair: {
      invoke: [
        {
          id: "slow",
          src: "slow",
          onError: {
            target: "shut",
            actions: { type: "see", params: ({ event }) => (event.error as Error).message },
          },
        },
        {
          id: "quick",
          src: "quick",
          onDone: { actions: { type: "see", params: ({ event }) => event.output } },
        },
      ],
      on: { AGAIN: { target: "pair", reenter: true } },
    },
    tripping: {
      invoke: {
        id: "trip",
        src: "trip",
        onError: {
          target: "shut",
          actions: { type: "see", params: ({ event }) => (event.error as Error).message },
        },
      },
    },
  },
});

export const allowRead = (): boolean => true;
export const allowWrite = (): boolean => true;
