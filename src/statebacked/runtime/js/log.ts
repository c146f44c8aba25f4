// What machine code says, gathered per instance and stream until the next write to the host, within bounds.

export type Stream = "stdout" | "stderr";

const LINE_CHARACTERS_MAX = 16_000 / 4; // in any script at most 16,000 bytes
const LINES_MAX = 1_000;
const CHARACTERS_MAX = 200_000;

interface Gathered {
  readonly a: number;
  readonly stream: Stream;
  readonly lines: string[];
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
  readonly #gathered = new Map<string, Gathered>();

  get isEmpty(): boolean {
    return this.#gathered.size === 0;
  }

  /** `a` 0: no instance, the module itself. A text may hold several lines. */
  add(a: number, stream: Stream, text: string): void {
    const key = `${stream}${a}`;
    let gathered = this.#gathered.get(key);
    if (gathered === undefined) {
      gathered = { a, stream, lines: [], characters: 0, dropped: 0 };
      this.#gathered.set(key, gathered);
    }
    const whole = text.endsWith("\n") ? text.slice(0, -1) : text;
    for (const line of whole.split("\n")) append(gathered, line);
  }

  /** The frames to send now; what they hold is forgotten. */
  take(): LogFrame[] {
    const frames = [...this.#gathered.values()].map(({ a, stream, lines, dropped }): LogFrame => ({
      t: "log",
      ...(a === 0 ? {} : { a }),
      stream,
      lines,
      ...(dropped === 0 ? {} : { dropped }),
    }));
    this.#gathered.clear();
    return frames;
  }
}

function append(gathered: Gathered, line: string): void {
  const kept = line.length > LINE_CHARACTERS_MAX ? `${line.slice(0, LINE_CHARACTERS_MAX - 1)}…` : line;
  if (gathered.lines.length === LINES_MAX || gathered.characters + kept.length > CHARACTERS_MAX) {
    gathered.dropped += 1;
    return;
  }
  gathered.characters += kept.length;
  gathered.lines.push(kept.toWellFormed());
}
