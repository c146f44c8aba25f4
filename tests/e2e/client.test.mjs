// The published client, unmodified, against a real server. The server's address comes from the environment.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { errors, StateBackedClient } from "@statebacked/client";
import { signToken } from "@statebacked/token";
import { WebSocket } from "ws";

const { API_HOST, ORG_ID, KEY_ID, SECRET_KEY, MACHINE } = process.env;

function anonymous(sessionId, options = {}) {
  return new StateBackedClient(
    { anonymous: { orgId: ORG_ID, getSessionId: () => sessionId } },
    { apiHost: API_HOST, WebSocket, ...options },
  );
}

async function signed(claims) {
  const token = await signToken(
    { stateBackedKeyId: KEY_ID, stateBackedSecretKey: SECRET_KEY },
    claims,
    { expires: { in: "1h" } },
  );
  return new StateBackedClient(token, { apiHost: API_HOST, WebSocket });
}

/** Collects what a subscription pushes; `until` waits for a state that satisfies a claim. */
function collector() {
  const states = [];
  let wake = () => {};
  return {
    states,
    push: (state) => {
      states.push(state);
      wake();
    },
    async until(claim) {
      while (!states.some(claim)) await new Promise((resolve) => (wake = resolve));
    },
  };
}

test("getOrCreate creates once and then finds", async () => {
  const sid = randomUUID();
  const client = anonymous(sid);
  const created = await client.machineInstances.getOrCreate(MACHINE, sid, { context: { public: { count: 5 } } });
  assert.equal(created.state, "counting");
  assert.deepEqual(created.publicContext, { count: 5, rang: 0 });
  assert.deepEqual(created.states, ["counting"]);
  assert.deepEqual(created.tags, ["open"]);
  assert.equal(created.done, false);
  const found = await client.machineInstances.getOrCreate(MACHINE, sid);
  assert.equal(found.ts, created.ts);
});

test("a wrong orgId is told in words", async () => {
  for (const orgId of ["org-YOUR_ORG_ID", "org_AAAAAAAAAAAAAAAAAAAAAA"]) {
    const client = new StateBackedClient({ anonymous: { orgId, getSessionId: () => "s" } }, { apiHost: API_HOST });
    await assert.rejects(client.machineInstances.get(MACHINE, "i"), (error) => {
      const said = `${error.message} ${error.cause?.message} ${error.reason?.message}`;
      assert.match(said, /there is no org with that orgId here/);
      return true;
    });
  }
});

test("a machine and an instance that do not exist are told as one", async () => {
  const client = await signed({ sub: "u" });
  await assert.rejects(client.machineInstances.get("nope", "x"), /there is no machine or instance of that name/);
});

test("two creations at once make one instance", async () => {
  const sid = randomUUID();
  const client = anonymous(sid);
  const both = await Promise.all([1, 2].map(() => client.machineInstances.getOrCreate(MACHINE, sid)));
  assert.equal(both[0].ts, both[1].ts);
  await assert.rejects(client.machineInstances.create(MACHINE, { slug: sid }), errors.ConflictError);
});

test("an event is a string or an object with data", async () => {
  const sid = randomUUID();
  const client = anonymous(sid);
  await client.machineInstances.getOrCreate(MACHINE, sid);
  const one = await client.machineInstances.sendEvent(MACHINE, sid, { event: "increment" });
  assert.equal(one.publicContext.count, 1);
  const more = await client.machineInstances.sendEvent(MACHINE, sid, { event: { type: "increment", by: 41 } });
  assert.equal(more.publicContext.count, 42);
  assert.ok(more.ts > one.ts);
  const same = await client.machineInstances.sendEvent(MACHINE, sid, { event: "nobody-knows-it" });
  assert.equal(same.ts, more.ts);
});

test("a subscription sees another client's event and a timer's, and ends with unsubscribe", async () => {
  const sid = randomUUID();
  const mine = anonymous(sid);
  const other = await signed({ sid });
  await mine.machineInstances.getOrCreate(MACHINE, sid);
  const seen = collector();
  const unsubscribe = mine.machineInstances.subscribe(MACHINE, sid, seen.push, assert.fail);
  await seen.until((s) => s.state === "counting");
  await other.machineInstances.sendEvent(MACHINE, sid, { event: { type: "increment", by: 7 } });
  await seen.until((s) => s.publicContext.count === 7);
  await other.machineInstances.sendEvent(MACHINE, sid, { event: "ring" });
  await seen.until((s) => s.publicContext.rang === 1);
  const times = seen.states.map((s) => s.ts);
  assert.deepEqual(times, [...new Set(times)].sort((a, b) => a - b));

  const witness = collector();
  const stop = other.machineInstances.subscribe(MACHINE, sid, witness.push, assert.fail);
  unsubscribe();
  const count = seen.states.length;
  await mine.machineInstances.sendEvent(MACHINE, sid, { event: "increment" });
  await witness.until((s) => s.publicContext.count === 8);
  await mine.machineInstances.sendEvent(MACHINE, sid, { event: "increment" });
  await witness.until((s) => s.publicContext.count === 9);
  assert.equal(seen.states.length, count);
  stop();
});

test("an actor follows its instance and sends to it", async () => {
  const sid = randomUUID();
  const client = anonymous(sid);
  await client.machineInstances.getOrCreate(MACHINE, sid);
  const actor = await client.machineInstances.getActor(MACHINE, sid);
  assert.equal(actor.getSnapshot().value, "counting");
  assert.ok(actor.getSnapshot().matches("counting"));
  assert.ok(actor.getSnapshot().hasTag("open"));
  const seen = collector();
  const subscription = actor.subscribe(seen.push);
  actor.send({ type: "increment", by: 3 });
  await seen.until((s) => s.context.public.count === 3);
  subscription.unsubscribe();
});

test("another session is refused by the machine's authorizer, reading, writing and subscribing", async () => {
  const sid = randomUUID();
  await anonymous(sid).machineInstances.getOrCreate(MACHINE, sid);
  const stranger = anonymous(randomUUID());
  const refused = (error) =>
    error instanceof errors.RejectedByMachineAuthorizerError && error.code === "rejected-by-machine-authorizer";
  await assert.rejects(stranger.machineInstances.get(MACHINE, sid), refused);
  await assert.rejects(stranger.machineInstances.sendEvent(MACHINE, sid, { event: "increment" }), refused);
  const error = await new Promise((resolve) => stranger.machineInstances.subscribe(MACHINE, sid, assert.fail, resolve));
  assert.ok(refused(error), String(error));
  const reader = anonymous("everyone-reads");
  assert.equal((await reader.machineInstances.get(MACHINE, sid)).state, "counting");
  await assert.rejects(reader.machineInstances.sendEvent(MACHINE, sid, { event: "increment" }), refused);
});

test("a delay of more than 2^31 ms is stored and does not fire", async () => {
  const sid = randomUUID();
  const client = anonymous(sid);
  await client.machineInstances.getOrCreate(MACHINE, sid);
  const far = await client.machineInstances.sendEvent(MACHINE, sid, { event: "far" });
  assert.equal(far.state, "far");
  await client.machineInstances.sendEvent(MACHINE, sid, { event: "increment" });
  const later = await client.machineInstances.get(MACHINE, sid);
  assert.equal(later.state, "far");
  assert.equal(later.ts, far.ts);
});

test("an instance that is done stays readable and takes no transition", async () => {
  const sid = randomUUID();
  const client = anonymous(sid);
  await client.machineInstances.getOrCreate(MACHINE, sid);
  const done = await client.machineInstances.sendEvent(MACHINE, sid, { event: "finish" });
  assert.equal(done.done, true);
  assert.equal(done.state, "finished");
  const after = await client.machineInstances.sendEvent(MACHINE, sid, { event: "increment" });
  assert.equal(after.ts, done.ts);
});

test("what does not exist is not found, and a token of nobody is refused", async () => {
  const client = anonymous(randomUUID());
  await assert.rejects(client.machineInstances.get(MACHINE, "nobody"), errors.NotFoundError);
  await assert.rejects(client.machineInstances.get("no-machine", "nobody"), errors.NotFoundError);
  const forged = new StateBackedClient("not-a-token", { apiHost: API_HOST, WebSocket });
  await assert.rejects(forged.machineInstances.get(MACHINE, "nobody"), (e) => e.code === "missing-user");
  await assert.rejects(client.machines.list(), errors.UnauthorizedError);
});

after(() => setTimeout(() => process.exit(), 100).unref());
