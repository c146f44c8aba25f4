// A bundle as loaded: the machine and its authorizers, or why it is none.

import type { Adapter } from "./adapter.ts";
import type { Authorizer } from "./authorize.ts";
import { examine, type Examined } from "./examine.ts";
import { messageOf } from "./json.ts";
import { readable, sourceOf } from "./places.ts";
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

/** For an upload. Throws as `programOf`. Null when the other major's worker has to look. */
export function examinedBy(adapter: Adapter, { machine, major }: Program): Examined | null {
  if (major !== adapter.major) return null;
  const problem = adapter.problem?.(machine) ?? null;
  if (problem !== null) throw new Error(problem);
  return examine(machine, major);
}

export interface Unloadable {
  readonly message: string;
  /** The other major of XState may have what was asked for. */
  readonly missingExport: boolean;
}

const MISSING_EXPORT = /requested module '(?:npm:)?xstate[^']*' does not provide an export named/;
const UNMAPPED = /^Import "([^"]*)" not a dependency/;
const DENIED = /^Requires \w+ access to "([^"]*)"/;
const FOLDER = /\/(not-available|other-major)\/(.+)\.js$/;

const EXACT_XSTATE = /(["'])npm:\/?xstate@[\^~]?([45])(?:\.[^"'\/]*)?(\/[^"']*)?\1/g;

/** The module with `npm:xstate@4.33.0` as `npm:xstate@4`: the import map knows few versions by name, and any is served. */
export function ofAnyVersion(source: string): string {
  return source.replace(
    EXACT_XSTATE,
    (_, quote: string, major: string, path = "") => `${quote}npm:xstate@${major}${path}${quote}`,
  );
}

/** What went wrong with the import of a bundle, without the names that the sandbox has for things. */
export function explain(thrown: unknown): Unloadable {
  const text = messageOf(thrown);
  const denied = DENIED.exec(text)?.[1];
  const folder = FOLDER.exec(denied ?? "");
  if (folder !== null) return ofFolder(folder[1]!, folder[2]!);
  const unmapped = UNMAPPED.exec(text)?.[1];
  if (unmapped?.replace("npm:", "").startsWith("xstate")) return ofFolder("other-major", unmapped);
  if (denied !== undefined || unmapped !== undefined || /--no-(npm|remote)/.test(text)) {
    const what = unmapped === undefined ? "a module that is not in it" : `"${unmapped}", which is not in it`;
    return {
      message: `the bundle imports ${what}: bundle all dependencies but xstate`,
      missingExport: false,
    };
  }
  const named = thrown instanceof Error && thrown.name !== "Error" && !/^\w*Error\b/.test(text);
  const place = sourceOf(thrown);
  const message = (named ? `${thrown.name}: ` : "") + readable(text) + (place === null ? "" : ` (${place})`);
  return { message, missingExport: MISSING_EXPORT.test(text) };
}

function ofFolder(folder: string, name: string): Unloadable {
  return folder === "other-major"
    ? { message: `this version of XState has no module "${name}"`, missingExport: true }
    : { message: `the module "${name}" is not available to machine code`, missingExport: false };
}
