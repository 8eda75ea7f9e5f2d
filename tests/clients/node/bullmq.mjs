// BullMQ with a worker: jobs, delays, retries, flows, events. Silent on success. Arguments: HOST PORT FOLDER PREFIX.

import assert from "node:assert/strict";
import { host, port, require, variant as prefix, within } from "./checks.mjs";

const { FlowProducer, Queue, QueueEvents, Worker } = require("bullmq");
const { equal, deepEqual } = assert;
// A hash tag as prefix: all keys are in one slot.
const options = { connection: { host, port }, ...(prefix ? { prefix } : {}) };
const patience = 15_000;

const queue = new Queue("checks", options);
const events = new QueueEvents("checks", options);
const worker = new Worker("checks", work, { ...options, concurrency: 5 });
const flows = new FlowProducer(options);
const everything = [worker, events, queue, flows];
for (const part of everything) {
  // Every job that is waited for listens.
  part.setMaxListeners(100);
  part.on("error", (error) => {
    throw error;
  });
}

async function work(job) {
  if (job.name === "add") return job.data.a + job.data.b;
  if (job.name === "unsteady") {
    if (job.attemptsMade < 2) throw new Error("not yet");
    return job.attemptsMade;
  }
  if (job.name === "total") return Object.values(await job.getChildrenValues()).reduce((a, b) => a + b, 0);
  throw new Error("as it should");
}

async function jobs() {
  const job = await queue.add("add", { a: 1, b: 2 });
  equal(await job.waitUntilFinished(events, patience), 3);
  const many = await queue.addBulk(Array.from({ length: 50 }, (_, i) => ({ name: "add", data: { a: i, b: i } })));
  const values = await Promise.all(many.map((one) => one.waitUntilFinished(events, patience)));
  deepEqual(values, Array.from({ length: 50 }, (_, i) => 2 * i));
}

async function delaysAndPriorities() {
  const later = await queue.add("add", { a: 2, b: 2 }, { delay: 300 });
  const urgent = await queue.add("add", { a: 3, b: 3 }, { priority: 1 });
  equal(await urgent.waitUntilFinished(events, patience), 6);
  equal(await later.waitUntilFinished(events, patience), 4);
}

async function failures() {
  const unsteady = await queue.add("unsteady", {}, { attempts: 3, backoff: { type: "fixed", delay: 50 } });
  equal(await unsteady.waitUntilFinished(events, patience), 2);
  const broken = await queue.add("broken", {});
  await assert.rejects(broken.waitUntilFinished(events, patience), /as it should/);
}

async function parents() {
  const children = [1, 2, 3].map((a) => ({ name: "add", queueName: "checks", data: { a, b: 0 } }));
  const { job } = await flows.add({ name: "total", queueName: "checks", data: {}, children });
  equal(await job.waitUntilFinished(events, patience), 6);
}

async function counts() {
  const found = await queue.getJobCounts("completed", "failed", "waiting", "active");
  deepEqual({ ...found }, { completed: 58, failed: 1, waiting: 0, active: 0 });
  await queue.obliterate({ force: true });
}

await events.waitUntilReady();
for (const check of [jobs, delaysAndPriorities, failures, parents, counts]) await within(check(), 2 * patience, check.name);
for (const part of everything) await within(part.close(), patience, "the end");
