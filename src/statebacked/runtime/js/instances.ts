// Other instances as machine code names them: references, the descriptors of persistent children, and `spawn` of the
// runtime global that the published helpers call. Everything here only describes; steps carry it as data.

/** Another instance of the same org. */
export type Address = readonly [machine: string, name: string];
/** `null`: the instance that spawned this one. */
export type Target = Address | null;

/** What a step has for other instances. */
export type Outgoing =
  | { readonly kind: "send"; readonly to: Target; readonly event: unknown }
  | Spawned
  | { readonly kind: "unlink"; readonly id: string };

export interface Spawned {
  readonly kind: "spawn";
  readonly id: string;
  readonly child: Address;
  readonly version: string | null;
  /** An object, or undefined. */
  readonly context: unknown;
}

/** What a machine keeps in its context, and what `sendTo` takes, for a persistent instance. */
export interface Reference {
  readonly type: typeof REFERENCE;
  readonly id: string;
  readonly machineName: string;
  readonly machineInstanceName: string;
}

/** Events that are the machine's own: from outside, other instances included, none is taken. */
export const RESERVED = /^(?:xstate|done|error|statebacked)\./;

const REFERENCE = "statebacked.instance";
const SOURCE = "statebacked.invoke";
const MACHINE_NAME = /^[A-Za-z0-9_-]{1,128}$/;
const INSTANCE_NAME = /^(?!\.{1,2}$)[A-Za-z0-9_.|@:+~-]{1,128}$/;
const VERSION_ID = /^ver_[A-Za-z0-9_-]{22}$/;

type Parts = Readonly<Record<string, unknown>>;

export const newName = crypto.randomUUID.bind(crypto);

export function referenceTo(id: string, [machineName, machineInstanceName]: Address): Reference {
  return { type: REFERENCE, id, machineName, machineInstanceName };
}

/** `send` of a reference: imperative, and after the commit, so nothing could make it durable. */
export function tellDropped(event: unknown, { machineName, machineInstanceName }: Reference): void {
  const type = typeof event === "string" ? event : (event as { type?: unknown } | null | undefined)?.type;
  console.error(
    `${String(type)} was sent to ${machineName}/${machineInstanceName} by its reference and dropped: ` +
      "use the action sendTo",
  );
}

/** The plain object that it is, with a `send` that only tells what to do instead; JSON leaves it out. */
export function voiced(reference: Reference): Reference {
  const send = (event: unknown): void => tellDropped(event, reference);
  return Object.defineProperty(reference, "send", { value: send, configurable: true, writable: true });
}

/** The instance that a reference names, or null for what is none. Throws for one that names what cannot be. */
export function addressOf(value: unknown): Address | null {
  if (!isObject(value) || value["type"] !== REFERENCE) return null;
  return checked(value["machineName"], value["machineInstanceName"]);
}

/** A reference that came back from JSON, and nothing else. */
export function isPlainReference(value: Parts): boolean {
  if (value["type"] !== REFERENCE || Object.keys(value).length !== 4) return false;
  const { id, machineName, machineInstanceName } = value;
  return [id, machineName, machineInstanceName].every((part) => typeof part === "string");
}

/** Does this `src` of an invoke ask for a persistent child? */
export function isSource(value: unknown): value is Parts {
  return isObject(value) && value["type"] === SOURCE && typeof value["machineName"] === "string";
}

/** A persistent child to be made. `context` is what it is created with; a descriptor may find its name by it. */
export function spawned(id: string, descriptor: Parts, context: unknown): Spawned {
  const { machineName, machineInstanceName, machineVersionId } = descriptor;
  if (context !== undefined && context !== null && (!isObject(context) || Array.isArray(context))) {
    throw new TypeError(`the persistent child "${id}" can be created with an object only`);
  }
  const found: unknown = typeof machineInstanceName === "function"
    ? (machineInstanceName as (context: unknown) => unknown)(context)
    : machineInstanceName;
  const isMadeUp = descriptor["type"] === SOURCE && madeWhileLoading.has(found as string);
  const isFree = found === undefined || found === null || isMadeUp;
  const child = checked(machineName, isFree ? newName() : found);
  const version = machineVersionId ?? null;
  if (version !== null && !(typeof version === "string" && VERSION_ID.test(version))) {
    throw new TypeError(`"${String(version)}" is not a version of machine "${child[0]}"`);
  }
  return { kind: "spawn", id, child, version, context: context ?? undefined };
}

function checked(machine: unknown, name: unknown): Address {
  if (typeof machine !== "string" || !MACHINE_NAME.test(machine)) {
    throw new TypeError(`"${String(machine)}" is not a machine name: 1 to 128 of A-Z a-z 0-9 _ -`);
  }
  if (typeof name !== "string" || !INSTANCE_NAME.test(name)) {
    throw new TypeError(
      `"${String(name)}" is not an instance name: 1 to 128 of A-Z a-z 0-9 _ - . | @ : + ~`,
    );
  }
  return [machine, name];
}

type Named = readonly [machine: string, name: string, ...rest: unknown[]];

export function isSame(a: Named | undefined, b: Named): boolean {
  return a !== undefined && a[0] === b[0] && a[1] === b[1];
}

// --- names that the published helper makes while the module loads

const NAMES_MAX = 10_000;
const madeWhileLoading = new Set<string>();

/**
 * `persistentInvocableSource` makes up the name that it was not given, where the machine is defined: all instances of
 * the machine would share one child. Such a name is recognised, and each start of the child gets one of its own.
 */
export async function noticingNames<T>(load: () => Promise<T>): Promise<T> {
  const { prototype } = Crypto;
  const native = Object.getOwnPropertyDescriptor(prototype, "randomUUID")!;
  let isLoading = true;
  const randomUUID = (): ReturnType<typeof newName> => {
    const name = newName();
    if (isLoading && madeWhileLoading.size < NAMES_MAX) madeWhileLoading.add(name);
    return name;
  };
  Object.defineProperty(prototype, "randomUUID", { ...native, value: randomUUID });
  try {
    return await load();
  } finally {
    isLoading = false;
    // The module may have put one of its own there, or frozen it.
    const isOurs = Object.getOwnPropertyDescriptor(prototype, "randomUUID")?.value === randomUUID;
    if (isOurs) Reflect.defineProperty(prototype, "randomUUID", native);
  }
}

// --- the runtime global

export interface SpawnOptions {
  readonly name?: unknown;
  readonly context?: unknown;
}

/** Takes the persistent children that an assign asks for. */
export type Spawner = (descriptor: Parts, options: SpawnOptions) => Reference;
/** `spawn` of the linked XState. */
export type SpawnEphemeral = (entity: unknown, options: unknown) => unknown;

/** Whose step is being computed: set and taken back by the adapter. */
export const computing: { spawner: Spawner | null } = { spawner: null };

/** `spawn` of the runtime global: of persistent children here, of anything else as XState does it. */
export function runtimeSpawn(ephemeral: SpawnEphemeral): (what: unknown, options?: unknown) => unknown {
  return (what, options) => {
    if (!isObject(what) || typeof what["machineName"] !== "string") return ephemeral(what, options);
    if (computing.spawner === null) {
      throw new Error(
        `a persistent instance of "${
          what["machineName"]
        }" can be spawned only in an assign of the instance's own machine`,
      );
    }
    return computing.spawner(what, isObject(options) ? options : {});
  };
}

export function idOf({ name }: SpawnOptions): string {
  return typeof name === "string" && name !== "" ? name : newName();
}

function isObject(value: unknown): value is Parts {
  return typeof value === "object" && value !== null;
}
