// Services of every kind: an invoked callback, an invoked machine with input, a machine and a callback spawned in
// assign, spawnChild, sendTo by id, by reference and by system id, sendParent, an escalated error, stopChild.
import { assign, fromCallback, sendParent, sendTo, setup, spawnChild, stopChild } from "xstate";
import type { AnyActorRef } from "xstate";

const note = (text: string): void => (globalThis as { note?: (text: string) => void }).note?.(text);

type JobEvent = { type: "HURRY" } | { type: "ASK" } | { type: "BREAK" };

const job = setup({
  types: {
    context: {} as { pieces: number; hurried: number },
    events: {} as JobEvent,
    input: {} as { pieces: number },
    output: {} as { pieces: number },
  },
}).createMachine({
  id: "job",
  context: ({ input }) => ({ pieces: input.pieces, hurried: 0 }),
  initial: "cutting",
  on: {
    ASK: { actions: sendParent(({ context }) => ({ type: "ANSWER", hurried: context.hurried })) },
    BREAK: {
      actions: assign(() => {
        throw new Error("a saw broke");
      }),
    },
  },
  states: {
    cutting: {
      entry: [() => note("job: cutting"), sendParent({ type: "STARTED" })],
      after: { 50: "polishing" },
      on: {
        HURRY: { target: "polishing", actions: assign({ hurried: ({ context }) => context.hurried + 1 }) },
      },
    },
    polishing: {
      entry: ({ context }) => note(`job: polishing ${context.pieces}`),
      after: { 30: "finished" },
    },
    finished: { type: "final" },
  },
  output: ({ context }) => ({ pieces: context.pieces * 2 }),
});

const helper = fromCallback(({ sendBack, receive }) => {
  note("helper: here");
  sendBack({ type: "GREETED" });
  receive(({ type }) => note(`helper: got ${type}`));
  return () => note("helper: gone");
});

const bell = fromCallback(({ sendBack, receive }) => {
  note("bell: on");
  sendBack({ type: "TICK", n: 0 });
  const timer = setTimeout(() => sendBack({ type: "TICK", n: 1 }), 20);
  receive(({ type }) => note(`bell: got ${type}`));
  return () => {
    clearTimeout(timer);
    note("bell: off");
  };
});

interface Context {
  pieces: number;
  log: string[];
  helper: AnyActorRef | null;
}

type Event =
  | { type: "OPEN"; by?: string }
  | { type: "STARTED" }
  | { type: "TICK"; n: number }
  | { type: "ANSWER"; hurried: number }
  | { type: "HURRY" }
  | { type: "ASK" }
  | { type: "BREAK" }
  | { type: "HIRE" }
  | { type: "FIRE" }
  | { type: "SEND" }
  | { type: "GREETED" }
  | { type: "SHUT" };

const add = (text: string) => ({ context }: { context: Context }): string[] => [...context.log, text];

export default setup({
  types: { context: {} as Context, events: {} as Event },
  actors: { job, helper, bell },
}).createMachine({
  id: "workshop",
  context: { pieces: 0, log: [], helper: null },
  initial: "shut",
  on: {
    HIRE: {
      actions: [assign({ helper: ({ spawn }) => spawn("helper", { id: "helper" }) }), () => note("hired")],
    },
    FIRE: { actions: [stopChild("helper"), assign({ helper: null })] },
    GREETED: { actions: assign({ log: add("greeted") }) },
    "xstate.done.actor.errand": { actions: assign({ log: add("errand done") }) },
  },
  states: {
    shut: { on: { OPEN: "open" } },
    open: {
      initial: "working",
      invoke: { id: "bell", src: "bell", systemId: "the bell" },
      on: {
        TICK: { actions: assign({ log: ({ context, event }) => [...context.log, `tick ${event.n}`] }) },
        SHUT: { target: "shut", actions: assign({ log: add("shut") }) },
        SEND: {
          actions: [
            spawnChild("job", { id: "errand", input: { pieces: 7 } }),
            sendTo("errand", { type: "HURRY" }),
            sendTo(({ context, self }) => context.helper ?? self, { type: "ASK" }),
          ],
        },
      },
      states: {
        working: {
          invoke: {
            id: "job",
            src: "job",
            input: ({ context }) => ({ pieces: context.pieces + 3 }),
            onDone: {
              target: "resting",
              actions: assign({ pieces: ({ context, event }) => context.pieces + event.output.pieces }),
            },
            onError: {
              target: "broken",
              actions: ({ event }) => note(`broken: ${(event.error as Error).message}`),
            },
          },
          on: {
            STARTED: { actions: assign({ log: add("started") }) },
            HURRY: { actions: sendTo("job", { type: "HURRY" }) },
            ASK: { actions: sendTo("job", { type: "ASK" }) },
            BREAK: { actions: sendTo("job", { type: "BREAK" }) },
            ANSWER: {
              actions: assign({ log: ({ context, event }) => [...context.log, `hurried ${event.hurried}`] }),
            },
          },
        },
        resting: {
          on: {
            ASK: { actions: sendTo("bell", { type: "STARTED" }) },
            HURRY: { actions: sendTo(({ system }) => system.get("the bell"), { type: "HURRY" }) },
          },
        },
        broken: { tags: ["trouble"] },
      },
    },
  },
});

export const allowRead = (): boolean => true;
export const allowWrite = (): boolean => true;
