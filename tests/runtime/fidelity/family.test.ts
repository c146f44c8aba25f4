// Parent and child by way of persistent instances: the states of plain xstate, where the child is ephemeral.

import "./clock.ts";
import { deepStrictEqual as equal, ok } from "node:assert";
import * as machines from "family";
import { PlainSide } from "major";
import { clock, turn } from "./clock.ts";
import { Dice } from "./dice.ts";
import { Family } from "./family.ts";
import type { Action, Script, View } from "./run.ts";
import { takeNotes } from "./trace.ts";

const send = (type: string): Action => ({ send: { type } });
const wait = (advance: number): Action => ({ advance });

const scripts: Record<string, Action[]> = {
  "a child is invoked, spoken with and done": [
    ..."GO PING PING".split(" ").map(send),
    wait(4),
    wait(3),
    wait(20),
    send("WORK"),
    send("PING"),
    wait(39),
    wait(2),
    send("PING"),
    send("GO"),
    send("WORK"),
    wait(50),
    wait(1_000),
  ],
  "a child is left, and entered again": [
    ..."GO PING STOP PING GO PING AGAIN PING LATER".split(" ").map(send),
    wait(20),
    send("AGAIN"),
    wait(50),
    ..."WORK PING".split(" ").map(send),
    wait(41),
    wait(1_000),
  ],
  "delayed sends go both ways, or are cancelled": [
    ..."GO SOON SOON NEVER".split(" ").map(send),
    wait(9),
    wait(2),
    ..."LATER SOON".split(" ").map(send),
    wait(12),
    ..."FORGET LATER FORGET".split(" ").map(send),
    wait(100),
  ],
  "a spawned child lives beside an invoked one, until it is stopped": [
    ..."SPAWN ASK GO ASK PING BRIEF".split(" ").map(send),
    wait(30),
    ..."ASK FIRE STOP SPAWN ASK".split(" ").map(send),
    wait(30),
    ..."FIRE CHILD ASK".split(" ").map(send),
  ],
};

for (const [name, steps] of Object.entries(scripts)) {
  for (const drops of [false, true]) {
    Deno.test(`${name} (${drops ? "restored" : "kept"})`, async () => {
      equal(await compare({ steps }, drops), steps.length + 1);
    });
  }
}

const only = Deno.env.get("FIDELITY_SEED");
const count = Number(Deno.env.get("FIDELITY_SEEDS") ?? 200);
const seeds = only === undefined ? Array.from({ length: count }, (_, seed) => seed) : [Number(only)];

Deno.test("whatever a parent is told, it and its children are the same", async () => {
  let compared = 0;
  for (const seed of seeds) {
    try {
      compared += await compare({ steps: randomSteps(new Dice(seed)) }, seed % 2 === 0);
    } catch (error) {
      throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
  ok(only !== undefined || compared > 15 * seeds.length, `only ${compared} states were compared`);
});

/** An id is given to one child at a time: two of them are not the same in plain xstate. */
function randomSteps(dice: Dice): Action[] {
  const always = "GO GO STOP AGAIN PING PING WORK SOON NEVER LATER FORGET BRIEF".split(" ");
  let hasHelper = false;
  return dice.some(10, 40, () => {
    if (dice.chance(0.35)) return wait(dice.pick([1, 3, 7, 12, 23, 60]));
    const type = dice.pick([...always, ...(hasHelper ? ["ASK", "FIRE"] : ["SPAWN", "CHILD"])]);
    if (["SPAWN", "CHILD", "FIRE"].includes(type)) hasHelper = type !== "FIRE";
    return send(type);
  });
}

/** How many states were the same: a script ends early where plain xstate throws. */
async function compare(script: Script, drops: boolean): Promise<number> {
  const expected = await plain(script);
  const compared = expected.length;
  clock.reset();
  const family = new Family(machines.inHosts(), script, drops);
  await family.start();
  const check = (at: string) => {
    const { of, kid, helper, notes } = expected.shift()!;
    const view = family.view()!;
    equal({ of: { ...view, notes: [] }, notes: view.notes.sort() }, { of, notes }, at);
    equal(shown(family.view("kid")), kid, `${at}: kid`);
    equal(shown(family.view("helper")), helper, `${at}: helper`);
  };
  check("creation");
  for (const [index, step] of script.steps.slice(0, compared - 1).entries()) {
    await family.act(step);
    check(JSON.stringify(script.steps.slice(0, index + 1)));
  }
  equal(family.faults, []);
  if (drops) ok(family.restores > compared / 2, `${family.restores} restores`);
  return compared;
}

interface Seen {
  of: View;
  kid: unknown;
  helper: unknown;
  notes: string[];
}

async function plain(script: Script): Promise<Seen[]> {
  clock.reset();
  takeNotes();
  const side = new PlainSide(machines.ephemeral(), script);
  const seen: Seen[] = [];
  await side.start();
  for (const step of [null, ...script.steps]) {
    if (step) await side.act(step);
    if (side.over !== null) break;
    const view = side.view();
    seen.push({
      of: { ...view, notes: [] },
      kid: side.viewOf("kid"),
      helper: side.viewOf("helper"),
      notes: view.notes.sort(),
    });
  }
  side.stop();
  await turn();
  takeNotes();
  return seen;
}

const shown = (view: View | null): unknown => view && { value: view.value, context: view.context };
