// What a state can be and a transition can do: deep initial states, chains of `always` with guards and actions, several
// targets, re-entry, history by default and at depth, parallel states in parallel states and their onDone, tags, meta,
// guards by name with parameters, partial wildcards, a final state with output of the whole machine.
import { and, assign, log, not, or, raise, setup, stateIn } from "xstate";

const note = (text: string): void => (globalThis as { note?: (text: string) => void }).note?.(text);

type Event =
  | { type: "GO"; n: number }
  | { type: "SPLIT" | "LEAVE" | "BACK" | "DEEP" | "NEXT" | "OVER" | "INTERNAL" | "ASK" | "END" }
  | { type: "map.zoom"; by: number }
  | { type: "map.pan" }
  | { type: "FAR" };

interface Context {
  n: number;
  grace: number;
  path: string[];
}

export default setup({
  types: { context: {} as Context, events: {} as Event, meta: {} as { title: string } },
  guards: {
    atLeast: ({ context }, { n }: { n: number }) => context.n >= n,
    odd: ({ context }) => context.n % 2 === 1,
  },
  actions: {
    walk: assign({ path: ({ context }, { to }: { to: string }) => [...context.path, to] }),
    tell: ({ self }) => note(`meta ${JSON.stringify(self.getSnapshot().getMeta())}`),
  },
  delays: { soon: ({ context }) => context.grace },
}).createMachine({
  id: "atlas",
  context: ({ input }) => ({ n: 0, grace: 50, path: [], ...(input as object | undefined) }),
  initial: "index",
  output: ({ context }) => ({ n: context.n }),
  entry: () => note("atlas"),
  on: {
    "map.*": { actions: { type: "walk", params: ({ event }) => ({ to: event.type }) } },
    "map.zoom": {
      guard: { type: "atLeast", params: { n: 1 } },
      actions: assign({ n: ({ context, event }) => context.n + event.by }),
    },
    ASK: { actions: "tell" },
    END: ".end",
  },
  states: {
    index: {
      tags: "start",
      meta: { title: "the index" },
      on: {
        GO: [
          {
            guard: ({ event }) => event.n > 100,
            actions: [log("too far"), () => note("too far")],
          },
          { target: "choosing", actions: assign({ n: ({ event }) => event.n }) },
        ],
        SPLIT: { target: ["#atlas.land.north.city", "#atlas.land.south.sea.deep"] },
        FAR: "#peak",
      },
      exit: () => note("out of the index"),
    },
    choosing: {
      entry: { type: "walk", params: { to: "choosing" } },
      always: [
        {
          guard: and([{ type: "atLeast", params: { n: 50 } }, not("odd")]),
          target: "index",
          actions: { type: "walk", params: { to: "even and far" } },
        },
        {
          guard: or(["odd", { type: "atLeast", params: { n: 10 } }]),
          target: "passing",
          actions: { type: "walk", params: { to: "odd or ten" } },
        },
        { target: "land" },
      ],
    },
    passing: {
      entry: raise({ type: "NEXT" }),
      exit: { type: "walk", params: { to: "passed" } },
      on: { NEXT: "land" },
    },
    land: {
      type: "parallel",
      tags: ["land"],
      meta: { title: "the land" },
      onDone: { target: "index", actions: { type: "walk", params: { to: "all of the land" } } },
      on: { LEAVE: "away", INTERNAL: { actions: () => note("inside") } },
      entry: () => note("land"),
      exit: () => note("out of the land"),
      states: {
        north: {
          initial: "city",
          onDone: { actions: { type: "walk", params: { to: "north is done" } } },
          states: {
            city: {
              tags: ["dense"],
              on: { NEXT: "hill", INTERNAL: { target: "city", reenter: true } },
              entry: () => note("city"),
            },
            hill: {
              after: { 300: "city", soon: "top" },
              on: { NEXT: "top" },
              always: { guard: stateIn("#atlas.land.south.sea.deep") as never, target: "top" },
            },
            top: { id: "peak", type: "final", tags: ["high"] },
          },
        },
        south: {
          initial: "coast",
          states: {
            coast: { on: { DEEP: "sea" } },
            sea: {
              initial: "shallow",
              states: {
                shallow: { on: { DEEP: "deep" } },
                deep: {
                  type: "parallel",
                  tags: ["dark"],
                  states: {
                    current: { initial: "slow", states: { slow: { on: { NEXT: "fast" } }, fast: {} } },
                    light: { initial: "none", states: { none: {}, some: {} } },
                  },
                },
                whole: { type: "history", history: "deep" },
              },
              on: { OVER: "#atlas.land.south.done", INTERNAL: ".shallow" },
            },
            done: { type: "final" },
            past: { type: "history", target: "sea" },
          },
        },
      },
    },
    away: {
      on: {
        BACK: "#atlas.land.south.past",
        DEEP: "#atlas.land.south.sea.whole",
        NEXT: { target: "away", reenter: true },
      },
      after: { 80: { target: "index", actions: { type: "walk", params: { to: "waited" } } } },
    },
    end: { type: "final", entry: () => note("the end"), meta: { title: "the end" } },
  },
});

export const allowRead = (): boolean => true;
export const allowWrite = (): boolean => true;
