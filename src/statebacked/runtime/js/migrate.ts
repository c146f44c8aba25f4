// The code of a migration: maps each leaf state of an outline, and the context, from one version to another.

import { fromText, jsonText, messageOf, placedMessageOf } from "./json.ts";
import { type Outline, type Path, said, startsWith, type Waiting } from "./outline.ts";
import type { Exports } from "./program.ts";

const PATH_STEPS_MAX = 64;

/** What a migration's module exports, as the published @statebacked/machine declares it. */
export interface Upgrades {
  readonly upgradeState: (oldState: string[], context: unknown) => unknown;
  readonly upgradeContext?: (oldStates: string[][], newStates: string[][], context: unknown) => unknown;
}

/** Throws an Error whose message is for whoever uploads the module. */
export function upgradesOf(exports: Exports): Upgrades {
  const { upgradeState, upgradeContext } = exports;
  if (typeof upgradeState !== "function") {
    throw new Error("the module does not export a function upgradeState");
  }
  if (upgradeContext !== undefined && typeof upgradeContext !== "function") {
    throw new Error("the module exports an upgradeContext that is not a function");
  }
  return { upgradeState, ...(upgradeContext === undefined ? {} : { upgradeContext }) } as Upgrades;
}

export interface Migrated {
  readonly outline: Outline;
  /** JSON. */
  readonly context: string;
}

/** Throws an Error whose message is for the machine's owner. */
export function migrate(upgrades: Upgrades, outline: Outline, context: string): Migrated {
  const shown = fromText(context); // what upgradeState does to it, nobody sees
  const mapped = new Map<string, Path>();
  const map = (path: Path): Path => {
    const name = said(path);
    let target = mapped.get(name);
    if (target === undefined) mapped.set(name, target = upgraded(upgrades, path, shown));
    return target;
  };
  const states = outline.states.map(map);
  const history = outline.history.map(({ of, states }) => ({
    of,
    states: states.map(({ path, guessed }) => ({ path: map(path), guessed })),
  }));
  const timers = outline.timers.map((waiting) => moved(waiting, outline.states, states));
  return {
    outline: { ...outline, states, history, timers },
    context: upgradedContext(upgrades, outline.states, states, context),
  };
}

function upgraded({ upgradeState }: Upgrades, path: Path, context: unknown): Path {
  const target = called(`upgradeState of ${said(path)}`, () => upgradeState([...path], context));
  if (
    !Array.isArray(target) || target.length > PATH_STEPS_MAX ||
    !target.every((key) => typeof key === "string")
  ) {
    throw new Error(
      `upgradeState of ${said(path)} gave ${kindOf(target)}: it must give a path, an array of strings`,
    );
  }
  return [...target] as Path;
}

function upgradedContext(
  { upgradeContext }: Upgrades,
  before: readonly Path[],
  after: readonly Path[],
  context: string,
): string {
  if (upgradeContext === undefined) return context;
  const copies = (paths: readonly Path[]): string[][] => paths.map((path) => [...path]);
  const made = called(
    "upgradeContext",
    () => upgradeContext(copies(before), copies(after), fromText(context)),
  );
  if (made === undefined || isThenable(made)) {
    throw new Error(`upgradeContext gave ${kindOf(made)}: it must give the new context`);
  }
  try {
    return jsonText(made);
  } catch (thrown) {
    throw new Error(`upgradeContext gave a context that is no JSON: ${messageOf(thrown)}`);
  }
}

/**
 * Where the state of a timer went. Only leaf states are mapped: a state above one stays what it was when the new leaf is
 * in it too, else it becomes the state that is as far above the new leaf as it was above the old one.
 */
function moved(waiting: Waiting, before: readonly Path[], after: readonly Path[]): Waiting {
  const { state } = waiting;
  const inside = before.map((old, n) => [old, after[n]!] as const).filter(([old]) => startsWith(old, state));
  const leaf = inside.find(([old]) => old.length === state.length);
  if (leaf !== undefined) return { ...waiting, state: leaf[1] };
  if (inside.length === 0 || inside.some(([, now]) => startsWith(now, state))) return waiting;
  const [old, now] = inside[0]!;
  return { ...waiting, state: now.slice(0, Math.max(0, now.length - (old.length - state.length))) };
}

function called<T>(what: string, run: () => T): T {
  try {
    return run();
  } catch (thrown) {
    throw new Error(`${what} threw: ${placedMessageOf(thrown)}`);
  }
}

function kindOf(value: unknown): string {
  if (value === undefined) return "nothing";
  if (isThenable(value)) return "a promise";
  return Array.isArray(value) ? "an array that is not a path" : value === null ? "null" : `a ${typeof value}`;
}

function isThenable(value: unknown): boolean {
  return typeof value === "object" && value !== null &&
    typeof (value as { then?: unknown }).then === "function";
}
