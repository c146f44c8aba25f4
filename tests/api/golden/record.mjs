// Records what the published client sends, as client-0.1.37.json. Run by hand after a new client comes out:
//   cd tests/e2e && node ../api/golden/record.mjs > ../api/golden/client-0.1.37.json
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

const require = createRequire(pathToFileURL(process.cwd() + "/package.json"));
const { StateBackedClient } = require("@statebacked/client");
const { Response } = require("undici");
const { formDataToBlob } = await import(pathToFileURL(require.resolve("formdata-polyfill/esm.min.js")));

const org = "org_uHvZHpF4STWvMg8BKVCUTg";
const host = "http://localhost:7070";
const state = { ts: 1, state: "on", publicContext: {}, tags: [], done: false };
const exchanges = [];
let call = "";

function client(tokenConfig, opts = {}) {
  return new StateBackedClient(tokenConfig, {
    apiHost: host,
    ...opts,
    fetch: async (url, init) => {
      const headers = Object.fromEntries(new Headers(init.headers));
      let body = init.body ?? null;
      if (typeof body?.entries === "function") body = await encoded(body);
      exchanges.push({ call, method: init.method, path: String(url).slice(host.length), headers, body });
      return globalThis.Response.json({
        ...state,
        access_token: "given",
        machineVersionId: "<signed>",
        codeUploadUrl: host + "/uploads/<signed>",
        codeUploadFields: { },
      });
    },
  });
}

// The two form encoders that occur: undici's, which the client brings, and node-fetch's.
async function encoded(form) {
  const undici = new Response(form);
  const nodeFetch = formDataToBlob(form);
  return [
    { type: undici.headers.get("content-type"), base64: Buffer.from(await undici.arrayBuffer()).toString("base64") },
    { type: nodeFetch.type, base64: Buffer.from(await nodeFetch.arrayBuffer()).toString("base64") },
  ];
}

async function record(name, run) {
  call = name;
  await run();
}

const backend = client({ token: "<token>" });
const admin = client("<session>", { orgId: org, actAs: { sid: "s" } });

await record("anonymous", () => client({ anonymous: { orgId: org, getSessionId: () => "s-1" } }).token());
await record("machines.create", () => backend.machines.create("m"));
await record("machineVersions.create", () =>
  backend.machineVersions.create("m", { code: "export default 1", clientInfo: "1", makeCurrent: true }));
await record("machineVersions.create(gzip)", () =>
  backend.machineVersions.create("m", { gzippedCode: gzipSync("export default 2"), clientInfo: "2", makeCurrent: true }));
await record("machines.list", () => backend.machines.list());
await record("machines.list(cursor)", () => backend.machines.list({ cursor: "c" }));
await record("machines.get", () => backend.machines.get("m"));
await record("machineVersions.list", () => backend.machineVersions.list("m"));
await record("machineInstances.create", () =>
  backend.machineInstances.create("m", { slug: "auth0|a@b.c", context: { public: { n: 1 } } }));
await record("machineInstances.create(no context)", () => backend.machineInstances.create("m", { slug: "i-2" }));
await record("machineInstances.get", () => backend.machineInstances.get("m", "auth0|a@b.c"));
await record("machineInstances.sendEvent", () => backend.machineInstances.sendEvent("m", "auth0|a@b.c", { event: "go" }));
await record("machineInstances.sendEvent(object)", () =>
  backend.machineInstances.sendEvent("m", "auth0|a@b.c", { event: { type: "go", n: 1 } }));
await record("machineInstances.sendEvent(act)", () => admin.machineInstances.sendEvent("m", "i-2", { event: "go" }));
await record("machineInstances.list", () => backend.machineInstances.list("m"));
await record("machineInstances.listTransitions", () => backend.machineInstances.listTransitions("m", "i-2"));
await record("machineInstances.admin.get", () => backend.machineInstances.admin.get("m", "i-2"));
await record("keys.create", () => backend.keys.create({ name: "k", use: "production" }));
await record("keys.list", () => backend.keys.list());
await record("keys.delete", () => backend.keys.delete("<key>"));
await record("orgs.list", () => admin.orgs.list());
await record("orgs.create", () => admin.orgs.create({ name: "acme" }));

console.log(JSON.stringify(exchanges, null, 1));
