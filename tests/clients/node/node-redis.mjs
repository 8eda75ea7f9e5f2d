// node-redis 4 and 6: the plain client. Silent on success. Arguments: HOST PORT FOLDER PACKAGE [RESP].

import assert from "node:assert/strict";
import { host, idOf, isBlocked, later, port, require, run, until, variant, within } from "./checks.mjs";

const { createClient } = require(variant);
const { equal, deepEqual } = assert;
const protocol = process.argv[6] ? { RESP: Number(process.argv[6]) } : {};

async function connect(settings = {}) {
  const client = createClient({ url: `redis://${host}:${port}`, ...protocol, ...settings });
  client.on("error", (error) => {
    throw error;
  });
  await client.connect();
  return client;
}

const client = await connect();
const clientList = () => client.sendCommand(["CLIENT", "LIST"]);

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
}

async function crossslot() {
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
  // Version 4 gives single keys, later ones give lists.
  for await (const keys of client.scanIterator({ MATCH: "nr:p*", COUNT: 100 })) [keys].flat().forEach((key) => found.add(key));
  equal(found.size, 500);
}

async function transactions() {
  deepEqual(await client.multi().set("nr:{tx}a", "1").incr("nr:{tx}a").lPush("nr:{tx}l", "x").exec(), ["OK", 2, 1]);
  await assert.rejects(client.multi().set("nr:{tx}a", "word").incr("nr:{tx}a").exec());
  equal(await client.get("nr:{tx}a"), "word");
}

async function watch() {
  const other = await connect();
  await other.watch("nr:{w}");
  equal(await client.set("nr:{w}", "other"), "OK");
  await assert.rejects(other.multi().set("nr:{w}", "mine").exec(), /watched keys/);
  await other.watch("nr:{w}");
  deepEqual(await other.multi().set("nr:{w}", "mine").exec(), ["OK"]);
  await close(other);
}

async function blocking() {
  const other = await connect({ name: "nr-blocked" });
  const waiting = other.blPop("nr:{b}q", 30);
  await until(async () => isBlocked(await clientList(), "nr-blocked"), "BLPOP waits");
  equal(await client.rPush("nr:{b}q", "1"), 1);
  deepEqual({ ...(await waiting) }, { key: "nr:{b}q", element: "1" });
  equal(await other.blPop("nr:{b}q", 0.1), null);
  const reading = other.xRead({ key: "nr:{b}x", id: "$" }, { BLOCK: 30_000 });
  await until(async () => isBlocked(await clientList(), "nr-blocked"), "XREAD waits");
  const id = await client.xAdd("nr:{b}x", "*", { f: "v" });
  assert(JSON.stringify(await reading).includes(id));
  await close(other);
}

async function pubsub() {
  const subscriber = await connect();
  const message = later();
  const matched = later();
  await subscriber.subscribe("nr:channel", (...found) => message.resolve(found));
  await subscriber.pSubscribe("nr:pattern*", (...found) => matched.resolve(found));
  // A cluster counts the subscribers at one of its nodes only: the number says nothing.
  await client.publish("nr:channel", "one");
  deepEqual(await message.promise, ["one", "nr:channel"]);
  await client.publish("nr:pattern1", "two");
  deepEqual(await matched.promise, ["two", "nr:pattern1"]);
  await subscriber.unsubscribe("nr:channel");
  await close(subscriber);
}

async function reconnect() {
  const victim = createClient({ url: `redis://${host}:${port}`, ...protocol, name: "nr-victim" });
  const lost = later();
  victim.on("error", lost.resolve);
  await victim.connect();
  equal(await victim.set("nr:r", "1"), "OK");
  const id = idOf(await clientList(), "nr-victim");
  equal(await client.sendCommand(["CLIENT", "KILL", "ID", id]), 1);
  await lost.promise;
  equal(await victim.get("nr:r"), "1");
  assert.notEqual(idOf(await clientList(), "nr-victim"), id);
  await close(victim);
}

// Version 4 calls it quit.
function close(connection) {
  return within(connection.close ? connection.close() : connection.quit(), 5_000, "the end of a connection");
}

await run([strings, collections, streams, scripts, crossslot, pipelines, transactions, watch, blocking, pubsub, reconnect]);
await close(client);
