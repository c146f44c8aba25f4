// Shallow and deep history, `always`, `in`, delayed sends and their cancellation, undelayed sends to itself, internal and
// external self-transitions. Without predictableActionArguments: assigns come first, as in older machines.
import { actions, assign, createMachine, send } from "xstate";

const { cancel, pure } = actions;
const note = (text: string): void => (globalThis as { note?: (text: string) => void }).note?.(text);

/** The types of xstate 4 do not know the default target of a history state. */
const historyOr = (target: string): Record<string, unknown> => ({ type: "history", target });

interface Context {
  words: number;
  saves: number;
  beats: number;
}

type Event =
  | { type: "TYPE"; words: number }
  | { type: "BOLD" }
  | { type: "LIST" }
  | { type: "NEXT" }
  | { type: "LOCK" }
  | { type: "UNLOCK" }
  | { type: "UNLOCK_ALL" }
  | { type: "AUTOSAVE" }
  | { type: "SAVED" }
  | { type: "BEAT" }
  | { type: "TOUCH" }
  | { type: "RESTART" }
  | { type: "CLOSE" };

export default createMachine<Context, Event>({
  id: "editor",
  context: () => ({ words: 0, saves: 0, beats: 0 }),
  initial: "open",
  on: { CLOSE: ".closed" },
  states: {
    open: {
      type: "parallel",
      entry: () => note("open"),
      on: {
        LOCK: { target: "locked", actions: (context) => note(`lock at ${context.words}`) },
        RESTART: { target: "open", internal: false },
        TOUCH: undefined,
      },
      states: {
        text: {
          initial: "empty",
          on: {
            TYPE: {
              actions: [
                assign({ words: ({ words }, event) => words + event.words }),
                cancel("autosave"),
                send("AUTOSAVE", { id: "autosave", delay: 100 }),
                (context) => note(`typed, ${context.words}`),
              ],
            },
            AUTOSAVE: {
              actions: [
                assign({ saves: ({ saves }) => saves + 1 }),
                send({ type: "SAVED" }),
                pure(({ saves }) => (saves > 1 ? [send("BEAT"), send("BEAT")] : undefined)),
              ],
            },
            SAVED: { actions: (context) => note(`saved ${context.saves}`) },
            BEAT: { actions: assign({ beats: ({ beats }) => beats + 1 }) },
          },
          states: {
            empty: { always: { target: "short", cond: ({ words }) => words > 0 } },
            short: {
              tags: ["dirty"],
              always: { target: "long", cond: ({ words }) => words > 10 },
              entry: () => note("short"),
            },
            long: {
              tags: ["dirty", "long"],
              entry: () => note("long"),
              initial: "top",
              states: {
                top: { on: { NEXT: "middle" } },
                middle: { on: { NEXT: "bottom" }, exit: () => note("out of the middle") },
                bottom: { on: { NEXT: { target: "bottom", internal: false } }, entry: () => note("bottom") },
              },
            },
          },
        },
        style: {
          initial: "plain",
          states: {
            plain: { on: { BOLD: "bold", LIST: { target: "list", in: "#editor.open.text.long" } } },
            bold: { on: { BOLD: "plain", LIST: "list" }, after: { 250: "plain" } },
            list: {
              initial: "dots",
              states: { dots: { on: { NEXT: "numbers" } }, numbers: { on: { NEXT: "dots" } } },
            },
            recent: historyOr("bold"),
          },
        },
        everything: { initial: "idle", states: { idle: {}, memory: { type: "history", history: "deep" } } },
      },
    },
    locked: {
      tags: "quiet",
      on: {
        UNLOCK: "#editor.open.style.recent",
        UNLOCK_ALL: "last",
        TYPE: { actions: () => note("locked: not typed") },
      },
    },
    last: { type: "history", history: "deep" },
    closed: { type: "final" },
  },
});

export const allowRead = (): boolean => true;
export const allowWrite = (): boolean => true;
