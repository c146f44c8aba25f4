// What the adapter of XState 4 promises of services: started late, heard by name, over once, stopped.

import "./clock.ts";
import { deepStrictEqual as equal, match } from "node:assert";
import { actions, assign, sendParent, sendTo, spawn } from "xstate";
import type { ActorRef } from "xstate";
import { clock, turn } from "./clock.ts";
import { aside, law, machineOf, Rig } from "./rig4.ts";

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
