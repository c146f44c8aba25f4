// Where the errors of machine code go that comes after its step was stored: the machine's log, and no further.

const told = new Set<string>();

export const report = {
  /** Run machine code that nobody can refuse any more. */
  guard(what: string, run: () => unknown): void {
    try {
      run();
    } catch (error) {
      report.error(what, error);
    }
  },

  error(what: string, error: unknown): void {
    console.error(`${what} failed:`, error);
  },

  /** A warning about the machine, not about one instance: once a process. */
  once(text: string): void {
    if (told.has(text)) return;
    told.add(text);
    console.warn(text);
  },
};
