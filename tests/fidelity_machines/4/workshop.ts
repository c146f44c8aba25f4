// Services of every kind: an invoked callback, an invoked machine, a spawned machine and a spawned callback, sendTo,
// sendParent, respond, escalate, autoForward, stop.
import { actions, assign, createMachine, sendParent, sendTo, spawn } from "xstate";
import type { ActorRef } from "xstate";

const { escalate, respond, stop, forwardTo } = actions;
const note = (text: string): void => (globalThis as { note?: (text: string) => void }).note?.(text);

const job = createMachine<{ pieces: number; hurried: number }>({
  predictableActionArguments: true,
  id: "job",
  context: { pieces: 1, hurried: 0 },
  initial: "cutting",
  on: {
    ASK: { actions: respond(({ hurried }) => ({ type: "ANSWER", hurried })) },
    BREAK: { actions: escalate(({ pieces }) => ({ pieces })) },
  },
  states: {
    cutting: {
      entry: [() => note("job: cutting"), sendParent("STARTED")],
      after: { 50: "polishing" },
      on: { HURRY: { target: "polishing", actions: assign({ hurried: ({ hurried }) => hurried + 1 }) } },
    },
    polishing: {
      entry: ({ pieces }) => note(`job: polishing ${pieces}`),
      after: { 30: "finished" },
    },
    finished: { type: "final", data: { pieces: ({ pieces }: { pieces: number }) => pieces * 2 } },
  },
});

interface Context {
  pieces: number;
  log: string[];
  helper: ActorRef<{ type: string }> | null;
  errand: ActorRef<{ type: string }> | null;
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
  | { type: "SHUT" }
  | { type: "done.invoke.job"; data: { pieces: number } }
  | { type: "done.invoke.errand" };

const logged = (text: string) => assign<Context, Event>({ log: ({ log }) => [...log, text] });

export default createMachine<Context, Event>({
  predictableActionArguments: true,
  id: "workshop",
  context: { pieces: 0, log: [], helper: null, errand: null },
  initial: "shut",
  on: {
    HIRE: {
      actions: [
        assign({
          helper: () =>
            spawn((send: (event: Event) => void, receive: (listener: (event: Event) => void) => void) => {
              note("helper: here");
              send({ type: "GREETED" });
              receive(({ type }) => note(`helper: got ${type}`));
              return () => note("helper: gone");
            }, "helper"),
        }),
        () => note("hired"),
      ],
    },
    FIRE: { actions: [stop("helper"), assign({ helper: null })] },
    GREETED: { actions: logged("greeted") },
    "done.invoke.errand": { actions: [logged("errand done"), assign({ errand: null })] },
  },
  states: {
    shut: { on: { OPEN: "open" } },
    open: {
      initial: "working",
      invoke: {
        id: "bell",
        src: () => (send: (event: Event) => void, receive: (listener: (event: Event) => void) => void) => {
          note("bell: on");
          send({ type: "TICK", n: 0 });
          const timer = setTimeout(() => send({ type: "TICK", n: 1 }), 20);
          receive(({ type }) => note(`bell: got ${type}`));
          return () => {
            clearTimeout(timer);
            note("bell: off");
          };
        },
      },
      on: {
        TICK: { actions: assign({ log: ({ log }, { n }) => [...log, `tick ${n}`] }) },
        SHUT: { target: "shut", actions: logged("shut") },
        SEND: {
          actions: assign({
            errand: () =>
              spawn(job.withContext({ pieces: 7, hurried: 0 }), { name: "errand", autoForward: true }),
          }),
        },
      },
      states: {
        working: {
          invoke: {
            id: "job",
            src: job,
            data: { pieces: ({ pieces }: Context) => pieces + 3, hurried: 0 },
            onDone: {
              target: "resting",
              actions: assign({ pieces: ({ pieces }, event) => pieces + event.data.pieces }),
            },
            onError: { target: "broken", actions: (_, event) => note(`broken ${JSON.stringify(event)}`) },
          },
          on: {
            STARTED: { actions: logged("started") },
            HURRY: { actions: forwardTo("job") },
            ASK: { actions: forwardTo("job") },
            BREAK: { actions: sendTo("job", { type: "BREAK" }) },
            ANSWER: { actions: assign({ log: ({ log }, { hurried }) => [...log, `hurried ${hurried}`] }) },
          },
        },
        resting: {
          on: {
            ASK: { actions: sendTo("bell", { type: "STARTED" }) },
            HURRY: { actions: forwardTo("bell") },
          },
        },
        broken: { tags: ["trouble"] },
      },
    },
  },
});

export const allowRead = (): boolean => true;
export const allowWrite = (): boolean => true;
