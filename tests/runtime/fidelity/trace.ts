// What machine code did, in order: actions, services, cleanups. A run of a machine takes it at each event.

let notes: string[] = [];
let calls = 0;
const CALLS_MAX = 3_000;

/** Random machines call this in guards and assigns: some run in circles for ever, in plain xstate too. */
export const tick = (): void => {
  calls += 1;
  if (calls > CALLS_MAX) throw new Error("endless");
};

/** Machines under test call this as `globalThis.note?.(…)`: deployed elsewhere they do without. */
export const note = (text: string): void => void notes.push(text);

Object.assign(globalThis, { note });

export const noted = (): number => notes.length;

export const takeNotes = (): string[] => {
  const taken = notes;
  notes = [];
  calls = 0;
  return taken;
};
