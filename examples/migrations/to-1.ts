import type { UpgradeContext, UpgradeState } from "@statebacked/machine";
import type { Context as First } from "./membership-1.js";
import type { Context as Second } from "./membership-2.js";

/** The way back: instances of the second version become instances of the first. */
export const upgradeState: UpgradeState<Second> = ([state]) => {
  switch (state) {
    case "member":
      return ["active"];
    case "lapsed":
      return ["expired"];
    default:
      return ["trial"];
  }
};

export const upgradeContext: UpgradeContext<Second, First> = ([state], _newStates, context) => ({
  email: context.contacts[0] ?? "",
  public: { plan: state?.[1] ?? "monthly" },
});
