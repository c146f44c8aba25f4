import type { AllowRead, AllowWrite } from "@statebacked/machine";
import { assign, createMachine, sendParent } from "xstate";

interface Context {
  public: { address: string; places: string[] };
}
type ParcelEvent =
  | { type: "scan"; place: string } // from the courier
  | { type: "hand over" }
  | { type: "redirect"; address: string }; // from the shipment

type Who = { sid?: string; stateBackedSender?: { machineName: string; machineInstanceName: string } };

/** A shipment creates its parcel and redirects it; the courier does the rest. Nobody can pass for another. */
export const allowWrite: AllowWrite<Context, Who> = ({ type, authContext, ...request }) => {
  const isShipment = authContext.stateBackedSender?.machineName === "shipment4";
  if (type === "initialization") return isShipment;
  const { event } = request as { event: ParcelEvent };
  return event.type === "redirect" ? isShipment : authContext.sid === "courier";
};
export const allowRead: AllowRead<Context, Who> = () => true;

export default createMachine<Context, ParcelEvent>({
  predictableActionArguments: true,
  id: "parcel",
  // The shipment gives the address when it creates the parcel.
  context: { public: { address: "", places: [] } },
  initial: "underway",
  states: {
    underway: {
      on: {
        scan: {
          actions: [
            assign((context, { place }) => ({
              public: { ...context.public, places: [...context.public.places, place] },
            })),
            sendParent((_, { place }) => ({ type: "seen", place })),
          ],
        },
        redirect: {
          actions: assign((context, { address }) => ({ public: { ...context.public, address } })),
        },
        "hand over": "delivered",
      },
    },
    // The shipment gets this with its done event.
    delivered: { type: "final", data: { deliveredTo: (context: Context) => context.public.address } },
  },
});
