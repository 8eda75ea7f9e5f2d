// ioredis with its default settings through the proxy: silent on success, an exception otherwise.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.argv[4]}/`));
const { Redis } = require("ioredis");
const { equal, deepEqual } = assert;

const client = new Redis({ host: process.argv[2], port: Number(process.argv[3]) });
client.on("error", (error) => {
  throw error;
});

async function strings() {
  equal(await client.set("io:s", "héllo"), "OK");
  equal(await client.get("io:s"), "héllo");
  equal(await client.incrby("io:n", 5), 5);
  equal(await client.set("io:s", "x", "NX"), null);
  const pairs = Array.from({ length: 50 }, (_, i) => [`io:m${i}`, String(i)]);
  equal(await client.mset(Object.fromEntries(pairs)), "OK");
  deepEqual(await client.mget(pairs.map(([key]) => key)), pairs.map(([, value]) => value));
  equal(await client.del(...pairs.map(([key]) => key)), 50);
}

async function collections() {
  equal(await client.hset("io:h", { a: 1, b: 2 }), 2);
  deepEqual({ ...(await client.hgetall("io:h")) }, { a: "1", b: "2" });
  equal(await client.rpush("io:l", "1", "2", "3"), 3);
  deepEqual(await client.lrange("io:l", 0, -1), ["1", "2", "3"]);
  equal(await client.sadd("io:{t}1", "a", "b"), 2);
  equal(await client.sadd("io:{t}2", "b", "c"), 2);
  deepEqual([...(await client.sinter("io:{t}1", "io:{t}2"))], ["b"]);
  equal(await client.zadd("io:z", 1.5, "a", 2, "b"), 2);
  deepEqual((await client.zrange("io:z", 0, -1, "WITHSCORES")).flat().map(String), ["a", "1.5", "b", "2"]);
}

async function streams() {
  const id = await client.xadd("io:x", "*", "f", "1");
  equal(await client.xlen("io:x"), 1);
  deepEqual(await client.xrange("io:x", "-", "+"), [[id, ["f", "1"]]]);
  equal(await client.xgroup("CREATE", "io:x", "g", "0"), "OK");
  assert(await client.xreadgroup("GROUP", "g", "c", "COUNT", 1, "STREAMS", "io:x", ">"));
  equal(await client.xack("io:x", "g", id), 1);
}

async function scripts() {
  client.defineCommand("pair", { numberOfKeys: 1, lua: "return {KEYS[1], ARGV[1]}" });
  deepEqual(await client.pair("io:s", "v"), ["io:s", "v"]);
  equal(await client.eval("return redis.call('incr', KEYS[1])", 1, "io:script"), 1);
  await assert.rejects(client.eval("return 1", 2, "a", "b"), /CROSSSLOT/);
}

async function pipelines() {
  const pipeline = client.pipeline();
  for (let i = 0; i < 500; i += 1) pipeline.set(`io:p${i}`, i).get(`io:p${i}`);
  const replies = await pipeline.exec();
  for (let i = 0; i < 500; i += 1) deepEqual(replies[2 * i + 1], [null, String(i)]);
  const found = new Set();
  for await (const keys of client.scanStream({ match: "io:p*", count: 100 })) keys.forEach((key) => found.add(key));
  equal(found.size, 500);
}

for (const part of [strings, collections, streams, scripts, pipelines]) await part();
equal(await client.quit(), "OK");
