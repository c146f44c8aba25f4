// Who may read a state: `allowRead` asked for each caller of one instance, or for one caller of many instances.

import type { Activation, Texts } from "./activation.ts";
import type { Adapter, Outlet } from "./adapter.ts";
import { ask } from "./authorize.ts";
import type { Limits, Read, ReadEach } from "./frames.ts";
import { fromText, placedMessageOf } from "./json.ts";
import type { Owner } from "./owner.ts";
import type { Program } from "./program.ts";

const { parse } = JSON;

type Verdict = boolean | Promise<boolean>;

/** What a read needs from the loop. */
export interface Judges {
  readonly adapter: Adapter;
  readonly limits: Limits;
  readonly program: Program;
  within<T>(owner: Owner, run: () => T): T;
  /** A line for the log of whoever owns the read. */
  tellOwner(owner: Owner, line: string): void;
  answerRead(n: number, ok: readonly boolean[]): void;
  fatal(thrown: unknown): never;
}

interface State {
  readonly value: unknown;
  readonly context: unknown;
}

/** Which callers may see one state: that of the activation, or the stored one with which `payloads` begin. */
export function read(
  judges: Judges,
  { n, name, base, auths }: Read,
  payloads: readonly string[],
  live: { readonly activation: Activation; readonly texts: Texts } | null,
): void {
  const activation = live?.activation ?? null;
  const counter = activation ?? { fetches: 0 };
  const owner: Owner = { activation, service: null, claim: { read: n }, counter, read: n };
  const verdicts: Verdict[] = [];
  try {
    const state = live === null
      ? judges.within(owner, () => stored(judges, name, payloads))
      : { value: parse(live.texts.value) as unknown, context: fromText(live.texts.context) };
    for (const auth of payloads.slice(base ? 2 : 0)) {
      verdicts.push(judges.within(owner, () => judge(judges, owner, name, state, auth)));
    }
  } catch (thrown) {
    judges.tellOwner(owner, `allowRead was not asked: ${placedMessageOf(thrown)}`);
    while (verdicts.length < auths) verdicts.push(false);
  }
  answer(judges, n, verdicts);
}

/** Which of several stored states one caller may see. */
export function readEach(judges: Judges, { n, names }: ReadEach, payloads: readonly string[]): void {
  const auth = payloads.at(-1)!;
  const counter = { fetches: 0 };
  const verdicts = names.map((name, at) => {
    const owner: Owner = { activation: null, service: null, claim: { read: n }, counter, read: n + at };
    try {
      return judges.within(owner, () => {
        const state = stored(judges, name, payloads.slice(2 * at, 2 * at + 2));
        return judge(judges, owner, name, state, auth);
      });
    } catch (thrown) {
      judges.tellOwner(owner, `allowRead was not asked: ${placedMessageOf(thrown)}`);
      return false;
    }
  });
  answer(judges, n, verdicts);
}

function judge(judges: Judges, owner: Owner, name: string, { value, context }: State, auth: string): Verdict {
  const request = { machineInstanceName: name, state: value, context, authContext: parse(auth) as unknown };
  const tell = (reason: string): void => judges.tellOwner(owner, `allowRead ${reason}`);
  return ask(judges.program.allowRead, request, judges.limits.authorize_ms, tell);
}

function answer(judges: Judges, n: number, verdicts: readonly Verdict[]): void {
  const all = (ok: readonly boolean[]): void => judges.answerRead(n, ok);
  if (verdicts.every((verdict) => typeof verdict === "boolean")) all(verdicts);
  else Promise.all(verdicts).then(all).catch((thrown) => judges.fatal(thrown));
}

/** State and context of an instance that is not here, by way of an instance that is then forgotten. */
function stored({ adapter, program }: Judges, name: string, payloads: readonly string[]): State {
  const silent: Outlet = { sent: () => {} };
  const instance = adapter.instantiate(program.machine, name, silent);
  instance.restore(fromText(payloads[0]!), fromText(payloads[1]!));
  const value = instance.current()?.value;
  instance.dispose();
  return { value, context: fromText(payloads[1]!) };
}
