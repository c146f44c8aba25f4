// What the adapter of XState 4 promises beyond the states of plain xstate.

import "./clock.ts";
import { deepStrictEqual as equal, match, throws } from "node:assert";
import { actions, assign, createMachine, send, sendParent, sendTo, spawn } from "xstate";
import type { ActorRef } from "xstate";
import type { Computed, Instance } from "js/adapter.ts";
import { xstate4 } from "js/xstate4.ts";
import { clock, turn } from "./clock.ts";

interface Sent {
  event: { type: string; [key: string]: unknown };
  service: string | null;
  ends: boolean;
}

/** One instance, and all that it says. */
class Rig {
  sent: Sent[] = [];
  positions: number[] = [];
  readonly instance: Instance;

  constructor(machine: unknown) {
    clock.reset();
    equal(xstate4.check(machine), null);
    this.instance = xstate4.instantiate(machine, "rig", {
      sent: (event, service, ends) => void this.sent.push({ event: event as Sent["event"], service, ends }),
    });
  }

  perform(): void {
    this.positions = [];
    this.instance.confirm();
    this.instance.perform((after) => void this.positions.push(after));
  }

  start(context?: unknown): Computed {
    const computed = this.instance.initialize(context);
    this.perform();
    return computed;
  }

  send(event: string | object): Computed {
    const computed = this.instance.transition(typeof event === "string" ? { type: event } : event);
    this.perform();
    return computed;
  }

  /** Everything stored, and nothing else. */
  restored(machine: unknown, computed: Computed): Rig {
    const rig = new Rig(machine);
    rig.instance.restore(
      JSON.parse(JSON.stringify(computed.snapshot)),
      JSON.parse(JSON.stringify(computed.context)),
    );
    return rig;
  }
}

const modes = [true, false] as const;

/** A law for machines with predictableActionArguments and for those without. */
const law = (name: string, check: (predictableActionArguments: boolean) => void | Promise<void>): void => {
  for (const mode of modes) {
    Deno.test(`${name} (${mode ? "predictable" : "assigns first"})`, () => check(mode));
  }
};

const machineOf = (predictableActionArguments: boolean, config: object, options: object = {}): unknown =>
  createMachine({ id: "m", predictableActionArguments, ...config } as never, options as never);

const aside = async <T>(run: () => T): Promise<{ result: T; said: string[] }> => {
  const said: string[] = [];
  const kept = [console.log, console.warn, console.error];
  console.log = console.warn = console.error = (...words: unknown[]) =>
    void said.push(words.map(String).join(" "));
  try {
    const result = run();
    await turn();
    return { result, said };
  } finally {
    [console.log, console.warn, console.error] = kept;
  }
};

law("nothing is performed before it is confirmed", (mode) => {
  const done: string[] = [];
  const rig = new Rig(machineOf(mode, {
    initial: "a",
    states: {
      a: { entry: () => done.push("entry"), on: { GO: { target: "b", actions: () => done.push("go") } } },
      b: { invoke: { id: "s", src: () => (done.push("service"), Promise.resolve()) } },
    },
  }));
  const first = rig.instance.initialize(undefined);
  equal([done, first.hasEffects, rig.instance.current()?.value], [[], true, "a"]);
  rig.perform();
  equal(done.splice(0), ["entry"]);
  const second = rig.instance.transition({ type: "GO" });
  equal([done, second.starts], [[], ["s"]]);
  rig.perform();
  equal(done, ["go", "service"]);
  rig.perform();
  equal(done, ["go", "service"], "and it is performed once");
});

law("an unknown event changes nothing; a selected transition is a change even when all stays", (mode) => {
  const rig = new Rig(machineOf(mode, {
    initial: "a",
    context: { n: 0 },
    on: { ROOT: {} },
    states: {
      a: {
        always: { target: "b", cond: ({ n }: { n: number }) => n > 0 },
        on: {
          SAME: "a",
          NOTE: { actions: () => {} },
          NEVER: undefined,
          RAISE: { actions: actions.raise("NOBODY" as never) },
          GUARDED: { target: "a", cond: () => false },
        },
      },
      b: {},
    },
  }));
  rig.start();
  equal(
    ["NOBODY", "GUARDED", "NEVER", "ROOT", "", "SAME", "NOTE", "RAISE"].map((
      type,
    ) => [type, rig.send(type).changed]),
    [
      ["NOBODY", false],
      ["GUARDED", false],
      ["NEVER", false],
      ["ROOT", false],
      ["", false],
      ["SAME", true],
      ["NOTE", true],
      ["RAISE", true],
    ],
  );
});

law("timers come in the order of set and cancel, with whole delays", (mode) => {
  const later = (id: string, delay: unknown) => send({ type: id }, { id, delay: delay as number });
  const rig = new Rig(machineOf(mode, {
    initial: "a",
    context: { wait: 70.9 },
    states: {
      a: {
        after: { 1000: "b" },
        on: {
          GO: {
            target: "b",
            actions: [
              later("year", 365 * 86_400_000),
              later("nan", () => NaN),
              later("expr", ({ wait }: { wait: number }) => wait),
              later("past", -5),
              actions.cancel("year"),
              later("named", "SOON"),
              actions.raise({ type: "raised" } as never, { delay: 3 }),
              actions.cancel("year"),
            ],
          },
        },
      },
      b: {},
    },
  }, { delays: { SOON: 12 } }));
  equal(rig.start().timers, [["set", "xstate.after(1000)#m.a", 1000, { type: "xstate.after(1000)#m.a" }]]);
  equal(rig.send("GO").timers, [
    ["cancel", "xstate.after(1000)#m.a"],
    ["set", "year", 31_536_000_000, { type: "year" }],
    ["set", "nan", 0, { type: "nan" }],
    ["set", "expr", 70, { type: "expr" }],
    ["set", "past", 0, { type: "past" }],
    ["cancel", "year"],
    ["set", "named", 12, { type: "named" }],
    ["set", "", 3, { type: "raised" }],
    ["cancel", "year"],
  ]);
});

law("what the machine sends itself is data, and effects know their place among it", (mode) => {
  const rig = new Rig(machineOf(mode, {
    context: {},
    on: {
      GO: {
        actions: [
          send("A"),
          assign({
            kid: () =>
              spawn((reply: (event: { type: string }) => void) => reply({ type: "FROM_KID" }), "kid"),
          }),
          send({ type: "B", n: 1 }),
          () => {},
        ],
      },
    },
  }));
  rig.start();
  const computed = rig.send("GO");
  equal(computed.sends, [{ type: "A" }, { type: "B", n: 1 }]);
  equal(rig.positions, mode ? [1, 2, 2] : [0, 2, 2]);
  equal(rig.sent, [{ event: { type: "FROM_KID" }, service: "kid", ends: false }]);
});

law("a service that cannot start is over at once, with its error", (mode) => {
  const failing = (src: unknown) =>
    machineOf(mode, { invoke: { id: "s", src, onError: ".failed" }, states: { failed: {} } });
  const broken = [
    () => {
      throw new Error("at once");
    },
    () => () => {
      throw new Error("at once");
    },
  ];
  for (const src of broken) {
    const rig = new Rig(failing(src));
    equal(rig.start().starts, ["s"]);
    equal(rig.sent.map(({ event, service, ends }) => [event.type, String(event.data), service, ends]), [
      ["error.platform.s", "Error: at once", "s", true],
    ]);
    equal(rig.instance.hasServices(), false);
    equal(rig.send(rig.sent[0].event).value, "failed");
  }
});

law("a service that is none ends without a word", async (mode) => {
  const nothing = new Rig(
    machineOf(mode, { invoke: { id: "s", src: () => undefined, onDone: ".done" }, states: { done: {} } }),
  );
  equal(nothing.start().starts, ["s"]);
  equal([nothing.sent[0].service, nothing.sent[0].ends], ["s", true]);
  equal([nothing.instance.hasServices(), nothing.send(nothing.sent[0].event).changed], [false, false]);
  const { result, said } = await aside(() =>
    new Rig(machineOf(mode, { invoke: { id: "s", src: `missing${mode}` } })).start()
  );
  equal(result.starts, []);
  match(said.join(), /no implementation of service "missing/);
});

law("promises, callbacks and machines end by one event that names them", async (mode) => {
  const kid = machineOf(mode, {
    id: "kid",
    initial: "a",
    states: { a: { on: { END: "b" } }, b: { type: "final", data: { n: 7 } } },
  });
  const rig = new Rig(machineOf(mode, {
    type: "parallel",
    states: {
      p: { invoke: { id: "p", src: () => Promise.resolve(1) } },
      e: { invoke: { id: "e", src: () => Promise.reject(new Error("no")), onError: {} } },
      c: { invoke: { id: "c", src: () => async () => await Promise.resolve(3) } },
      m: { invoke: { id: "m", src: kid }, on: { END: { actions: sendTo("m", { type: "END" }) } } },
    },
  }));
  equal(rig.start().starts.sort(), ["c", "e", "m", "p"]);
  await turn();
  rig.send("END");
  equal(
    rig.sent.map((
      { event, service, ends },
    ) => [event.type, service, ends, event.data instanceof Error || event.data]),
    [
      ["done.invoke.p", "p", true, 1],
      ["error.platform.e", "e", true, true],
      ["done.invoke.c", "c", true, 3],
      ["done.invoke.m", "m", true, { n: 7 }],
    ],
  );
  equal(rig.instance.hasServices(), false);
});

law("escalate reaches onError, and ends nothing; a child that answers is answered", (mode) => {
  const kid = machineOf(mode, {
    id: "kid",
    on: {
      FAIL: { actions: actions.escalate({ why: "tired" } as never) },
      ASK: { actions: actions.respond("ANSWER") },
    },
  });
  const rig = new Rig(machineOf(mode, {
    initial: "a",
    states: {
      a: {
        invoke: { id: "kid", src: kid, onError: "b" },
        on: {
          FAIL: { actions: sendTo("kid", { type: "FAIL" }) },
          ASK: { actions: sendTo("kid", { type: "ASK" }) },
        },
      },
      b: {},
    },
  }));
  rig.start();
  rig.send("ASK");
  equal(rig.sent.splice(0), [{ event: { type: "ANSWER" }, service: "kid", ends: false }]);
  rig.send("FAIL");
  equal(rig.sent, [{ event: { type: "xstate.error", data: { why: "tired" } }, service: "kid", ends: false }]);
  const computed = rig.send(rig.sent[0].event);
  equal([computed.value, computed.stops, rig.instance.hasServices()], ["b", ["kid"], false]);
});

law("the machine answers whom it got the event from", (mode) => {
  const got: string[] = [];
  const rig = new Rig(machineOf(mode, {
    invoke: {
      id: "c",
      src:
        () =>
        (reply: (event: object) => void, receive: (listen: (event: { type: string }) => void) => void) => {
          receive(({ type }) => got.push(type));
          reply({ type: "HELLO" });
        },
    },
    on: { HELLO: { actions: actions.respond("WELCOME") } },
  }));
  rig.start();
  rig.send(rig.sent[0].event);
  equal(got, ["WELCOME"]);
});

law("autoForward is performed after the commit, also of events that the machine does not know", (mode) => {
  const got: string[] = [];
  const kid = machineOf(mode, {
    id: "kid",
    on: { "*": { actions: (_: unknown, event: { type: string }) => got.push(event.type) } },
  });
  const rig = new Rig(machineOf(mode, { invoke: { id: "kid", src: kid, autoForward: true } }));
  rig.start();
  const computed = rig.instance.transition({ type: "NEWS" });
  equal([computed.changed, computed.hasEffects, got], [true, true, []]);
  rig.perform();
  equal(got, ["NEWS"]);
});

law("a spawned actor is a reference first, and runs after the commit", (mode) => {
  const started: string[] = [];
  const kid = machineOf(mode, {
    id: "kid",
    context: { n: 5 },
    entry: () => started.push("kid"),
    on: { PING: { actions: sendParent("PONG") } },
  });
  type Context = {
    kid?: { getSnapshot(): { context: { n: number } }; send(event: string): void };
    seen?: number;
  };
  const machine = machineOf(mode, {
    context: {},
    on: {
      GO: {
        actions: [
          assign({ kid: () => spawn(kid as never, "kid") }),
          assign({ seen: ({ kid }: Context) => kid?.getSnapshot().context.n }),
          sendTo((({ kid }: Context) => kid) as never, { type: "PING" } as never),
        ],
      },
      STOP: { actions: actions.stop((({ kid }: Context) => kid) as never) },
    },
  });
  const rig = new Rig(machine);
  rig.start();
  const computed = rig.instance.transition({ type: "GO" });
  equal([started, computed.starts, JSON.stringify(computed.context)], [
    [],
    ["kid"],
    '{"kid":{"id":"kid"},"seen":5}',
  ]);
  rig.perform();
  equal(started, ["kid"]);
  equal(rig.sent.map(({ event, service }) => [event.type, service]), [["PONG", "kid"]]);
  const { kid: reference } = rig.instance.current()?.context as Context;
  reference?.send("PING");
  equal(rig.sent.length, 2);
  const stop = rig.send("STOP");
  equal([stop.stops, rig.instance.hasServices()], [["kid"], false]);
});

law("a step that starts a service again names it in both, and the older one is not heard", (mode) => {
  const replies: ((event: object) => void)[] = [];
  const rig = new Rig(machineOf(mode, {
    initial: "a",
    states: {
      a: {
        invoke: {
          id: "s",
          src: () => (reply: (event: object) => void) => void replies.push(reply),
        },
        on: { AGAIN: "a" },
      },
    },
  }));
  rig.start();
  const computed = rig.send("AGAIN");
  equal([computed.starts, computed.stops, replies.length], [["s"], ["s"], 2]);
  replies[0]({ type: "OLD" });
  replies[1]({ type: "NEW" });
  equal(rig.sent.map(({ event }) => event.type), ["NEW"]);
});

law("a service of a state that is passed through is not heard, whatever it says", (mode) => {
  const saying = (type: string) => () => (reply: (event: object) => void) => reply({ type });
  const rig = new Rig(machineOf(mode, {
    initial: "a",
    states: { a: { invoke: { id: "s", src: "old" }, always: "b" }, b: { invoke: { id: "s", src: "new" } } },
  }, { services: { old: saying("OLD"), new: saying("NEW") } }));
  const computed = rig.start();
  equal([computed.starts, computed.stops], [["s"], []]);
  equal(rig.sent.map(({ event }) => event.type), ["NEW"]);
});

law("an actor spawned under the name of another takes its place", (mode) => {
  const said: string[] = [];
  let count = 0;
  const kid = () => {
    const name = `kid ${++count}`;
    return () => () => said.push(`${name} gone`);
  };
  const rig = new Rig(
    machineOf(mode, {
      context: {},
      on: { GO: { actions: assign({ kid: () => spawn(kid() as never, "kid") }) } },
    }),
  );
  rig.start();
  rig.send("GO");
  const again = rig.send("GO");
  equal([again.starts, again.stops, said], [["kid"], ["kid"], ["kid 1 gone"]]);
});

law("what is sent to a spawned actor before it runs waits for it", (mode) => {
  const got: string[] = [];
  const kid = (_: unknown, receive: (listen: (event: { type: string }) => void) => void) =>
    receive(({ type }) => got.push(type));
  const rig = new Rig(machineOf(mode, {
    context: {},
    on: {
      GO: {
        actions: assign({
          kid: () => {
            const reference = spawn(kid as never, "kid") as unknown as ActorRef<{ type: string }>;
            reference.send({ type: "EARLY" });
            return reference;
          },
        }),
      },
    },
  }));
  rig.start();
  rig.instance.transition({ type: "GO" });
  equal(got, []);
  rig.perform();
  equal(got, ["EARLY"]);
});

law("an error of a child's action is an event of that child", async (mode) => {
  const kid = machineOf(mode, {
    id: "kid",
    initial: "a",
    states: {
      a: { after: { 5: "b" } },
      b: {
        entry: () => {
          throw new Error("inside");
        },
      },
    },
  });
  const rig = new Rig(machineOf(mode, { invoke: { id: "k", src: kid } }));
  rig.start();
  await clock.advance(5, turn).catch(() => {});
  equal(rig.sent.map(({ event, service, ends }) => [event.type, service, ends]), [[
    "xstate.error",
    "k",
    false,
  ]]);
});

law("a child that is spawned in sync tells each of its states", (mode) => {
  const kid = machineOf(mode, { id: "kid", initial: "a", states: { a: { on: { GO: "b" } }, b: {} } });
  const rig = new Rig(machineOf(mode, {
    context: {},
    on: {
      SPAWN: { actions: assign({ kid: () => spawn(kid as never, { name: "kid", sync: true }) }) },
      GO: { actions: sendTo("kid", { type: "GO" } as never) },
    },
  }));
  rig.start();
  rig.send("SPAWN");
  rig.send("GO");
  equal(
    rig.sent.map(({ event, service }) => [event.type, (event.state as { value: string }).value, service]),
    [["xstate.update", "a", "kid"], ["xstate.update", "b", "kid"]],
  );
});

law("guards see the children of the state, spawned ones too", (mode) => {
  const hasKid = (_: unknown, __: unknown, { state }: { state: { children: object } }) =>
    "kid" in state.children;
  const rig = new Rig(machineOf(mode, {
    context: {},
    initial: "a",
    on: { SPAWN: { actions: assign({ kid: () => spawn((() => () => {}) as never, "kid") }) } },
    states: { a: { on: { GO: { target: "b", cond: hasKid } } }, b: {} },
  }));
  rig.start();
  equal(rig.send("GO").changed, false);
  rig.send("SPAWN");
  equal(rig.send("GO").value, "b");
});

law("a restored machine knows its timers and its running services", (mode) => {
  const make = () =>
    machineOf(mode, {
      initial: "a",
      invoke: { id: "s", src: () => () => () => {} },
      states: { a: { after: { 5: "b" } }, b: { after: { 9: "a" } } },
    });
  const stored = new Rig(make()).start();
  const instance = xstate4.instantiate(make(), "fresh", { sent: () => {} });
  instance.restore(stored.snapshot, stored.context);
  const computed = instance.transition({ type: "xstate.after(5)#m.a" });
  equal([computed.value, (computed.snapshot as { activities: object }).activities], ["b", { s: true }]);
  equal(computed.timers.map(([operation, id]) => [operation, id]), [
    ["cancel", "xstate.after(5)#m.a"],
    ["set", "xstate.after(9)#m.b"],
  ]);
});

law("a final state stops every service", (mode) => {
  let isStopped = false;
  const rig = new Rig(machineOf(mode, {
    initial: "a",
    invoke: { id: "s", src: () => () => () => (isStopped = true) },
    states: { a: { after: { 10: "b" }, on: { END: "b" } }, b: { type: "final" } },
  }));
  rig.start();
  const computed = rig.send("END");
  equal([computed.done, computed.starts, computed.stops, isStopped], [true, [], ["s"], true]);
  equal(rig.send("END").changed, false);
});

law("a lost service is told by its error event, which may well be unhandled", (mode) => {
  const machine = machineOf(mode, {
    initial: "a",
    states: {
      a: { invoke: { id: "s", src: () => new Promise(() => {}), onError: "b" }, on: { DEAF: "c" } },
      b: {},
      c: { invoke: { id: "s", src: () => new Promise(() => {}) }, on: { "*": "b" } },
    },
  });
  const rig = new Rig(machine);
  const first = rig.start();
  const heard = rig.restored(machine, first);
  const error = heard.instance.serviceError("s", new Error("lost"));
  equal(error.type, "error.platform.s");
  const computed = heard.send(error);
  equal([computed.value, computed.stops], ["b", []]);
  const deaf = rig.restored(machine, rig.send("DEAF"));
  equal(deaf.send(deaf.instance.serviceError("s", new Error("lost"))).changed, false);
});

law("the caller's context is laid over the machine's, which may be a function", (mode) => {
  for (const context of [{ a: 1, b: { c: 2 } }, () => ({ a: 1, b: { c: 2 } })]) {
    const rig = new Rig(machineOf(mode, { context }));
    equal(rig.start({ b: { d: 3 } }).context, { a: 1, b: { d: 3 } });
    equal(new Rig(machineOf(mode, { context })).start().context, { a: 1, b: { c: 2 } });
  }
  equal(new Rig(machineOf(mode, {})).start().context, null);
});

law("instances do not share the machine's context", (mode) => {
  const machine = machineOf(mode, {
    context: { list: [] },
    on: { PUSH: { actions: ({ list }: { list: number[] }) => list.push(1) } },
  });
  const one = new Rig(machine);
  one.start();
  one.send("PUSH");
  equal(new Rig(machine).start().context, { list: [] });
});

law("a refused event leaves the instance as it was, once it is put back, and its services alone", (mode) => {
  const got: string[] = [];
  const machine = machineOf(mode, {
    context: { list: [] as string[] },
    on: {
      SPAWN: {
        actions: assign({
          kid: () =>
            spawn(
              (_: unknown, receive: (listen: (event: { type: string }) => void) => void) =>
                receive(({ type }) => got.push(type)),
              "kid",
            ),
        }),
      },
      BAD: {
        actions: assign(({ list }: { list: string[] }) => {
          list.push("bad");
          throw new Error("bad");
        }),
      },
      PING: { actions: sendTo((({ kid }: { kid: unknown }) => kid) as never, { type: "PING" } as never) },
    },
  });
  const rig = new Rig(machine);
  rig.start();
  const good = rig.send("SPAWN");
  const stored = JSON.stringify([good.snapshot, good.context]);
  throws(() => rig.instance.transition({ type: "BAD" }), /bad/);
  const [snapshot, context] = JSON.parse(stored);
  rig.instance.revert?.(snapshot, context);
  equal(JSON.stringify([snapshot, rig.instance.current()?.context]), stored);
  equal(rig.instance.hasServices(), true);
  rig.send("PING");
  equal(got, ["PING"], "the reference in the context is still the actor");
  throws(() => rig.instance.transition({ type: "BAD" }), /bad/);
  const second = new Rig(
    machineOf(mode, { context: {}, on: { GO: { actions: assign({ kid: () => spawn(() => {}, "x") }) } } }),
  );
  second.start();
  equal(second.send("GO").starts, ["x"], "a throw leaves no spawn scope behind");
});

law("a context can be made canonical before its step is confirmed", (mode) => {
  const rig = new Rig(
    machineOf(mode, { context: { at: null }, on: { GO: { actions: assign({ at: () => new Date(0) }) } } }),
  );
  rig.start();
  const computed = rig.instance.transition({ type: "GO" });
  const canonical = JSON.parse(JSON.stringify(computed.context));
  rig.instance.canonicalise(canonical);
  rig.perform();
  equal(rig.instance.current()?.context, { at: "1970-01-01T00:00:00.000Z" });
});

law("a delayed send to a child is no row: it waits in the process, and goes with the child", async (mode) => {
  const got: string[] = [];
  const rig = new Rig(machineOf(mode, {
    initial: "a",
    states: {
      a: {
        invoke: {
          id: "c",
          src: () => (_: unknown, receive: (listen: (event: { type: string }) => void) => void) =>
            receive(({ type }) => got.push(type)),
        },
        on: {
          LATER: {
            actions: ["A", "B"].map((type) => sendTo("c", { type } as never, { delay: 10, id: type })),
          },
          CANCEL: { actions: actions.cancel("A") },
        },
      },
      b: {},
    },
  }));
  rig.start();
  equal(rig.send("LATER").timers, []);
  rig.send("CANCEL");
  await clock.advance(20, turn);
  equal(got, ["B"]);
  rig.send("LATER");
  rig.instance.dispose();
  const { said } = await aside(() => clock.advance(20, turn));
  equal([got, said], [["B"], []]);
});

law("an action that throws after the commit is logged; the others go on", async (mode) => {
  const done: string[] = [];
  const rig = new Rig(machineOf(mode, {
    on: {
      GO: {
        actions: [
          () => {
            throw new Error("late");
          },
          () => done.push("next"),
          sendTo("nobody", { type: "X" } as never),
          actions.log("said", "label"),
        ],
      },
    },
  }));
  rig.start();
  const { result, said } = await aside(() => rig.send("GO"));
  equal([result.changed, done], [true, ["next"]]);
  match(said.join("\n"), /late[^]*label said|label said[^]*late/);
  match(said.join("\n"), /nobody/);
});

law("an activity is a service as long as it can be stopped", (mode) => {
  const done: string[] = [];
  const rig = new Rig(machineOf(mode, {
    initial: "a",
    states: { a: { activities: ["beep", "once"], on: { NEXT: "b" } }, b: {} },
  }, {
    activities: {
      beep: () => (done.push("beep"), () => done.push("quiet")),
      once: () => void done.push("once"),
    },
  }));
  equal(rig.start().starts, ["beep", "once"]);
  equal(rig.sent.map(({ service, ends }) => [service, ends]), [["once", true]]);
  equal(rig.instance.hasServices(), true);
  rig.send(rig.sent[0].event);
  equal(rig.send("NEXT").stops, ["beep"]);
  equal(done, ["beep", "once", "quiet"]);
});

law("an event that looks as if xstate had wrapped it is taken by its type", (mode) => {
  const machine = machineOf(mode, {
    initial: "a",
    states: { a: { on: { "done.invoke.pay": "b", X: "c" } }, b: {}, c: {} },
  });
  const rig = new Rig(machine);
  rig.start();
  const forged = { type: "X", $$type: "scxml", name: "done.invoke.pay", data: { type: "done.invoke.pay" } };
  equal(rig.send(forged).value, "c");
});

law("a stopped or disposed instance is silent", (mode) => {
  const replies: ((event: object) => void)[] = [];
  const rig = new Rig(
    machineOf(mode, {
      invoke: {
        id: "s",
        src: () => (reply: (event: object) => void) => void replies.push(reply),
      },
    }),
  );
  rig.start();
  rig.instance.stop("s");
  replies[0]({ type: "X" });
  const other = new Rig(
    machineOf(mode, {
      invoke: {
        id: "s",
        src: () => (reply: (event: object) => void) => void replies.push(reply),
      },
    }),
  );
  other.start();
  other.instance.dispose();
  replies[1]({ type: "X" });
  equal([rig.sent, other.sent, rig.instance.hasServices()], [[], [], false]);
});

Deno.test("tags and regions come in the order of the document, live and restored", () => {
  const machine = machineOf(true, {
    type: "parallel",
    states: {
      one: { tags: "first", initial: "a", states: { a: {}, b: {} }, on: { ONE: ".b" } },
      two: {
        tags: "second",
        initial: "a",
        states: { a: { tags: "inner" }, b: {} },
        on: { TWO: "#m.two.a", BACK: "#m.one.a" },
      },
    },
  });
  const rig = new Rig(machine);
  rig.start();
  for (const type of ["TWO", "ONE", "BACK", "TWO"]) {
    const live = rig.send(type);
    equal([Object.keys(live.value as object), live.tags], [["one", "two"], ["first", "second", "inner"]]);
    equal(Object.keys(rig.restored(machine, live).instance.current()?.value as object), ["one", "two"]);
  }
});

Deno.test("what is no machine of XState 4 is told", () => {
  const bad: [unknown, RegExp][] = [
    [undefined, /not an XState machine/],
    [{ id: "m" }, /not an XState machine/],
    [{ __xstatenode: true, transition: () => {}, getInitialSnapshot: () => {} }, /not a machine of XState 4/],
    [createMachine({ states: { a: { on: { GO: "nowhere" } } } } as never), /nowhere/],
    [createMachine({ initial: "nowhere", states: { a: {} } } as never), /nowhere/],
    [
      createMachine({ initial: "a", states: { a: { initial: "nowhere", states: { b: {} } } } } as never),
      /nowhere/,
    ],
    [
      (createMachine({ states: { a: {} } } as never) as unknown as { states: { a: unknown } }).states.a,
      /a state inside/,
    ],
  ];
  for (const [value, reason] of bad) match(xstate4.check(value) ?? "usable", reason);
});
