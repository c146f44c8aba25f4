// What a step has for other instances, as the frame says it: heads in the header, events and contexts as sections.

import type { Computed, TimerOperation } from "./adapter.ts";
import type { OutHeader, TimerHeader } from "./frames.ts";
import type { Address } from "./instances.ts";
import { asRecord, hasType, jsonText } from "./json.ts";
import { MARK } from "./tagged.ts";

export function timerHead(timer: TimerOperation): TimerHeader {
  if (timer[0] === "cancel") return timer;
  return timer[4] === undefined ? ["set", timer[1], timer[2]] : ["set", timer[1], timer[2], timer[4]];
}

/** For the header of a step: nothing where there is nothing. */
export function outHead({ outgoing, output }: Computed): { out?: OutHeader[]; fin?: true } {
  return {
    ...(outgoing.length === 0 ? {} : { out: outgoing.map(headOf) }),
    ...(output === undefined ? {} : { fin: true }),
  };
}

function headOf(item: Computed["outgoing"][number]): OutHeader {
  switch (item.kind) {
    case "send":
      return ["send", item.to];
    case "spawn":
      return ["spawn", item.id, item.child, item.version, item.context !== undefined];
    case "unlink":
      return ["unlink", item.id];
  }
}

/** The sections that belong to `outHead`, in its order. */
export function outSections({ outgoing, output }: Computed): string[] {
  const sections: string[] = [];
  for (const item of outgoing) {
    if (item.kind === "send") sections.push(abroad(sentText(item.event)));
    else if (item.kind === "spawn" && item.context !== undefined) sections.push(contextText(item.context));
  }
  if (output !== undefined) sections.push(jsonText(output));
  return sections;
}

/** A context with a `toJSON` of its own may come out as anything; a Map or an Error is no object with members. */
function contextText(context: unknown): string {
  const text = jsonText(context);
  if (!text.startsWith("{") || text.startsWith(`{"${MARK}":`)) {
    throw new TypeError("a persistent child can be created with an object only");
  }
  return abroad(text);
}

/** What XState 5 makes of an actor as JSON means nothing to another instance. */
function abroad(text: string): string {
  if (!text.includes('"xstate$$type":1')) return text;
  throw new TypeError(
    "an actor that lives in this instance cannot be given to another one: a child has sendParent, others a reference",
  );
}

/** An event that the machine sends as data: it has to survive being stored. */
export function sentText(event: unknown): string {
  if (!hasType(event)) throw new TypeError("a machine may send only objects with a string type");
  return jsonText(asRecord(event));
}

/** The instance that sent an event, as the host says in the authContext that it made. */
export function senderOf(auth: unknown): Address | undefined {
  const sender = (auth as { stateBackedSender?: Record<string, string> } | undefined)?.stateBackedSender;
  return sender && [sender["machineName"]!, sender["machineInstanceName"]!];
}
