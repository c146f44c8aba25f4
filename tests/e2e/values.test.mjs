// The published client, unmodified: a public context that holds a Date and a Set comes as plain JSON.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { StateBackedClient } from "@statebacked/client";
import { WebSocket } from "ws";

const { API_HOST, ORG_ID, MACHINE } = process.env;

test("answers, reads and pushes have no tags", async () => {
  const name = randomUUID();
  const client = new StateBackedClient(
    { anonymous: { orgId: ORG_ID, getSessionId: () => name } },
    { apiHost: API_HOST, WebSocket },
  );
  const created = await client.machineInstances.getOrCreate(MACHINE, name);
  assert.deepEqual(created.publicContext, { since: "1970-01-01T00:00:00.000Z" });
  const expected = { since: "2024-02-29T00:00:00.000Z", tags: ["new"] };
  let unsubscribe;
  const pushed = new Promise((resolve, reject) => {
    unsubscribe = client.machineInstances.subscribe(
      MACHINE,
      name,
      (state) => state.publicContext.tags && resolve(state),
      reject,
    );
  });
  const sent = await client.machineInstances.sendEvent(MACHINE, name, { event: "LOOK" });
  assert.deepEqual(sent.publicContext, expected);
  assert.deepEqual((await pushed).publicContext, expected);
  assert.deepEqual((await client.machineInstances.get(MACHINE, name)).publicContext, expected);
  unsubscribe();
});

// The client's socket stays open for its next subscriber.
after(() => setTimeout(() => process.exit(), 100).unref());
