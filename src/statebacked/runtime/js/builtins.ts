// What machine code may keep besides plain data: objects that the language has built in. How each kind is recognised,
// told as plain data, and made again. Everything is taken before user code comes, which may replace any of it.

const { defineProperty, fromEntries, getOwnPropertyDescriptor, getPrototypeOf, hasOwn, keys } = Object;
const { apply, construct } = Reflect;
const { stringify } = JSON;
const { isError } = Error as unknown as { isError(value: unknown): boolean };

type Class = { readonly prototype: object; readonly name: string };
type Parts = Record<string, unknown>;

const global = globalThis as unknown as Readonly<Record<string, Class | undefined>>;

/** A method as a function whose first argument is `this`. It throws for an object of another kind. */
function method<T>(prototype: object, name: string): (self: object, ...args: unknown[]) => T {
  const run = (prototype as Readonly<Record<string, (...args: unknown[]) => T>>)[name]!;
  return (self, ...args) => apply(run, self, args);
}

function getter<T>(prototype: object, name: string): (self: object) => T {
  const get = getOwnPropertyDescriptor(prototype, name)!.get as () => T;
  return (self) => apply(get, self, []);
}

/** One kind of object. `tell` and `show` give plain data around further values. */
export interface Kind {
  readonly name: string;
  readonly prototype: object;
  /** Throws for an object that only has the prototype. */
  readonly check: (value: object) => unknown;
  /** All that `make` needs. */
  readonly tell: (value: object) => unknown;
  /** May throw for what `tell` never gave. */
  readonly make: (told: never) => object;
  /** What readers get, who know JSON only. */
  readonly show: (value: object) => unknown;
}

const kinds = new Map<object, Kind>();
const kindAt = kinds.get.bind(kinds);
const kindsByName = new Map<string, Kind>();
export const kindNamed = kindsByName.get.bind(kindsByName) as (name: string) => Kind | undefined;

function add(found: Class | undefined, kind: Omit<Kind, "name" | "prototype">): void {
  if (found === undefined) return;
  const known = { ...kind, name: found.name, prototype: found.prototype };
  kinds.set(found.prototype, known);
  kindsByName.set(found.name, known);
}

const CHAIN_MAX = 100; // a Proxy may answer with new prototypes for ever

/** The kind of an object; null for a plain one, and for one of a class that is none of these and extends none. */
export function kindOf(value: object): Kind | null {
  let prototype: unknown = getPrototypeOf(value);
  for (let n = 0; prototype !== null && n < CHAIN_MAX; n++) {
    const kind = kindAt(prototype as object);
    if (kind !== undefined) return isReally(kind, value) ? kind : null;
    prototype = getPrototypeOf(prototype);
  }
  return null;
}

function isReally(kind: Kind, value: object): boolean {
  try {
    kind.check(value);
    return true;
  } catch {
    return false;
  }
}

// --- dates, addresses, patterns

const timeOf = method<number>(Date.prototype, "getTime");
const toISOString = method<string>(Date.prototype, "toISOString");
const isoOf = (date: object): string | null => Number.isNaN(timeOf(date)) ? null : toISOString(date);
const NativeDate = Date;
add(Date as never, {
  check: timeOf,
  tell: isoOf,
  make: (iso: string | null) => new NativeDate(iso ?? NaN),
  show: isoOf,
});

const hrefOf = getter<string>(URL.prototype, "href");
const NativeURL = URL;
add(URL as never, { check: hrefOf, tell: hrefOf, make: (href: string) => new NativeURL(href), show: hrefOf });

const queryOf = method<string>(URLSearchParams.prototype, "toString");
const NativeQuery = URLSearchParams;
add(URLSearchParams as never, {
  check: queryOf,
  tell: queryOf,
  make: (query: string) => new NativeQuery(query),
  show: queryOf,
});

const sourceOf = getter<string>(RegExp.prototype, "source");
const flagsOf = getter<string>(RegExp.prototype, "flags");
const NativeRegExp = RegExp;
type Pattern = [source: string, flags: string, lastIndex?: number];
add(RegExp as never, {
  check: sourceOf,
  tell(pattern): Pattern {
    const { lastIndex } = pattern as RegExp;
    const [source, flags] = [sourceOf(pattern), flagsOf(pattern)];
    return lastIndex === 0 ? [source, flags] : [source, flags, lastIndex];
  },
  make([source, flags, lastIndex = 0]: Pattern) {
    const pattern = new NativeRegExp(source, flags);
    pattern.lastIndex = lastIndex;
    return pattern;
  },
  show: (pattern) => `/${sourceOf(pattern)}/${flagsOf(pattern)}`,
});

const temporal = (globalThis as { Temporal?: Readonly<Record<string, unknown>> }).Temporal ?? {};
const TEMPORAL = ["Instant", "ZonedDateTime", "PlainDate", "PlainDateTime", "PlainTime", "PlainYearMonth"];
const temporals = [...TEMPORAL, "PlainMonthDay", "Duration"].flatMap((name) => {
  const found = temporal[name] as (Class & { from(text: string): object }) | undefined;
  if (found === undefined) return [];
  const textOf = method<string>(found.prototype, "toString");
  const from = found.from.bind(found);
  const named = { name: `Temporal.${name}`, prototype: found.prototype };
  add(named, { check: textOf, tell: textOf, make: (text: string) => from(text), show: textOf });
  return [found.prototype];
});

// --- collections

const sizeOf = getter<number>(Map.prototype, "size");
const eachEntry = method<void>(Map.prototype, "forEach");
const setEntry = Map.prototype.set;
const clearMap = method<void>(Map.prototype, "clear");
const NativeMap = Map;

function entriesOf(map: object): [key: unknown, value: unknown][] {
  const entries: [unknown, unknown][] = [];
  eachEntry(map, (value: unknown, key: unknown) => void entries.push([key, value]));
  return entries;
}

function fill(map: object, entries: readonly (readonly [unknown, unknown])[]): object {
  for (const entry of entries) apply(setEntry, map, entry);
  return map;
}

add(Map as never, {
  check: sizeOf,
  tell: entriesOf,
  make: (entries: [unknown, unknown][]) => fill(new NativeMap(), entries),
  show: entriesOf,
});

const countOf = getter<number>(Set.prototype, "size");
const eachMember = method<void>(Set.prototype, "forEach");
const addMember = Set.prototype.add;
const clearSet = method<void>(Set.prototype, "clear");
const NativeSet = Set;

function membersOf(set: object): unknown[] {
  const members: unknown[] = [];
  eachMember(set, (member: unknown) => void members.push(member));
  return members;
}

function gather(set: object, members: readonly unknown[]): object {
  for (const member of members) apply(addMember, set, [member]);
  return set;
}

add(Set as never, {
  check: countOf,
  tell: membersOf,
  make: (members: unknown[]) => gather(new NativeSet(), members),
  show: membersOf,
});

// --- bytes

const Bytes = Uint8Array as unknown as typeof Uint8Array & { fromBase64(text: string): Uint8Array };
const fromBase64 = Bytes.fromBase64.bind(Bytes);
const toBase64 = method<string>(Uint8Array.prototype, "toBase64");
const viewed = getPrototypeOf(Uint8Array.prototype) as object;
const lengthOf = getter<number>(viewed, "length");
const bytesOf = getter<number>(ArrayBuffer.prototype, "byteLength");

/** The bytes that a view shows. */
function window(prototype: object): (view: object) => Uint8Array {
  const [buffer, offset, length] = ["buffer", "byteOffset", "byteLength"].map((name) =>
    getter<never>(prototype, name)
  );
  return (view) => new Bytes(buffer!(view), offset!(view), length!(view));
}

const shownByTyped = window(viewed);
const numbersOf = (view: object): unknown[] => {
  const numbers: unknown[] = [];
  for (let n = 0; n < lengthOf(view); n++) {
    const number: unknown = (view as Uint8Array)[n];
    numbers.push(typeof number === "bigint" ? String(number) : number);
  }
  return numbers;
};
const INTEGERS = ["Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array", "Int32Array"];
const WIDE = ["Uint32Array", "BigInt64Array", "BigUint64Array"];
const FLOATS = ["Float16Array", "Float32Array", "Float64Array"];
const typeTag = getter<string | undefined>(viewed, Symbol.toStringTag as never);
for (const name of [...INTEGERS, ...WIDE, ...FLOATS]) {
  const found = global[name] as Class & (new (buffer: unknown) => object) | undefined;
  add(found, {
    check(view) {
      if (typeTag(view) !== name) throw new TypeError(name);
    },
    tell: (view) => toBase64(shownByTyped(view)),
    make: (text: string) => new found!(fromBase64(text).buffer),
    show: numbersOf,
  });
}

const shownByData = window(DataView.prototype);
const NativeDataView = DataView;
add(DataView as never, {
  check: shownByData,
  tell: (view) => toBase64(shownByData(view)),
  make: (text: string) => new NativeDataView(fromBase64(text).buffer as ArrayBuffer),
  show: (view) => numbersOf(shownByData(view)),
});
add(ArrayBuffer as never, {
  check: bytesOf,
  tell: (buffer) => toBase64(new Bytes(buffer as ArrayBuffer)),
  make: (text: string) => fromBase64(text).buffer,
  show: (buffer) => numbersOf(new Bytes(buffer as ArrayBuffer)),
});

// --- errors

/** What an Error has and hides from `Object.keys`. */
const HIDDEN = ["name", "message", "code", "cause", "errors", "error", "suppressed"];

interface ToldError extends Parts {
  own?: Parts;
}

function tellError(error: object, named: string): ToldError {
  const told: ToldError = {};
  const own = keys(error);
  for (const key of HIDDEN) {
    if (own.includes(key)) continue;
    const part = (error as Parts)[key];
    const usual = key === "name" ? named : key === "message" ? "" : undefined;
    if (part !== usual) told[key] = part;
  }
  if (own.length > 0) told.own = fromEntries(own.map((key) => [key, (error as Parts)[key]]));
  return told;
}

function makeError(error: Error, { own = {}, ...hidden }: ToldError): Error {
  const put = (key: string, value: unknown, enumerable: boolean): unknown =>
    defineProperty(error, key, { value, enumerable, writable: true, configurable: true });
  for (const key of keys(hidden)) if (HIDDEN.includes(key)) put(key, hidden[key], false);
  for (const key of keys(own)) put(key, own[key], true);
  if (!hasOwn(own, "stack")) put("stack", `${error.name}: ${error.message}`, false); // where it was made again tells nothing
  return error;
}

/** `{ name, message, code?, cause?, … }` */
function showError(error: object, named: string): Parts {
  const { own, ...hidden } = tellError(error, named);
  return { name: named, message: "", ...hidden, ...own };
}

const checkError = (value: object): void => {
  if (!isError(value)) throw new TypeError("not an Error");
};
const ERRORS = ["EvalError", "RangeError", "ReferenceError", "SyntaxError", "TypeError", "URIError"];
for (const name of ["Error", ...ERRORS, "AggregateError", "SuppressedError"]) {
  const found = global[name] as unknown as Class & (new (...args: unknown[]) => Error) | undefined;
  const args = name === "AggregateError" ? [[]] : [];
  add(found, {
    check: checkError,
    tell: (error) => tellError(error, name),
    make: (told: ToldError) => makeError(construct(found!, args), told),
    show: (error) => showError(error, name),
  });
}
const NativeDOMException = DOMException;
add(DOMException as never, {
  check: checkError,
  tell: (error) => tellError(error, "Error"),
  make({ name, message, code: _, ...rest }: ToldError & { name?: string; message?: string }) {
    return makeError(new NativeDOMException(message, name), rest);
  },
  show: (error) => showError(error, "Error"),
});

// --- noticing them

const MET = Symbol("a value that JSON would change");
const native = new Set<unknown>();
/** Whether that `toJSON` is of the language, and not of the machine's author. */
export const isNative = native.has.bind(native);

let isNoticing = false;
let hasMet = false;

/** JSON asks each object for its `toJSON`: thus one is noticed without a look at the plain data around it. */
function notice(prototype: object): void {
  const own: unknown = getOwnPropertyDescriptor(prototype, "toJSON")?.value;
  if (own !== undefined) native.add(own);
  defineProperty(prototype, "toJSON", {
    configurable: true,
    get() {
      if (!isNoticing) return own;
      hasMet = true;
      throw MET; // the text is of no use
    },
    set(value: unknown) {
      defineProperty(this, "toJSON", { value, enumerable: true, writable: true, configurable: true });
    },
  });
}

// Not RegExp: with a changed prototype each use of a regular expression takes ten times as long (see holdsPattern).
const NOTICED = [Date, URL, URLSearchParams, Map, Set, ArrayBuffer, DataView, Error];
for (const prototype of [...NOTICED.map((found) => found.prototype), viewed, ...temporals]) notice(prototype);

/** The JSON of plain data and patterns; `null` when the value holds another object of these kinds. */
export function plainText(value: unknown): string | undefined | null {
  const wasNoticing = isNoticing;
  const hadMet = hasMet;
  isNoticing = true;
  hasMet = false;
  try {
    const text = stringify(value) as string | undefined;
    return hasMet ? null : text;
  } catch (thrown) {
    if (hasMet) return null;
    throw thrown;
  } finally {
    isNoticing = wasNoticing;
    hasMet = hadMet;
  }
}

// --- going through them

/** Replaces each part of a plain object, array, Map, Set or Error, in place, by what `change` gives for it. */
export function changeParts(node: object, change: (part: unknown) => unknown): void {
  const of: unknown = getPrototypeOf(node);
  const kind = of === Object.prototype || of === Array.prototype ? null : kindOf(node);
  if (kind?.check === sizeOf) changeEntries(node, change);
  else if (kind?.check === countOf) {
    const members = membersOf(node);
    const changed = members.map(change);
    if (changed.every((member, n) => member === members[n])) return;
    clearSet(node);
    gather(node, changed);
  } else if (kind === null || kind.check === checkError) {
    for (const key of kind === null ? keys(node) : [...keys(node), ...HIDDEN]) {
      const part = (node as Parts)[key];
      if (typeof part !== "object" || part === null || !hasOwn(node, key)) continue;
      const changed = change(part);
      if (changed !== part) (node as Parts)[key] = changed;
    }
  }
}

function changeEntries(map: object, change: (part: unknown) => unknown): void {
  const entries = entriesOf(map);
  const changed = entries.map(([key, value]) => [change(key), change(value)] as const);
  if (changed.every(([key, value], n) => key === entries[n]![0] && value === entries[n]![1])) return;
  clearMap(map);
  fill(map, changed);
}
