// The three parts of an upgrade, each in a worker of its own: a state is told as an outline by the version that it
// leaves, mapped by migrations, and made a state of the version in which it arrives. None starts or performs anything.

import type { Adapter } from "./adapter.ts";
import { publicOf } from "./compute.ts";
import { FRAME_BYTES_MAX, type Limits, type StepHeader, type Upgrade, type WorkerHeader } from "./frames.ts";
import { fromText, jsonText, messageOf, shownText } from "./json.ts";
import { migrate, type Upgrades } from "./migrate.ts";
import type { Outline } from "./outline.ts";
import type { Program } from "./program.ts";
import { utf8Length } from "./protocol.ts";
import { selectAll } from "./selectors.ts";

/** What the parts need from the worker. A migration's worker has upgrades, any other a program. */
export interface Parts {
  readonly adapter: Adapter;
  readonly limits: Limits;
  readonly program: Program | null;
  readonly upgrades: Upgrades | null;
  post(header: WorkerHeader, sections: readonly string[], bytesMax: number): boolean;
}

export function upgrade(parts: Parts, header: Upgrade, sections: readonly string[]): void {
  const { n } = header;
  try {
    const done = header.t === "leave"
      ? leave(parts, sections, n)
      : header.t === "migrate"
      ? pass(parts, sections, n)
      : arrive(parts, sections, n);
    if (!done) throw new Error("what the migration gave takes too many bytes");
  } catch (thrown) {
    parts.post({ t: "stuck", n, message: messageOf(thrown).slice(0, 10_000) }, [], FRAME_BYTES_MAX);
  }
}

function leave({ adapter, program, post }: Parts, sections: readonly string[], n: number): boolean {
  const [snapshot, timers] = sections.map(fromText);
  const outline = adapter.outline(program!.machine, snapshot, timers as [string, string][]);
  return post({ t: "outlined", n }, [jsonText(outline)], FRAME_BYTES_MAX);
}

function pass(parts: Parts, [outline, context]: readonly string[], n: number): boolean {
  const migrated = migrate(parts.upgrades!, fromText(outline!) as Outline, context!);
  checkContext(parts, migrated.context);
  return parts.post({ t: "outlined", n }, [jsonText(migrated.outline), migrated.context], FRAME_BYTES_MAX);
}

function arrive(parts: Parts, [text, contextText]: readonly string[], n: number): boolean {
  const program = parts.program!;
  const outline = fromText(text!) as Outline;
  const arrived = parts.adapter.arrive(program.machine, outline, fromText(contextText!));
  checkRestores(parts.adapter, program, arrived.snapshot, contextText!);
  checkContext(parts, contextText!);
  const context = fromText(contextText!);
  const shown = publicOf(context);
  const step: StepHeader = {
    changed: true,
    done: arrived.done,
    ctx: true,
    pub: shown !== undefined,
    ev: false,
    effects: false,
    timers: arrived.fresh.map(([sendId, delayMs]) => ["set", sendId, delayMs]),
    sends: 0,
    starts: [],
    stops: [],
    idx: selectAll(program.selectors, context, parts.limits),
  };
  const sections = [
    jsonText(arrived.value),
    jsonText(arrived.tags),
    jsonText(arrived.snapshot),
    contextText!,
  ];
  if (shown !== undefined) sections.push(shownText(shown));
  for (const [sendId] of arrived.fresh) sections.push(jsonText({ type: sendId }));
  const { kept, gone } = arrived;
  return parts.post({ t: "arrived", n, step, kept, gone }, sections, parts.limits.step_bytes_max);
}

/** A state that cannot be loaded again would be lost with the first worker. */
function checkRestores(adapter: Adapter, { machine }: Program, snapshot: unknown, context: string): void {
  const instance = adapter.instantiate(machine, "upgrade", { sent: () => {} });
  try {
    instance.restore(fromText(jsonText(snapshot)), fromText(context));
  } finally {
    instance.dispose();
  }
}

function checkContext({ limits }: Parts, context: string): void {
  const bytes = utf8Length(context);
  if (bytes > limits.context_bytes_max) {
    throw new Error(
      `the migrated context would take ${bytes} bytes of JSON; ${limits.context_bytes_max} may be`,
    );
  }
}
