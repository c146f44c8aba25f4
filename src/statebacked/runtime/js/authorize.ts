// Asks the machine's own authorizers. Only `true` admits; a throw, another value or silence refuses, with the
// reason in the machine's log.

import { placedMessageOf } from "./json.ts";

const { setTimeout, clearTimeout } = globalThis;

export type Authorizer = (request: unknown) => unknown;

/** What both authorizers are told, as the published @statebacked/machine declares it. */
export type WriteRequest =
  | { type: "initialization"; machineInstanceName: string; context: unknown; authContext: unknown }
  | {
    type: "event";
    machineInstanceName: string;
    state: unknown;
    context: unknown;
    event: unknown;
    authContext: unknown;
  };

export interface ReadRequest {
  machineInstanceName: string;
  state: unknown;
  context: unknown;
  authContext: unknown;
}

/** The verdict, at once when the authorizer is synchronous. `tell` hears why something other than true or false came. */
export function ask(
  authorizer: Authorizer,
  request: WriteRequest | ReadRequest,
  waitMs: number,
  tell: (reason: string) => void,
): boolean | Promise<boolean> {
  try {
    const answer = authorizer(request);
    if (answer === true) return true;
    if (isThenable(answer)) return settle(answer, waitMs, tell);
    return judge(answer, tell);
  } catch (thrown) {
    tell(`threw: ${placedMessageOf(thrown)}`);
    return false;
  }
}

function judge(answer: unknown, tell: (reason: string) => void): boolean {
  if (answer === true || answer === false) return answer;
  tell(`returned a value of type ${answer === null ? "null" : typeof answer}; only true admits`);
  return false;
}

function settle(
  answer: PromiseLike<unknown>,
  waitMs: number,
  tell: (reason: string) => void,
): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      tell(`gave no answer within ${waitMs} ms`);
      resolve(false);
    }, waitMs);
    const end = (verdict: boolean): void => {
      clearTimeout(timer);
      resolve(verdict);
    };
    answer.then((value) => end(judge(value, tell)), (thrown: unknown) => {
      tell(`rejected: ${placedMessageOf(thrown)}`);
      end(false);
    });
  });
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null &&
    typeof (value as { then?: unknown }).then === "function";
}
