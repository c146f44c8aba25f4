// A machine that is found by what is in its context. findable4.js is the same for XState 4.
import { assign, createMachine } from "xstate";

export const allowWrite = () => true;
export const allowRead = ({ authContext, context }) => {
  if (authContext.sid !== undefined) console.log("asked");
  return authContext.sid === undefined || authContext.sid === context.owner;
};

export default createMachine({
  context: ({ input }) => ({
    owner: null,
    tags: [],
    meta: { since: new Date(0) },
    people: [{ id: "p1" }, { id: "p2" }],
    ...input,
  }),
  on: {
    own: { actions: assign({ owner: ({ event }) => event.owner }) },
    tag: { actions: assign({ tags: ({ event }) => event.tags }) },
    fill: { actions: assign({ tags: ({ event }) => Array.from({ length: event.count }, (_, n) => `t${n}`) }) },
    nothing: { actions: () => {} },
  },
});
