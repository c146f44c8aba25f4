// What the adapter of XState 4 promises beyond the states of plain xstate: computing, storing, performing.

import "./clock.ts";
import { deepStrictEqual as equal, match, throws } from "node:assert";
import { actions, assign, createMachine, send, sendTo, spawn } from "xstate";
import { xstate4 } from "js/xstate4.ts";
import { aside, law, machineOf, Rig } from "./rig4.ts";

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

law("the caller's context is laid over the machine's, which may be a function", (mode) => {
  for (const context of [{ a: 1, b: { c: 2 } }, () => ({ a: 1, b: { c: 2 } })]) {
    const rig = new Rig(machineOf(mode, { context }));
    equal(rig.start({ b: { d: 3 } }).context, { a: 1, b: { d: 3 } });
    equal(new Rig(machineOf(mode, { context })).start().context, { a: 1, b: { c: 2 } });
  }
  equal(new Rig(machineOf(mode, {})).start().context, {});
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
