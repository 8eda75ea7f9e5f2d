// node-redis with its default settings through the proxy: silent on success, an exception otherwise.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.argv[4]}/`));
const { createClient } = require("redis");
const { equal, deepEqual } = assert;

const client = createClient({ url: `redis://${process.argv[2]}:${process.argv[3]}` });
client.on("error", (error) => {
  throw error;
});
await client.connect();

async function strings() {
  equal(await client.set("nr:s", "héllo"), "OK");
  equal(await client.get("nr:s"), "héllo");
  equal(await client.incrBy("nr:n", 5), 5);
  const pairs = Array.from({ length: 50 }, (_, i) => [`nr:m${i}`, String(i)]);
  equal(await client.mSet(pairs), "OK");
  deepEqual(await client.mGet(pairs.map(([key]) => key)), pairs.map(([, value]) => value));
  equal(await client.del(pairs.map(([key]) => key)), 50);
}

async function collections() {
  equal(await client.hSet("nr:h", { a: 1, b: 2 }), 2);
  deepEqual({ ...(await client.hGetAll("nr:h")) }, { a: "1", b: "2" });
  equal(await client.rPush("nr:l", ["1", "2", "3"]), 3);
  deepEqual(await client.lRange("nr:l", 0, -1), ["1", "2", "3"]);
  equal(await client.sAdd("nr:{t}1", ["a", "b"]), 2);
  equal(await client.sAdd("nr:{t}2", ["b", "c"]), 2);
  deepEqual([...(await client.sInter(["nr:{t}1", "nr:{t}2"]))], ["b"]);
  equal(await client.zAdd("nr:z", [{ score: 1.5, value: "a" }, { score: 2, value: "b" }]), 2);
  deepEqual(
    (await client.zRangeWithScores("nr:z", 0, -1)).map(({ score, value }) => [value, score]),
    [["a", 1.5], ["b", 2]],
  );
}

async function streams() {
  const id = await client.xAdd("nr:x", "*", { f: "1" });
  equal(await client.xLen("nr:x"), 1);
  deepEqual((await client.xRange("nr:x", "-", "+")).map((entry) => entry.id), [id]);
  equal(await client.xGroupCreate("nr:x", "g", "0"), "OK");
  assert(await client.xReadGroup("g", "c", { key: "nr:x", id: ">" }, { COUNT: 1 }));
  equal(await client.xAck("nr:x", "g", id), 1);
}

async function scripts() {
  deepEqual(await client.eval("return {KEYS[1], ARGV[1]}", { keys: ["nr:s"], arguments: ["v"] }), ["nr:s", "v"]);
  const sha = await client.scriptLoad("return redis.call('incr', KEYS[1])");
  for (let i = 0; i < 20; i += 1) equal(await client.evalSha(sha, { keys: [`nr:script${i}`] }), 1);
  await assert.rejects(client.eval("return 1", { keys: ["a", "b"] }), /CROSSSLOT/);
}

async function pipelines() {
  const replies = await Promise.all(
    Array.from({ length: 500 }, async (_, i) => {
      await client.set(`nr:p${i}`, String(i));
      return client.get(`nr:p${i}`);
    }),
  );
  deepEqual(replies, Array.from({ length: 500 }, (_, i) => String(i)));
  const multi = client.multi();
  for (let i = 0; i < 500; i += 1) multi.get(`nr:p${i}`);
  deepEqual(await multi.execAsPipeline(), replies);
  const found = new Set();
  for await (const keys of client.scanIterator({ MATCH: "nr:p*", COUNT: 100 })) keys.forEach((key) => found.add(key));
  equal(found.size, 500);
}

for (const part of [strings, collections, streams, scripts, pipelines]) await part();
await client.close();
