// Objects that JSON has no word for, in JSON: `{"$$statebacked": kind, "value": …}`. What is stored and delivered is
// written so (docs/adr/0018); what readers get shows the same objects as plain JSON. Text without the mark is plain.

import { isNative, kindNamed, kindOf } from "./builtins.ts";

export const MARK = "$$statebacked";
export const DEPTH_MAX = 128;
const PARTS_MAX = 2_000_000; // no frame has room for more

const { create, getPrototypeOf, hasOwn, keys, prototype } = Object;
const { isArray } = Array;
const { apply } = Reflect;
const boxes = [Number, String, Boolean].map(({ prototype }) => ({ prototype, valueOf: prototype.valueOf }));

type Parts = Record<string, unknown>;

/** `tagged`: all that is needed to make it again. `shown`: what readers get. */
export type Form = "tagged" | "shown";

/** A value as data for JSON.stringify. Throws for more than DEPTH_MAX levels, which a cycle has too. */
export function asData(value: unknown, form: Form): unknown {
  return new Walk(form).data(value, "", 0);
}

class Walk {
  #parts = 0;

  constructor(private readonly form: Form) {}

  data(value: unknown, key: string, depth: number): unknown {
    if (typeof value === "function" || typeof value === "symbol") return undefined;
    if (typeof value !== "object" || value === null) return value;
    if (depth > DEPTH_MAX) throw new TypeError(`a value is nested deeper than ${DEPTH_MAX}, or holds itself`);
    if (++this.#parts > PARTS_MAX) throw new TypeError(`a value has more than ${PARTS_MAX} parts`);
    const { toJSON } = value as { toJSON?: unknown };
    const own = typeof toJSON === "function" && !isNative(toJSON)
      ? apply(toJSON as () => unknown, value, [key]) as unknown
      : value;
    return typeof own === "object" && own !== null ? this.#object(own, depth) : own;
  }

  #object(node: object, depth: number): unknown {
    if (isArray(node)) return this.#list(node, depth);
    const kind = kindOf(node);
    if (kind !== null) {
      if (this.form === "shown") return this.data(kind.show(node), "", depth);
      return { [MARK]: kind.name, value: this.data(kind.tell(node), "", depth + 1) };
    }
    const box = boxes.find(({ prototype }) => getPrototypeOf(node) === prototype);
    return box === undefined ? this.#members(node, depth) : apply(box.valueOf, node, []);
  }

  #list(node: readonly unknown[], depth: number): unknown[] {
    const list: unknown[] = [];
    for (let n = 0; n < node.length; n++) list.push(this.data(node[n], String(n), depth + 1));
    return list;
  }

  #members(node: object, depth: number): Parts {
    const members = create(null) as Parts;
    for (const key of keys(node)) {
      const part = this.data((node as Parts)[key], key, depth + 1);
      if (part !== undefined) members[this.form === "tagged" ? escaped(key) : key] = part;
    }
    return members;
  }
}

/** A member of the user's never passes for the mark. */
const escaped = (key: string): string => key.startsWith(MARK) ? `${MARK}$${key.slice(MARK.length)}` : key;

/** Whether a value may hold a pattern: JSON gives `{}` for one, and does not ask it for anything. */
export function holdsPattern(value: unknown, depth = 0): boolean {
  if (typeof value !== "object" || value === null || depth > DEPTH_MAX) return false;
  const of: unknown = getPrototypeOf(value);
  if (of !== prototype && !isArray(value) && kindOf(value) !== null) return true;
  if (typeof (value as { toJSON?: unknown }).toJSON === "function") return true; // it may give one
  return keys(value).some((key) => holdsPattern((value as Parts)[key], depth + 1));
}

/** What a tree fresh from JSON, in which the mark was written, stands for; the tree is used up. */
export function revived(node: unknown): unknown {
  if (typeof node !== "object" || node === null) return node;
  const parts = node as Parts;
  let isEscaped = false;
  for (const key of keys(parts)) {
    isEscaped ||= key.startsWith(`${MARK}$`);
    const part = parts[key];
    if (typeof part !== "object" || part === null) continue;
    const made = revived(part);
    if (made !== part) parts[key] = made;
  }
  if (isArray(node)) return node;
  if (hasOwn(parts, MARK)) return made(parts);
  return isEscaped ? unescaped(parts) : node;
}

function made(parts: Parts): unknown {
  const kind = kindNamed(parts[MARK] as string);
  try {
    return kind === undefined ? parts : kind.make(parts["value"] as never);
  } catch {
    return parts; // nothing of ours
  }
}

function unescaped(parts: Parts): Parts {
  const of = (key: string): string => key.startsWith(`${MARK}$`) ? MARK + key.slice(MARK.length + 1) : key;
  return Object.fromEntries(keys(parts).map((key) => [of(key), parts[key]]));
}
