// A parent with children that are persistent on a server, and ephemeral when `kid` is the machine itself.
import { assign, cancel, sendParent, sendTo, setup, spawnChild, stopChild } from "xstate";
import type { ActorLogic, EventObject, Snapshot } from "xstate";

const note = (text: string): void => (globalThis as { note?: (text: string) => void }).note?.(text);

export interface KidInput {
  pieces: number;
}
export interface KidOutput {
  made: number;
}
export type KidLogic = ActorLogic<Snapshot<KidOutput>, EventObject, KidInput>;

export const kid = setup({
  types: {
    context: {} as { pieces: number; pings: number },
    events: {} as { type: "PING" } | { type: "WORK" } | { type: "LATER" } | { type: "FORGET" },
    input: {} as KidInput,
    output: {} as KidOutput,
  },
}).createMachine({
  id: "kid",
  context: ({ input }) => ({ pieces: input.pieces, pings: 0 }),
  initial: "idle",
  on: {
    PING: {
      actions: [
        assign({ pings: ({ context }) => context.pings + 1 }),
        sendParent(({ context }) => ({ type: "PONG", pings: context.pings })),
      ],
    },
    LATER: {
      actions: [cancel("later"), sendParent({ type: "PONG", pings: -1 }, { delay: 15, id: "later" })],
    },
    FORGET: { actions: cancel("later") },
  },
  states: {
    idle: { entry: [() => note("kid: idle"), sendParent({ type: "BORN" })], on: { WORK: "working" } },
    working: { after: { 40: "done" } },
    done: { type: "final" },
  },
  output: ({ context }) => ({ made: context.pieces * 2 }),
});

interface Context {
  total: number;
  log: string[];
}

type Event =
  | { type: "PONG"; pings: number }
  | { type: "GO" | "STOP" | "AGAIN" | "PING" | "WORK" | "BORN" | "SOON" | "NEVER" | "LATER" | "FORGET" }
  | { type: "SPAWN" | "CHILD" | "ASK" | "FIRE" | "BRIEF" };

const add = (text: string) => ({ context }: { context: Context }): string[] => [...context.log, text];
const three = { pieces: 3 };

/** `kid` as the logic of each of the parent's children. */
export const parent = (kid: KidLogic) =>
  setup({ types: { context: {} as Context, events: {} as Event }, actors: { kid } }).createMachine({
    id: "parent",
    context: { total: 0, log: [] },
    initial: "idle",
    on: {
      PONG: { actions: assign({ log: ({ context, event }) => [...context.log, `pong ${event.pings}`] }) },
      BORN: { actions: [assign({ log: add("born") }), () => note("parent: born")] },
      SPAWN: {
        actions: [
          assign(({ context, spawn }) => {
            spawn("kid", { id: "helper", input: three });
            return { total: context.total + 1 };
          }),
          sendTo("helper", { type: "PING" }),
        ],
      },
      CHILD: { actions: spawnChild("kid", { id: "helper", input: { pieces: 9 } }) },
      ASK: { actions: sendTo("helper", { type: "PING" }) },
      FIRE: { actions: stopChild("helper") },
      BRIEF: { actions: [spawnChild("kid", { id: "brief", input: three }), stopChild("brief")] },
    },
    states: {
      idle: { on: { GO: "busy" } },
      busy: {
        entry: [sendTo("kid", { type: "PING" }), sendTo("kid", { type: "LATER" }, { delay: 5, id: "early" })],
        exit: [cancel("early"), cancel("soon")],
        invoke: {
          id: "kid",
          src: "kid",
          input: ({ context }) => ({ pieces: context.total + 1 }),
          onDone: {
            target: "idle",
            actions: assign({ total: ({ context, event }) => context.total + event.output.made }),
          },
        },
        on: {
          STOP: "idle",
          AGAIN: { target: "busy", reenter: true },
          PING: { actions: sendTo("kid", { type: "PING" }) },
          WORK: { actions: sendTo("kid", { type: "WORK" }) },
          SOON: { actions: [cancel("soon"), sendTo("kid", { type: "PING" }, { delay: 10, id: "soon" })] },
          NEVER: { actions: cancel("soon") },
          LATER: { actions: sendTo("kid", { type: "LATER" }) },
          FORGET: { actions: sendTo("kid", { type: "FORGET" }) },
        },
      },
    },
  });
