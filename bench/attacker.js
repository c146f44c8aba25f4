// A tenant that attacks its server: its guard loops, its service floods the log or asks a server that answers badly.
import { createMachine, fromCallback } from "xstate";

export const allowRead = ({ authContext }) => {
  if (authContext?.sub === "loops") for (;;);
  return true;
};
export const allowWrite = () => true;

const flood = fromCallback(() => {
  const timer = setInterval(() => {
    for (let n = 0; n < 5_000; n++) console.log("");
  }, 0);
  return () => clearInterval(timer);
});

const ask = fromCallback(({ input: { event } }) => {
  const again = async () => {
    for (;;) {
      await fetch(event.url).then((answer) => answer.arrayBuffer()).catch(() => {});
      await new Promise((done) => setTimeout(done, 1));
    }
  };
  for (let n = 0; n < 16; n++) again();
});

export default createMachine({
  initial: "idle",
  states: {
    idle: { on: { flood: "flooding", ask: "asking" } },
    flooding: { invoke: { src: flood }, on: { flood: { target: "flooding", reenter: true } } },
    asking: {
      invoke: { src: ask, input: ({ event }) => ({ event }) },
      on: { ask: { target: "asking", reenter: true } },
    },
  },
});
