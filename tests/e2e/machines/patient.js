// A machine that waits: for services, for timers, for what it sends itself. Its context lists what it has seen.
import { assign, cancel, createMachine, fromPromise, raise, sendTo } from "xstate";

const inShort = ({ context, ...asked }) =>
  asked.type === "initialization" ? { ...asked, given: context } : { ...asked, seen: context.seen };

export const allowRead = ({ authContext }) => authContext.read !== false;
export const allowWrite = (asked) => {
  console.log("allowWrite " + JSON.stringify(inShort(asked)));
  return asked.authContext.write !== false;
};

const see = (what) => assign({ seen: ({ context, event }) => [...context.seen, what ?? event.type] });
const toSelf = (type) => sendTo(({ self }) => self, { type });

export default createMachine(
  {
    id: "patient",
    initial: "idle",
    context: ({ input }) => ({ seen: [], ...input }),
    on: {
      see: { actions: see() },
      touch: { actions: () => {} },
      rang: { actions: assign({ seen: ({ context, event }) => [...context.seen, event.after] }) },
      forbidden: {},
      finish: ".finished",
      say: { actions: [({ event }) => console.log(event.text), ({ event }) => console.error("not " + event.text)] },
    },
    states: {
      idle: {
        tags: ["free", "calm"],
        on: {
          work: "working",
          wait: "waiting",
          burst: { actions: [toSelf("a"), see("burst"), toSelf("b"), raise({ type: "now" }), toSelf("c")] },
          now: { actions: see() },
          a: { actions: [see(), toSelf("d")] },
          b: { actions: see() },
          c: { actions: see() },
          d: { actions: see() },
          many: {
            actions: [300, 100, 200].map((ms) => raise({ type: "rang", after: ms }, { delay: ms, id: `bell ${ms}` })),
          },
          twice: {
            actions: [
              raise({ type: "rang", after: "first" }, { delay: 150, id: "same" }),
              raise({ type: "rang", after: "second" }, { delay: 100, id: "same" }),
              cancel("same"),
              raise({ type: "rang", after: "last" }, { delay: 300 }),
            ],
          },
          later: { actions: raise({ type: "rang", after: "later" }, { delay: ({ event }) => event.ms }) },
        },
      },
      working: {
        tags: ["busy"],
        invoke: {
          id: "work",
          src: "work",
          input: ({ event }) => event,
          onDone: { target: "idle", actions: assign({ seen: ({ context, event }) => [...context.seen, event.output] }) },
          onError: {
            target: "idle",
            actions: assign({ seen: ({ context, event }) => [...context.seen, event.error.code ?? event.error.message] }),
          },
        },
      },
      waiting: {
        after: { 200: { target: "idle", actions: see("waited") } },
        on: { leave: { target: "idle", actions: raise({ type: "rang", after: "left" }, { delay: 400 }) } },
      },
      finished: { type: "final", entry: see("finished") },
    },
  },
  {
    actors: {
      work: fromPromise(({ input }) =>
        new Promise((resolve, reject) => {
          if (input.fails) reject(new Error("work failed"));
          else setTimeout(resolve, input.ms ?? 20, "worked");
        })
      ),
    },
  },
);
