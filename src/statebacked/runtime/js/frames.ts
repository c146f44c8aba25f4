// The frames of protocol version 1 as types: what the host sends, what the worker answers.

import type { Run, Sent } from "./activation.ts";
import type { Examined } from "./examine.ts";
import type { Address, Target } from "./instances.ts";
import type { Indexed } from "./selectors.ts";

export const PROTOCOL = 1;
export const STEP_BYTES_MAX = 4_000_000;
export const FRAME_BYTES_MAX = 1_000_000;

/** Of fetches: how many at once, and how their bodies travel (docs/reference/worker-protocol.md). */
export interface FetchLimits {
  readonly per_instance_max: number;
  readonly per_worker_max: number;
  readonly headers_bytes_max: number;
  readonly body_bytes_max: number;
  readonly chunk_bytes_max: number;
  readonly window_bytes: number;
}

export interface Limits {
  readonly fetch: FetchLimits;
  readonly authorize_ms: number;
  readonly context_bytes_max: number;
  readonly step_bytes_max: number;
  readonly timer_operations_max: number;
  readonly sends_max: number;
  readonly spawns_max: number;
  readonly microsteps_max: number;
  readonly services_max: number;
  readonly index_values_max: number;
  readonly index_value_bytes_max: number;
}

export type Source = "client" | "timer" | "self" | "service" | "instance";

interface AnyItem {
  readonly source: Source;
  readonly auth: boolean;
}

export type Item =
  & AnyItem
  & (
    | { readonly k: "init"; readonly context: boolean }
    | { readonly k: "event" }
    | { readonly k: "inside"; readonly token: number; readonly service?: Run }
    | { readonly k: "failed"; readonly service: Run; readonly code: string; readonly message: string }
    | { readonly k: "done"; readonly service: Run }
  );

export interface Compute {
  readonly t: "compute";
  readonly n: number;
  readonly a: number;
  readonly seq: number;
  readonly name: string;
  readonly base: boolean;
  readonly items: readonly Item[];
}

export interface Read {
  readonly t: "read";
  readonly n: number;
  readonly a: number;
  readonly seq: number;
  readonly name: string;
  readonly base: boolean;
  readonly auths: number;
}

/** One caller, and states of several instances that are not here. */
export interface ReadEach {
  readonly t: "read-each";
  readonly n: number;
  readonly names: readonly string[];
}

/** A part of an upgrade: tell a state as an outline, map an outline, make one a state. */
export interface Upgrade {
  readonly t: "leave" | "migrate" | "arrive";
  readonly n: number;
}

/** Whose code fetches: that of an instance after a commit, of a run of a service, of an authorizer. */
export type Claim =
  | { readonly a: number; readonly service?: Run }
  | { readonly a: number; readonly compute: number }
  | { readonly read: number };

export type Headers = readonly (readonly [name: string, value: string])[];

export type FetchHeader =
  | {
    readonly t: "fetch_head";
    readonly f: number;
    readonly status: number;
    readonly text: string;
    readonly headers: Headers;
    readonly url: string;
    readonly redirected: boolean;
    readonly body: boolean;
  }
  | { readonly t: "fetch_chunk"; readonly f: number; readonly ends: boolean }
  | { readonly t: "fetch_upload_more"; readonly f: number; readonly bytes: number }
  | { readonly t: "fetch_failed"; readonly f: number; readonly message: string };

export type HostHeader =
  | ({ readonly t: "boot"; readonly protocol: number } & Limits)
  | {
    readonly t: "load";
    readonly selectors?: readonly (readonly [index: string, path: string])[];
    /** The bundle is a migration. */
    readonly migration?: boolean;
    /** The bundle is looked at, and not run. */
    readonly examine?: boolean;
  }
  | { readonly t: "ping"; readonly n: number }
  | Compute
  | { readonly t: "perform"; readonly a: number; readonly seq: number }
  | { readonly t: "stop"; readonly a: number; readonly services: readonly Run[] }
  | { readonly t: "close"; readonly a: number }
  | Read
  | ReadEach
  | Upgrade
  | FetchHeader;

export type TimerHeader = ["set", sendId: string, delayMs: number, to?: Target] | ["cancel", sendId: string];

export type OutHeader =
  | ["send", to: Target]
  | ["spawn", id: string, child: Address, version: string | null, hasContext: boolean]
  | ["unlink", id: string];

export type StepHeader = { readonly changed: false } | {
  readonly changed: true;
  readonly done: boolean;
  readonly ctx: boolean;
  readonly pub: boolean;
  readonly ev: boolean;
  readonly effects: boolean;
  readonly timers: readonly TimerHeader[];
  readonly sends: number;
  readonly starts: readonly string[];
  readonly stops: readonly string[];
  readonly out?: readonly OutHeader[];
  readonly fin?: true;
  readonly idx?: Indexed;
};

export type WorkerHeader =
  | { readonly t: "ready"; readonly protocol: number; readonly xstate: string }
  | {
    readonly t: "loaded";
    readonly major: 4 | 5;
    readonly inlined: boolean;
    readonly examined?: Examined;
  }
  | { readonly t: "unloadable"; readonly message: string; readonly missing_export: boolean }
  | { readonly t: "pong"; readonly n: number }
  | { readonly t: "step"; readonly n: number; readonly a: number; readonly steps: readonly StepHeader[] }
  | {
    readonly t: "refused";
    readonly n: number;
    readonly a: number;
    readonly code: Refusal;
    readonly message: string;
  }
  | { readonly t: "lacks"; readonly n: number; readonly a?: number }
  | { readonly t: "performed"; readonly a: number; readonly seq: number; readonly sent: readonly Sent[] }
  | {
    readonly t: "inside";
    readonly a: number;
    readonly token: number;
    readonly service: Run;
    readonly ends: boolean;
  }
  | { readonly t: "readable"; readonly n: number; readonly ok: readonly boolean[] }
  | { readonly t: "outlined"; readonly n: number }
  | {
    readonly t: "arrived";
    readonly n: number;
    readonly step: StepHeader;
    readonly kept: readonly (readonly [key: string, sendId: string])[];
    readonly gone: readonly string[];
  }
  | { readonly t: "stuck"; readonly n: number; readonly message: string }
  | (Claim & {
    readonly t: "fetch";
    readonly f: number;
    readonly method: string;
    readonly url: string;
    readonly headers: Headers;
    readonly redirect: string;
    readonly body: boolean;
    readonly length?: number;
  })
  | { readonly t: "fetch_more"; readonly f: number; readonly bytes: number }
  | { readonly t: "fetch_abort"; readonly f: number };

/** The one frame of bytes that a worker sends: a piece of a request's body. */
export interface UploadHeader {
  readonly t: "fetch_upload";
  readonly f: number;
  readonly ends: boolean;
}

export type Refusal =
  | "rejected-by-machine-authorizer"
  | "machine-error"
  | "context-too-large"
  | "reserved-event"
  | "too-many-effects"
  | "step-too-large";
