// @ts-check
// The least time that a kernel's counted work takes on a device: the largest of the times that each of its units needs
// at its published rate, as if everything else were free and the units never waited for each other.

/** @typedef {import('./devices.mjs').Device} Device */

/**
 * What a kernel did in all its blocks.
 *
 * @typedef {object} Work
 * @property {number} blocks
 * @property {number} mma products of m16n8k16
 * @property {number} instructions issued to warps
 * @property {Record<string, number>} kinds of them
 * @property {number} sharedWavefronts 128 bytes at most, one a clock
 * @property {number} sectorBytes between the multiprocessors and the L2 cache
 * @property {number} memoryBytes between the L2 cache and memory
 */

const WARP = 32;
const SCHEDULERS = 4;
/** Floating-point operations of one mma.m16n8k16. */
export const MMA_FLOPS = 2 * 16 * 8 * 16;

/** The limits that belong to single multiprocessors, so that the busiest one decides. */
const LOCAL = ['tensor', 'issue', 'fp32', 'fp64', 'integer', 'special', 'shuffle', 'shared'];

/**
 * Seconds by limit.
 *
 * @param {Work} work
 * @param {Device} device
 * @returns {Record<string, number>}
 */
export function limits(work, device) {
  const clocks = device.multiprocessors * device.clock;
  const count = (/** @type {string[]} */ ...kinds) => kinds.reduce((sum, kind) => sum + (work.kinds[kind] ?? 0), 0);
  const lanes = (/** @type {number} */ n, /** @type {number} */ perClock) => (n * WARP) / perClock / clocks;
  return {
    tensor: (work.mma * MMA_FLOPS) / device.tensor,
    issue: work.instructions / SCHEDULERS / clocks,
    fp32: lanes(count('float'), device.lanes.fp32),
    fp64: lanes(count('double'), device.lanes.fp64),
    integer: lanes(count('int', 'predicate'), device.lanes.integer),
    special: lanes(count('special'), device.lanes.special),
    shuffle: lanes(count('shuffle'), device.lanes.shuffle),
    shared: work.sharedWavefronts / clocks,
    L2: device.l2BytesPerClock === null ? 0 : work.sectorBytes / (device.l2BytesPerClock * device.clock),
    memory: work.memoryBytes / device.memory,
  };
}

/**
 * How much more the busiest multiprocessor has to do than the average one when blocks are handed out evenly.
 *
 * @param {number} blocks
 * @param {number} multiprocessors
 */
export function imbalance(blocks, multiprocessors) {
  return blocks === 0 ? 1 : (Math.ceil(blocks / multiprocessors) * multiprocessors) / blocks;
}

/**
 * The least time, why, and the same with whole blocks on each multiprocessor.
 *
 * @param {Work} work
 * @param {Device} device
 */
export function roofline(work, device) {
  const times = limits(work, device);
  const largest = (/** @type {[string, number][]} */ entries) => entries.reduce((a, b) => (b[1] > a[1] ? b : a));
  const [limit, seconds] = largest(Object.entries(times));
  const factor = imbalance(work.blocks, device.multiprocessors);
  const [waveLimit, waveSeconds] = largest(
    Object.entries(times).map(([name, time]) => [name, LOCAL.includes(name) ? time * factor : time]),
  );
  return { seconds, limit, waves: { seconds: waveSeconds, limit: waveLimit }, times };
}
