import {
  type AllowRead,
  type AllowWrite,
  type AnonymousAuthContext,
  type PersistentActorRef,
  sendTo,
  spawnPersistentInstance,
} from "@statebacked/machine";
import { actions, assign, createMachine } from "xstate";

interface Context {
  address: string;
  parcel: PersistentActorRef | null;
  public: { parcel: string | null; lastSeen: string | null; deliveredTo: string | null };
}
type ShipmentEvent =
  | { type: "ship" }
  | { type: "redirect"; address: string }
  | { type: "seen"; place: string } // from the parcel
  | { type: "done.invoke.parcel"; data: { deliveredTo: string } }
  | { type: "error.platform.parcel" };

type Who = AnonymousAuthContext & { stateBackedSender?: { machineName: string } };

/** The customer's session is the shipment's name; beside it only a parcel may speak. */
export const allowWrite: AllowWrite<Context, Who> = ({ machineInstanceName, authContext }) =>
  authContext.sid === machineInstanceName || authContext.stateBackedSender?.machineName === "parcel4";
export const allowRead: AllowRead<Context, Who> = ({ machineInstanceName, authContext }) =>
  authContext.sid === machineInstanceName;

/** An instance of the machine `parcel4`: it lives on its own, under a name that is made up for it. */
const sendParcel = assign<Context, ShipmentEvent>((context) => {
  const parcel = spawnPersistentInstance(
    { machineName: "parcel4" },
    { name: "parcel", context: { public: { address: context.address, places: [] } } },
  );
  return { parcel, public: { ...context.public, parcel: parcel.machineInstanceName } };
});

export default createMachine<Context, ShipmentEvent>({
  predictableActionArguments: true,
  id: "shipment",
  context: { address: "", parcel: null, public: { parcel: null, lastSeen: null, deliveredTo: null } },
  initial: "packing",
  states: {
    packing: { on: { ship: { target: "underway", actions: sendParcel } } },
    underway: {
      on: {
        seen: {
          actions: assign((context, { place }) => ({ public: { ...context.public, lastSeen: place } })),
        },
        redirect: {
          actions: [
            actions.cancel("redirect"),
            // The courier needs a moment; who changes their mind again sends one redirection only.
            sendTo(
              (context) => (context as Context).parcel!,
              (_: Context, { address }: { address: string }) => ({ type: "redirect", address }),
              { id: "redirect", delay: 200 },
            ),
          ],
        },
        "done.invoke.parcel": {
          target: "delivered",
          actions: assign((context, { data }) => ({
            public: { ...context.public, deliveredTo: data.deliveredTo },
          })),
        },
        // It could not be made, or somebody deleted it.
        "error.platform.parcel": "lost",
      },
    },
    delivered: { type: "final" },
    lost: { type: "final" },
  },
});
