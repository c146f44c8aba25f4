// The examples with parent and child, through the published client: SHIPMENT and PARCEL name the machines.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { errors, StateBackedClient } from "@statebacked/client";
import { WebSocket } from "ws";

const { API_HOST, ORG_ID, SHIPMENT, PARCEL } = process.env;
const PATIENCE_MS = 20_000;

function session(sessionId) {
  return new StateBackedClient(
    { anonymous: { orgId: ORG_ID, getSessionId: () => sessionId } },
    { apiHost: API_HOST, WebSocket },
  );
}

/** What a subscription pushes; `until` waits for a state that satisfies a claim. */
function follow(client, machine, instance) {
  const states = [];
  let wake = () => {};
  const stop = client.machineInstances.subscribe(machine, instance, (state) => {
    states.push(state);
    wake();
  }, (error) => assert.fail(String(error)));
  return {
    stop,
    states,
    async until(claim) {
      while (!states.some(claim)) await new Promise((resolve) => (wake = resolve));
      return states.find(claim);
    },
  };
}

/** A child comes into being a moment after the step of its parent. */
async function born(client, machine, instance) {
  const until = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await client.machineInstances.get(machine, instance);
    } catch (error) {
      if (!(error instanceof errors.NotFoundError) || Date.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

const refused = (error) => error instanceof errors.RejectedByMachineAuthorizerError;

test("a shipment makes its parcel, speaks with it and is told its end", async () => {
  const sid = `ann-${randomUUID()}`;
  const customer = session(sid);
  const courier = session("courier");
  await customer.machineInstances.create(SHIPMENT, { slug: sid, context: { address: "Main Street 1" } });
  const shipment = follow(customer, SHIPMENT, sid);
  const shipped = await customer.machineInstances.sendEvent(SHIPMENT, sid, { event: "ship" });
  assert.equal(shipped.state, "underway", "the reply does not wait for a persistent child");

  const name = shipped.publicContext.parcel ?? `parcel-of-${sid}`;
  const first = await born(courier, PARCEL, name);
  assert.deepEqual(first.publicContext, { address: "Main Street 1", places: [] });
  const parcel = follow(courier, PARCEL, name);

  await courier.machineInstances.sendEvent(PARCEL, name, { event: { type: "scan", place: "depot" } });
  await shipment.until((s) => s.publicContext.lastSeen === "depot");

  // Only the shipment may redirect, and nobody makes a parcel but a shipment.
  const redirect = { event: { type: "redirect", address: "my own" } };
  await assert.rejects(courier.machineInstances.sendEvent(PARCEL, name, redirect), refused);
  await assert.rejects(courier.machineInstances.create(PARCEL, { slug: randomUUID() }), refused);
  await assert.rejects(
    courier.machineInstances.sendEvent(SHIPMENT, sid, { event: { type: "seen", place: "moon" } }),
    refused,
  );

  for (const address of ["Side Street 2", "Back Street 3"]) {
    await customer.machineInstances.sendEvent(SHIPMENT, sid, { event: { type: "redirect", address } });
  }
  await parcel.until((s) => s.publicContext.address === "Back Street 3");
  assert(!parcel.states.some((s) => s.publicContext.address === "Side Street 2"), "that one was cancelled");

  const done = await courier.machineInstances.sendEvent(PARCEL, name, { event: "hand over" });
  assert.deepEqual([done.state, done.done], ["delivered", true]);
  const delivered = await shipment.until((s) => s.state === "delivered");
  assert.equal(delivered.publicContext.deliveredTo, "Back Street 3");
  parcel.stop();
  shipment.stop();
});
