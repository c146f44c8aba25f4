import { assign, createMachine } from "xstate";

// An instance is its session's own: only a session with its name may read it, create it and send it events.
export const allowRead = ({ machineInstanceName, authContext }) => machineInstanceName === authContext.sid;
export const allowWrite = allowRead;

const count = assign({
  public: (context) => ({ ...context.public, toggleCount: context.public.toggleCount + 1 }),
});

export default createMachine({
  id: "toggler",
  predictableActionArguments: true,
  initial: "off",
  // Whoever may read an instance sees `public`, and no other part of its context.
  context: { public: { toggleCount: 0 } },
  states: {
    off: { on: { toggle: { target: "on", actions: count } } },
    on: { on: { toggle: { target: "off", actions: count } } },
  },
});
