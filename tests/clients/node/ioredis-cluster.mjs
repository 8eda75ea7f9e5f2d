// The Cluster class of ioredis 5 and 6, iovalkey. Silent on success. Arguments: HOST PORT FOLDER PACKAGE.

import assert from "node:assert/strict";
import { host, later, port, require, run, until, variant, within } from "./checks.mjs";

const { Cluster } = require(variant);
const { equal, deepEqual } = assert;
const COUNT = 200;
const numbers = Array.from({ length: COUNT }, (_, i) => String(i));

function connect(settings = {}) {
  const client = new Cluster([{ host, port }], settings);
  client.on("error", (error) => {
    throw error;
  });
  return client;
}

const client = connect();

async function strings() {
  for (const reply of await Promise.all(numbers.map((n) => client.set(`ic:s${n}`, n)))) equal(reply, "OK");
  deepEqual(await Promise.all(numbers.map((n) => client.get(`ic:s${n}`))), numbers);
  deepEqual(await client.mget("ic:{s}1", "ic:{s}2"), [null, null]);
}

async function collections() {
  equal(await client.hset("ic:h", { a: 1, b: 2 }), 2);
  deepEqual({ ...(await client.hgetall("ic:h")) }, { a: "1", b: "2" });
  equal(await client.zadd("ic:z", 1.5, "a"), 1);
  const id = await client.xadd("ic:x", "*", "f", "1");
  deepEqual(await client.xrange("ic:x", "-", "+"), [[id, ["f", "1"]]]);
}

async function scripts() {
  client.defineCommand("pair", { numberOfKeys: 1, lua: "return {KEYS[1], ARGV[1]}" });
  deepEqual(await client.pair("ic:s", "v"), ["ic:s", "v"]);
}

async function pipelines() {
  const pipeline = client.pipeline();
  for (const n of numbers) pipeline.set(`ic:{p}${n}`, n).get(`ic:{p}${n}`);
  const replies = await pipeline.exec();
  numbers.forEach((n, i) => deepEqual(replies[2 * i + 1], [null, n]));
  const found = new Set();
  for (const node of client.nodes("master")) {
    for await (const keys of node.scanStream({ match: "ic:{p}*" })) keys.forEach((key) => found.add(key));
  }
  equal(found.size, COUNT);
}

async function transactions() {
  deepEqual(await client.multi().set("ic:{tx}a", 1).incr("ic:{tx}a").exec(), [[null, "OK"], [null, 2]]);
}

async function blocking() {
  equal(await client.rpush("ic:{b}q", "1"), 1);
  deepEqual(await client.blpop("ic:{b}q", 5), ["ic:{b}q", "1"]);
}

async function pubsub() {
  const subscriber = connect();
  const message = later();
  subscriber.on("message", (...found) => message.resolve(found));
  equal(await subscriber.subscribe("ic:channel"), 1);
  // A cluster counts the subscribers at one of its nodes only: the number says nothing.
  await client.publish("ic:channel", "one");
  deepEqual(await message.promise, ["ic:channel", "one"]);
  await subscriber.quit();
}

async function reconnect() {
  const victim = connect({ redisOptions: { connectionName: "ic-victim" } });
  equal(await victim.set("ic:r", "1"), "OK");
  const ids = async () => {
    const lists = await Promise.all(client.nodes("master").map((node) => node.call("CLIENT", "LIST")));
    return lists.flatMap((list) => String(list).split("\n").filter((line) => line.includes("ic-victim"))
      .map((line) => /\bid=(\d+)/.exec(line)[1]));
  };
  const before = await ids();
  assert(before.length > 0);
  for (const id of before) {
    for (const node of client.nodes("master")) await node.call("CLIENT", "KILL", "ID", id);
  }
  await until(async () => (await ids()).every((id) => !before.includes(id)), "the killed connections are gone");
  equal(await victim.get("ic:r"), "1");
  await victim.quit();
}

await run([strings, collections, scripts, pipelines, transactions, blocking, pubsub, reconnect]);
equal(await within(client.quit(), 5_000, "QUIT"), "OK");
