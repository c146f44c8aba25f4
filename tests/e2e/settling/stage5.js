// Services of every kind, each for as long as the event that starts it says: promises, a callback, an observable, a
// machine; a timer beside them. The context lists what was heard, in order.
import { assign, fromCallback, fromEventObservable, fromPromise, raise, sendParent, sendTo, setup } from "xstate";

const note = (text) => (globalThis.note ?? console.log)(text);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const act = (name) =>
  fromPromise(async ({ input: { ms, fails } }) => {
    note(`${name}: begins`);
    await pause(ms);
    if (fails) throw new Error("no");
    return ms;
  });

/** Each tick is a signal, none an end. */
const bell = fromCallback(({ input, sendBack, receive }) => {
  note("bell: begins");
  let n = 0;
  const ring = () => {
    n += 1;
    sendBack({ type: "TICK", n });
    timer = n < 3 ? setTimeout(ring, input.every) : null;
  };
  let timer = setTimeout(ring, input.every);
  receive(({ type }) => sendBack({ type: "PONG", to: type }));
  return () => {
    clearTimeout(timer);
    note("bell: off");
  };
});

const stream = fromEventObservable(({ input }) => ({
  subscribe(observer) {
    note("stream: begins");
    let n = 0;
    const flow = () => {
      if (n === 3) return observer.complete();
      n += 1;
      timer = setTimeout(flow, input.every);
      observer.next({ type: "ITEM", n });
    };
    let timer = setTimeout(flow, input.every);
    return { unsubscribe: () => clearTimeout(timer) };
  },
}));

const child = setup({ delays: { ms: ({ context }) => context.ms } }).createMachine({
  id: "child",
  context: ({ input }) => ({ ms: input.ms }),
  initial: "waiting",
  on: {
    ASK: { actions: sendParent(({ context }) => ({ type: "ANSWER", ms: context.ms })) },
    FAIL: {
      actions: assign(() => {
        throw new Error("asked to");
      }),
    },
  },
  states: { waiting: { entry: () => note("child: begins"), after: { ms: "over" } }, over: { type: "final" } },
  output: ({ context }) => context.ms,
});

const log = (text) => assign({ log: ({ context, event }) => [...context.log, text(event)] });
const type = log((event) => event.type);

const invoked = (name) => ({
  id: name,
  src: name,
  input: ({ event }) => event,
  onDone: { target: "idle", actions: log(({ output }) => `${name} is over: ${output ?? ""}`) },
  onError: { target: "idle", actions: log(({ error }) => `${name} failed: ${error.code ?? error.message}`) },
});

const region = (name, on = {}, all = {}) => {
  const play = { target: "playing", reenter: true };
  const begin = { [name.toUpperCase()]: play, ALL: { ...play, ...all } };
  const playing = { tags: "busy", invoke: invoked(name), on: { ...begin, ...on, CUT: "idle" } };
  return { initial: "idle", states: { idle: { on: begin }, playing } };
};

export default setup({
  actors: { first: act("first"), second: act("second"), bell, stream, child },
}).createMachine({
  id: "stage",
  context: { log: [] },
  initial: "open",
  on: { CLOSE: ".closed" },
  states: {
    open: {
      type: "parallel",
      on: {
        NOTE: { actions: [type, () => note("noted")] },
        LATER: { actions: [type, raise({ type: "RANG" }, { delay: ({ event }) => event.ms })] },
        SAID: { actions: type },
        RANG: { actions: type },
      },
      states: {
        first: region("first", {}, { actions: [sendTo(({ self }) => self, { type: "SAID" }), () => note("all")] }),
        second: region("second"),
        bell: region("bell", {
          TICK: { actions: log(({ n }) => `tick ${n}`) },
          PING: { actions: sendTo("bell", { type: "PING" }) },
          PONG: { actions: type },
        }),
        stream: region("stream", { ITEM: { actions: log(({ n }) => `item ${n}`) } }),
        child: region("child", {
          ASK: { actions: sendTo("child", { type: "ASK" }) },
          FAIL: { actions: sendTo("child", { type: "FAIL" }) },
          ANSWER: { actions: log(({ ms }) => `answer ${ms}`) },
        }),
      },
    },
    closed: { type: "final", entry: [log(() => "closed"), () => note("closed")] },
  },
});

export const allowRead = () => true;
export const allowWrite = () => true;
