// What the configuration of a machine says about the XState that it was written for, and what is wrong with it that
// XState would say only later. Looked at once, when a bundle is uploaded.

import { majorOfFunction } from "./signatures.ts";

/** What a configuration has that belongs to one major alone, each kind once, with its first place. */
export interface Examined {
  readonly signs4: readonly string[];
  readonly signs5: readonly string[];
  /** Guards that the major which loaded the machine passes over. */
  readonly ignored: readonly string[];
  /** For whoever uploads: what they may not expect. */
  readonly warnings: readonly string[];
}

type Parts = Readonly<Record<string, unknown>>;

const OF_ROOT_4 = ["schema", "tsTypes", "predictableActionArguments", "preserveActionOrder", "strict"];
const OF_STATE_4 = ["activities", "onEntry", "onExit", "data"];
const OF_STATE_5 = ["output", "types", "route"];
const OF_INVOKE_4 = ["data", "autoForward"];
const OF_INVOKE_5 = ["input", "onSnapshot", "systemId", "reenter"];
const OF_TRANSITION_4 = ["cond", "in", "internal"];
const OF_TRANSITION_5 = ["guard", "reenter"];
/** What helpers of both majors keep functions under. */
const OF_ACTION = ["assignment", "event", "expr", "delay", "to", "get", "sendId", "actorRef", "value", "id"];

export function examine(machine: unknown, major: 4 | 5): Examined {
  return new Examiner(major).examine(machine);
}

class Examiner {
  readonly #signs = { 4: new Map<string, string>(), 5: new Map<string, string>() };
  readonly #ignored: string[] = [];
  readonly #warnings: string[] = [];
  readonly #seen = new Set<unknown>();
  /** Of the machine that is looked at now. */
  #actors: Parts = {};
  /** What invokes name as their `src`: XState 4 adds these to the services of its options. */
  readonly #sources = new Set<unknown>();

  constructor(private readonly major: 4 | 5) {}

  examine(machine: unknown): Examined {
    this.#machine(machine, "");
    const told = (signs: Map<string, string>): string[] => [...signs].map(([kind, at]) => said(kind, at));
    return {
      signs4: told(this.#signs[4]),
      signs5: told(this.#signs[5]),
      ignored: this.#ignored.slice(0, LISTED_MAX),
      warnings: this.#warnings.slice(0, LISTED_MAX),
    };
  }

  #machine(machine: unknown, at: string): void {
    if (!isObject(machine) || this.#seen.has(machine) || !isObject(machine["config"])) return;
    this.#seen.add(machine);
    const before = this.#actors;
    // XState 4 keeps what it was given in `options`, XState 5 in `implementations` and options of its own.
    const options = objectAt(machine, this.major === 4 ? "options" : "implementations");
    this.#actors = { ...objectAt(options, "services"), ...objectAt(options, "actors") };
    this.#keys(machine["config"], OF_ROOT_4, 4, at);
    this.#state(machine["config"], at);
    this.#options(options, at);
    this.#actors = before;
  }

  #options(options: Parts, at: string): void {
    for (const [key, major] of [["services", 4], ["activities", 4], ["actors", 5]] as const) {
      const given = Object.values(objectAt(options, key)).filter((one) => !this.#sources.has(one));
      if (given.length > 0) this.#sign(major, `\`${key}\` of the options`, at);
    }
    for (const kind of ["actions", "guards", "delays"]) {
      for (const [name, one] of Object.entries(objectAt(options, kind))) {
        if (kind === "actions") this.#action(one, `${kind}.${name}`);
        else this.#function(one, `${kind}.${name}`);
      }
    }
    for (const [name, actor] of Object.entries(this.#actors)) this.#machine(actor, name);
  }

  #state(config: unknown, at: string): void {
    if (!isObject(config) || this.#seen.has(config)) return;
    this.#seen.add(config);
    this.#keys(config, OF_STATE_4, 4, at);
    this.#keys(config, OF_STATE_5, 5, at);
    // XState 4 calls the function of a context with nothing.
    if (typeof config["context"] === "function" && config["context"].length > 0) {
      this.#sign(5, "`context` with a parameter", at);
    }
    for (const key of ["entry", "exit", "onEntry", "onExit"]) this.#actions(config[key], at);
    this.#function(config["output"], at);
    for (const key of ["on", "after"]) {
      if (Array.isArray(config[key])) this.#sign(4, `a list as \`${key}\``, at);
    }
    for (const [event, transitions] of eventsOf(config["on"])) {
      if (event === "") this.#sign(4, "an event without a name", at);
      if (event.endsWith(".*")) this.#sign(5, `the event "${event}"`, at);
      this.#transitions(transitions, within(at, `on.${event}`));
    }
    for (const [delay, transitions] of eventsOf(config["after"])) {
      this.#transitions(transitions, within(at, `after.${delay}`));
    }
    for (const key of ["always", "onDone", "route"]) this.#transitions(config[key], within(at, key));
    for (const invoke of listOf(config["invoke"])) this.#invoke(invoke, within(at, "invoke"));
    for (const [key, state] of Object.entries(objectAt(config, "states"))) {
      this.#state(state, within(at, key));
    }
  }

  #invoke(invoke: unknown, at: string): void {
    if (!isObject(invoke)) return;
    this.#sources.add(invoke).add(invoke["src"]);
    if (isObject(invoke["config"])) return this.#invoked(invoke, at); // XState 4 takes a machine itself
    this.#keys(invoke, OF_INVOKE_4, 4, at);
    this.#keys(invoke, OF_INVOKE_5, 5, at);
    this.#function(invoke["input"], at);
    const { src } = invoke;
    if (typeof src === "function") this.#sign(4, "a function as the `src` of an invoke", at);
    else if (typeof src === "string") this.#invoked(this.#actors[src], at);
    else this.#invoked(src, at);
    if (isObject(src) && typeof src["getInitialSnapshot"] === "function") {
      this.#sign(5, "logic of an actor as the `src` of an invoke", at);
    }
    for (const key of ["onDone", "onError", "onSnapshot"]) {
      this.#transitions(invoke[key], within(at, key));
    }
  }

  #invoked(src: unknown, at: string): void {
    if (!isObject(src) || !isObject(src["config"])) return;
    this.#machine(src, at);
    if (canEnd(src["config"])) return;
    this.#warnings.push(
      `${at} invokes a machine that has no final state to reach: unless it makes its parent leave that state, ` +
        "every reply waits until it is stopped at the deadline (90 seconds by default); a persistent child has none",
    );
  }

  #transitions(transitions: unknown, at: string): void {
    for (const transition of listOf(transitions)) {
      if (!isObject(transition) || this.#seen.has(transition) || isNode(transition)) continue;
      this.#seen.add(transition);
      this.#branch(transition, at);
      this.#keys(transition, OF_TRANSITION_4, 4, at);
      this.#keys(transition, OF_TRANSITION_5, 5, at);
      this.#function(transition["delay"], at);
    }
  }

  /** A transition, or a branch of `choose`. */
  #branch(branch: Parts, at: string): void {
    const { cond, guard, actions } = branch;
    this.#guard(cond, at);
    this.#guard(guard, at);
    this.#actions(actions, at);
    if (this.major === 4 && guard !== undefined && cond === undefined) {
      this.#ignored.push(said("`guard`", at));
    }
    if (this.major === 5 && cond !== undefined && guard === undefined) this.#ignored.push(said("`cond`", at));
    if (this.major === 5 && branch["in"] !== undefined) this.#ignored.push(said("`in`", at));
  }

  #guard(guard: unknown, at: string): void {
    this.#function(guard, at);
    if (isObject(guard) && guard["params"] !== undefined) this.#sign(5, "`params` of a guard", at);
  }

  #actions(actions: unknown, at: string): void {
    for (const action of listOf(actions)) this.#action(action, at);
  }

  #action(action: unknown, at: string): void {
    const isMade = isObject(action) || (typeof action === "function" && "type" in action);
    if (!isMade) return this.#function(action, at);
    if (this.#seen.has(action)) return;
    this.#seen.add(action);
    const parts = action as Parts;
    if (parts["params"] !== undefined) this.#sign(5, "`params` of an action", at);
    this.#function(parts["exec"], at);
    for (const key of OF_ACTION) {
      const part = parts[key];
      this.#function(part, at);
      if (key === "assignment" && isObject(part)) {
        for (const one of Object.values(part)) this.#function(one, at);
      }
    }
    for (const branch of listOf(parts["conds"])) {
      if (!isObject(branch)) continue;
      this.#keys(branch, ["cond"], 4, at);
      this.#keys(branch, ["guard"], 5, at);
      this.#branch(branch, at);
    }
  }

  #function(one: unknown, at: string): void {
    if (typeof one !== "function" || "type" in one) return;
    const major = majorOfFunction(one as () => unknown);
    if (major === 4) this.#sign(4, "a function of (context, event)", at);
    if (major === 5) this.#sign(5, "a function of ({ context, event })", at);
  }

  #keys(parts: Parts, keys: readonly string[], major: 4 | 5, at: string): void {
    for (const key of keys) if (parts[key] !== undefined) this.#sign(major, `\`${key}\``, at);
  }

  #sign(major: 4 | 5, kind: string, at: string): void {
    const signs = this.#signs[major];
    if (!signs.has(kind)) signs.set(kind, at);
  }
}

const LISTED_MAX = 10;
const PLACE_CHARACTERS_MAX = 200;

const said = (kind: string, at: string): string => at === "" ? kind : `${kind} at ${at}`;
const within = (at: string, key: string): string =>
  (at === "" ? key : `${at}.${key}`).slice(0, PLACE_CHARACTERS_MAX);

/** `on` and `after` as an object, or (XState 4) as a list that names the event or the delay in each entry. */
function eventsOf(transitions: unknown): [string, unknown][] {
  if (Array.isArray(transitions)) {
    return transitions.map((one: unknown) => [String(isObject(one) ? one["event"] ?? "" : ""), one]);
  }
  return isObject(transitions) ? Object.entries(transitions) : [];
}

/** Whether a machine can come to its end, as far as its states say: nobody asks whether they are reached. */
function canEnd(config: Parts): boolean {
  const states = Object.values(objectAt(config, "states")).filter(isObject);
  if (config["type"] === "final") return true;
  if (config["type"] === "parallel") {
    return states.filter(({ type }) => type !== "history").every((state) => canEnd(state));
  }
  return states.some(({ type }) => type === "final");
}

/** A target may be the state itself. */
const isNode = (value: Parts): boolean => isObject(value["config"]) && isObject(value["states"]);
const listOf = (value: unknown): readonly unknown[] =>
  Array.isArray(value) ? value : value === undefined ? [] : [value];
const isObject = (value: unknown): value is Parts => typeof value === "object" && value !== null;

function objectAt(parts: Parts, key: string): Parts {
  const part = parts[key];
  return isObject(part) && !Array.isArray(part) ? part : {};
}
