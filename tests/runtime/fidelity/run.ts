// What the fidelity tests compare: a machine, a script of events and passing time, and what is seen after each.

import { fromText, jsonText, shownText } from "js/json.ts";

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

export type Action = { send: { type: string; [key: string]: Json } } | { advance: number };

export interface Script {
  context?: { [key: string]: Json };
  steps: Action[];
}

/** What a state looks like, made comparable: keys and tags in order. */
export interface View {
  value: Json;
  context: Json;
  tags: string[];
  done: boolean;
  notes: string[];
}

/** One side of the comparison. */
export interface Side {
  start(): Promise<void>;
  act(action: Action): Promise<void>;
  view(): View;
  stop(): void;
}

/** Plain xstate, and what a server does to a machine beside sending it events. */
export interface Plain extends Side {
  /** Why it cannot go on. */
  over: string | null;
  /** Called before a timer of the machine itself fires. */
  beforeTimer: () => void;
  /** The services that run, in the order of their start. */
  running(): string[];
  /** End a service as a crash does: nothing is said of it. */
  lose(id: string): void;
  /** The error event of a lost service; none that no state handles. */
  fail(id: string, error: Error): void;
}

export const inOrder = (value: unknown): Json => {
  if (Array.isArray(value)) return value.map(inOrder);
  if (typeof value !== "object" || value === null) return (value ?? null) as Json;
  const entries = Object.entries(value).filter(([, part]) => part !== undefined);
  return Object.fromEntries(
    entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, part]) => [key, inOrder(part)]),
  );
};

/** As readers get it. */
export const shown = (value: unknown): Json => JSON.parse(shownText(value ?? null)) as Json;

/** As a machine gets back what it has given away. */
export const asKept = (value: unknown): unknown => fromText(jsonText(value));

export const asJson = (value: unknown): Json => JSON.parse(JSON.stringify(value ?? null)) as Json;
