// How XState 4 writes a random machine.

import { actions, assign, createMachine, send, spawn } from "xstate";
import { clock } from "./clock.ts";
import { type Config, type Context, counted, type Dialect, type Guard, type Service } from "./random.ts";
import { note } from "./trace.ts";

const { cancel, choose, pure, raise, sendTo, stop, sendParent } = actions;

interface Event {
  type: string;
}

interface Told {
  event: Event;
  _event: { name: string; data: Event };
  history?: { value: unknown };
  changed?: boolean;
}

const kid = createMachine({
  predictableActionArguments: true,
  id: "kid",
  initial: "young",
  on: { PING: { actions: sendParent("PONG") } },
  states: {
    young: { entry: [() => note("kid: young"), sendParent("STARTED")], after: { 25: "old" } },
    old: { type: "final", data: { age: 25 } },
  },
});

const worker =
  (name: string) => (sendBack: (event: Event) => void, receive: (listen: (event: Event) => void) => void) => {
    note(`${name}: on`);
    sendBack({ type: "HELLO" });
    const timer = clock.setTimeout(() => sendBack({ type: "LATER" }), 15);
    receive(({ type }) => note(`${name}: ${type}`));
    return () => {
      clock.clearTimeout(timer);
      note(`${name}: off`);
    };
  };

const services: Record<Service, unknown> = {
  "resolves": () => new Promise((resolve) => clock.setTimeout(() => resolve(1), 12)),
  "rejects": () => new Promise((_, reject) => clock.setTimeout(() => reject(new Error("no")), 18)),
  "resolves at once": () => Promise.resolve(2),
  "callback": () => worker("callback"),
  "machine": kid,
};

export const dialect4: Dialect = {
  guardKey: "cond",
  guard: (test: Guard) => counted((context: Context) => test(context)),
  inState: (id) => (_: Context, __: Event, { state }: { state: { configuration: { id: string }[] } }) =>
    state.configuration.some((node) => node.id === id),
  cameBy: (type, rest) => (_: Context, __: Event, { state }: { state: Told }) => {
    if (rest === 0) return state.event.type === type || state._event.name !== state.event.type;
    return rest === 1
      ? JSON.stringify(state.history?.value ?? null).length % 2 === 0
      : state.changed === true && state._event.data.type !== type;
  },
  assign: (change) => assign<Context, Event>(counted((context, event) => change(context, event.type))),
  note: (name) => ({ n }: Context, event: Event) => note(`${name} n=${n} by ${event.type}`),
  raise: (type) => raise({ type }),
  raiseLater: (type, id, delay) => raise({ type }, { id, delay }),
  sendSelf: (type) => send({ type }),
  sendSelfLater: (type, id, delay) => send({ type }, { id, delay }),
  cancel: (id) => cancel(id),
  sendTo: (id, type) => sendTo(id, { type }),
  choose: (test, first, second) =>
    choose([{ cond: (context: Context) => test(context), actions: first }, { actions: second }] as never),
  spawn: () => [
    assign<Context, Event>({
      fuel: ({ fuel }) => fuel - 1,
      live: ({ fuel, live }) => {
        const name = `spawned${fuel}`;
        spawn(worker(name) as never, name);
        return [...live, name];
      },
    }),
  ],
  spawnUnnamed: () => [], // its id is random in XState 4
  askUnnamed: () => [],
  stopSpawned: () => [
    pure<Context, Event>(({ live }) => live.map((name) => stop(name)) as never),
    assign<Context, Event>({ live: [] }),
  ],
  service: (kind) => services[kind],
  reenter: (transition) => ({ ...transition, internal: false }),
  machine: (config: Config) => createMachine(config as never),
  options: (dice) => ({ predictableActionArguments: dice.chance(0.6) }),
};
