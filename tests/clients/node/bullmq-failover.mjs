// BullMQ with a worker while another server becomes the primary: no job is lost that the replica had. Silent on success. Arguments:
// HOST PORT FOLDER. Tells by the key checks:half-way that a failover is to come, and waits for the key checks:switched.

import assert from "node:assert/strict";
import { host, port, require, until, within } from "./checks.mjs";

const { Queue, Worker } = require("bullmq");
const { Redis } = require("ioredis");
const connection = { host, port };
const client = new Redis(connection);
const [before, after] = [300, 50];
const done = new Set();
const problems = [];

const queue = new Queue("checks", { connection });
// A job whose end was lost with the former primary is given to a worker again, as often as it takes.
const stalled = { lockDuration: 2_000, stalledInterval: 1_000, maxStalledCount: 10 };
const worker = new Worker("checks", work, { connection, concurrency: 3, ...stalled });
queue.on("error", (error) => problems.push(error));
// The lock of a job may be gone with the former primary: the worker says so, and the job is done again.
worker.on("error", (error) => /lock|not in the active state/i.test(error.message) || problems.push(error));

async function work(job) {
  await new Promise((resolve) => setTimeout(resolve, 25));
  done.add(job.data.number);
  return job.data.number;
}

function jobs(from, count) {
  return Array.from({ length: count }, (_, i) => ({ name: "work", data: { number: from + i } }));
}

async function overAFailover() {
  await queue.addBulk(jobs(0, before));
  await until(() => done.size > before / 10, "the first jobs");
  await client.set("checks:half-way", "1");
  await until(() => client.exists("checks:switched"), "the failover");
  await queue.addBulk(jobs(before, after));
  const completed = async () => (await queue.getJobCounts("completed")).completed;
  await until(async () => (await completed()) === before + after, "all jobs").catch(async (late) => {
    throw new Error(`${late.message}: ${done.size} done, ${JSON.stringify(await queue.getJobCounts())}`);
  });
  assert.equal(done.size, before + after);
  assert.deepEqual(problems, []);
  const { waiting, active, failed, delayed } = await queue.getJobCounts();
  assert.deepEqual({ waiting, active, failed, delayed }, { waiting: 0, active: 0, failed: 0, delayed: 0 });
}

await within(overAFailover(), 45_000, "the work");
client.disconnect();
for (const part of [worker, queue]) await within(part.close(), 15_000, "the end");
