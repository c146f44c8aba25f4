// The published client in Node and in headless Chromium while the server is restarted again and again, as
// tests/e2e/restarts.py does: it says `settle` on stdin after each restart, and `end` at last; each is answered by
// a line of JSON. Senders send one event after the other; subscribers must hear of the newest.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { StateBackedClient } from "@statebacked/client";
import { chromium } from "playwright-core";
import { WebSocket } from "ws";
import { reconnecting } from "../../examples/toggler/page/reconnecting-websocket.js";

const { API_HOST, ORG_ID, MACHINE } = process.env;
const SENDERS = 3;
const WATCHED = "sender-0";
const PATIENCE_MS = 60_000;

const clientOf = (sid, options) =>
  new StateBackedClient({ anonymous: { orgId: ORG_ID, getSessionId: () => sid } }, { apiHost: API_HOST, WebSocket, ...options });

/** Sends one event after the other until told to stop; `acknowledged` and `refused` are ids of events. */
class Sender {
  acknowledged = [];
  refused = [];
  count = 0;
  isStopping = false;

  constructor(number) {
    this.name = `sender-${number}`;
    this.client = clientOf(this.name);
  }

  async run() {
    await this.client.machineInstances.getOrCreate(MACHINE, this.name);
    for (let n = 0; !this.isStopping; n++) {
      const id = `${this.name}.${n}`;
      try {
        const event = { type: "increment", id };
        const { publicContext } = await this.client.machineInstances.sendEvent(MACHINE, this.name, { event });
        this.acknowledged.push(id);
        this.count = publicContext.count;
      } catch (error) {
        this.refused.push({ id, error: String(error), cause: String(error?.cause) });
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

/** Subscribers of sender-0 by name, and the newest count that each has heard. */
const heard = {};

function subscribeInNode(name, options) {
  heard[name] = 0;
  clientOf("everyone-reads", options).machineInstances.subscribe(
    MACHINE,
    WATCHED,
    ({ publicContext }) => (heard[name] = Math.max(heard[name], publicContext.count)),
    (error) => assert.fail(`${name}: ${error}`),
  );
}

const read = (path) => readFileSync(new URL(path, import.meta.url));
const FILES = {
  "/client.js": ["text/javascript", read("node_modules/@statebacked/client/browser/esm/statebacked-client.js")],
  "/wrapper.js": ["text/javascript", read("../../examples/toggler/page/reconnecting-websocket.js")],
  "/": [
    "text/html",
    `<!doctype html><link rel="icon" href="data:," /><script type="module">
import { StateBackedClient } from "./client.js";
import { reconnecting } from "./wrapper.js";
const options = { apiHost: "${API_HOST}", ...(location.hash ? { WebSocket: reconnecting(WebSocket) } : {}) };
const client = new StateBackedClient(
  { anonymous: { orgId: "${ORG_ID}", getSessionId: () => "everyone-reads" } }, options);
client.machineInstances.subscribe("${MACHINE}", "${WATCHED}",
  ({ publicContext }) => hear(publicContext.count), (error) => fail(String(error)));
</script>`,
  ],
};
const site = createServer((request, response) => {
  const [type, body] = FILES[request.url];
  response.writeHead(200, { "content-type": type }).end(body);
});
await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));

async function subscribeInBrowser(browser, name, hash) {
  heard[name] = 0;
  const page = await browser.newPage();
  page.on("pageerror", (error) => assert.fail(`${name}: ${error}`));
  await page.exposeFunction("hear", (count) => (heard[name] = Math.max(heard[name], count)));
  await page.exposeFunction("fail", (error) => assert.fail(`${name}: ${error}`));
  await page.goto(`http://127.0.0.1:${site.address().port}/${hash}`);
}

/** Waits until every subscriber has heard of an event that is sent from now on; the names of those that do not. */
async function settle(sender) {
  const until = Date.now() + PATIENCE_MS;
  const before = sender.acknowledged.length;
  const pause = () => new Promise((resolve) => setTimeout(resolve, 20));
  while (sender.acknowledged.length < before + 2 && Date.now() < until) await pause();
  const count = sender.count;
  const deaf = () => Object.keys(heard).filter((name) => heard[name] < count);
  while (deaf().length > 0 && Date.now() < until) await pause();
  return deaf();
}

const executablePath = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const senders = Array.from({ length: SENDERS }, (_, n) => new Sender(n));
const sending = senders.map((sender) => sender.run());
while (senders.some((sender) => sender.count === 0)) await new Promise((resolve) => setTimeout(resolve, 20));
for (const n of [1, 2]) {
  subscribeInNode(`node-${n}`);
  await subscribeInBrowser(browser, `page-${n}`, "");
}
subscribeInNode("node-patient", { WebSocket: reconnecting(WebSocket) });
await subscribeInBrowser(browser, "page-patient", "#patient");

const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
say({ deaf: await settle(senders[0]) });
for await (const line of createInterface({ input: process.stdin })) {
  if (line === "settle") {
    const deaf = await settle(senders[0]);
    say({ deaf, refused: senders.flatMap((sender) => sender.refused.splice(0)) });
  } else {
    for (const sender of senders) sender.isStopping = true;
    await Promise.all(sending);
    say(Object.fromEntries(senders.map(({ name, acknowledged, refused }) => [name, { acknowledged, refused }])));
    break;
  }
}
await browser.close();
process.exit(0);
