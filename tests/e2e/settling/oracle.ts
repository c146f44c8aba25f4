// What a machine of this folder shows by a script: plain xstate in virtual time, and beside it the deadline and the
// crashes of a server, as they are promised. A service that outlives the deadline is stopped; each that was stopped
// or lost is told by its error event, right before the next event from outside.
// `deno run --config tests/runtime/fidelity/deno5.json tests/e2e/settling/oracle.ts 1` prints, for each script, its steps,
// every time in them so many times as long, and what is shown before the first and after each.

import { clock, turn } from "../../runtime/fidelity/clock.ts";
import { major, PlainSide } from "major";
import type { Plain, Script, View } from "../../runtime/fidelity/run.ts";
import { takeNotes } from "../../runtime/fidelity/trace.ts";
import scripts from "./scripts.json" with { type: "json" };

type Step = Script["steps"][number] | { settle: true } | { crash: "worker" | "server" };

const stretch = Number(Deno.args[0]);
const settleMs = 1_000 * stretch;
Object.assign(globalThis, { setTimeout: clock.setTimeout, clearTimeout: clock.clearTimeout });
const { default: machine } = await import(`./stage${major}.js`);

/** In a script, what time does is so far from all else that a server can be a little late. */
const ROOM_MS = 50 * stretch;
const LOST = "service-lost";
const STOPPED = "service-stopped";
const because = (code: string, message: string): Error => Object.assign(new Error(message), { code });

class Server {
  readonly #plain: Plain = new PlainSide(machine, { steps: [] });
  #owed: [id: string, error: Error][] = [];
  #settleBy = 0;
  #changedAt = -ROOM_MS;
  readonly #notes: string[] = [];
  #steppedAt = 0;

  constructor() {
    this.#plain.beforeTimer = () => this.#outside();
  }

  async start(): Promise<void> {
    await this.#plain.start();
    this.#settleBy = clock.now() + settleMs;
  }

  async act(step: Step): Promise<void> {
    if ("crash" in step) this.#crash(step.crash);
    else if ("settle" in step) while (this.#runs()) await this.#advance(1);
    else if ("advance" in step) await this.#advance(step.advance);
    else {
      this.#outside();
      await this.#plain.act(step);
    }
    this.#steppedAt = clock.now();
    if (this.#plain.over !== null) throw new Error(this.#plain.over);
  }

  view() {
    const view = this.#look();
    return { ...view, notes: this.#notes.splice(0), runs: this.#runs(), waits: clock.isPending(), now: clock.now() };
  }

  #look(): View {
    const view = this.#plain.view();
    this.#notes.push(...view.notes);
    return view;
  }

  #runs(): boolean {
    return this.#plain.running().length > 0;
  }

  async #advance(ms: number): Promise<void> {
    for (const until = clock.now() + ms; clock.now() < until;) {
      const before = this.#length();
      const atOnce = 1 + this.#owed.length;
      await this.#plain.act({ advance: 1 });
      this.#checkRoom(this.#length() - before, atOnce);
      if (clock.now() < this.#settleBy || !this.#runs()) continue;
      if (clock.now() - this.#changedAt < ROOM_MS) throw new Error("no room before the deadline");
      this.#end(because(STOPPED, "the service ran past the deadline and was stopped"));
      await turn();
    }
  }

  /** What time does comes one by one, but for the errors before a timer. */
  #checkRoom(heard: number, atOnce: number): void {
    if (heard === 0) return;
    const now = clock.now();
    const since = now - Math.max(this.#steppedAt, this.#changedAt);
    if (since < ROOM_MS || heard > atOnce) throw new Error(`no room at ${now} ms`);
    this.#changedAt = now;
  }

  #length(): number {
    return (this.#look().context as { log: string[] }).log.length;
  }

  #end(error: Error): void {
    for (const id of this.#plain.running()) {
      this.#plain.lose(id);
      this.#owed.push([id, error]);
    }
  }

  /** Nothing is tidied up. A server that starts again knows of each service that it is over, and no more. */
  #crash(what: "worker" | "server"): void {
    const lost = because(LOST, "the service was interrupted");
    this.#end(lost);
    takeNotes();
    if (what === "server") for (const owed of this.#owed) owed[1] = lost;
  }

  #outside(): void {
    for (const [id, error] of this.#owed.splice(0)) this.#plain.fail(id, error);
    this.#settleBy = clock.now() + settleMs;
  }
}

const stretched = (key: string, value: unknown): unknown =>
  ["ms", "every", "advance"].includes(key) ? Number(value) * stretch : value;

const played: Record<string, unknown> = {};
for (const [name, steps] of Object.entries(JSON.parse(JSON.stringify(scripts), stretched) as Record<string, Step[]>)) {
  clock.reset();
  takeNotes();
  const server = new Server();
  await server.start();
  const shown = [server.view()];
  for (const step of steps) {
    await server.act(step);
    shown.push(server.view());
  }
  played[name] = { steps, shown };
}
console.log(JSON.stringify(played));
Deno.exit();
