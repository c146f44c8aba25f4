// A machine that does what it is told, wherever machine code runs. The events carry the code.
import { assign, createMachine, fromPromise } from "xstate";

const Async = (async () => {}).constructor;
const run = (code, scope) => Function("scope", code)(scope);

export const allowRead = (request) => request.authContext.read === undefined || run(request.authContext.read, request);
export const allowWrite = (request) => request.authContext.write === undefined || run(request.authContext.write, request);

const count = assign({ public: ({ context }) => ({ ...context.public, count: context.public.count + 1 }) });
const tell = assign({
  public: ({ context, event }) => ({
    ...context.public,
    outcome: event.output ?? `${event.error?.name ?? ""}: ${event.error?.message ?? event.error}`,
  }),
});

export default createMachine(
  {
    id: "attacker",
    initial: "idle",
    context: ({ input }) => ({ public: { count: 0 }, ...(input?.code ? run(input.code, input) : {}) }),
    on: {
      count: { actions: count },
      guard: { guard: (scope) => run(scope.event.code, scope) !== "no", actions: count },
      assign: { actions: assign((scope) => run(scope.event.code, scope) ?? {}) },
      action: { actions: [count, (scope) => void run(scope.event.code, scope)] },
      service: ".serving",
    },
    states: {
      idle: {},
      serving: {
        invoke: {
          src: "code",
          input: ({ event }) => event.code,
          onDone: { target: "idle", actions: tell },
          onError: { target: "idle", actions: tell },
        },
      },
    },
  },
  { actors: { code: fromPromise(({ input }) => Async(input)()) } },
);
