// A state of XState 4 as an outline, and back.

import type { Arrived } from "./adapter.ts";
import { restored, type Stored } from "./family.ts";
import {
  activeNodes,
  allNodes,
  deepestFirst,
  historyStates,
  leafPaths,
  leavesAt,
  type Memory,
  nodeAt,
  type Outline,
  placeTimers,
  remembered,
  valueFrom,
  waitingOf,
} from "./outline.ts";
import type { History, Machine, StateNode } from "./xstate4_shape.ts";
import { restorable, snapshotOf, tagsOf, wholeMs } from "./xstate4_step.ts";

interface Snapshot {
  readonly value: unknown;
  readonly historyValue?: History;
  readonly instances?: Stored;
}

export function outline4(
  machine: Machine,
  snapshot: unknown,
  timers: readonly (readonly [string, string])[],
): Outline {
  machine._init();
  const { value, historyValue, instances = {} } = snapshot as Snapshot;
  const history = allNodes<StateNode>(machine).flatMap((node): Memory[] => {
    const last = historyStates(node).length === 0 ? undefined : recordAt(historyValue, node.path)?.current;
    if (last === undefined) return [];
    return [{ of: node.path, states: leafPaths(last, node.path).map((path) => ({ path, guessed: 0 })) }];
  });
  return {
    states: leafPaths(value),
    history: deepestFirst(history),
    timers: waitingOf(machine, timers),
    children: Object.keys(instances),
    instances,
  };
}

export function arrive4(machine: Machine, outline: Outline, context: unknown): Arrived {
  machine._init();
  const initial = (node: StateNode): StateNode[] =>
    leafPaths(node.initialStateValue, node.path).map((path) => nodeAt<StateNode>(machine, path));
  const leaves = leavesAt<StateNode>(machine, outline.states, initial);
  const active = activeNodes<StateNode>(machine, leaves);
  const value = machine.resolve(valueFrom(machine, leaves));
  const memories = remembered<StateNode>(machine, active, outline.history, initial);
  const historyValue = memories.size === 0 ? undefined : machine.historyValue(value);
  for (const [node, last] of memories) {
    const record = recordAt(historyValue, node.path);
    if (record !== undefined) record.current = valueFrom(node, last);
  }
  const state = machine.resolveState(restorable({ value, historyValue, activities: {}, tags: [] }, context));
  const { kept, gone, fresh } = placeTimers(active, outline);
  return {
    value,
    tags: tagsOf(state),
    done: state.done,
    snapshot: snapshotOf(state, restored(outline)),
    kept,
    gone,
    fresh: fresh.map(({ eventType, delay }) => [eventType, wholeMs(delayOf(machine, delay, context))]),
  };
}

/** A delay as the machine gives it for this context; whatever it is that is no number is none. */
function delayOf(machine: Machine, delay: unknown, context: unknown): number {
  const given = typeof delay === "string" ? machine.options.delays?.[delay] : delay;
  if (typeof given !== "function") return Number(given);
  return Number((given as (...args: unknown[]) => unknown)(context, { type: "statebacked.upgrade" }));
}

function recordAt(history: History | undefined, path: readonly string[]): History | undefined {
  let record = history;
  for (const key of path) record = record?.states?.[key];
  return record;
}
