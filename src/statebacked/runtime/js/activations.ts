// The live activations, within a budget of memory: the least recently used idle ones are forgotten.

import type { Activation } from "./activation.ts";

export class Activations {
  readonly #byNumber = new Map<number, Activation>();
  readonly #bytes = new Map<number, number>();
  readonly #bytesMax: number;
  #total = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get(a: number): Activation | undefined {
    return this.#byNumber.get(a);
  }

  /** Remember it as the one used last, with what it holds now. */
  keep(activation: Activation): void {
    const { a } = activation;
    const bytes = activation.bytes();
    this.#total += bytes - (this.#bytes.get(a) ?? 0);
    this.#bytes.set(a, bytes);
    this.#byNumber.delete(a);
    this.#byNumber.set(a, activation);
    if (this.#total > this.#bytesMax) this.#evict(activation);
  }

  close(a: number): void {
    const activation = this.#byNumber.get(a);
    if (activation === undefined) return;
    this.#byNumber.delete(a);
    this.#total -= this.#bytes.get(a) ?? 0;
    this.#bytes.delete(a);
    activation.close();
  }

  #evict(but: Activation): void {
    for (const activation of this.#byNumber.values()) {
      if (this.#total <= this.#bytesMax) return;
      if (activation !== but && activation.isIdle()) this.close(activation.a);
    }
  }
}
