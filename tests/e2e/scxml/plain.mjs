// The public SCXML tests, converted with xstate/lib/scxml.js, in one live interpreter of plain xstate 4 in virtual time.
// `node scxml/plain.mjs` prints each as JSON: its module, what is sent when, what plain xstate shows before and after,
// and, where plain xstate does not do what the test expects, why. `--fails` prints only the latter.

import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(import.meta.url);
const { interpret } = require("xstate4");
const { toMachine } = require("xstate4/lib/scxml.js");
const { xml2js } = require("xml-js");
const TESTS = join(import.meta.dirname, "../node_modules/@scion-scxml/test-framework/test");
const CONVERTER = readFileSync(require.resolve("xstate4/lib/scxml.js"), "utf8").replace(/^\/\/# source.*$/m, "");
const OPTIONS = { delimiter: "$" };
const FIRINGS_MAX = 100;

console.warn = console.error = () => {};

/** Time that passes when it is told to. */
class Clock {
  now = 0;
  #timers = new Map();
  #last = 0;

  setTimeout = (run, ms) => {
    this.#timers.set(++this.#last, { due: this.now + (Number(ms) || 0), run });
    return this.#last;
  };

  clearTimeout = (id) => void this.#timers.delete(id);

  get nextDue() {
    return Math.min(...[...this.#timers.values()].map(({ due }) => due));
  }

  advance(until) {
    while (this.nextDue <= until) {
      const [id, { due, run }] = [...this.#timers].find(([, { due }]) => due === this.nextDue);
      this.#timers.delete(id);
      this.now = due;
      run();
    }
    this.now = until;
  }
}

/** What stands in for the test on a server: the same converter, given the XML as xml-js reads it. */
const moduleOf = (xml) => `import * as xstate from "xstate";
import * as utils from "xstate/lib/utils";
import * as actions from "xstate/lib/actions";
const xml = ${JSON.stringify(xml2js(xml))};
const parts = { "xml-js": { xml2js: () => xml }, "./index": xstate, "./utils": utils, "./actions": actions };
const converter = {};
((exports, require) => {
${CONVERTER}
})(converter, (name) => parts[name]);
export default converter.toMachine("", ${JSON.stringify(OPTIONS)});
export const allowRead = () => true;
export const allowWrite = () => true;
`;

class Run {
  #clock = new Clock();

  constructor(machine) {
    // A server creates a machine without a context with an empty one (docs/guide/xstate.md).
    this.machine = machine.context === undefined ? machine.withContext({}) : machine;
    this.service = interpret(this.machine, { clock: this.#clock, logger: () => {}, devTools: false });
  }

  start() {
    this.service.start();
    this.#settle();
    return this.view();
  }

  send(name) {
    this.service.send(name);
    this.#settle();
    return this.view();
  }

  /** Let so much time pass; null: until nothing would happen any more. */
  wait(ms) {
    const begun = this.#clock.now;
    if (ms !== null) this.#clock.advance(begun + ms);
    else this.#exhaust(() => true);
    return { ms: this.#clock.now - begun, ...this.view() };
  }

  /** `waits`: how many milliseconds until time alone does something; null: never. */
  view() {
    const { value, context, done } = this.service.state;
    const { nextDue, now } = this.#clock;
    const waits = Number.isFinite(nextDue) ? nextDue - now : null;
    return { value, context: JSON.parse(JSON.stringify(context ?? null)), done: Boolean(done), waits };
  }

  /** The ids of the active states that have no others in them. */
  configuration() {
    const active = this.machine.getStateNodes(this.service.state);
    return active.filter(({ type }) => type === "atomic" || type === "final").map(({ key }) => key).sort();
  }

  /** A server answers when no child runs. */
  #settle() {
    this.#exhaust(() => this.service.children.size > 0);
  }

  #exhaust(goesOn) {
    for (let firings = 0; goesOn() && Number.isFinite(this.#clock.nextDue); firings += 1) {
      if (firings === FIRINGS_MAX) throw new Error("it goes on for ever");
      this.#clock.advance(this.#clock.nextDue);
    }
  }
}

/** What a W3C test expects is that it ends in `pass`; the others say which states are active after each event. */
function differenceOf(group, script, configurations) {
  if (group === "w3c-ecma") {
    const [last] = configurations.slice(-1);
    return last.join() === "pass" ? null : `ends in [${last}]`;
  }
  const expected = [script.initialConfiguration, ...script.events.map((step) => step.nextConfiguration)];
  const index = expected.findIndex((ids, at) => ids.toSorted().join() !== configurations[at].join());
  if (index < 0) return null;
  return `after ${index} events in [${configurations[index]}], not in [${expected[index].toSorted()}]`;
}

function played(machine, group, script) {
  const run = new Run(machine);
  const start = run.start();
  const configurations = [run.configuration()];
  const steps = script.events.map(({ after = 0, event }) => {
    const waited = run.wait(after);
    const name = event.name || "known.to.nobody"; // a server refuses an empty name; two scripts only wait by one
    const shown = run.send(name);
    configurations.push(run.configuration());
    return { waited, send: name, shown };
  });
  const waited = run.wait(null);
  const [ended] = group === "w3c-ecma" ? [run.configuration()] : configurations.slice(-1);
  steps.push({ waited, send: "known.to.nobody", shown: run.send("known.to.nobody") });
  return { start, steps, fails: differenceOf(group, script, [...configurations.slice(0, -1), ended]) };
}

function tested(group, name) {
  const file = join(TESTS, group, name);
  const script = JSON.parse(readFileSync(`${file}.json`, "utf8"));
  const xml = readFileSync(`${file}.scxml`, "utf8");
  const found = { group, name: name.replace(".txml", ""), code: null, start: null, steps: [], fails: null };
  let machine;
  try {
    machine = toMachine(xml, OPTIONS);
  } catch (error) {
    return { ...found, fails: `is not converted: ${textOf(error)}` };
  }
  try {
    return { ...found, ...played(machine, group, script), code: moduleOf(xml) };
  } catch (error) {
    return { ...found, fails: `throws: ${textOf(error)}` };
  }
}

const textOf = (error) => String(error.message).replaceAll(/\s+/g, " ").slice(0, 160);

const names = (folder) => readdirSync(folder).filter((name) => !name.startsWith(".")).sort();
const tests = names(TESTS).flatMap((group) => {
  const files = names(join(TESTS, group));
  const scripts = files.filter((file) => file.endsWith(".json")).map((file) => file.slice(0, -".json".length));
  return scripts.filter((name) => files.includes(`${name}.scxml`)).map((name) => tested(group, name));
});

if (process.argv.includes("--fails")) {
  const fails = tests.filter((test) => test.fails).map((test) => [`${test.group}/${test.name}`, test.fails]);
  console.log(JSON.stringify(Object.fromEntries(fails), null, 1));
} else {
  console.log(JSON.stringify(tests));
}
