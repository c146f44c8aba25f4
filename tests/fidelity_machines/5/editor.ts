// Shallow and deep history, `always`, stateIn, delayed sends and their cancellation, undelayed sends to itself, internal
// and external self-transitions, wildcards, a forbidden transition.
import { assign, cancel, enqueueActions, raise, sendTo, setup, stateIn } from "xstate";

const note = (text: string): void => (globalThis as { note?: (text: string) => void }).note?.(text);

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

export default setup({ types: { context: {} as Context, events: {} as Event } }).createMachine({
  id: "editor",
  context: () => ({ words: 0, saves: 0, beats: 0 }),
  initial: "open",
  on: { CLOSE: ".closed" },
  states: {
    open: {
      type: "parallel",
      entry: () => note("open"),
      on: {
        LOCK: { target: "locked", actions: ({ context }) => note(`lock at ${context.words}`) },
        RESTART: { target: "open", reenter: true },
        TOUCH: undefined,
      },
      states: {
        text: {
          initial: "empty",
          on: {
            TYPE: {
              actions: [
                assign({ words: ({ context, event }) => context.words + event.words }),
                cancel("autosave"),
                raise({ type: "AUTOSAVE" }, { id: "autosave", delay: 100 }),
                ({ context }) => note(`typed, ${context.words}`),
              ],
            },
            AUTOSAVE: {
              actions: [
                assign({ saves: ({ context }) => context.saves + 1 }),
                sendTo(({ self }) => self, { type: "SAVED" }),
                enqueueActions(({ context, enqueue, self }) => {
                  if (context.saves <= 1) return;
                  enqueue.sendTo(self, { type: "BEAT" });
                  enqueue.raise({ type: "BEAT" });
                }),
                ({ self }) => self.send({ type: "BEAT" }),
              ],
            },
            SAVED: { actions: ({ context }) => note(`saved ${context.saves} at ${context.beats}`) },
            BEAT: { actions: assign({ beats: ({ context }) => context.beats + 1 }) },
          },
          states: {
            empty: { always: { target: "short", guard: ({ context }) => context.words > 0 } },
            short: {
              tags: ["dirty"],
              always: { target: "long", guard: ({ context }) => context.words > 10 },
              entry: () => note("short"),
            },
            long: {
              tags: ["dirty", "long"],
              entry: () => note("long"),
              initial: "top",
              states: {
                top: { on: { NEXT: "middle" } },
                middle: { on: { NEXT: "bottom" }, exit: () => note("out of the middle") },
                bottom: { on: { NEXT: { target: "bottom", reenter: true } }, entry: () => note("bottom") },
              },
            },
          },
        },
        style: {
          initial: "plain",
          states: {
            plain: {
              on: {
                BOLD: "bold",
                LIST: { target: "list", guard: stateIn("#editor.open.text.long") as never },
              },
            },
            bold: { on: { BOLD: "plain", LIST: "list" }, after: { 250: "plain" } },
            list: {
              initial: "dots",
              states: { dots: { on: { NEXT: "numbers" } }, numbers: { on: { NEXT: "dots" } } },
            },
            recent: { type: "history", target: "bold" },
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
        "*": { actions: ({ event }) => note(`locked: ${event.type}`) },
      },
    },
    last: { type: "history", history: "deep" },
    closed: { type: "final" },
  },
});

export const allowRead = (): boolean => true;
export const allowWrite = (): boolean => true;
