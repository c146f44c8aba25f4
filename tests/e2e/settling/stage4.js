// stage5.js for XState 4.
import { actions, assign, createMachine, send, sendParent, sendTo } from "xstate";

const note = (text) => (globalThis.note ?? console.log)(text);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const act = (name) => async (_, { ms, fails }) => {
  note(`${name}: begins`);
  await pause(ms);
  if (fails) throw new Error("no");
  return ms;
};

/** Each tick is a signal, none an end. */
const bell = (_, { every }) => (send, receive) => {
  note("bell: begins");
  let n = 0;
  const ring = () => {
    n += 1;
    send({ type: "TICK", n });
    timer = n < 3 ? setTimeout(ring, every) : null;
  };
  let timer = setTimeout(ring, every);
  receive(({ type }) => send({ type: "PONG", to: type }));
  return () => {
    clearTimeout(timer);
    note("bell: off");
  };
};

const stream = (_, { every }) => ({
  subscribe(next, _fail, complete) {
    note("stream: begins");
    let n = 0;
    const flow = () => {
      if (n === 3) return complete();
      n += 1;
      timer = setTimeout(flow, every);
      next({ type: "ITEM", n });
    };
    let timer = setTimeout(flow, every);
    return { unsubscribe: () => clearTimeout(timer) };
  },
});

const child = createMachine({
  predictableActionArguments: true,
  id: "child",
  context: { ms: 0 },
  initial: "waiting",
  on: {
    ASK: { actions: sendParent(({ ms }) => ({ type: "ANSWER", ms })) },
    FAIL: { actions: actions.escalate({ message: "asked to" }) },
  },
  states: {
    waiting: { entry: () => note("child: begins"), after: { ms: "over" } },
    over: { type: "final", data: ({ ms }) => ms },
  },
}, { delays: { ms: ({ ms }) => ms } });

const log = (text) => assign({ log: (context, event) => [...context.log, text(event)] });
const type = log((event) => event.type);

const invoked = (name, more) => ({
  id: name,
  src: name,
  ...more,
  onDone: { target: "idle", actions: log(({ data }) => `${name} is over: ${data ?? ""}`) },
  onError: { target: "idle", actions: log(({ data }) => `${name} failed: ${data.code ?? data.message}`) },
});

const region = (name, on = {}, { all = {}, ...more } = {}) => {
  const play = { target: "playing", internal: false };
  const begin = { [name.toUpperCase()]: play, ALL: { ...play, ...all } };
  const playing = { tags: "busy", invoke: invoked(name, more), on: { ...begin, ...on, CUT: "idle" } };
  return { initial: "idle", states: { idle: { on: begin }, playing } };
};

export default createMachine({
  predictableActionArguments: true,
  id: "stage",
  context: { log: [] },
  initial: "open",
  on: { CLOSE: ".closed" },
  states: {
    open: {
      type: "parallel",
      on: {
        NOTE: { actions: [type, () => note("noted")] },
        LATER: { actions: [type, send({ type: "RANG" }, { delay: (_, { ms }) => ms })] },
        SAID: { actions: type },
        RANG: { actions: type },
      },
      states: {
        first: region("first", {}, { all: { actions: [send({ type: "SAID" }), () => note("all")] } }),
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
        }, { data: { ms: (_, { ms }) => ms } }),
      },
    },
    closed: { type: "final", entry: [log(() => "closed"), () => note("closed")] },
  },
}, { services: { first: act("first"), second: act("second"), bell, stream, child } });

export const allowRead = () => true;
export const allowWrite = () => true;
