// What the XState 4 adapter leans on in xstate 4.38.3, in one place. Machines may come from another copy of xstate 4
// (inlined in a bundle), so these are shapes, never classes. The published types are not used: they carry the
// typegen of one copy, and half of the members below are private in them.

export interface Event {
  type: string;
  [key: string]: unknown;
}

/** An event as xstate 4 carries it inside: `origin` is the child id or the session id of the sender. */
export interface Envelope {
  name: string;
  data: Event;
  $$type: "scxml";
  type: "external";
  origin?: string;
}

export interface Activity {
  id?: unknown;
  type?: string;
  src?: unknown;
  data?: unknown;
  autoForward?: unknown;
}

/** A resolved action: what it needs was evaluated while the step was computed. */
export interface Action {
  type: string;
  exec?: unknown;
  id?: unknown;
  to?: unknown;
  delay?: unknown;
  sendId?: unknown;
  activity?: Activity;
  _event?: Envelope;
}

export type Recorder = (action: Action, context: unknown, event: Envelope) => void;

export interface StateNode {
  id: string;
  type: string;
  parent?: unknown;
  doneData?: unknown;
  order: number;
  path: string[];
  states: Record<string, StateNode>;
  after: { eventType: string; delay: unknown }[];
  tags: string[];
  transitions: unknown[];
  invoke: { id?: unknown; src?: unknown }[];
  initialStateValue: unknown;
  resolveHistory(historyValue?: unknown): unknown[];
}

export interface Machine extends StateNode {
  __xstatenode: true;
  context: unknown;
  config: { predictableActionArguments?: boolean };
  options: Partial<Record<"actions" | "services" | "activities" | "delays", Record<string, unknown>>>;
  idMap: Record<string, StateNode>;
  initialState: State;
  _init(): void;
  getInitialState(value: unknown, context: unknown): State;
  transition(state: State, event: Envelope, context: undefined, recorder: Recorder | undefined): State;
  getTransitionData(state: State, event: Envelope): { transitions: Transition[] } | undefined;
  resolve(value: unknown): unknown;
  historyValue(value: unknown): History | undefined;
  resolveState(config: unknown): State;
}

/** What the compound states below one had active last. */
export interface History {
  current: unknown;
  states?: Record<string, History | undefined>;
}

export interface Transition {
  target: unknown;
  actions: unknown[];
}

export interface State {
  value: unknown;
  context: unknown;
  _event: Envelope;
  event: Event;
  history?: State | undefined;
  changed?: boolean | undefined;
  _sessionid: string | null;
  historyValue: unknown;
  activities: Record<string, unknown>;
  actions: Action[];
  /** Replaced by a new array exactly when a transition was selected. */
  configuration: StateNode[];
  transitions: Transition[];
  tags: Set<string>;
  done: boolean;
  children: Record<string, unknown>;
  readonly nextEvents: string[];
}

export interface Actor {
  id: string;
  sessionId?: string;
  parent?: unknown;
  send(event: unknown): unknown;
  stop?: (() => unknown) | undefined;
}

export interface SpawnOptions {
  id?: string;
  sync?: boolean;
  autoForward?: boolean;
}

/** The interpreter: public and private members that are read, called or replaced on an instance. */
export interface Interpreter extends Actor {
  sessionId: string;
  machine: Machine;
  status: number;
  initialized: boolean;
  children: Map<string, Actor>;
  forwardTo: Set<string>;
  _state: State | undefined;
  _outgoingQueue: [target: Actor, event: unknown][];
  _exec: Recorder;
  _nextState(event: Envelope): State;
  start(): Interpreter;
  onDone(listener: (event: Event) => void): Interpreter;
  onTransition(listener: (state: State) => void): Interpreter;
  removeChild(id: string): void;
  stopChild(id: string): void;
  sendTo(event: Envelope, to: unknown, immediate: boolean): void;
  defer(action: Action): void;
  cancel(sendId: unknown): void;
  spawn(entity: unknown, name: string, options?: SpawnOptions): Actor;
  spawnMachine(machine: Machine, options?: SpawnOptions): Actor;
  spawnBehavior(behavior: unknown, id: string): Actor;
}

export const act = {
  raise: "xstate.raise",
  send: "xstate.send",
  cancel: "xstate.cancel",
  start: "xstate.start",
  stop: "xstate.stop",
  log: "xstate.log",
} as const;

export const INVOKE = "xstate.invoke";
export const INTERNAL = "#_internal";
export const PARENT = "#_parent";
/** What `escalate` sends to the parent. */
export const ESCALATION = "xstate.error";
export const UPDATE = "xstate.update";
export const ERROR_PLATFORM = "error.platform";
export const RUNNING = 1;

export const envelope = (data: Event, origin?: string): Envelope =>
  origin === undefined
    ? { name: data.type, data, $$type: "scxml", type: "external" }
    : { name: data.type, data, $$type: "scxml", type: "external", origin };

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null;

export const isEnvelope = (value: unknown): value is Envelope => isObject(value) && value.$$type === "scxml";
