// Prints every new state of an instance, over restarts of the server and of the network:
//   npm install --save @statebacked/client ws
//   ORG_ID=org_… node watch.mjs example-machine session-123
import { StateBackedClient } from "@statebacked/client";
import { WebSocket } from "ws";
import { reconnecting } from "./page/reconnecting-websocket.js";

const [machineName, sessionId] = process.argv.slice(2);
const client = new StateBackedClient(
  { anonymous: { orgId: process.env.ORG_ID, getSessionId: () => sessionId } },
  { apiHost: process.env.API_HOST ?? "http://127.0.0.1:7070", WebSocket: reconnecting(WebSocket) },
);

client.machineInstances.subscribe(
  machineName,
  sessionId,
  ({ state, publicContext }) => console.log(state, JSON.stringify(publicContext)),
  (error) => console.error(`${error.name}: ${error.message}`),
);
