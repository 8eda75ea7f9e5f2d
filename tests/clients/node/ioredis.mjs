// ioredis 5 and 6, iovalkey: the plain client. Silent on success. Arguments: HOST PORT FOLDER PACKAGE.

import assert from "node:assert/strict";
import { host, idOf, isBlocked, later, port, require, run, until, variant, within } from "./checks.mjs";

const { Redis } = require(variant);
const { equal, deepEqual } = assert;

function connect(settings = {}) {
  const client = new Redis({ host, port, ...settings });
  client.on("error", (error) => {
    throw error;
  });
  return client;
}

const client = connect();
const clientList = () => client.call("CLIENT", "LIST");

async function strings() {
  equal(await client.set("io:s", "héllo"), "OK");
  equal(await client.get("io:s"), "héllo");
  equal(await client.incrby("io:n", 5), 5);
  equal(await client.set("io:s", "x", "NX"), null);
  const pairs = Array.from({ length: 50 }, (_, i) => [`io:m${i}`, String(i)]);
  equal(await client.mset(Object.fromEntries(pairs)), "OK");
  deepEqual(await client.mget(pairs.map(([key]) => key)), pairs.map(([, value]) => value));
  equal(await client.del(...pairs.map(([key]) => key)), 50);
  const large = Buffer.alloc(3_000_000, 1);
  equal(await client.set("io:large", large), "OK");
  assert((await client.getBuffer("io:large")).equals(large));
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
}

async function crossslot() {
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
  const automatic = connect({ enableAutoPipelining: true });
  const values = await Promise.all(Array.from({ length: 500 }, (_, i) => automatic.get(`io:p${i}`)));
  deepEqual(values, Array.from({ length: 500 }, (_, i) => String(i)));
  await automatic.quit();
}

async function transactions() {
  const replies = await client.multi().set("io:{tx}a", 1).incr("io:{tx}a").lpush("io:{tx}l", "x").exec();
  deepEqual(replies, [[null, "OK"], [null, 2], [null, 1]]);
  // Sent one by one instead of in one piece.
  equal(await client.multi({ pipeline: false }), "OK");
  equal(await client.incr("io:{tx}a"), "QUEUED");
  deepEqual(await client.exec(), [[null, 3]]);
}

async function watch() {
  const other = connect();
  equal(await client.watch("io:{w}"), "OK");
  equal(await other.set("io:{w}", "other"), "OK");
  equal(await client.multi().set("io:{w}", "mine").exec(), null);
  equal(await client.watch("io:{w}"), "OK");
  deepEqual(await client.multi().set("io:{w}", "mine").exec(), [[null, "OK"]]);
  await other.quit();
}

async function blocking() {
  const other = connect({ connectionName: "io-blocked" });
  const waiting = other.blpop("io:{b}q", 30);
  await until(async () => isBlocked(await clientList(), "io-blocked"), "BLPOP waits");
  equal(await client.rpush("io:{b}q", "1"), 1);
  deepEqual(await waiting, ["io:{b}q", "1"]);
  equal(await other.brpop("io:{b}q", 0.1), null);
  const reading = other.xread("BLOCK", 30_000, "STREAMS", "io:{b}x", "$");
  await until(async () => isBlocked(await clientList(), "io-blocked"), "XREAD waits");
  const id = await client.xadd("io:{b}x", "*", "f", "v");
  assert(JSON.stringify(await reading).includes(id));
  await other.quit();
}

async function pubsub() {
  const subscriber = connect();
  const message = later();
  const matched = later();
  subscriber.on("message", (...found) => message.resolve(found));
  subscriber.on("pmessage", (...found) => matched.resolve(found));
  equal(await subscriber.subscribe("io:channel"), 1);
  equal(await subscriber.psubscribe("io:pattern*"), 2);
  // A cluster counts the subscribers at one of its nodes only: the number says nothing.
  await client.publish("io:channel", "one");
  deepEqual(await message.promise, ["io:channel", "one"]);
  await client.publish("io:pattern1", "two");
  deepEqual(await matched.promise, ["io:pattern*", "io:pattern1", "two"]);
  equal(await subscriber.unsubscribe("io:channel"), 1);
  await subscriber.quit();
}

async function reconnect() {
  const victim = connect({ connectionName: "io-victim" });
  equal(await victim.set("io:r", "1"), "OK");
  const id = idOf(await clientList(), "io-victim");
  const closed = new Promise((resolve) => victim.once("close", resolve));
  equal(await client.call("CLIENT", "KILL", "ID", id), 1);
  await closed;
  equal(await victim.get("io:r"), "1");
  await until(async () => idOf(await clientList(), "io-victim") !== id, "a new connection of the same name");
  await victim.quit();
}

await run([strings, collections, streams, scripts, crossslot, pipelines, transactions, watch, blocking, pubsub, reconnect]);
equal(await within(client.quit(), 5_000, "QUIT"), "OK");
