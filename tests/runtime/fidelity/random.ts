// Random machines from a seed, the same for both majors but for how each writes it (a dialect). Everything that could
// go on for ever costs fuel, which is in the context.

import { Dice } from "./dice.ts";
import type { Action, Script } from "./run.ts";
import { tick } from "./trace.ts";

export interface Context {
  n: number;
  fuel: number;
  last: string;
  live: string[];
  /** Actors without a name of their own. */
  refs: unknown[];
  kept: Kept;
}

/** What JSON has no word for. */
interface Kept {
  at: Date;
  seen: Map<string, Set<number>>;
  error: Error;
  bytes: Uint8Array;
}

const NOTHING_YET: Kept = {
  at: new Date(0),
  seen: new Map(),
  error: new Error("none"),
  bytes: new Uint8Array(1),
};

const keep = ({ n, kept: { at, seen, error, bytes } }: Context, type: string): Kept => ({
  at: new Date(at.getTime() + 1_000 * n),
  seen: new Map(seen).set(type, new Set(seen.get(type)).add(n % 3)),
  error: new RangeError(`${type} after ${error.message.slice(0, 9)}`, { cause: at }),
  bytes: Uint8Array.of(...bytes.slice(-3), n),
});

const sizeOf = ({ kept: { at, seen, error, bytes } }: Context): number =>
  at.getUTCSeconds() + seen.size + [...seen.values()].reduce((sum, { size }) => sum + size, 0) + bytes[0]! +
  Number(error instanceof RangeError) + error.message.length;

export type Config = Record<string, unknown>;
export type Guard = (context: Context) => boolean;
/** Dialects call these, so that a machine that runs in circles is told. */
export const counted = <A extends unknown[], R>(run: (...args: A) => R) => (...args: A): R => {
  tick();
  return run(...args);
};

export type Service = "resolves" | "rejects" | "resolves at once" | "callback" | "machine";

/** How a major writes what both have. Actions are opaque. */
export interface Dialect {
  readonly guardKey: "cond" | "guard";
  guard(test: Guard): unknown;
  /** A guard that looks at the state, by the id of a state node. */
  inState(id: string): unknown;
  /** Of XState 4, a guard on how the state came to be: the event, the state before, whether it changed. */
  cameBy(type: string, rest: number): unknown;
  assign(change: (context: Context, type: string) => Partial<Context>): unknown;
  note(name: string): unknown;
  raise(type: string): unknown;
  raiseLater(type: string, id: string, delay: number): unknown;
  sendSelf(type: string): unknown;
  sendSelfLater(type: string, id: string, delay: number): unknown;
  cancel(id: string): unknown;
  sendTo(id: string, type: string): unknown;
  /** Runs the first or the second, by a guard. */
  choose(test: Guard, first: unknown[], second: unknown[]): unknown;
  spawn(): unknown[];
  /** Without a name; its reference is kept in the context. */
  spawnUnnamed(): unknown[];
  /** To the newest of those, and by an event that carries it. */
  askUnnamed(type: string): unknown[];
  stopSpawned(): unknown[];
  service(kind: Service): unknown;
  reenter(transition: Config): Config;
  machine(config: Config): unknown;
  /** Options of the whole machine, by chance. */
  options(dice: Dice): Config;
}

const EVENTS = ["A", "B", "C", "D", "E"];
const RAISED = ["R1", "R2"];
const SENT = ["S1", "S2"];
const LATER = ["L1", "L2"];
/** What services send. */
const HEARD = ["HELLO", "LATER", "PONG", "STARTED"];
const DELAYS = [7, 20, 55, 130];
const FUEL = 12;

interface Place {
  path: string[];
  type: "atomic" | "compound" | "parallel" | "final" | "history";
  deep: boolean;
  children: Map<string, Place>;
}

class Maker {
  #places: Place[] = [];
  #root: Place | undefined;
  #services = 0;
  #names = 0;

  constructor(private readonly dice: Dice, private readonly dialect: Dialect) {}

  machine(): unknown {
    const root = this.#root = this.#place([], 3);
    if (root.children.size === 0) {
      this.#places = [];
      return this.machine();
    }
    const config = this.#node(root);
    return this.dialect.machine({
      id: "m",
      ...this.dialect.options(this.dice),
      ...config,
      context: { n: 0, fuel: FUEL, last: "", live: [], refs: [], kept: NOTHING_YET },
    });
  }

  // --- the tree

  #place(path: string[], depth: number): Place {
    const { dice } = this;
    const type = depth === 0 || (path.length > 0 && dice.chance(0.4))
      ? "atomic"
      : dice.chance(0.3)
      ? "parallel"
      : "compound";
    const place: Place = { path, type, deep: false, children: new Map() };
    if (type !== "atomic") {
      for (let index = 0; index < 2 + dice.below(2); index++) {
        place.children.set(`s${index}`, this.#place([...path, `s${index}`], depth - 1));
      }
      if (dice.chance(0.45)) this.#leaf(place, "h", "history");
      if (type === "compound" && dice.chance(path.length === 0 ? 0.3 : 0.5)) this.#leaf(place, "f", "final");
    }
    if (path.length > 0) this.#places.push(place);
    return place;
  }

  #leaf(parent: Place, key: string, type: "history" | "final"): void {
    const place = {
      path: [...parent.path, key],
      type,
      deep: this.dice.chance(0.5),
      children: new Map<string, Place>(),
    };
    parent.children.set(key, place);
    this.#places.push(place);
  }

  /** Mostly not from one region of a parallel state into another, where the majors and the standard disagree. */
  #target(from: Place): string {
    const candidates = this.#places.filter((to) => !this.#isAcross(from, to));
    return idOf(this.dice.pick(candidates.length > 0 && this.dice.chance(0.95) ? candidates : this.#places));
  }

  #isAcross(from: Place, to: Place): boolean {
    let place = this.#root;
    for (let depth = 0; place && depth < Math.min(from.path.length, to.path.length); depth++) {
      if (from.path[depth] !== to.path[depth]) return place.type === "parallel";
      place = place.children.get(from.path[depth]);
    }
    return false;
  }

  // --- states

  #node(place: Place): Config {
    const { dice } = this;
    if (place.type === "history") return this.#history(place);
    const node: Config = { entry: this.#actions("entry", place), exit: this.#exit(place) };
    if (dice.chance(0.3)) node.tags = dice.some(1, 2, () => dice.pick(["red", "green", "blue"]));
    if (place.type === "final") return { ...node, type: "final" };
    if (place.type === "parallel") node.type = "parallel";
    node.on = this.#handlers(place);
    if (dice.chance(0.3)) node.after = { [dice.pick(DELAYS)]: this.#transition(place) };
    if (dice.chance(0.25)) node.always = this.#fuelled(this.#targeted(place));
    if (dice.chance(0.25)) Object.assign(node, this.#invoking(place));
    if (place.children.size > 0) {
      node.states = Object.fromEntries([...place.children].map(([key, child]) => [key, this.#node(child)]));
      if (place.type === "compound") node.initial = `s${dice.below(2)}`;
      if (place.path.length > 0 && dice.chance(0.6)) node.onDone = this.#fuelled(this.#targeted(place));
    }
    return node;
  }

  #history(place: Place): Config {
    const config: Config = { type: "history", history: place.deep ? "deep" : "shallow" };
    if (this.dice.chance(0.4)) config.target = "s1";
    return config;
  }

  #handlers(place: Place): Config {
    const { dice } = this;
    const types = new Set(
      dice.some(1, 4, () => dice.pick(dice.chance(0.7) ? EVENTS : [...RAISED, ...SENT, ...LATER, ...HEARD])),
    );
    const handlers: Config = {};
    for (const type of types) {
      const isOwn = !EVENTS.includes(type);
      const make = () => (isOwn ? this.#fuelled(this.#transition(place)) : this.#transition(place));
      handlers[type] = dice.chance(0.3) ? [make(), make()] : make();
    }
    if (dice.chance(0.08)) handlers["*"] = this.#fuelled(this.#transition(place));
    return handlers;
  }

  #transition(place: Place): Config {
    const { dice, dialect } = this;
    const transition = dice.chance(0.75) ? this.#targeted(place) : this.#targetless(place);
    const guard = dice.chance(0.35);
    if (guard) transition[dialect.guardKey] = this.#guard();
    return transition;
  }

  /** Never without an action: that would be a forbidden transition, which is none here and still is one in xstate. */
  #targetless(place: Place): Config {
    return { actions: [this.dialect.note(`${idOf(place)} stays`), ...this.#actions("on", place)] };
  }

  #targeted(place: Place): Config {
    const { dice } = this;
    const transition: Config = { target: this.#target(place), actions: this.#actions("to", place) };
    if (dice.chance(0.15)) transition.target = idOf(place);
    if (dice.chance(0.12)) transition.target = this.#targets() ?? transition.target;
    if (place.path.length === 0) transition.target = this.#target(place);
    return dice.chance(0.2) ? this.dialect.reenter(transition) : transition;
  }

  /** One state in each region of some parallel state. */
  #targets(): string[] | null {
    const parallel = this.#places.filter(({ type }) => type === "parallel");
    if (parallel.length === 0) return null;
    const regions = [...this.dice.pick(parallel).children.values()].filter(({ type }) => type !== "history");
    return regions.map((region) => {
      const inside = [...region.children.values()].filter(({ type }) => type === "atomic");
      return idOf(inside.length > 0 ? this.dice.pick(inside) : region);
    });
  }

  #guard(): unknown {
    const { dice, dialect } = this;
    if (dice.chance(0.2)) {
      return dialect.inState(idOf(dice.pick(this.#places.filter(({ type }) => type !== "history"))).slice(1));
    }
    if (dice.chance(0.2)) return dialect.cameBy(dice.pick(EVENTS), dice.below(3));
    const modulus = 2 + dice.below(2);
    const rest = dice.below(modulus);
    return rest === 2
      ? dialect.guard((context) => sizeOf(context) % modulus === rest)
      : dialect.guard(({ n }) => n % modulus === rest);
  }

  #fuelled(transition: Config): Config {
    const { dialect } = this;
    const spend = dialect.assign(({ fuel }) => ({ fuel: fuel - 1 }));
    const actions = (transition.actions ?? []) as unknown[];
    return {
      ...transition,
      [dialect.guardKey]: dialect.guard(({ fuel }) => fuel > 0),
      actions: [spend, ...actions],
    };
  }

  // --- actions

  #exit(place: Place): unknown[] {
    return this.dice.chance(0.4) ? this.#actions("exit", place) : [];
  }

  #actions(where: string, place: Place): unknown[] {
    return this.dice.some(0, 3, () => this.#action(where, place)).flat();
  }

  #action(where: string, place: Place): unknown {
    const { dice, dialect } = this;
    const name = `${place.path.join(".")}:${where}${this.#names++}`;
    const roll = dice.below(100);
    if (roll < 40) return dialect.note(name);
    if (roll < 53) return dialect.assign(({ n }, type) => ({ n: n + 1, last: type }));
    if (roll < 60) {
      return dialect.assign((context, type) => ({ kept: keep(context, type), n: context.n + 1, last: type }));
    }
    if (roll < 65) {
      return dialect.choose(({ n }) => n % 2 === 0, [dialect.note(`${name} even`)], [
        dialect.note(`${name} odd`),
      ]);
    }
    if (where === "exit") return dialect.note(name);
    if (roll < 71) return dialect.raise(dice.pick(RAISED));
    if (roll < 78) return dialect.sendSelf(dice.pick(SENT));
    if (roll < 82) return dialect.raiseLater(dice.pick(LATER), dice.pick(["x", "y"]), dice.pick(DELAYS));
    if (roll < 88) return dialect.sendSelfLater(dice.pick(LATER), dice.pick(["x", "y"]), dice.pick(DELAYS));
    if (roll < 94) return dialect.cancel(dice.pick(["x", "y"]));
    if (roll < 95 && where === "on") return dialect.spawn();
    if (roll < 97 && where === "on") return dialect.spawnUnnamed();
    if (roll === 97) return dialect.askUnnamed(dice.pick(SENT));
    return roll < 99 && where === "on" ? dialect.stopSpawned() : dialect.note(name);
  }

  #invoking(place: Place): Config {
    const { dice, dialect } = this;
    const id = `svc${this.#services++}`;
    const kind = dice.pick<Service>([
      "resolves",
      "resolves",
      "rejects",
      "resolves at once",
      "callback",
      "machine",
    ]);
    const invoke: Config = { id, src: dialect.service(kind) };
    if (dice.chance(0.8)) invoke.onDone = this.#fuelled(this.#targeted(place));
    if (kind === "rejects" || dice.chance(0.5)) invoke.onError = this.#fuelled(this.#targeted(place));
    return { invoke };
  }
}

const idOf = (place: Place): string => ["#m", ...place.path].join(".");

export const makeMachine = (seed: number, dialect: Dialect): unknown =>
  new Maker(new Dice(seed), dialect).machine();

export const makeScript = (seed: number): Script => {
  const dice = new Dice(seed + 1_000_003);
  const step = (): Action => {
    const roll = dice.below(100);
    if (roll < 62) return { send: { type: dice.pick(EVENTS) } };
    if (roll < 66) return { send: { type: dice.pick([...RAISED, ...SENT, "UNKNOWN"]) } };
    return { advance: dice.pick([3, 10, 30, 80, 200]) };
  };
  return { steps: dice.some(15, 25, step) };
};
