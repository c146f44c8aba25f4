// What a state can be and a transition can do: chains of `always` with guards and actions, several targets, re-entry,
// history by default and at depth, parallel states in parallel states and their onDone, tags, meta, guards by name,
// `in`, wildcards, strict final states. Actions run in order.
import { actions, assign, createMachine } from "xstate";

const { log, raise } = actions;
const note = (text: string): void => (globalThis as { note?: (text: string) => void }).note?.(text);
/** The types of xstate 4 do not know the default target of a history state. */
const historyOr = (target: string): Record<string, unknown> => ({ type: "history", target });

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

const walk = (to: string) => assign<Context, Event>({ path: ({ path }) => [...path, to] });

export default createMachine<Context, Event>({
  predictableActionArguments: true,
  preserveActionOrder: true,
  id: "atlas",
  context: { n: 0, grace: 50, path: [] },
  initial: "index",
  entry: () => note("atlas"),
  on: {
    "map.zoom": {
      cond: { type: "atLeast", least: 1 },
      actions: assign({ n: ({ n }, event) => n + (event.type === "map.zoom" ? event.by : 0) }),
    },
    ASK: ["the index", "the land"].map((title) => ({
      cond: (_context: Context, _event: Event, { state }: { state: { meta: object } }) =>
        JSON.stringify(state.meta).includes(`"title":"${title}"`),
      actions: walk(title),
    })),
    END: ".end",
    "*": { actions: assign({ path: ({ path }, { type }) => [...path, type] }) },
  },
  states: {
    index: {
      tags: "start",
      meta: { title: "the index" },
      on: {
        GO: [
          { cond: (_, { n }) => n > 100, actions: [log("too far"), () => note("too far")] },
          { target: "choosing", actions: assign({ n: (_, { n }) => n }) },
        ],
        SPLIT: { target: ["#atlas.land.north.city", "#atlas.land.south.sea.deep"] },
        FAR: "#peak",
      },
      exit: () => note("out of the index"),
    },
    choosing: {
      entry: walk("choosing"),
      always: [
        { cond: ({ n }) => n >= 50 && n % 2 === 0, target: "index", actions: walk("even and far") },
        { cond: "oddOrTen", target: "passing", actions: walk("odd or ten") },
        { target: "land" },
      ],
    },
    passing: { entry: raise("NEXT"), exit: walk("passed"), on: { NEXT: "land" } },
    land: {
      type: "parallel",
      tags: ["land"],
      meta: { title: "the land" },
      onDone: { target: "index", actions: walk("all of the land") as never },
      on: { LEAVE: "away", INTERNAL: { actions: () => note("inside") } },
      entry: () => note("land"),
      exit: () => note("out of the land"),
      states: {
        north: {
          initial: "city",
          onDone: { actions: walk("north is done") as never },
          states: {
            city: {
              tags: ["dense"],
              on: { NEXT: "hill", INTERNAL: { target: "city", internal: false } },
              entry: () => note("city"),
            },
            hill: {
              after: { 300: "city", soon: "top" },
              on: { NEXT: "top" },
              always: { in: "#atlas.land.south.sea.deep", target: "top" },
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
            past: historyOr("sea"),
          },
        },
      },
    },
    away: {
      on: {
        BACK: "#atlas.land.south.past",
        DEEP: "#atlas.land.south.sea.whole",
        NEXT: { target: "away", internal: false },
      },
      after: { 80: { target: "index", actions: walk("waited") } },
    },
    end: {
      type: "final",
      entry: () => note("the end"),
      meta: { title: "the end" },
      data: ({ n }: Context) => ({ n }),
    },
  },
}, {
  guards: {
    atLeast: ({ n }, _, { cond }) => n >= (cond as unknown as { least: number }).least,
    oddOrTen: ({ n }) => n % 2 === 1 || n >= 10,
  },
  delays: { soon: ({ grace }) => grace },
});

export const allowRead = (): boolean => true;
export const allowWrite = (): boolean => true;
