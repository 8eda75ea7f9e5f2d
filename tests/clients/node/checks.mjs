// What the checks of all Node clients share.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

export const [host, port] = [process.argv[2], Number(process.argv[3])];
export const variant = process.argv[5];
export const require = createRequire(pathToFileURL(`${process.argv[4]}/`));

// Families of commands that the server in front of us does not offer, or that make no sense there.
const leftOut = new Set((process.env.SLOTWAY_LEAVE_OUT ?? "").split(","));

const DEADLINE = 15_000;

// Runs those of the functions, named as the families are, that are not left out.
export async function run(functions) {
  for (const check of functions) {
    if (!leftOut.has(check.name)) await within(check(), 2 * DEADLINE, check.name);
  }
}

export async function within(promise, milliseconds, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${milliseconds} ms`)), milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

export async function until(condition, what) {
  const end = Date.now() + DEADLINE;
  for (;;) {
    const found = await condition();
    if (found) return found;
    assert(Date.now() < end, `${what}: not within ${DEADLINE} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function lineOf(clientList, name) {
  return String(clientList).split("\n").find((line) => line.includes(` name=${name} `));
}

// The id of the connection with this name in a reply to CLIENT LIST.
export function idOf(clientList, name) {
  return /\bid=(\d+)/.exec(lineOf(clientList, name))?.[1];
}

// True if that connection waits in a blocking command.
export function isBlocked(clientList, name) {
  return /\bflags=\w*b/.test(lineOf(clientList, name) ?? "");
}

// A promise, and the function that resolves it.
export function later() {
  let resolve;
  const promise = new Promise((found) => {
    resolve = found;
  });
  return { promise, resolve };
}
