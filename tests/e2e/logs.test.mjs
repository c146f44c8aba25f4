// The published client's logs, unmodified, against a real server. The machine is machines/talker.js.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { errors, StateBackedClient } from "@statebacked/client";
import { signToken } from "@statebacked/token";
import { WebSocket } from "ws";

const { API_HOST, ORG_ID, KEY_ID, SECRET_KEY, ADMIN_TOKEN, MACHINE } = process.env;
const admin = new StateBackedClient(ADMIN_TOKEN, { apiHost: API_HOST, orgId: ORG_ID, WebSocket });

/** An instance that has said "one", "two", … up to `count`; and a time before all of it. */
async function talked(count) {
  const instanceName = randomUUID();
  const before = new Date();
  const token = await signToken(
    { stateBackedKeyId: KEY_ID, stateBackedSecretKey: SECRET_KEY },
    { sub: "x" },
    { expires: { in: "1h" } },
  );
  const client = new StateBackedClient(token, { apiHost: API_HOST, WebSocket });
  await client.machineInstances.create(MACHINE, { slug: instanceName });
  for (let n = 1; n <= count; n++) {
    await client.machineInstances.sendEvent(MACHINE, instanceName, { event: { type: "say", text: `line ${n}` } });
  }
  const lines = Array.from({ length: count }, (_, n) => `line ${n + 1}`);
  return { instanceName, before, lines };
}

test("a batch can be retrieved as soon as the event is answered", async () => {
  const { instanceName, before, lines } = await talked(3);
  const { logs, maxTimestamp } = await admin.logs.retrieve(before, { machineName: MACHINE, instanceName });
  assert.deepEqual(logs.map((entry) => entry.log), lines);
  const { timestamp, machineVersionId, ...rest } = logs.at(-1);
  assert.deepEqual(rest, {
    orgId: ORG_ID,
    machineName: MACHINE,
    instanceName,
    outputType: "stdout",
    log: "line 3",
  });
  assert.match(machineVersionId, /^ver_/);
  assert.equal(maxTimestamp, timestamp);
  assert.equal(new Date(timestamp).toISOString(), timestamp);

  const of = { machineName: MACHINE, instanceName, machineVersionId };
  assert.equal((await admin.logs.retrieve(before, of)).logs.length, 3);
  const next = await admin.logs.retrieve(new Date(maxTimestamp), of);
  assert.deepEqual(next, { maxTimestamp, logs: [] });
});

test("watch yields every entry once and ends when its window has passed", async () => {
  const { instanceName, before, lines } = await talked(230);
  const to = new Date();
  while (Date.now() <= to.getTime()) await new Promise((resolve) => setTimeout(resolve, 1));
  const first = await admin.logs.retrieve(before, { machineName: MACHINE, instanceName, to });
  assert.ok(first.logs.length > 0 && first.logs.length <= 100, `${first.logs.length} in a batch`);
  assert.equal(first.maxTimestamp, first.logs.at(-1).timestamp);
  const seen = [];
  for await (const entry of admin.logs.watch(before, { machineName: MACHINE, instanceName, to })) {
    seen.push(...entry.log.split("\n"));
  }
  assert.deepEqual(seen, lines);
});

test("logs need the scope logs.read", async () => {
  const anonymous = new StateBackedClient(
    { anonymous: { orgId: ORG_ID, getSessionId: () => randomUUID() } },
    { apiHost: API_HOST, WebSocket },
  );
  await assert.rejects(anonymous.logs.retrieve(new Date()), errors.MissingScopeError);
});

after(() => setTimeout(() => process.exit(), 100).unref());
