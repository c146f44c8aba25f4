// A state in words that belong to no version and no major of XState: the paths of its leaf states. It is what a
// migration maps, between the version that an instance leaves and the one in which it arrives.

import type { Stored } from "./family.ts";

export type Path = readonly string[];

export interface Outline {
  /** The active leaf states. */
  readonly states: readonly Path[];
  /** What the parents of history states had active last, the deepest parent first. */
  readonly history: readonly Memory[];
  /** The pending delays of `after`, by the state that waits. */
  readonly timers: readonly Waiting[];
  /** The ids of the children that the snapshot names, and of which of them are persistent. */
  readonly children: readonly string[];
  readonly instances?: Stored;
  readonly systemIds?: Readonly<Record<string, string>>;
  /** Of XState 5: how many actors were made, and how children ended. */
  readonly made?: number;
  readonly ended?: Readonly<Record<string, unknown>>;
  /** The output of a machine that is done. */
  readonly output?: unknown;
}

export interface Memory {
  readonly of: Path;
  readonly states: readonly Last[];
}

/** A leaf state, of whose path the last `guessed` keys were not remembered: they are what would be entered at first. */
export interface Last {
  readonly path: Path;
  readonly guessed: number;
}

/** `key` names the row of the timer; `delay` is the machine's own word for it, empty for a function. */
export interface Waiting {
  readonly key: string;
  readonly state: Path;
  readonly delay: string;
}

/** What the state nodes of both majors have in common. */
export interface TreeNode {
  readonly type: string;
  readonly path: Path;
  readonly states: Readonly<Record<string, TreeNode>>;
  readonly after: readonly Delayed[];
}

export interface Delayed {
  readonly eventType: string;
  readonly delay: unknown;
}

/** The leaf states that a compound state enters by itself. */
export type InitialLeaves<N extends TreeNode> = (node: N) => N[];

// --- leaving -------------------------------------------------------------------------------------

/** The leaf states of a state value. */
export function leafPaths(value: unknown, at: Path = []): Path[] {
  if (typeof value === "string") return [[...at, value]];
  const keys = Object.keys(value as object);
  if (keys.length === 0) return [at];
  return keys.flatMap((key) => leafPaths((value as Record<string, unknown>)[key], [...at, key]));
}

/** Those of the timers (row key and send id) that are delays of the machine's states. */
export function waitingOf(root: TreeNode, timers: readonly (readonly [string, string])[]): Waiting[] {
  const known = new Map<string, Omit<Waiting, "key">>();
  for (const node of allNodes(root)) {
    for (const { eventType, delay } of node.after) {
      known.set(eventType, { state: node.path, delay: wordOf(delay) });
    }
  }
  return timers.flatMap(([key, sendId]) => {
    const found = known.get(sendId);
    return found === undefined ? [] : [{ key, ...found }];
  });
}

export function allNodes<N extends TreeNode>(root: N): N[] {
  return [root, ...Object.values(root.states).flatMap((node) => allNodes(node as N))];
}

export function historyStates<N extends TreeNode>(node: N): N[] {
  return (Object.values(node.states) as N[]).filter(({ type }) => type === "history");
}

/** The deepest parent first: what a shallower one remembers is newer. */
export function deepestFirst(memories: readonly Memory[]): Memory[] {
  return [...memories].sort((a, b) => b.of.length - a.of.length);
}

const wordOf = (delay: unknown): string => typeof delay === "function" ? "" : String(delay);

// --- arriving ------------------------------------------------------------------------------------

/** The leaf states of a machine that is in all of these states, what they leave open entered as at first. */
export function leavesAt<N extends TreeNode>(
  root: N,
  paths: readonly Path[],
  initial: InitialLeaves<N>,
): N[] {
  for (const path of paths) nodeAt(root, path);
  return complete(root, treeOf(paths), initial);
}

/** Throws an Error that names the path when no state is there. */
export function nodeAt<N extends TreeNode>(root: N, path: Path): N {
  let node = root;
  for (const key of path) {
    const child = Object.hasOwn(node.states, key) ? node.states[key] : undefined;
    if (child === undefined || child.type === "history") {
      throw new Error(`the new version has no state ${said(path)}`);
    }
    node = child as N;
  }
  return node;
}

/** The nodes that are active when these leaves are, in no order. */
export function activeNodes<N extends TreeNode>(root: N, leaves: readonly N[]): Set<N> {
  const active = new Set<N>([root]);
  for (const { path } of leaves) {
    for (let depth = 1; depth <= path.length; depth++) active.add(nodeAt(root, path.slice(0, depth)));
  }
  return active;
}

/** The state value of a node whose leaves these are. */
export function valueFrom(node: TreeNode, leaves: readonly TreeNode[]): unknown {
  const depth = node.path.length;
  return valueOf(node, treeOf(leaves.map(({ path }) => path.slice(depth))));
}

/** What each inactive state remembers: the leaf states that were active in it last. */
export function remembered<N extends TreeNode>(
  root: N,
  active: ReadonlySet<N>,
  history: readonly Memory[],
  initial: InitialLeaves<N>,
): Map<N, N[]> {
  const found = new Map<N, N[]>();
  for (const { states } of history) {
    for (const { path, guessed } of states) {
      nodeAt(root, path);
      for (let depth = 0; depth < path.length - guessed; depth++) {
        const above = path.slice(0, depth);
        const node = nodeAt(root, above);
        if (active.has(node)) continue;
        const within = states.filter((other) => startsWith(other.path, above));
        found.set(node, complete(node, treeOf(within.map((other) => other.path.slice(depth))), initial));
      }
    }
  }
  return found;
}

export interface Placed {
  /** Rows that go on, under this send id. */
  readonly kept: [key: string, sendId: string][];
  readonly gone: string[];
  /** Delays that no row stands for. */
  readonly fresh: Delayed[];
}

/**
 * The delays of the active states, each with the row of the same state that says the same, else with the next one. A leaf
 * that was moved to a state with states of its own brings its rows to those, as far as it does not need them itself.
 */
export function placeTimers(active: Iterable<TreeNode>, { states, timers }: Outline): Placed {
  const placed: Placed = { kept: [], gone: [], fresh: [] };
  const left = new Set(timers);
  const open = new Map([...active].map((node) => [node, delaysOf(node)]));
  const match = (node: TreeNode, fits: (row: Waiting, one: Delayed) => boolean): void => {
    const unmet = open.get(node)!.filter((one) => {
      const row = [...left].find((row) => fits(row, one));
      if (row === undefined) return true;
      left.delete(row);
      placed.kept.push([row.key, one.eventType]);
      return false;
    });
    open.set(node, unmet);
  };
  const isOwn = (node: TreeNode, { state }: Waiting): boolean => isSame(state, node.path);
  const isFromAbove = (node: TreeNode, { state }: Waiting): boolean =>
    startsWith(node.path, state) && states.some((path) => isSame(path, state));
  for (const isFor of [isOwn, isFromAbove]) {
    for (const node of open.keys()) {
      match(node, (row, { delay }) => isFor(node, row) && row.delay === wordOf(delay));
      match(node, (row) => isFor(node, row));
    }
  }
  placed.fresh.push(...[...open.values()].flat());
  placed.gone.push(...[...left].map(({ key }) => key));
  return placed;
}

const delaysOf = (node: TreeNode): Delayed[] => [
  ...new Map(node.after.map((delayed) => [delayed.eventType, delayed])).values(),
];

interface Tree {
  [key: string]: Tree;
}

function treeOf(paths: readonly Path[]): Tree {
  const tree: Tree = Object.create(null) as Tree;
  for (const path of paths) {
    let at = tree;
    for (const key of path) at = at[key] ??= Object.create(null) as Tree;
  }
  return tree;
}

function complete<N extends TreeNode>(node: N, tree: Tree, initial: InitialLeaves<N>): N[] {
  const keys = Object.keys(tree);
  if (node.type === "parallel") {
    const regions = (Object.entries(node.states) as [string, N][]).filter(([, { type }]) =>
      type !== "history"
    );
    return regions.flatMap(([key, region]) => complete(region, tree[key] ?? {}, initial));
  }
  if (node.type !== "compound") return [node];
  if (keys.length === 0) return initial(node);
  if (keys.length > 1) {
    const [one, other] = keys.map((key) => said([...node.path, key]));
    throw new Error(`a machine cannot be in ${one} and in ${other} at once`);
  }
  return complete(node.states[keys[0]!] as N, tree[keys[0]!]!, initial);
}

function valueOf(node: TreeNode, tree: Tree): unknown {
  if (node.type === "parallel") {
    const keys = Object.keys(node.states).filter((key) => node.states[key]!.type !== "history");
    return Object.fromEntries(keys.map((key) => [key, valueOf(node.states[key]!, tree[key] ?? {})]));
  }
  if (node.type !== "compound") return {};
  const key = Object.keys(tree)[0]!;
  const child = node.states[key]!;
  const isLeaf = child.type !== "compound" && child.type !== "parallel";
  return isLeaf ? key : { [key]: valueOf(child, tree[key]!) };
}

export function startsWith(path: Path, start: Path): boolean {
  return start.length <= path.length && start.every((key, n) => path[n] === key);
}

const isSame = (one: Path, other: Path): boolean => one.length === other.length && startsWith(one, other);

export const said = (path: Path): string => JSON.stringify(path);
