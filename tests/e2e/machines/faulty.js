// A machine that can do everything wrong. An event's type says what; authContext says how the authorizers behave.
import { assign, createMachine, fromPromise, raise, sendTo } from "xstate";

const loop = () => {
  for (;;);
};

const fill = () => {
  const kept = [];
  for (;;) kept.push(new Array(1000).fill({ kept: kept.length }));
};

const fillBuffers = () => {
  const kept = [];
  for (;;) kept.push(new Uint8Array(8_000_000).fill(1));
};

const thrower = (where) => () => {
  throw new Error(`${where} says no`);
};

const judge = (how) => {
  switch (how) {
    case undefined:
      return true;
    case "truthy":
      return "yes";
    case "throws":
      throw new Error("the authorizer says no");
    case "rejects":
      return Promise.reject(new Error("the authorizer says no"));
    case "loops":
      return loop();
    case "never":
      return new Promise(() => {});
    default:
      return false;
  }
};

export const allowRead = ({ authContext }) => judge(authContext.read);
export const allowWrite = ({ authContext }) => judge(authContext.write);

const publicly = (change) => assign({ public: (args) => ({ ...args.context.public, ...change(args) }) });
const count = publicly(({ context }) => ({ count: context.public.count + 1 }));
const many = (length, make) => Array.from({ length }, (_, index) => make(index));

export default createMachine(
  {
    id: "faulty",
    initial: "idle",
    context: ({ input }) => {
      if (input?.fails) throw new Error("the context says no");
      return { public: { count: 0 }, secret: "kept", filler: input?.filler };
    },
    states: {
      idle: {
        on: {
          count: { actions: count },
          // before the commit
          "guard-throws": { guard: thrower("the guard"), target: "elsewhere", actions: count },
          "guard-loops": { guard: loop, target: "elsewhere" },
          "assign-throws": { target: "elsewhere", actions: [count, assign(thrower("the assign"))] },
          "assign-loops": { target: "elsewhere", actions: assign(loop) },
          "assign-mutates-and-throws": {
            actions: assign(({ context }) => {
              context.public.count = 99;
              throw new Error("the assign says no, too late");
            }),
          },
          "heap-fills": { actions: assign(fill) },
          "buffers-fill": { actions: assign(fillBuffers) },
          "context-grows": { target: "elsewhere", actions: assign({ filler: ({ event }) => "x".repeat(event.size) }) },
          "context-is-no-json": { actions: assign({ filler: () => 1n }) },
          "context-is-circular": {
            actions: assign(() => {
              const circle = {};
              circle.circle = circle;
              return { filler: circle };
            }),
          },
          "always-again": "again",
          "timers-without-end": { actions: many(1_001, (n) => raise({ type: "count" }, { delay: 1_000, id: `t${n}` })) },
          "sends-without-end": { actions: many(1_001, () => sendTo(({ self }) => self, { type: "count" })) },
          "sends-too-much": {
            actions: many(12, () => sendTo(({ self }) => self, { type: "count", filler: "x".repeat(400_000) })),
          },
          // after the commit
          "action-throws": { target: "elsewhere", actions: [count, thrower("the action")] },
          "action-loops": { target: "elsewhere", actions: [count, loop] },
          serve: "serving",
          "serve-for-ever": "endless",
          "serve-refused": "refusing",
        },
      },
      elsewhere: { on: { count: { actions: count }, back: "idle" } },
      again: { always: { target: "again", reenter: true, actions: count } },
      serving: {
        invoke: { src: "slow", onDone: { target: "idle", actions: count }, onError: { target: "lost", actions: note() } },
        on: { count: { actions: count }, "guard-loops": { guard: loop }, stop: "idle" },
      },
      endless: {
        invoke: { src: "endless", onDone: "idle", onError: { target: "lost", actions: note() } },
        on: { count: { actions: count } },
      },
      refusing: {
        invoke: {
          src: "quick",
          onDone: { guard: thrower("the guard of the result"), target: "idle" },
          onError: { target: "lost", actions: note() },
        },
      },
      lost: { on: { count: { actions: count }, back: "idle" } },
    },
  },
  {
    actors: {
      slow: fromPromise(() => new Promise((resolve) => setTimeout(resolve, 400, "slow"))),
      endless: fromPromise(() => new Promise(() => {})),
      quick: fromPromise(async () => "quick"),
    },
  },
);

function note() {
  return publicly(({ event }) => ({ error: event.error?.code ?? String(event.error?.message ?? event.error) }));
}
