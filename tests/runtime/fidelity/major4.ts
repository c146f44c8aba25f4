// XState 4: the adapter under test, and plain xstate to compare it with.

import { clock, turn } from "./clock.ts";
import { interpret } from "xstate";
import { xstate4 } from "js/xstate4.ts";
import { type Action, asJson, inOrder, type Script, type Side, type View } from "./run.ts";
import { takeNotes, tick } from "./trace.ts";

export const adapter = xstate4;
export const major = 4;

interface State {
  value: unknown;
  context: unknown;
  tags: Set<string>;
  done: boolean;
  configuration: { id: string }[];
}

interface Service {
  children: Map<string, unknown>;
  spawn(entity: unknown, name: string, options: unknown): unknown;
  start(): void;
  stop(): void;
  send(event: unknown): void;
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

export class PlainSide implements Side {
  over: string | null = null;
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
      context: inOrder(asJson(context)),
      tags: [...tags].sort(),
      done: Boolean(done),
      notes: takeNotes(),
    };
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

export { dialect4 as dialect } from "./dialect4.ts";
