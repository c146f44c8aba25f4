// Random values of the kinds that a context may hold, inside of each other, from a seed.

import { Dice } from "../fidelity/dice.ts";

const ERRORS = [Error, TypeError, RangeError, SyntaxError, ReferenceError, URIError, EvalError];
const VIEWS = [
  Int8Array,
  Uint8Array,
  Uint8ClampedArray,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  BigInt64Array,
  BigUint64Array,
  (globalThis as unknown as { Float16Array: typeof Float32Array }).Float16Array,
  Float32Array,
  Float64Array,
];
const KEYS = [
  "a",
  "b",
  "public",
  "__proto__",
  "$$statebacked",
  "$$statebacked$",
  "constructor",
  "1",
  "ü",
  "",
];
const TEXTS = ["", "x", '"$$statebacked":', '{"$$statebacked":"Date"}', "\\ud800", "🐢", "Date"];

export class Values {
  constructor(private readonly dice: Dice) {}

  /** At most `depth` levels, none of which JSON changes. */
  any(depth: number): unknown {
    const { dice } = this;
    if (depth === 0 || dice.chance(0.3)) return dice.chance(0.5) ? this.#plain() : this.#leaf();
    const makers = [
      () => this.#list(depth),
      () => this.object(depth),
      () => new Map(dice.some(0, 4, () => [this.any(depth - 1), this.any(depth - 1)] as const)),
      () => new Set(this.#list(depth)),
      () => this.#error(depth),
    ];
    return dice.pick(makers)();
  }

  object(depth: number): Record<string, unknown> {
    return Object.fromEntries(
      this.dice.some(0, 4, () => [this.dice.pick(KEYS), this.any(depth - 1)] as const),
    );
  }

  #list(depth: number): unknown[] {
    return this.dice.some(0, 4, () => this.any(depth - 1));
  }

  #plain(): unknown {
    const { dice } = this;
    return dice.pick<() => unknown>([
      () => null,
      () => dice.chance(0.5),
      () => dice.below(1_000) - 500,
      () => dice.below(1_000_000) / 997,
      () => dice.pick(TEXTS),
    ])();
  }

  #leaf(): unknown {
    const { dice } = this;
    return dice.pick<() => unknown>([
      () => new Date(dice.chance(0.2) ? NaN : (dice.below(2_000_000) - 1_000_000) * 8_640_000),
      () => new URL(`https://user@example.com:${1 + dice.below(60_000)}/a%20b?q=ü#${dice.below(9)}`),
      () => new URLSearchParams({ a: dice.pick(TEXTS), b: "1 2" }),
      () => Object.assign(/a\/[b"]\n/giu, { lastIndex: dice.below(3) }),
      () => this.#view(),
      () => this.#bytes().buffer,
      () => new DataView(this.#bytes().buffer, 8, dice.below(8)),
      () => Temporal.PlainDate.from({ year: 1990 + dice.below(50), month: 2, day: 1 + dice.below(28) }),
      () => Temporal.Duration.from({ hours: dice.below(50), seconds: dice.below(50) }),
      () => new DOMException("gone", "AbortError"),
    ])();
  }

  #bytes(): Uint8Array<ArrayBuffer> {
    return Uint8Array.from({ length: 16 + 8 * this.dice.below(5) }, () => this.dice.below(256));
  }

  #view(): unknown {
    const { buffer } = this.#bytes();
    return new (this.dice.pick(VIEWS) as typeof Uint8Array)(buffer, 8, 1);
  }

  #error(depth: number): unknown {
    const { dice } = this;
    const message = dice.pick(TEXTS);
    const options = dice.chance(0.3) ? { cause: this.any(depth - 1) } : undefined;
    const error = dice.chance(0.2)
      ? new AggregateError(this.#list(depth), message, options)
      : new (dice.pick(ERRORS))(message, options);
    if (dice.chance(0.2)) error.name = "CustomError";
    return dice.chance(0.3) ? Object.assign(error, { code: "E_CODE", data: this.any(depth - 1) }) : error;
  }
}

export const randomValue = (seed: number): unknown => new Values(new Dice(seed)).any(5);
