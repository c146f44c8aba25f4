// A bundle as loaded: the machine and its authorizers, or why it is none.

import type { Adapter } from "./adapter.ts";
import type { Authorizer } from "./authorize.ts";
import { messageOf } from "./json.ts";
import { compile, type Selector } from "./selectors.ts";
import { recognise } from "./shape.ts";

export interface Program {
  readonly machine: unknown;
  readonly allowRead: Authorizer;
  readonly allowWrite: Authorizer;
  readonly selectors: readonly Selector[];
  readonly major: 4 | 5;
  readonly inlined: boolean;
}

export type Exports = Readonly<Record<string, unknown>>;

/** Throws an Error whose message is for whoever uploads the bundle. */
export function programOf(
  exports: Exports,
  selectors: readonly (readonly [index: string, path: string])[],
  adapter: Adapter,
  isOurs: (machine: unknown) => boolean,
): Program {
  const machine = exports["default"];
  if (machine === undefined) {
    throw new Error("the module has no default export: export the machine as the default");
  }
  const { allowRead, allowWrite } = exports;
  if (typeof allowRead !== "function") throw new Error("the module does not export a function allowRead");
  if (typeof allowWrite !== "function") throw new Error("the module does not export a function allowWrite");
  const major = recognise(machine);
  if (major === null) {
    throw new Error("the default export is not an XState machine: export what createMachine returns");
  }
  const problem = major === adapter.major ? adapter.check(machine) : null;
  if (problem !== null) throw new Error(problem);
  return {
    machine,
    allowRead: allowRead as Authorizer,
    allowWrite: allowWrite as Authorizer,
    selectors: selectors.map(([index, path]) => compile(index, path)),
    major,
    inlined: !isOurs(machine),
  };
}

export interface Unloadable {
  readonly message: string;
  /** The other major of XState may have what was asked for. */
  readonly missingExport: boolean;
}

const MISSING_EXPORT = /requested module '(?:npm:)?xstate[^']*' does not provide an export named/;
const UNMAPPED = /^Import "((?:npm:)?xstate[^"]*)" not a dependency/;
const UNAVAILABLE = /not-available\/([^"]+?)\.js"/;

/** What went wrong with the import of a bundle, without the names that the sandbox has for things. */
export function explain(thrown: unknown): Unloadable {
  const text = messageOf(thrown).replace(/(?: from)? "?blob:[^\s":]*"?/g, " the bundle").replace(
    / {2,}/g,
    " ",
  );
  const missing = MISSING_EXPORT.test(text);
  const unmapped = UNMAPPED.exec(text);
  if (unmapped !== null) {
    return { message: `this version of XState has no module "${unmapped[1]}"`, missingExport: true };
  }
  const unavailable = UNAVAILABLE.exec(text);
  if (unavailable !== null) {
    return {
      message: `the module "${unavailable[1]}" is not available to machine code`,
      missingExport: false,
    };
  }
  if (
    /^Requires (read|import|net) access/.test(text) || text.includes("--no-npm") ||
    text.includes("--no-remote")
  ) {
    const named = /"([^"]+)"/.exec(text)?.[1];
    const what = named === undefined
      ? "a module that is not in the bundle"
      : `"${named}", which is not in the bundle`;
    return {
      message: `the bundle imports ${what}: bundle all dependencies but xstate`,
      missingExport: false,
    };
  }
  const name = thrown instanceof Error && !text.startsWith(thrown.name) && thrown.name !== "Error"
    ? `${thrown.name}: `
    : "";
  return { message: name + text, missingExport: missing };
}
