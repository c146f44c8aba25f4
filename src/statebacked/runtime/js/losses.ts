// What a context loses when it is stored, told to the machine's author: JSON changes it without a word. Only contexts
// whose text is new are looked at, and only the first ones of a worker, so that nothing of it is left in steady use.

import { kindOf } from "./builtins.ts";

const CONTEXTS_MAX = 20;
const PARTS_MAX = 1_000;
const LINES_MAX = 20;
const PATH_CHARACTERS_MAX = 200;

const { getPrototypeOf, prototype } = Object;
const MORE = "see docs/guide/machines.md, What a context may hold";

type Found = (path: string, what: string) => void;

/** The losses of one worker's contexts: each is told once. */
export class Losses {
  readonly #told = new Set<string>();
  #contexts = 0;

  /** `tell` gets a line for each place where what is stored is not what the machine made. */
  look(context: unknown, tell: (line: string) => void): void {
    if (this.#contexts >= CONTEXTS_MAX || this.#told.size >= LINES_MAX) return;
    this.#contexts += 1;
    const found: Found = (path, what) => {
      const line = `${path.slice(0, PATH_CHARACTERS_MAX)} ${what} (${MORE})`;
      if (this.#told.has(line) || this.#told.size >= LINES_MAX) return;
      this.#told.add(line);
      tell(line);
    };
    try {
      new Look(found).at(context, "context", false);
    } catch {
      // Code of the machine's own, behind a member: its JSON was made all the same.
    }
  }
}

class Look {
  #parts = 0;

  constructor(private readonly found: Found) {}

  /** `isListed`: JSON has `null` in a list where it leaves out a member. */
  at(value: unknown, path: string, isListed: boolean): void {
    if (++this.#parts > PARTS_MAX) return;
    const instead = isListed ? "is stored as null" : "is left out when stored";
    switch (typeof value) {
      case "number":
        if (!Number.isFinite(value)) this.found(path, `is ${value} and is stored as null`);
        break;
      case "string":
        if (!value.isWellFormed()) this.found(path, "holds half of a character, which is stored as U+FFFD");
        break;
      case "undefined":
        this.found(path, `is undefined and ${instead}`);
        break;
      case "function":
      case "symbol":
        this.found(path, `is a ${typeof value} and ${instead}`);
        break;
      case "object":
        if (value !== null) this.#object(value, path);
    }
  }

  #object(value: object, path: string): void {
    const { toJSON, send } = value as { toJSON?: unknown; send?: unknown };
    const of: unknown = getPrototypeOf(value);
    if (Array.isArray(value)) value.forEach((part) => this.at(part, `${path}[]`, true));
    else if (of === prototype || of === null) this.#members(value, path);
    else if (value instanceof Map) this.#entries(value, path);
    else if (value instanceof Set) value.forEach((part) => this.at(part, `${path}[]`, true));
    const kind = kindOf(value);
    const isPlain = of === prototype || of === null || of === Array.prototype || kind?.prototype === of;
    // An author's toJSON is an author's word; an actor is kept by its id.
    if (isPlain || (kind === null && (typeof toJSON === "function" || typeof send === "function"))) return;
    const as = kind === null ? "a plain object" : kind.name;
    this.found(path, `is an instance of ${nameOf(value)} and is stored as ${as}`);
  }

  #members(value: object, path: string): void {
    const { send, toJSON } = value as { send?: unknown; toJSON?: unknown };
    if (typeof send === "function" || typeof toJSON === "function") return; // an actor of XState 4, or an author's word
    for (const key of Object.keys(value)) {
      const step = /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
      this.at((value as Record<string, unknown>)[key], path + step, false);
    }
  }

  #entries(map: ReadonlyMap<unknown, unknown>, path: string): void {
    for (const [key, part] of map) {
      this.at(key, `${path}.keys()`, true);
      this.at(part, `${path}.values()`, true);
    }
  }
}

function nameOf(value: object): string {
  const { name } = (value as { constructor?: { name?: unknown } }).constructor ?? {};
  return typeof name === "string" && name !== "" ? name.slice(0, PATH_CHARACTERS_MAX) : "a class";
}
