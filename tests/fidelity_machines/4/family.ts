// A parent with children that are persistent on a server, and ephemeral when `kid` is the machine itself.
import { actions, assign, createMachine, sendParent, sendTo } from "xstate";

const { cancel, forwardTo, respond, stop } = actions;
const note = (text: string): void => (globalThis as { note?: (text: string) => void }).note?.(text);

interface KidContext {
  pieces: number;
  pings: number;
}

export const kid = createMachine<KidContext>({
  predictableActionArguments: true,
  id: "kid",
  context: { pieces: 1, pings: 0 },
  initial: "idle",
  on: {
    PING: {
      actions: [
        assign({ pings: ({ pings }) => pings + 1 }),
        respond(({ pings }) => ({ type: "PONG", pings })),
      ],
    },
    LATER: {
      actions: [cancel("later"), sendParent({ type: "PONG", pings: -1 }, { delay: 15, id: "later" })],
    },
    FORGET: { actions: cancel("later") },
  },
  states: {
    idle: { entry: [() => note("kid: idle"), sendParent("BORN")], on: { WORK: "working" } },
    working: { after: { 40: "done" } },
    done: {
      type: "final",
      data: { made: ({ pieces }: KidContext) => pieces * 2 },
    },
  },
});

interface Context {
  total: number;
  log: string[];
  helper: unknown;
}

type Event =
  | { type: "PONG"; pings: number }
  | { type: "GO" | "STOP" | "AGAIN" | "PING" | "WORK" | "BORN" | "SOON" | "NEVER" | "LATER" | "FORGET" }
  | { type: "SPAWN" | "CHILD" | "ASK" | "FIRE" | "BRIEF" }
  | { type: "done.invoke.kid"; data: { made: number } };

const add = (text: string) => assign<Context, Event>({ log: ({ log }) => [...log, text] });
const toHelper = (type: string) => sendTo<Context, Event, never>("helper" as never, { type } as never);
const toKid = (type: string, options?: object) =>
  sendTo<Context, Event, never>("kid" as never, { type } as never, options as never);

/** `kid` as the service of the parent, `spawn` as the way to have another. */
export const parent = (kid: unknown, spawn: (name: string, pieces: number) => unknown) =>
  createMachine<Context, Event>(
    {
      predictableActionArguments: true,
      id: "parent",
      context: { total: 0, log: [], helper: null },
      initial: "idle",
      on: {
        PONG: { actions: assign({ log: ({ log }, { pings }) => [...log, `pong ${pings}`] }) },
        BORN: { actions: [add("born"), () => note("parent: born")] },
        SPAWN: {
          actions: [
            assign(({ total }) => (void spawn("helper", 3), { total: total + 1 })),
            toHelper("PING"),
          ],
        },
        CHILD: { actions: assign(() => (void spawn("helper", 9), {})) },
        ASK: { actions: toHelper("PING") },
        FIRE: { actions: stop("helper") },
        BRIEF: {},
      },
      states: {
        idle: { on: { GO: "busy" } },
        busy: {
          entry: [toKid("PING"), toKid("LATER", { delay: 5, id: "early" })],
          // Else xstate 4 sends it to the next child of that id.
          exit: [cancel("early"), cancel("soon")],
          invoke: {
            id: "kid",
            src: "kid",
            data: { pieces: ({ total }: Context) => total + 1, pings: 0 },
            onDone: {
              target: "idle",
              actions: assign<Context, { type: "done.invoke.kid"; data: { made: number } }>({
                total: ({ total }, { data }) => total + data.made,
              }) as never,
            },
          },
          on: {
            STOP: "idle",
            AGAIN: "busy",
            PING: { actions: forwardTo("kid") },
            WORK: { actions: forwardTo("kid") },
            SOON: { actions: [cancel("soon"), toKid("PING", { delay: 10, id: "soon" })] },
            NEVER: { actions: cancel("soon") },
            LATER: { actions: toKid("LATER") },
            FORGET: { actions: toKid("FORGET") },
          },
        },
      },
    },
    { services: { kid: kid as never } },
  );
