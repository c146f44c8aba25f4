// Parent and persistent children, each in a host of its own, and between them what the server does: a child is made by
// the parent's commit, messages come in order and once, the end of a child reaches the parent that still has it.

import { adapter } from "major";
import type { Computed } from "js/adapter.ts";
import type { Address, Target } from "js/instances.ts";
import { clock, turn } from "./clock.ts";
import { Host, type Relay } from "./host.ts";
import { type Action, asJson, type Script, type View } from "./run.ts";

interface Life {
  readonly host: Host;
  readonly address: Address;
  readonly children: Map<string, Link>;
  readonly parent: { readonly life: Life; readonly id: string; readonly run: number } | null;
}

interface Link {
  readonly address: Address;
  readonly run: number;
}

export class Family implements Relay {
  readonly #lives = new Map<string, Life>();
  readonly #mail: (() => void)[] = [];
  readonly #root: Life;

  constructor(
    private readonly machines: Record<string, unknown>,
    script: Script,
    private readonly drops: boolean,
  ) {
    this.#root = this.#life(["parent", "one"], script, null);
  }

  async start(): Promise<void> {
    await this.#root.host.start();
    await this.#quiet();
  }

  async act(action: Action): Promise<void> {
    if ("send" in action) {
      await this.#root.host.act(action);
      await this.#quiet();
    } else await clock.advance(action.advance, () => this.#quiet());
  }

  /** Of the parent, and of its child under that id. */
  view(id?: string): View | null {
    if (id === undefined) return this.#root.host.view();
    const link = this.#root.children.get(id);
    return link === undefined ? null : this.#at(link.address).host.view();
  }

  get faults(): string[] {
    return [...this.#lives.values()].flatMap(({ host }) => host.faults);
  }

  get restores(): number {
    return [...this.#lives.values()].reduce((sum, { host }) => sum + host.drops, 0);
  }

  committed(from: Host, { outgoing, done, output }: Computed, seq: number): void {
    const life = this.#of(from);
    for (const item of outgoing) {
      if (item.kind === "send") this.send(from, item.to, item.event);
      else if (item.kind === "unlink") life.children.delete(item.id);
      else {
        life.children.set(item.id, { address: item.child, run: seq });
        const context = asJson(item.context ?? null) as Script["context"];
        this.#mail.push(() =>
          void this.#life(item.child, { ...(context && { context }), steps: [] }, {
            life,
            id: item.id,
            run: seq,
          }).host.start()
        );
      }
    }
    const { parent } = life;
    if (!done || parent === null) return;
    this.#mail.push(() => {
      if (!this.#isHeard(parent)) return;
      parent.life.host.childDone(parent.id, asJson(output ?? null));
      parent.life.children.delete(parent.id);
    });
  }

  send(from: Host, to: Target, event: unknown): void {
    const { parent, address } = this.#of(from);
    if (to !== null) this.#mail.push(() => this.#at(to).host.message(event, address));
    else if (parent !== null) {
      this.#mail.push(() => {
        if (this.#isHeard(parent)) parent.life.host.message(event, address);
      });
    }
  }

  #isHeard({ life, id, run }: NonNullable<Life["parent"]>): boolean {
    return life.children.get(id)?.run === run;
  }

  #life(address: Address, script: Script, parent: Life["parent"]): Life {
    const host = new Host(adapter, this.machines[address[0]], script, { drops: this.drops, relay: this });
    const life = { host, address, children: new Map<string, Link>(), parent };
    this.#lives.set(address.join("/"), life);
    return life;
  }

  #of(host: Host): Life {
    return [...this.#lives.values()].find((life) => life.host === host)!;
  }

  #at(address: Address): Life {
    const life = this.#lives.get(address.join("/"));
    if (life === undefined) throw new Error(`there is no ${address.join("/")}`);
    return life;
  }

  async #quiet(): Promise<void> {
    do {
      this.#mail.shift()?.();
      await turn();
      for (const { host } of this.#lives.values()) await host.settle();
    } while (this.#mail.length > 0);
  }
}
