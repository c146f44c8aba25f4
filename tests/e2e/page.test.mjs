// The example page, and the published client inside it, in headless Chromium. PAGE_URL is what `statebacked dev` serves.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const { PAGE_URL, MACHINE } = process.env;
const executablePath = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);
assert.ok(executablePath, "Chromium is needed; run: sudo apt-get install chromium");

let browser;
before(async () => {
  // --no-sandbox: a test may run as root; the page is our own.
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
});
after(() => browser?.close());

/** A new visitor's page, ready to toggle. */
async function visit(context, address = PAGE_URL) {
  const page = await context.newPage();
  page.on("pageerror", (error) => assert.fail(error));
  page.on("response", (response) => {
    if (new URL(response.url()).host === new URL(PAGE_URL).host) assert.ok(response.status() < 400, response.url());
  });
  await page.goto(address);
  await page.waitForSelector("#toggle:not([disabled])");
  return page;
}

const counts = (page, count) =>
  page.waitForFunction((wanted) => document.getElementById("count").textContent === wanted, String(count));

test("the page toggles, and a second window of the session sees it pushed", async () => {
  const context = await browser.newContext();
  const first = await visit(context);
  assert.equal(await first.textContent("#state"), "off");
  await first.click("#toggle");
  await counts(first, 1);
  assert.equal(await first.textContent("#state"), "on");

  const share = await first.getAttribute("#share", "href");
  const second = await visit(context, new URL(share, PAGE_URL).href);
  await counts(second, 1);
  await second.click("#toggle");
  await counts(first, 2);
  assert.equal(await first.textContent("#state"), "off");
  assert.equal(await first.textContent("#problem"), "");
  await context.close();
});

test("a session goes on after a reload", async () => {
  const context = await browser.newContext();
  const page = await visit(context);
  await page.click("#toggle");
  await counts(page, 1);
  await page.reload();
  await counts(page, 1);
  await context.close();
});

test("another visitor's session is refused in words", async () => {
  const context = await browser.newContext();
  const mine = await visit(context);
  const session = await mine.evaluate(() => sessionStorage.getItem("session"));
  const refusal = await mine.evaluate(async ([machine, instance]) => {
    const { StateBackedClient, errors } = await import("@statebacked/client");
    const { orgId, apiHost } = await (await fetch("./config.json")).json();
    const stranger = new StateBackedClient({ anonymous: { orgId, getSessionId: () => "stranger" } }, { apiHost });
    const outcomes = [];
    for (const call of [
      () => stranger.machineInstances.get(machine, instance),
      () => stranger.machineInstances.sendEvent(machine, instance, { event: "toggle" }),
      () => new Promise((_, reject) => stranger.machineInstances.subscribe(machine, instance, () => {}, reject)),
    ]) {
      outcomes.push(
        await call().then(
          () => "admitted",
          (error) => error instanceof errors.RejectedByMachineAuthorizerError && error.code,
        ),
      );
    }
    return outcomes;
  }, ["example-machine", session]);
  assert.deepEqual(refusal, Array(3).fill("rejected-by-machine-authorizer"));
  await context.close();
});

test("in the browser: create, send both kinds of event, subscribe to others' events and timers, act, wait for years", async () => {
  const context = await browser.newContext();
  const page = await visit(context);
  const seen = await page.evaluate(async (machine) => {
    const { StateBackedClient } = await import("@statebacked/client");
    const { orgId, apiHost } = await (await fetch("./config.json")).json();
    const name = crypto.randomUUID();
    const client = () =>
      new StateBackedClient({ anonymous: { orgId, getSessionId: () => name } }, { apiHost });
    const [mine, other] = [client(), client()];
    const result = {};

    const created = await mine.machineInstances.getOrCreate(machine, name, { context: { public: { count: 5 } } });
    result.created = [created.state, created.publicContext];

    let states = [];
    let wake = () => {};
    const until = async (claim) => {
      while (!states.some(claim)) await new Promise((resolve) => (wake = resolve));
    };
    const unsubscribe = mine.machineInstances.subscribe(machine, name, (state) => {
      states.push(state);
      wake();
    });
    await until((s) => s.publicContext.count === 5);
    const text = await other.machineInstances.sendEvent(machine, name, { event: "increment" });
    const object = await other.machineInstances.sendEvent(machine, name, { event: { type: "increment", by: 4 } });
    result.sent = [text.publicContext.count, object.publicContext.count];
    await until((s) => s.publicContext.count === 10);
    await other.machineInstances.sendEvent(machine, name, { event: "ring" });
    await until((s) => s.publicContext.rang === 1);
    result.pushed = true;

    const actor = await mine.machineInstances.getActor(machine, name);
    const acted = new Promise((resolve) => actor.subscribe((s) => s.context.public.count === 12 && resolve(true)));
    actor.send({ type: "increment", by: 2 });
    result.acted = [actor.getSnapshot().value, await acted];

    unsubscribe();
    states = [];
    const far = await other.machineInstances.sendEvent(machine, name, { event: "far" });
    const later = await mine.machineInstances.get(machine, name);
    result.far = [far.state, later.state, later.ts === far.ts, states.length];
    return result;
  }, MACHINE);
  assert.deepEqual(seen, {
    created: ["counting", { count: 5, rang: 0 }],
    sent: [6, 10],
    pushed: true,
    acted: ["counting", true],
    far: ["far", "far", true, 0],
  });
  await context.close();
});
