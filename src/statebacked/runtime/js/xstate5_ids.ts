// The ids of actors that the machine gives none: counted for each instance, and the count is stored, so that an id is
// never given twice, be its actor over and its worker gone.

import type { Scope5 } from "./xstate5_types.ts";

const OF_XSTATE = /^x:(\d{1,15})$/;

export class Ids {
  /** The number of the next one; 0 is the instance itself. */
  next = 1;

  /** Take over the ids of a system, before any user code runs in it. XState counts them for the whole process. */
  install(scope: Scope5): void {
    scope.sessionId = scope.self.sessionId = "x:0";
    scope.self.system._bookId = () => `x:${this.next++}`;
  }

  /** An id that a state of old holds: such a state has no count. */
  saw(id: string): void {
    const number = OF_XSTATE.exec(id)?.[1];
    if (number !== undefined) this.next = Math.max(this.next, Number(number) + 1);
  }
}
