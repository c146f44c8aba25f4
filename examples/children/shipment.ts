import type { AllowRead, AllowWrite, AnonymousAuthContext } from "@statebacked/machine";
import { assign, cancel, sendTo, setup } from "xstate";
import type { ParcelEvent, ParcelInput } from "./parcel.ts";
import { persistent } from "./persistent.ts";

interface Context {
  address: string;
  public: { lastSeen: string | null; deliveredTo: string | null };
}
type ShipmentEvent =
  | { type: "ship" }
  | { type: "redirect"; address: string }
  | { type: "seen"; place: string }; // from the parcel

type Who = AnonymousAuthContext & { stateBackedSender?: { machineName: string } };

/** The customer's session is the shipment's name; beside it only a parcel may speak. */
export const allowWrite: AllowWrite<Context, Who> = ({ machineInstanceName, authContext }) =>
  authContext.sid === machineInstanceName || authContext.stateBackedSender?.machineName === "parcel";
export const allowRead: AllowRead<Context, Who> = ({ machineInstanceName, authContext }) =>
  authContext.sid === machineInstanceName;

export default setup({
  types: {
    context: {} as Context,
    events: {} as ShipmentEvent,
    input: {} as { address: string },
    children: {} as { parcel: "parcel" },
  },
  actors: {
    // An instance of the machine `parcel`: it lives on its own, and clients find it by its name.
    parcel: persistent<ParcelInput & { name: string }, { deliveredTo: string }, ParcelEvent>({
      machineName: "parcel",
      machineInstanceName: ({ name }) => name,
    }),
  },
}).createMachine({
  id: "shipment",
  context: ({ input }) => ({ address: input.address, public: { lastSeen: null, deliveredTo: null } }),
  initial: "packing",
  states: {
    packing: { on: { ship: "underway" } },
    underway: {
      invoke: {
        id: "parcel",
        src: "parcel",
        input: ({ context, self }) => ({ address: context.address, name: `parcel-of-${self.id}` }),
        onDone: {
          target: "delivered",
          actions: assign(({ context, event }) => ({
            public: { ...context.public, deliveredTo: event.output.deliveredTo },
          })),
        },
        // It could not be made, or somebody deleted it.
        onError: "lost",
      },
      on: {
        seen: {
          actions: assign(({ context, event }) => ({
            public: { ...context.public, lastSeen: event.place },
          })),
        },
        redirect: {
          actions: [
            cancel("redirect"),
            // The courier needs a moment; who changes their mind again sends one redirection only.
            sendTo("parcel", ({ event }) => ({ type: "redirect", address: event.address }), {
              id: "redirect",
              delay: 200,
            }),
          ],
        },
      },
    },
    delivered: { type: "final" },
    lost: { type: "final" },
  },
});
