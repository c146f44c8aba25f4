// How XState 5 writes a random machine.

import {
  assign,
  cancel,
  createMachine,
  enqueueActions,
  fromCallback,
  fromPromise,
  raise,
  sendParent,
  sendTo,
  stateIn,
} from "xstate";
import { clock } from "./clock.ts";
import { type Config, type Context, counted, type Dialect, type Guard, type Service } from "./random.ts";
import { note } from "./trace.ts";

interface Args {
  context: Context;
  event: { type: string };
}

const kid = createMachine({
  id: "kid",
  initial: "young",
  on: { PING: { actions: sendParent({ type: "PONG" }) } },
  states: {
    young: { entry: [() => note("kid: young"), sendParent({ type: "STARTED" })], after: { 25: "old" } },
    old: { type: "final" },
  },
  output: { age: 25 },
});

const worker = (name: string) =>
  fromCallback(({ sendBack, receive }) => {
    note(`${name}: on`);
    sendBack({ type: "HELLO" });
    const timer = clock.setTimeout(() => sendBack({ type: "LATER" }), 15);
    receive(({ type }) => note(`${name}: ${type}`));
    return () => {
      clock.clearTimeout(timer);
      note(`${name}: off`);
    };
  });

const services: Record<Service, unknown> = {
  "resolves": fromPromise(() => new Promise((resolve) => clock.setTimeout(() => resolve(1), 12))),
  "rejects": fromPromise(() =>
    new Promise((_, reject) => clock.setTimeout(() => reject(new Error("no")), 18))
  ),
  "resolves at once": fromPromise(() => Promise.resolve(2)),
  "callback": worker("callback"),
  "machine": kid,
};

const guard = (test: Guard) => counted(({ context }: Args) => test(context));
const toSelf = ({ self }: { self: unknown }) => self;

export const dialect5: Dialect = {
  guardKey: "guard",
  guard,
  inState: (id) => stateIn(`#${id}` as never),
  cameBy: (type, rest) => guard(({ last, n }) => last === type || n % 3 === rest),
  assign: (change) =>
    assign(counted(({ context, event }) => change(context as Context, event.type)) as never),
  note: (name) => ({ context, event }: Args) => note(`${name} n=${context.n} by ${event.type}`),
  raise: (type) => raise({ type }),
  raiseLater: (type, id, delay) => raise({ type }, { id, delay }),
  sendSelf: (type) => sendTo(toSelf as never, { type } as never),
  sendSelfLater: (type, id, delay) => sendTo(toSelf as never, { type } as never, { id, delay } as never),
  cancel: (id) => cancel(id),
  sendTo: (id, type) => sendTo(id as never, { type } as never),
  choose: (test, first, second) =>
    enqueueActions(({ context, enqueue }) => {
      for (const action of test(context as Context) ? first : second) enqueue(action as never);
    }),
  spawn: () => [
    assign(({ context, spawn }) => {
      const { fuel, live } = context as Context;
      const name = `spawned${fuel}`;
      spawn(worker(name), { id: name });
      return { fuel: fuel - 1, live: [...live, name] };
    }),
  ],
  spawnUnnamed: () => [
    assign(({ context, spawn }) => {
      const { fuel, refs } = context as Context;
      return { fuel: fuel - 1, refs: [...refs, spawn(worker("unnamed"))] };
    }),
  ],
  askUnnamed: (type) => [
    assign(({ context, event }) => {
      const { ref } = event as { ref?: unknown };
      return { last: `carried ${ref !== undefined}, known ${(context as Context).refs.includes(ref)}` };
    }),
    enqueueActions(({ context, enqueue, self }) => {
      const newest = (context as Context).refs.at(-1);
      if (newest === undefined) return;
      enqueue.sendTo(newest as never, { type: "PING" } as never);
      enqueue.sendTo(self, { type, ref: newest } as never);
    }),
  ],
  stopSpawned: () => [
    enqueueActions(({ context, enqueue }) => {
      for (const child of [...(context as Context).live, ...(context as Context).refs]) {
        enqueue.stopChild(child as never);
      }
    }),
    assign({ live: [], refs: [] } as never),
  ],
  service: (kind) => services[kind],
  reenter: (transition) => ({ ...transition, reenter: true }),
  machine: (config: Config) => createMachine(config as never),
  options: () => ({}),
};
