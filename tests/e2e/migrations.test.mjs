// The example with two versions of a membership, through the published client: MACHINE has both, FIRST and SECOND.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { errors, StateBackedClient } from "@statebacked/client";
import { buildSync } from "esbuild";
import { WebSocket } from "ws";

const { API_HOST, ORG_ID, ADMIN_TOKEN, MACHINE, FIRST, SECOND, TO_2 } = process.env;
const admin = new StateBackedClient(ADMIN_TOKEN, { apiHost: API_HOST, orgId: ORG_ID, WebSocket });
const bundle = buildSync({ entryPoints: [TO_2], bundle: true, format: "esm", write: false }).outputFiles[0].text;
const between = { fromMachineVersionId: FIRST, toMachineVersionId: SECOND };

function session(sessionId) {
  return new StateBackedClient(
    { anonymous: { orgId: ORG_ID, getSessionId: () => sessionId } },
    { apiHost: API_HOST, WebSocket },
  );
}

/** A membership of the first version, and its owner. */
async function membership() {
  const sid = randomUUID();
  const owner = session(sid);
  await owner.machineInstances.create(MACHINE, {
    slug: sid,
    context: { email: "ann@example.com" },
    machineVersionId: FIRST,
  });
  return { sid, owner };
}

test("a version that no migration leads to cannot be wished", async () => {
  const { sid } = await membership();
  await assert.rejects(
    admin.machineInstances.admin.updateDesiredVersion(MACHINE, sid, { targetMachineVersionId: SECOND }),
    (error) => error instanceof errors.ApiError && error.status === 400,
  );
});

test("a migration is uploaded as text and as gzip", async () => {
  for (const code of [{ code: bundle }, { gzippedCode: gzipSync(bundle) }]) {
    const made = await admin.machineVersionMigrations.create(MACHINE, { ...between, ...code });
    assert.match(made.machineVersionId, /^mig_/, "the types call it so");
  }
});

test("an instance is migrated before its next event, and its subscriber sees the new version", async () => {
  const { sid, owner } = await membership();
  await owner.machineInstances.sendEvent(MACHINE, sid, { event: "join" });
  const states = [];
  let wake = () => {};
  const stop = owner.machineInstances.subscribe(MACHINE, sid, (state) => {
    states.push(state.state);
    wake();
  }, (error) => assert.fail(String(error)));

  await admin.machineInstances.admin.updateDesiredVersion(MACHINE, sid, { targetMachineVersionId: SECOND });
  const before = await admin.machineInstances.admin.get(MACHINE, sid);
  assert.deepEqual([before.state, before.machineVersion.id], ["active", FIRST]);
  assert.equal(before.desiredMachineVersion.id, SECOND);

  const sent = await owner.machineInstances.sendEvent(MACHINE, sid, { event: { type: "choose", plan: "yearly" } });
  assert.deepEqual(sent.state, { member: "yearly" });
  while (states.at(-1)?.member !== "yearly") await new Promise((resolve) => (wake = resolve));
  stop();

  const after = await admin.machineInstances.admin.get(MACHINE, sid);
  assert.equal(after.machineVersion.id, SECOND);
  assert.equal(after.desiredMachineVersion, undefined);
  assert.deepEqual(after.context, { contacts: ["ann@example.com"], public: {} });
  const { transitions } = await admin.machineInstances.listTransitions(MACHINE, sid);
  assert.deepEqual(
    transitions.map((transition) => transition.event.type),
    ["xstate.init", "join", "statebacked.upgrade", "choose"],
  );
});
