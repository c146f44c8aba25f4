// What guards, assigns and delays of XState 4 see as `meta.state`, besides what decides where the machine is: how it
// got there. It is stored, and a live state is made to show exactly what a restored one does.

import { fromText, jsonText } from "./json.ts";
import { type Envelope, envelope, type Event, type Machine, type State, UPDATE } from "./xstate4_shape.ts";

/** Nothing of it is stored for a state that was never left. */
export interface Told {
  /** The event that led to the state. */
  readonly event?: Event;
  /** The value of the state before it. */
  readonly from?: unknown;
  readonly changed?: boolean;
}

const INIT = "xstate.init";
const EVENT_CHARACTERS_MAX = 100_000;

/** `isStored`: the event came as JSON. */
export function toldBy(state: State, isStored: boolean): Told {
  const { data, name } = state._event;
  const from = state.history?.value;
  return {
    ...(name === INIT ? {} : { event: isStored ? data : storable(data) }),
    ...(from === undefined ? {} : { from }),
    ...(state.changed === undefined ? {} : { changed: state.changed }),
  };
}

/**
 * An event of a service may be anything; of what has no JSON, or a very long one, the type is kept, and of the state of
 * a child (`sync`) whose it is.
 */
function storable(event: Event): Event {
  if (event.type === UPDATE) return { type: UPDATE, id: event.id };
  try {
    const text = jsonText(event);
    if (text.length <= EVENT_CHARACTERS_MAX) return fromText(text) as Event;
  } catch {
    // A cycle, or a bigint.
  }
  return { type: event.type };
}

/** Make a state show what is kept of how it came to be, and no more. */
export function show(machine: Machine, state: State, told: Told, isAlive: (id: string) => boolean): void {
  const cause: Envelope = envelope(told.event ?? { type: INIT });
  state._event = cause;
  state.event = cause.data;
  state.changed = told.changed;
  state.actions = [];
  state.transitions = [];
  state.configuration = [...state.configuration].sort((a, b) => a.order - b.order);
  state.children = Object.fromEntries(Object.entries(state.children).filter(([id]) => isAlive(id)));
  let before: State | undefined;
  const resolve = (): State =>
    before ??= machine.resolveState({
      value: told.from,
      context: undefined,
      _event: envelope({ type: INIT }),
      _sessionid: null,
      children: {},
      configuration: [],
      transitions: [],
      events: [],
      actions: [],
      activities: {},
      meta: {},
      tags: [],
    });
  // XState takes the property away when it computes the next state.
  Object.defineProperty(state, "history", {
    configurable: true,
    enumerable: true,
    ...(told.from === undefined ? { value: undefined, writable: true } : { get: resolve }),
  });
}
