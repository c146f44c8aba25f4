// More kinds of services than a workshop has: observables that complete or fail; a child with a child of its own; two
// services of one state; a callback that throws; a behaviour, a promise and a machine in sync that are spawned; delayed
// events to children; an activity; a service that is started again.
import { actions, assign, createMachine, send, sendParent, sendTo, spawn } from "xstate";
import type { ActorRef } from "xstate";

const note = (text: string): void => (globalThis as { note?: (text: string) => void }).note?.(text);
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Two values, then the end or an error. */
const two = (name: string, make: (n: number) => Event, fails: boolean) => ({
  subscribe(next: (event: Event) => void, fail: (thrown: unknown) => void, complete: () => void) {
    note(`${name}: on`);
    const timers = [
      setTimeout(() => next(make(1)), 20),
      setTimeout(() => next(make(2)), 40),
      setTimeout(() => fails ? fail(new Error(`${name} broke`)) : complete(), 60),
    ];
    return {
      unsubscribe: () => {
        for (const timer of timers) clearTimeout(timer);
        note(`${name}: off`);
      },
    };
  },
});

const clerk = createMachine({
  predictableActionArguments: true,
  id: "clerk",
  initial: "busy",
  entry: sendParent("CLERK"),
  on: { POKE: { actions: sendParent("OUCH") } },
  states: { busy: { after: { 50: "done" } }, done: { type: "final", data: { pages: 3 } } },
});

const office = createMachine<{ pages: number }>({
  predictableActionArguments: true,
  id: "office",
  context: { pages: 0 },
  initial: "open",
  states: {
    open: {
      invoke: {
        id: "clerk",
        src: clerk,
        onDone: { target: "shut", actions: assign({ pages: (_, event) => event.data.pages }) },
      },
      on: {
        CLERK: { actions: sendParent({ type: "HEARD", text: "a clerk" }) },
        OUCH: { actions: sendParent({ type: "HEARD", text: "ouch" }) },
        POKE: { actions: sendTo("clerk", { type: "POKE" }) },
      },
    },
    shut: {
      type: "final",
      entry: () => note("office: shut"),
      data: { all: ({ pages }: { pages: number }) => pages + 1 },
    },
  },
});

const counter = createMachine<{ n: number }>({
  predictableActionArguments: true,
  id: "counter",
  context: { n: 0 },
  on: { COUNT: { actions: assign({ n: ({ n }) => n + 1 }) } },
});

/** What its messages add up to, told to whoever sent them: an actor that is no machine. */
const adder = {
  initialState: 0,
  transition: (sum: number, event: { type: string }) => {
    note(`adder: ${event.type} at ${sum}`);
    return sum + 1;
  },
};

type Event =
  | { type: "OPEN" | "POKE" | "SHUT" | "FLOW" | "LEAK" | "PAIR" | "AGAIN" | "TRIP" }
  | { type: "HIRE" | "COUNT" | "COUNT_LATER" | "FIRE" }
  | { type: "HEARD"; text: string }
  | { type: "DROP"; n: number }
  | { type: "xstate.update"; id: string; state: { context: { n: number } } }
  | { type: "done.invoke.errand"; data: string };

interface Context {
  seen: string[];
  counter: ActorRef<{ type: string }> | null;
  adder: ActorRef<{ type: string }> | null;
}

const see = (text: (event: Event) => string) =>
  assign<Context, Event>({ seen: ({ seen }, event) => [...seen, text(event)] });
const told = (text: (data: never) => string) =>
  assign(({ seen }: Context, { data }: { data: never } & Event) => ({ seen: [...seen, text(data)] })) as never;

export default createMachine<Context, Event>({
  predictableActionArguments: true,
  id: "exchange",
  context: { seen: [], counter: null, adder: null },
  initial: "shut",
  on: {
    SHUT: ".shut",
    HIRE: {
      actions: assign({
        counter: () => spawn(counter, { name: "counter", sync: true }) as never,
        adder: () => spawn(adder as never, "adder") as never,
        seen: ({ seen }) => {
          spawn(pause(10).then(() => "an errand"), "errand");
          return [...seen, "hired"];
        },
      }),
    },
    COUNT: { actions: [sendTo("counter", { type: "COUNT" }), sendTo("adder", { type: "COUNT" })] },
    COUNT_LATER: { actions: send({ type: "COUNT" } as never, { to: "counter", delay: 30 }) },
    FIRE: {
      actions: [actions.stop("counter"), actions.stop("adder"), see(() => "fired")],
    },
    "xstate.update": {
      actions: see((event) => event.type === "xstate.update" ? `counted ${event.state.context.n}` : ""),
    },
    "done.invoke.errand": { actions: see((event) => event.type === "done.invoke.errand" ? event.data : "") },
  },
  states: {
    shut: { on: { OPEN: "open", FLOW: "flowing", LEAK: "leaking", PAIR: "pair", TRIP: "tripping" } },
    open: {
      invoke: {
        id: "office",
        src: office,
        onDone: { target: "shut", actions: told(({ all }: { all: number }) => `office: ${all}`) },
      },
      on: {
        POKE: { actions: sendTo("office", { type: "POKE" }) },
        HEARD: { actions: see((event) => event.type === "HEARD" ? event.text : "") },
      },
    },
    flowing: {
      invoke: {
        id: "flow",
        src: () => two("flow", (n) => ({ type: "DROP", n }), false) as never,
        onDone: { target: "shut", actions: see(() => "flow is over") as never },
      },
      on: {
        AGAIN: { target: "flowing", internal: false },
        DROP: { actions: see((event) => event.type === "DROP" ? `flow ${event.n}` : "") },
      },
    },
    leaking: {
      invoke: {
        id: "leak",
        src: () => two("leak", (n) => ({ type: "DROP", n }), true) as never,
        onError: { target: "shut", actions: told(({ message }: Error) => message) },
      },
      on: { DROP: { actions: see((event) => event.type === "DROP" ? `drop ${event.n}` : "") } },
    },
    pair: {
      activities: ["humming"],
      invoke: [
        {
          id: "slow",
          src: "slow",
          onError: { target: "shut", actions: told(({ message }: Error) => message) },
        },
        { id: "quick", src: "quick", onDone: { actions: told((text: string) => text) } },
      ],
      on: { AGAIN: { target: "pair", internal: false } },
    },
    tripping: {
      invoke: {
        id: "trip",
        src: () => () => {
          note("trip: on");
          throw new Error("tripped");
        },
        onError: { target: "shut", actions: told(({ message }: Error) => message) },
      },
    },
  },
}, {
  activities: {
    humming: () => {
      note("humming: on");
      return () => note("humming: off");
    },
  },
  services: {
    quick: async () => {
      note("quick: on");
      await pause(20);
      return "quick";
    },
    slow: async () => {
      note("slow: on");
      await pause(60);
      throw new Error("too slow");
    },
  },
});

export const allowRead = (): boolean => true;
export const allowWrite = (): boolean => true;
