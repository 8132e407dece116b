// @ts-check
// The way to a thread of libuv's pool and back, which every call into the engine takes.

import { pbkdf2, pbkdf2Sync } from 'node:crypto';
import { promisify } from 'node:util';
import { median } from './statistics.mjs';

const HASH = /** @type {const} */ ([32, 'sha256']);
const ROUNDS = 2000;

/** @param {() => unknown} job */
async function medianSeconds(job) {
  const seconds = [];
  for (let i = 0; i < ROUNDS; i++) {
    const start = performance.now();
    await job();
    seconds.push((performance.now() - start) / 1000);
  }
  return median(seconds);
}

/**
 * What a job of Node's own that works for about `seconds` takes longer on a thread of the pool than on the JavaScript
 * thread. The work matters: processors that had to wait for longer take longer to wake up.
 *
 * @param {number} seconds
 */
export async function measureHop(seconds) {
  const here = (/** @type {number} */ iterations) => medianSeconds(() => pbkdf2Sync('', '', iterations, ...HASH));
  const one = await here(1);
  const each = ((await here(101)) - one) / 100;
  const iterations = Math.max(1, Math.round(1 + (seconds - one) / each));
  const there = promisify(pbkdf2);
  return (await medianSeconds(() => there('', '', iterations, ...HASH))) - (await here(iterations));
}
