// Index selectors: JSONPath (RFC 9535) of names, positions and wildcards, from the context to strings.

const VALUE_CHARACTERS_MAX = 1_024 / 4; // in any script at most 1 KB
const VALUES_MAX = 100;
const STEP =
  /\.([A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)|\[\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|(-?\d+))\s*\]|\.\*|\[\s*\*\s*\]/y;

type Step = string | number | null; // null: every part

export interface Selector {
  readonly index: string;
  readonly steps: readonly Step[];
}

/** Throws an Error that names the path when it is none of ours. */
export function compile(index: string, path: string): Selector {
  const steps: Step[] = [];
  let at = 1;
  while (path.startsWith("$") && at < path.length) {
    STEP.lastIndex = at;
    const match = STEP.exec(path);
    if (match === null) break;
    at = STEP.lastIndex;
    const name = match[1] ?? match[2] ?? match[3];
    steps.push(
      name !== undefined ? name.replace(/\\(.)/g, "$1") : match[4] !== undefined ? Number(match[4]) : null,
    );
  }
  if (!path.startsWith("$") || at < path.length) {
    throw new Error(
      `the selector of index "${index}" is not supported: ${path} (use $.a.b, $['a'], $[0], $.a[*])`,
    );
  }
  return { index, steps };
}

/** The strings that a selector finds, an array of strings counting as its members. Throws beyond the limits. */
export function select(selector: Selector, context: unknown): string[] {
  const found = walk(selector.steps, 0, context).flatMap((node) =>
    Array.isArray(node) ? node as unknown[] : [node]
  );
  const values = found.filter((node) => typeof node === "string");
  if (values.length > VALUES_MAX) {
    throw new Error(`index "${selector.index}" has more than ${VALUES_MAX} values`);
  }
  if (values.some((value) => value.length > VALUE_CHARACTERS_MAX)) {
    throw new Error(`index "${selector.index}" has a value longer than ${VALUE_CHARACTERS_MAX} characters`);
  }
  return values.map((value) => value.toWellFormed());
}

function walk(steps: readonly Step[], depth: number, node: unknown): unknown[] {
  if (depth === steps.length) return [node];
  if (typeof node !== "object" || node === null) return [];
  const step = steps[depth]!;
  if (step === null) return Object.values(node).flatMap((part) => walk(steps, depth + 1, part));
  if (typeof step === "number") return Array.isArray(node) ? walk(steps, depth + 1, node.at(step)) : [];
  return Object.hasOwn(node, step) && !Array.isArray(node)
    ? walk(steps, depth + 1, (node as Record<string, unknown>)[step])
    : [];
}
