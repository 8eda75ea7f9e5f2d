// The cluster client of node-redis 4 and 6. Silent on success. Arguments: HOST PORT FOLDER PACKAGE.

import assert from "node:assert/strict";
import { host, later, port, require, run, variant, within } from "./checks.mjs";

const { createCluster } = require(variant);
const { equal, deepEqual } = assert;
const numbers = Array.from({ length: 200 }, (_, i) => String(i));

const client = createCluster({ rootNodes: [{ url: `redis://${host}:${port}` }] });
client.on("error", (error) => {
  throw error;
});
await client.connect();

async function strings() {
  for (const reply of await Promise.all(numbers.map((n) => client.set(`nc:s${n}`, n)))) equal(reply, "OK");
  deepEqual(await Promise.all(numbers.map((n) => client.get(`nc:s${n}`))), numbers);
  equal(await client.incrBy("nc:n", 5), 5);
}

async function collections() {
  equal(await client.hSet("nc:h", { a: 1, b: 2 }), 2);
  deepEqual({ ...(await client.hGetAll("nc:h")) }, { a: "1", b: "2" });
  equal(await client.zAdd("nc:z", { score: 1.5, value: "a" }), 1);
  const id = await client.xAdd("nc:x", "*", { f: "1" });
  deepEqual((await client.xRange("nc:x", "-", "+")).map((entry) => entry.id), [id]);
}

async function scripts() {
  deepEqual(await client.eval("return {KEYS[1], ARGV[1]}", { keys: ["nc:s"], arguments: ["v"] }), ["nc:s", "v"]);
}

async function transactions() {
  deepEqual(await client.multi().set("nc:{tx}a", "1").incr("nc:{tx}a").exec(), ["OK", 2]);
}

async function blocking() {
  equal(await client.rPush("nc:{b}q", "1"), 1);
  deepEqual({ ...(await client.blPop("nc:{b}q", 5)) }, { key: "nc:{b}q", element: "1" });
}

async function pubsub() {
  const message = later();
  await client.subscribe("nc:channel", (...found) => message.resolve(found));
  await client.publish("nc:channel", "one");
  deepEqual(await message.promise, ["one", "nc:channel"]);
  await client.unsubscribe("nc:channel");
}

await run([strings, collections, scripts, transactions, blocking, pubsub]);
// Version 4 calls it quit.
await within(client.close ? client.close() : client.quit(), 5_000, "the end of the client");
