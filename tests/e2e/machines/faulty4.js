// faulty.js for XState 4: the same events do the same wrong.
import { actions, assign, createMachine, send } from "xstate";

const thrower = (where) => () => {
  throw new Error(`${where} says no`);
};

export const allowRead = () => true;
export const allowWrite = () => true;

const count = assign({ public: (context) => ({ ...context.public, count: context.public.count + 1 }) });
const note = assign({
  public: (context, { data }) => ({ ...context.public, error: data?.code ?? String(data?.message ?? data) }),
});
const many = (length, make) => Array.from({ length }, (_, index) => make(index));

export default createMachine({
  predictableActionArguments: true,
  id: "faulty",
  initial: "idle",
  context: { public: { count: 0 }, secret: "kept" },
  entry: assign((context) => {
    if (context.fails) throw new Error("the context says no");
    return context;
  }),
  states: {
    idle: {
      on: {
        count: { actions: count },
        // before the commit
        "guard-throws": { cond: thrower("the guard"), target: "elsewhere", actions: count },
        "assign-throws": { target: "elsewhere", actions: [count, assign(thrower("the assign"))] },
        "assign-mutates-and-throws": {
          actions: assign((context) => {
            context.public.count = 99;
            throw new Error("the assign says no, too late");
          }),
        },
        "context-grows": { target: "elsewhere", actions: assign({ filler: (_, event) => "x".repeat(event.size) }) },
        "context-is-no-json": { actions: assign({ filler: () => 1n }) },
        "context-is-circular": {
          actions: assign(() => {
            const circle = {};
            circle.circle = circle;
            return { filler: circle };
          }),
        },
        "always-again": "again",
        "timers-without-end": { actions: many(1_001, (n) => send({ type: "count" }, { delay: 1_000, id: `t${n}` })) },
        "sends-without-end": { actions: many(1_001, () => send({ type: "count" })) },
        "sends-too-much": { actions: many(12, () => send({ type: "count", filler: "x".repeat(400_000) })) },
        // after the commit
        "action-throws": { target: "elsewhere", actions: [count, thrower("the action")] },
        "serve-for-ever": "endless",
        "serve-refused": "refusing",
      },
    },
    elsewhere: { on: { count: { actions: count }, back: "idle" } },
    again: { always: { target: "again", internal: false, actions: actions.choose([{ actions: count }]) } },
    endless: {
      invoke: {
        id: "endless",
        src: () => new Promise(() => {}),
        onDone: "idle",
        onError: { target: "lost", actions: note },
      },
      on: { count: { actions: count } },
    },
    refusing: {
      invoke: {
        id: "quick",
        src: async () => "quick",
        onDone: { cond: thrower("the guard of the result"), target: "idle" },
        onError: { target: "lost", actions: note },
      },
    },
    lost: { on: { count: { actions: count }, back: "idle" } },
  },
});
