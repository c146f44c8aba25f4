// The shapes inside XState 5.33 that the adapter leans on, private fields included. A contract test pins them.

export const NOT_STARTED = 0;
export const RUNNING = 1;
export const STOPPED = 2;

export interface Event5 {
  readonly type: string;
}

export interface Snapshot5 {
  status: "active" | "done" | "error" | "stopped";
  output?: unknown;
  error?: unknown;
  value: unknown;
  context: unknown;
  tags: Set<string>;
  children: Record<string, Actor5 | undefined>;
  historyValue: Record<string, { readonly id: string }[]>;
  _nodes: readonly Node5[];
  machine: Machine5;
}

export interface Node5 {
  readonly id: string;
  readonly type: "atomic" | "compound" | "parallel" | "final" | "history";
  readonly path: readonly string[];
  readonly config: { readonly initial?: unknown; readonly target?: unknown };
  readonly history: "shallow" | "deep" | false;
  readonly initial: { readonly target: readonly Node5[] | undefined } | undefined;
  readonly after: readonly { readonly eventType: string; readonly delay: unknown }[];
  readonly parent?: Node5;
  readonly tags: readonly string[];
  readonly states: Readonly<Record<string, Node5>>;
}

export interface Transition5 {
  readonly target?: unknown;
  readonly actions: readonly unknown[];
}

export interface Machine5 {
  readonly id: string;
  readonly config: { readonly context?: unknown };
  readonly options?: { readonly maxIterations?: number };
  readonly root: Node5;
  readonly implementations: {
    readonly actions: Readonly<Record<string, unknown>>;
    readonly delays: Readonly<Record<string, unknown>>;
  };
  transition(snapshot: Snapshot5, event: Event5, scope: Scope5): Snapshot5;
  getInitialSnapshot(scope: Scope5, input: unknown): Snapshot5;
  resolveState(state: { value: unknown; context: unknown }): Snapshot5;
  restoreSnapshot(persisted: unknown, scope: Scope5): Snapshot5;
  getTransitionData(snapshot: Snapshot5, event: Event5): readonly Transition5[];
  getStateNodeById(id: string): Node5;
}

/** What the transition function hands to its executor. For a built-in action `exec` is bound and only defers. */
export interface Recorded5 {
  readonly type: string;
  readonly info: unknown;
  readonly params: unknown;
  readonly exec: ((info: unknown, params: unknown) => unknown) | undefined;
}

/** What XState tells inspectors; each actor that comes into being is told, before it has a state. */
export interface Inspection5 {
  readonly type: string;
  readonly actorRef: Actor5;
}

export interface Scope5 {
  readonly self: Actor5;
  sessionId: string;
  defer: (run: () => void) => void;
  actionExecutor: (action: Recorded5) => void;
}

export interface System5 {
  _bookId: () => string;
  get(systemId: string): Actor5 | undefined;
  getAll(): Record<string, Actor5>;
  _set(systemId: string, actor: Actor5): void;
  _register(sessionId: string, actor: Actor5): string;
  _unregister(actor: Actor5): void;
  _sendInspectionEvent: (event: Inspection5) => void;
  _relay: (source: Actor5 | undefined, target: Actor5, event: Event5) => void;
  readonly scheduler: { cancelAll(actor: Actor5): void };
}

export interface Actor5 {
  id: string;
  readonly logic: unknown;
  readonly options: { readonly id?: string; readonly input?: unknown };
  sessionId: string;
  readonly systemId: string | undefined;
  readonly system: System5;
  readonly observers: Set<unknown>;
  readonly eventListeners: Map<string, unknown>;
  _parent: Actor5 | undefined;
  readonly _actorScope: Scope5;
  _processingStatus: number;
  _snapshot: Snapshot5;
  _send: (event: Event5) => void;
  start: () => unknown;
  update(snapshot: Snapshot5, event: Event5): void;
  getSnapshot(): Snapshot5;
  _stop: () => unknown;
}
