// XState 4: the adapter under test, and plain xstate to compare it with.

import { clock, turn } from "./clock.ts";
import { interpret, toSCXMLEvent } from "xstate";
import { xstate4 } from "js/xstate4.ts";
import { type Action, asJson, inOrder, type Json, type Plain, type Script, shown, type View } from "./run.ts";
import { takeNotes, tick } from "./trace.ts";

export const adapter = xstate4;
export const major = 4;

interface State {
  history?: State;
  value: unknown;
  context: unknown;
  tags: Set<string>;
  done: boolean;
  configuration: { id: string }[];
  nextEvents: string[];
}

interface Envelope {
  origin?: string;
}

interface SendAction {
  id?: unknown;
  to?: unknown;
  delay: number;
  _event: Envelope;
}

interface Service {
  children: Map<string, { id: string; sessionId?: string }>;
  status: number;
  scheduler: { schedule(task: () => void): void };
  spawn(entity: unknown, name: string, options: unknown): unknown;
  stopChild(id: string): void;
  sendTo(event: Envelope, to: unknown, immediate: boolean): void;
  defer(action: SendAction): void;
  cancel(id: unknown): void;
  forward(event: Envelope): void;
  update(state: State, event: Envelope): void;
  _nextState(event: Envelope): State;
  start(): void;
  stop(): void;
  send(event: unknown, payload?: object): void;
  onTransition(listener: (state: State) => void): void;
  state: State;
}

interface Machine {
  context: object;
  withContext(context: object): Machine;
  resolveState(state: unknown): State;
}

const unhandled: unknown[] = [];
globalThis.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  unhandled.push(event.reason);
});

export class PlainSide implements Plain {
  over: string | null = null;
  beforeTimer = (): void => {};
  readonly #service: Service;
  readonly #machine: Machine;

  constructor(machine: unknown, script: Script) {
    const own = machine as Machine;
    this.#machine = script.context ? own.withContext({ ...own.context, ...script.context }) : own;
    const options = { clock, devTools: false, logger: (...said: unknown[]) => console.log(...said) };
    this.#service = interpret(this.#machine as never, options as never) as unknown as Service;
    const spawn = this.#service.spawn;
    this.#service.spawn = (entity, name, options) => {
      // xstate 4 at times enters a state twice without leaving it: two services of one id, of which it forgets the first.
      if (this.#service.children.has(name)) this.over = "a service was started twice";
      return spawn.call(this.#service, entity, name, options);
    };
    heedStopped(this.#service);
    cancelNewest(this.#service, () => this.beforeTimer());
    this.#service.onTransition((state) => {
      try {
        tick();
        if (!this.#isCoherent(state)) throw new Error("incoherent");
      } catch (error) {
        // Whoever runs in circles may never let the event loop turn: it is stopped from inside.
        this.over = (error as Error).message;
        this.#service.stop();
      }
    });
  }

  start(): Promise<void> {
    return this.#attempt(() => this.#service.start());
  }

  act(action: Action): Promise<void> {
    return this.#attempt(() =>
      "send" in action ? this.#service.send(asJson(action.send)) : clock.advance(action.advance, turn)
    );
  }

  view(): View {
    const { value, context, tags, done } = this.#service.state;
    return {
      value: inOrder(value),
      context: inOrder(shown(context)),
      tags: [...tags].sort(),
      done: Boolean(done),
      notes: takeNotes(),
    };
  }

  /** Of a child that runs. */
  viewOf(id: string): { value: Json; context: Json } | null {
    const child = this.#service.children.get(id) as { state: State } | undefined;
    return child ? { value: inOrder(child.state.value), context: inOrder(shown(child.state.context)) } : null;
  }

  running(): string[] {
    return [...this.#service.children.keys()];
  }

  lose(id: string): void {
    this.#service.stopChild(id);
  }

  fail(id: string, error: Error): void {
    const type = `error.platform.${id}`;
    if (this.#service.state.nextEvents.some((handled) => handled.startsWith("error.platform"))) {
      this.#service.send({ type, data: error });
    }
  }

  stop(): void {
    try {
      this.#service.stop();
    } catch {
      // what a stop throws was not asked for
    }
  }

  async #attempt(run: () => unknown): Promise<void> {
    try {
      await run();
    } catch {
      this.over ??= "thrown";
    }
    await turn();
    if (unhandled.splice(0).length > 0) this.over ??= "thrown";
  }

  /** xstate 4 can come to a configuration that its own value does not have; it then behaves as nobody meant. */
  #isCoherent(state: State): boolean {
    const fromValue = new Set(this.#machine.resolveState(state).configuration);
    return state.configuration.length === fromValue.size &&
      state.configuration.every((node) => fromValue.has(node));
  }
}

const RUNNING = 1;

/** Here, unlike in plain xstate, a service is not heard any more once it was stopped, whatever it had sent before. */
function heedStopped(service: Service): void {
  const changes = new Map<string, number>();
  const { spawn, stopChild } = service;
  const change = (id: string) => changes.set(id, (changes.get(id) ?? 0) + 1);
  service.spawn = (entity, name, options) => {
    change(name);
    return spawn.call(service, entity, name, options);
  };
  service.stopChild = (id) => {
    change(id);
    stopChild.call(service, id);
  };
  service.send = (sent, payload) => {
    const event = toSCXMLEvent((payload ? { ...payload, type: sent } : sent) as never) as Envelope;
    const sender = senderOf(service, event);
    const then = changes.get(sender);
    service.scheduler.schedule(() => {
      if (service.status !== RUNNING || changes.get(sender) !== then) return;
      service.forward(event);
      const { configuration, context, history } = service.state;
      const next = service._nextState(event);
      // Here, unlike in plain xstate, an event that selects nothing leaves no trace.
      if (next.configuration === configuration && next.context === context) service.state.history = history;
      else service.update(next, event);
    });
  };
}

/** An event of a machine bears its session id, that of another service its id. */
function senderOf(service: Service, { origin = "" }: Envelope): string {
  for (const { id, sessionId } of service.children.values()) if (sessionId === origin) return id;
  return origin;
}

/** Here, unlike in plain xstate, cancel takes the newest that has not fired; plain xstate forgets all but the newest. */
function cancelNewest(service: Service, beforeTimer: () => void): void {
  let pending: { id: unknown; handle: number }[] = [];
  service.defer = (action) => {
    const handle = clock.setTimeout(() => {
      pending = pending.filter((timer) => timer.handle !== handle);
      if (!action.to) beforeTimer();
      if (action.to) service.sendTo(action._event, action.to, true);
      else service.send(action._event);
    }, action.delay);
    if (action.id) pending.push({ id: action.id, handle });
  };
  service.cancel = (id) => {
    const index = pending.findLastIndex((timer) => timer.id === id);
    if (index >= 0) clock.clearTimeout(pending.splice(index, 1)[0].handle);
  };
}

export { dialect4 as dialect } from "./dialect4.ts";
