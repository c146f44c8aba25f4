// What machine code says, gathered until the next write to the host: in order, and within bounds for each instance
// and stream.

import { readable } from "./places.ts";

export type Stream = "stdout" | "stderr";

const LINE_CHARACTERS_MAX = 16_000 / 4; // in any script at most 16,000 bytes
const LINES_MAX = 1_000;
const CHARACTERS_MAX = 200_000;

/** Neighbouring lines of one speaker and stream. */
interface Gathered {
  readonly a: number;
  readonly stream: Stream;
  readonly lines: string[];
}

/** What a speaker has said to one stream since the last write. */
interface Volume {
  lines: number;
  characters: number;
  dropped: number;
}

export interface LogFrame {
  readonly t: "log";
  readonly a?: number;
  readonly stream: Stream;
  readonly lines: string[];
  readonly dropped?: number;
}

export class Log {
  #gathered: Gathered[] = []; // in the order in which they were said
  readonly #volumes = new Map<string, Volume>();

  get isEmpty(): boolean {
    return this.#gathered.length === 0;
  }

  /** `a` 0: no instance, the module itself. A text may hold several lines. */
  add(a: number, stream: Stream, text: string): void {
    const key = `${stream}${a}`;
    let volume = this.#volumes.get(key);
    if (volume === undefined) this.#volumes.set(key, volume = { lines: 0, characters: 0, dropped: 0 });
    const whole = text.endsWith("\n") ? text.slice(0, -1) : text;
    for (const line of readable(whole).split("\n")) this.#append(a, stream, volume, line);
  }

  /** The frames to send now; what they hold is forgotten. */
  take(): LogFrame[] {
    const last = new Map(this.#gathered.map((gathered) => [`${gathered.stream}${gathered.a}`, gathered]));
    const frames = this.#gathered.map((gathered): LogFrame => {
      const { a, stream, lines } = gathered;
      const key = `${stream}${a}`;
      const dropped = last.get(key) === gathered ? this.#volumes.get(key)!.dropped : 0;
      return {
        t: "log",
        ...(a === 0 ? {} : { a }),
        stream,
        lines,
        ...(dropped === 0 ? {} : { dropped }),
      };
    });
    this.#gathered = [];
    this.#volumes.clear();
    return frames;
  }

  #append(a: number, stream: Stream, volume: Volume, line: string): void {
    const kept = line.length > LINE_CHARACTERS_MAX ? `${line.slice(0, LINE_CHARACTERS_MAX - 1)}…` : line;
    if (volume.lines === LINES_MAX || volume.characters + kept.length > CHARACTERS_MAX) {
      volume.dropped += 1;
      return;
    }
    volume.lines += 1;
    volume.characters += kept.length;
    let gathered = this.#gathered.at(-1);
    if (gathered === undefined || gathered.a !== a || gathered.stream !== stream) {
      this.#gathered.push(gathered = { a, stream, lines: [] });
    }
    gathered.lines.push(kept.toWellFormed());
  }
}
