// node-redis 6: its client for Sentinels, of which the proxy is one. Silent on success. Arguments: HOST PORT FOLDER PACKAGE [PROTOCOL].

import assert from "node:assert/strict";
import { host, port, require, run, variant } from "./checks.mjs";

const { createSentinel } = require(variant);
const { equal, deepEqual } = assert;

const RESP = Number(process.argv[6] ?? 3);
const client = createSentinel({
  name: "mymaster",
  RESP,
  sentinelRootNodes: [{ host, port }],
  sentinelClientOptions: { RESP },
  nodeClientOptions: { RESP },
});
client.on("error", (error) => {
  throw error;
});

async function primary() {
  equal(await client.set("nr:sentinel", "v"), "OK");
  equal(await client.get("nr:sentinel"), "v");
  const keys = Array.from({ length: 50 }, (_, i) => `nr:s${i}`);
  equal(await client.mSet(keys.map((key) => [key, key])), "OK");
  deepEqual(await client.mGet(keys), keys);
}

async function leased() {
  const lease = await client.acquire();
  equal(await lease.incr("nr:n"), 1);
  deepEqual(await lease.multi().incr("nr:n").get("nr:n").exec(), [2, "2"]);
  await lease.release();
}

await client.connect();
await run([primary, leased]);
await client.close();
