// ioredis 5 and 6, iovalkey: set up with Sentinels, of which the proxy is one. Silent on success. Arguments: HOST PORT FOLDER PACKAGE.

import assert from "node:assert/strict";
import { host, port, require, run, until, variant } from "./checks.mjs";

const { Redis } = require(variant);
const { equal, deepEqual } = assert;

function connect(settings = {}) {
  const client = new Redis({ sentinels: [{ host, port }], name: "mymaster", ...settings });
  client.on("error", (error) => {
    throw error;
  });
  return client;
}

// It subscribes to what Sentinels say of failovers, too.
const client = connect({ failoverDetector: true });

async function primary() {
  equal(await client.set("io:sentinel", "v"), "OK");
  equal(await client.get("io:sentinel"), "v");
  const keys = Array.from({ length: 50 }, (_, i) => `io:s${i}`);
  equal(await client.mset(keys.flatMap((key) => [key, key])), "OK");
  deepEqual(await client.mget(keys), keys);
}

async function lostConnection() {
  const id = await client.client("ID");
  const other = connect();
  equal(await other.client("KILL", "ID", id), 1);
  await until(async () => (await client.get("io:s7")) === "io:s7", "GET after the connection was lost");
  other.disconnect();
}

// It asks for a replica, of which there is none, and says so.
async function replica() {
  const reader = new Redis({
    sentinels: [{ host, port }],
    name: "mymaster",
    role: "slave",
    sentinelRetryStrategy: () => null,
    maxRetriesPerRequest: 0,
    retryStrategy: () => null,
    lazyConnect: true,
  });
  reader.on("error", () => {});
  await assert.rejects(reader.connect(), /All sentinels are unreachable|closed/);
  reader.disconnect();
}

await run([primary, lostConnection, replica]);
client.disconnect();
