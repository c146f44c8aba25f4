// attacker.js as a machine of XState 4.
import { assign, createMachine } from "xstate";

const Async = (async () => {}).constructor;
const run = (code, scope) => Function("scope", code)(scope);

export const allowRead = (request) => request.authContext.read === undefined || run(request.authContext.read, request);
export const allowWrite = (request) => request.authContext.write === undefined || run(request.authContext.write, request);

const count = assign({ public: ({ public: shown }) => ({ ...shown, count: shown.count + 1 }) });
const tell = assign({
  public: (context, { data }) => ({
    ...context.public,
    outcome: typeof data === "string" ? data : `${data?.name ?? ""}: ${data?.message ?? data}`,
  }),
});

export default createMachine(
  {
    id: "attacker",
    predictableActionArguments: true,
    initial: "idle",
    context: { public: { count: 0 } },
    on: {
      count: { actions: "count" },
      guard: { cond: "code", actions: "count" },
      assign: { actions: "assign" },
      action: { actions: ["count", "code"] },
      service: ".serving",
    },
    states: {
      idle: {},
      serving: {
        invoke: {
          src: "code",
          onDone: { target: "idle", actions: "tell" },
          onError: { target: "idle", actions: "tell" },
        },
      },
    },
  },
  {
    guards: { code: (context, event) => run(event.code, { context, event }) !== "no" },
    actions: {
      count,
      tell,
      assign: assign((context, event) => run(event.code, { context, event }) ?? {}),
      code: (context, event) => void run(event.code, { context, event }),
    },
    services: { code: (_, event) => Async(event.code)() },
  },
);
