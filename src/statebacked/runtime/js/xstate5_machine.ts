// A machine of XState 5 as the adapter sees it: watched, checked, with the context that a creation brings.

import { createActor, StateMachine } from "xstate5";
import { recognise } from "./shape.ts";
import { copyPlain } from "./plain.ts";
import { allNodes } from "./outline.ts";
import type { Actor5, Event5, Machine5, Node5, Snapshot5 } from "./xstate5_types.ts";

/** A view of a machine that notes whether an event selected a transition, and that bounds a macrostep. */
export interface Watched {
  readonly machine: Machine5;
  selected: boolean | null;
}

export function watch(machine: Machine5, microstepsMax: number): Watched {
  const select = machine.getTransitionData.bind(machine);
  const iterations = Math.min(machine.options?.maxIterations ?? Infinity, microstepsMax);
  const watched: Watched = {
    selected: null,
    machine: Object.create(machine, {
      options: { value: { ...machine.options, maxIterations: iterations } },
      getTransitionData: {
        value: (snapshot: Snapshot5, event: Event5) => {
          if (watched.selected !== null) return select(snapshot, event);
          // The first question of a macrostep is for its event; guards may ask others meanwhile.
          watched.selected = false;
          const transitions = select(snapshot, event);
          // A forbidden transition has neither target nor actions.
          watched.selected = transitions.some((t) => t.target !== undefined || t.actions.length > 0);
          return transitions;
        },
      },
    }) as Machine5,
  };
  return watched;
}

export function check(machine: unknown): string | null {
  const shape = recognise(machine);
  if (shape === 4) return "this is a machine of XState 4";
  if (shape !== 5) return "this is not a machine of XState 5";
  if (machine instanceof StateMachine) return null;
  if (Object.getPrototypeOf(machine) === Object.prototype) return WRAPPED;
  return recordsActions(machine as Machine5) ? null : TOO_OLD;
}

/** An `initial`, or the target of a history state, that names no state: XState says so when it is needed. */
export function problemOf(machine: Machine5): string | null {
  for (const node of allNodes(machine.root)) {
    const { initial, target } = node.config;
    const named = typeof initial === "string" ? initial : undefined;
    if (named !== undefined && !Object.hasOwn(node.states, named)) {
      return `the \`initial\` of ${called(node)} is "${named}", and there is no such state in it`;
    }
    if (node === machine.root && node.type === "compound" && initial === undefined) {
      return "the machine has states and no `initial`";
    }
    if (node.type !== "history") continue;
    const targets = Array.isArray(target) ? target : [target];
    for (const one of targets) {
      if (typeof one === "string" && !isFound(machine, node.parent!, one)) {
        return `the \`target\` of the history state ${called(node)} is "${one}", and there is no such state`;
      }
    }
  }
  return null;
}

const called = (node: Node5): string =>
  node.path.length === 0 ? "the machine" : `state ${node.path.join(".")}`;

function isFound(machine: Machine5, parent: Node5, target: string): boolean {
  if (target.startsWith("#")) {
    try {
      machine.getStateNodeById(target);
      return true;
    } catch {
      return false;
    }
  }
  let node: Node5 | undefined = parent;
  for (const key of target.split(".").filter((key) => key !== "")) {
    node = node !== undefined && Object.hasOwn(node.states, key) ? node.states[key] : undefined;
  }
  return node !== undefined;
}

const WRAPPED = "the default export is an object that copies a machine: export what createMachine returns, " +
  "without a wrapper around it";
const TOO_OLD = "the bundle holds a copy of XState 5 that is too old to run durably: " +
  "leave xstate out of the bundle, or update it to 5.19 or later";

/** Whether a copy of XState that is not ours hands its actions to the scope instead of running them itself. */
function recordsActions(machine: Machine5): boolean {
  let ran = false;
  let recorded = false;
  try {
    const Machine = machine.constructor as new (config: unknown, implementations: unknown) => Machine5;
    const probe = new Machine({ id: "probe", entry: () => void (ran = true) }, {});
    const actor = createActor(probe as never, {} as never) as unknown as Actor5;
    const scope = { ...actor._actorScope, defer: () => {}, actionExecutor: () => void (recorded = true) };
    probe.getInitialSnapshot(scope, undefined);
  } catch {
    return false;
  }
  return recorded && !ran;
}

/** The class's own method: the machine's property of that name is bound to the machine itself. */
export function initialSnapshotOf(machine: Machine5): Machine5["getInitialSnapshot"] {
  return (machine.constructor as unknown as { prototype: Machine5 }).prototype.getInitialSnapshot;
}

/** The caller's context is the input; a machine whose context is a plain value also has it merged over that. */
export function withContext(machine: Machine5, context: unknown): Machine5 {
  const own = machine.config.context;
  if (typeof own === "function") return machine;
  const merged = { ...(copyPlain(own) as object | undefined), ...(context as object | undefined) };
  return Object.create(machine, { config: { value: { ...machine.config, context: merged } } }) as Machine5;
}
