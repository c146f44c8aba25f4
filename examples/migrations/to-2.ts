import type { UpgradeContext, UpgradeState } from "@statebacked/machine";
import type { Context as Old } from "./membership-1.js";
import type { Context as New } from "./membership-2.js";

/** Called for each state that an instance is in, and for each that its history remembers. */
export const upgradeState: UpgradeState<Old> = (state, context) => {
  switch (state[0]) {
    case "active":
      if (!["monthly", "yearly"].includes(context.public.plan)) {
        throw new Error(`no state for the plan ${context.public.plan}`);
      }
      return ["member", context.public.plan];
    case "expired":
      return ["lapsed"];
    default:
      return state;
  }
};

/** Called once, after all states. */
export const upgradeContext: UpgradeContext<Old, New> = (_oldStates, _newStates, context) => ({
  contacts: [context.email],
  public: {},
});
