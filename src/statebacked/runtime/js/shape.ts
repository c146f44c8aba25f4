// Which major of XState made a machine, told by its shape: a bundle may hold a copy of its own.

/** 4, 5, or null for what is no machine of either. */
export function recognise(machine: unknown): 4 | 5 | null {
  if (typeof machine !== "object" || machine === null) return null;
  const parts = machine as Record<string, unknown>;
  if (parts["__xstatenode"] !== true || typeof parts["transition"] !== "function") return null;
  if (typeof parts["getInitialSnapshot"] === "function" && typeof parts["restoreSnapshot"] === "function") {
    return 5;
  }
  return typeof parts["withContext"] === "function" && typeof parts["resolveState"] === "function" ? 4 : null;
}
