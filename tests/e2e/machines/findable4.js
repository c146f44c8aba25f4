import { assign, createMachine } from "xstate";

export const allowWrite = () => true;
export const allowRead = ({ authContext, context }) => {
  if (authContext.sid !== undefined) console.log("asked");
  return authContext.sid === undefined || authContext.sid === context.owner;
};

export default createMachine({
  predictableActionArguments: true,
  context: { owner: null, tags: [], meta: { since: new Date(0) }, people: [{ id: "p1" }, { id: "p2" }] },
  on: {
    own: { actions: assign({ owner: (_, event) => event.owner }) },
    tag: { actions: assign({ tags: (_, event) => event.tags }) },
    fill: { actions: assign({ tags: (_, event) => Array.from({ length: event.count }, (_, n) => `t${n}`) }) },
    nothing: { actions: () => {} },
  },
});
