// For which major of XState a function of a machine was written, read from its own text: XState 5 calls every one with
// one object ({ context, event, … }), XState 4 with the context and the event.

const TEXT_MAX = 4_000;
const text = Function.prototype.toString;

/** What XState 5 puts into the one argument of actions, guards, delays, `context` and `input`. */
const ARGUMENT_KEYS = new Set(["context", "event", "self", "system", "spawn", "input", "guard", "action"]);

/** 4, 5, or null when the text fits both. */
export function majorOfFunction(written: (...args: never[]) => unknown): 4 | 5 | null {
  const source = text.call(written).slice(0, TEXT_MAX);
  if (source.includes("[native code]")) return null;
  const [first, second] = parametersOf(source);
  if (first === undefined) return null;
  if (first.startsWith("{")) return majorOfKeys(keysOf(first));
  const used = usesOf(source, nameOf(first));
  if (used.length > 0) return majorOfKeys(used);
  return second === undefined ? null : 4;
}

function majorOfKeys(keys: readonly string[]): 4 | 5 | null {
  if (keys.length === 0) return null;
  return keys.every((key) => ARGUMENT_KEYS.has(key)) ? 5 : 4;
}

/** The parameters as they are written, the first two of them. */
function parametersOf(source: string): string[] {
  const single = /^\s*(?:async\s+)?([\w$]+)\s*=>/.exec(source);
  if (single !== null) return [single[1]!];
  const start = source.indexOf("(");
  if (start < 0) return [];
  const parameters: string[] = [];
  let depth = 0;
  let at = start + 1;
  for (let i = start + 1; i < source.length && parameters.length < 2; i++) {
    const character = source[i]!;
    if ("([{".includes(character)) depth += 1;
    else if (depth > 0 && ")]}".includes(character)) depth -= 1;
    else if (depth === 0 && (character === "," || character === ")")) {
      const parameter = source.slice(at, i).trim();
      if (parameter !== "") parameters.push(parameter);
      at = i + 1;
      if (character === ")") break;
    }
  }
  return parameters;
}

/** `{ context: c, event = {}, ...rest }`: context and event. */
function keysOf(pattern: string): string[] {
  const keys: string[] = [];
  let depth = 0;
  let at = 1;
  for (let i = 1; i < pattern.length; i++) {
    const character = pattern[i]!;
    if ("([{".includes(character)) depth += 1;
    else if (depth > 0 && ")]}".includes(character)) depth -= 1;
    else if (depth === 0 && (character === "," || character === "}")) {
      const key = /^\s*["']?([\w$]+)/.exec(pattern.slice(at, i))?.[1];
      if (key !== undefined) keys.push(key);
      at = i + 1;
      if (character === "}") break;
    }
  }
  return keys;
}

const nameOf = (parameter: string): string => /^[\w$]+/.exec(parameter)?.[0] ?? "";

/** The members of a parameter that the text reads: `x.context`, `const { event } = x`. */
function usesOf(source: string, name: string): string[] {
  if (name === "") return [];
  const escaped = name.replaceAll("$", "\\$");
  const used = new Set<string>();
  const read = new RegExp(`(?<![\\w$.])${escaped}\\s*\\??\\.\\s*([A-Za-z_$][\\w$]*)`, "g");
  for (const [, key] of source.matchAll(read)) used.add(key!);
  const taken = new RegExp(`(\\{[^{}=]*\\})\\s*=\\s*${escaped}(?![\\w$.])`, "g");
  for (const [, pattern] of source.matchAll(taken)) for (const key of keysOf(pattern!)) used.add(key);
  return [...used];
}
