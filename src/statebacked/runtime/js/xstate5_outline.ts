// A state of XState 5 as an outline, and back.

import { createActor } from "xstate5";
import type { Arrived } from "./adapter.ts";
import { restored } from "./family.ts";
import {
  activeNodes,
  allNodes,
  deepestFirst,
  historyStates,
  leafPaths,
  leavesAt,
  type Memory,
  type Outline,
  placeTimers,
  remembered,
  valueFrom,
  waitingOf,
} from "./outline.ts";
import { delayMs } from "./xstate5_recorder.ts";
import { persist, type Persisted } from "./xstate5_state.ts";
import type { Actor5, Machine5, Node5 } from "./xstate5_types.ts";

export function outline5(
  machine: Machine5,
  snapshot: unknown,
  timers: readonly (readonly [string, string])[],
): Outline {
  const { value, historyValue, children, instances, systemIds, made, ended, output } = snapshot as Persisted;
  const root = machine.root;
  const byId = new Map(allNodes(root).map((node) => [node.id, node]));
  const history = allNodes(root).flatMap((node): Memory[] => {
    const states = historyStates(node).sort((a) => a.history === "deep" ? -1 : 1);
    const found = states.map(({ id }) => historyValue[id]).find((nodes) => nodes !== undefined);
    if (found === undefined) return [];
    const last = found.flatMap(({ id }) => byId.get(id) ?? []).flatMap((remembered) =>
      initialLeaves(remembered).map(({ path }) => ({ path, guessed: path.length - remembered.path.length }))
    );
    return [{ of: node.path, states: last }];
  });
  return {
    states: leafPaths(value),
    history: deepestFirst(history),
    timers: waitingOf(root, timers),
    children,
    ...(instances === undefined ? {} : { instances }),
    ...(systemIds === undefined ? {} : { systemIds }),
    ...(made === undefined ? {} : { made }),
    ...(ended === undefined ? {} : { ended }),
    ...(output === undefined ? {} : { output }),
  };
}

export function arrive5(machine: Machine5, outline: Outline, context: unknown): Arrived {
  const { root } = machine;
  const leaves = leavesAt(root, outline.states, initialLeaves);
  const active = activeNodes(root, leaves);
  const historyValue: Persisted["historyValue"] = {};
  for (const [node, last] of remembered(root, active, outline.history, initialLeaves)) {
    for (const state of historyStates(node)) {
      const nodes = state.history === "deep" ? last : childrenOf(node, last);
      historyValue[state.id] = nodes.map(({ id }) => ({ id }));
    }
  }
  const snapshot = machine.resolveState({ value: valueFrom(root, leaves), context });
  const { kept, gone, fresh } = placeTimers(active, outline);
  const isDone = snapshot.status === "done";
  const { output: _, ...persisted } = persist(
    snapshot,
    restored(outline),
    outline.made,
    outline.ended as Persisted["ended"],
  );
  const { systemIds } = outline;
  return {
    value: snapshot.value,
    tags: [...snapshot.tags],
    done: isDone,
    snapshot: {
      ...persisted,
      ...(isDone && outline.output !== undefined ? { output: outline.output } : {}),
      historyValue,
      children: [...outline.children],
      ...(systemIds === undefined ? {} : { systemIds }),
    } satisfies Persisted,
    kept,
    gone,
    fresh: fresh.map(({ eventType, delay }) => [eventType, delayMs(delayOf(machine, delay, context))]),
  };
}

/** A delay as the machine gives it for this context; whatever it is that is no number is none. */
function delayOf(machine: Machine5, delay: unknown, context: unknown): number {
  const given = typeof delay === "string" ? machine.implementations.delays[delay] : delay;
  if (typeof given !== "function") return Number(given);
  const self = createActor(nobody as never, {} as never) as unknown as Actor5;
  const { system } = self;
  const event = { type: "statebacked.upgrade" };
  return Number((given as (args: unknown, params: unknown) => unknown)({ context, event, self, system }, {}));
}

/** Stands for the instance while a delay is asked: nothing that is sent to it arrives. */
const nobody = {
  transition: (snapshot: unknown) => snapshot,
  getInitialSnapshot: () => ({ status: "stopped", output: undefined, error: undefined }),
  getPersistedSnapshot: (snapshot: unknown) => snapshot,
};

function initialLeaves(node: Node5): Node5[] {
  if (node.type === "parallel") {
    return Object.values(node.states).filter(({ type }) => type !== "history").flatMap(initialLeaves);
  }
  return node.type === "compound" ? (node.initial?.target ?? []).flatMap(initialLeaves) : [node];
}

/** The children of a node above these leaves. */
function childrenOf(node: Node5, leaves: readonly Node5[]): Node5[] {
  return [...new Set(leaves.map(({ path }) => node.states[path[node.path.length]!]!))];
}
