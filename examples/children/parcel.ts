import type { AllowRead, AllowWrite } from "@statebacked/machine";
import { assign, sendParent, setup } from "xstate";

interface Context {
  public: { address: string; places: string[] };
}
export type ParcelInput = { address: string };
export type ParcelEvent =
  | { type: "scan"; place: string } // from the courier
  | { type: "hand over" }
  | { type: "redirect"; address: string }; // from the shipment

type Who = { sid?: string; stateBackedSender?: { machineName: string; machineInstanceName: string } };

/** A shipment creates its parcel and redirects it; the courier does the rest. Nobody can pass for another. */
export const allowWrite: AllowWrite<Context, Who> = ({ type, authContext, ...request }) => {
  const isShipment = authContext.stateBackedSender?.machineName === "shipment";
  if (type === "initialization") return isShipment;
  const { event } = request as { event: ParcelEvent };
  return event.type === "redirect" ? isShipment : authContext.sid === "courier";
};
export const allowRead: AllowRead<Context, Who> = () => true;

export default setup({
  types: { context: {} as Context, events: {} as ParcelEvent, input: {} as ParcelInput },
}).createMachine({
  id: "parcel",
  // The input is what the shipment creates it with.
  context: ({ input }) => ({ public: { address: input.address, places: [] } }),
  initial: "underway",
  states: {
    underway: {
      on: {
        scan: {
          actions: [
            assign(({ context, event }) => ({
              public: { ...context.public, places: [...context.public.places, event.place] },
            })),
            sendParent(({ event }) => ({ type: "seen", place: event.place })),
          ],
        },
        redirect: {
          actions: assign(({ context, event }) => ({
            public: { ...context.public, address: event.address },
          })),
        },
        "hand over": "delivered",
      },
    },
    delivered: { type: "final" },
  },
  // The shipment gets this with its done event.
  output: ({ context }) => ({ deliveredTo: context.public.address }),
});
