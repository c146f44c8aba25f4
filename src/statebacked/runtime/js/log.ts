// What machine code says, gathered until the next write to the host: in order, and within bounds of a tenth of a second,
// for each instance and stream, and for all together. The lines that were dropped are told when it is over.

import { readable } from "./places.ts";

export type Stream = "stdout" | "stderr";

const LINE_CHARACTERS_MAX = 16_000 / 4; // in any script at most 16,000 bytes
const WINDOW_MS = 100;
const LINES_MAX = 1_000;
const CHARACTERS_MAX = 200_000;
const ALL_LINES_MAX = 2_000;
const ALL_CHARACTERS_MAX = 800_000;

/** Neighbouring lines of one speaker and stream. */
interface Gathered {
  readonly a: number;
  readonly stream: Stream;
  readonly lines: string[];
}

/** What a speaker has said to one stream in this window. */
interface Volume {
  readonly a: number;
  readonly stream: Stream;
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
  readonly #now: () => number;
  #begunAt: number;
  #lines = 0;
  #characters = 0;
  #isDropping = false;

  /** `now` counts milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
    this.#begunAt = now();
  }

  get isEmpty(): boolean {
    return this.#gathered.length === 0 && !(this.#isDropping && this.#isOver());
  }

  /** Whether lines were dropped that nobody was told of: there is something to take when the window is over. */
  get isDropping(): boolean {
    return this.#isDropping;
  }

  /** `a` 0: no instance, the module itself. A text may hold several lines. */
  add(a: number, stream: Stream, text: string): void {
    const key = `${stream}${a}`;
    let volume = this.#volumes.get(key);
    if (volume === undefined) {
      this.#volumes.set(key, volume = { a, stream, lines: 0, characters: 0, dropped: 0 });
    }
    const whole = readable(text.endsWith("\n") ? text.slice(0, -1) : text);
    for (let at = 0; at <= whole.length;) {
      const end = whole.indexOf("\n", at);
      const stop = end < 0 ? whole.length : end;
      this.#append(a, stream, volume, whole.slice(at, stop));
      at = stop + 1;
    }
  }

  /** The frames to send now; what they hold is forgotten. */
  take(): LogFrame[] {
    const frames: LogFrame[] = this.#gathered.map(({ a, stream, lines }) => frame(a, stream, lines, 0));
    if (this.#isOver()) {
      for (const { a, stream, dropped } of this.#volumes.values()) {
        if (dropped > 0) frames.push(frame(a, stream, [], dropped));
      }
      this.#volumes.clear();
      this.#begunAt = this.#now();
      this.#lines = this.#characters = 0;
      this.#isDropping = false;
    }
    this.#gathered = [];
    return frames;
  }

  #isOver(): boolean {
    const passed = this.#now() - this.#begunAt;
    return passed >= WINDOW_MS || passed < 0; // a clock may be set back
  }

  #append(a: number, stream: Stream, volume: Volume, line: string): void {
    const kept = line.length > LINE_CHARACTERS_MAX ? `${line.slice(0, LINE_CHARACTERS_MAX - 1)}…` : line;
    const isOver = volume.lines >= LINES_MAX || volume.characters + kept.length > CHARACTERS_MAX;
    if (isOver || this.#lines >= ALL_LINES_MAX || this.#characters + kept.length > ALL_CHARACTERS_MAX) {
      volume.dropped += 1;
      this.#isDropping = true;
      return;
    }
    volume.lines += 1;
    volume.characters += kept.length;
    this.#lines += 1;
    this.#characters += kept.length;
    let gathered = this.#gathered.at(-1);
    if (gathered === undefined || gathered.a !== a || gathered.stream !== stream) {
      this.#gathered.push(gathered = { a, stream, lines: [] });
    }
    gathered.lines.push(kept.toWellFormed());
  }
}

function frame(a: number, stream: Stream, lines: string[], dropped: number): LogFrame {
  return { t: "log", ...(a === 0 ? {} : { a }), stream, lines, ...(dropped === 0 ? {} : { dropped }) };
}
