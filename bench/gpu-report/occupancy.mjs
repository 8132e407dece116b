// @ts-check
// How many blocks of a kernel one multiprocessor holds at a time, from what NVIDIA publishes per compute capability
// (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"; tuning guides for what a block's
// shared memory costs beside its own bytes).

/**
 * @typedef {object} Multiprocessor
 * @property {number} threads
 * @property {number} blocks
 * @property {number} registers
 * @property {number} registerUnit registers are handed out to a warp in multiples of this
 * @property {number} warpUnit warps that share registers are counted in multiples of this
 * @property {number} shared bytes
 * @property {number} sharedUnit
 * @property {number} sharedReserved bytes that the system takes for each block
 */

const common = { registers: 65536, registerUnit: 256, warpUnit: 4, sharedUnit: 128, sharedReserved: 1024 };

/** @type {Record<string, Multiprocessor>} */
export const multiprocessors = {
  '8.0': { ...common, threads: 2048, blocks: 32, shared: 164 * 1024 },
  8.6: { ...common, threads: 1536, blocks: 16, shared: 100 * 1024 },
  8.9: { ...common, threads: 1536, blocks: 24, shared: 100 * 1024 },
  '9.0': { ...common, threads: 2048, blocks: 32, shared: 228 * 1024 },
};

const roundUp = (/** @type {number} */ n, /** @type {number} */ unit) => Math.ceil(n / unit) * unit;

/**
 * Resident blocks and the share of the warps that a multiprocessor could hold.
 *
 * @param {{ threads: number, registers: number, shared: number }} kernel per block, per thread, bytes per block
 * @param {Multiprocessor} multiprocessor
 */
export function occupancy(kernel, multiprocessor) {
  const warps = Math.ceil(kernel.threads / 32);
  const most = multiprocessor.threads / 32;
  const registersPerWarp = roundUp(Math.max(1, kernel.registers) * 32, multiprocessor.registerUnit);
  const warpsByRegisters =
    Math.floor(Math.floor(multiprocessor.registers / registersPerWarp) / multiprocessor.warpUnit) *
    multiprocessor.warpUnit;
  const sharedPerBlock = roundUp(kernel.shared + multiprocessor.sharedReserved, multiprocessor.sharedUnit);
  const by = {
    threads: Math.floor(most / warps),
    blocks: multiprocessor.blocks,
    registers: Math.floor(warpsByRegisters / warps),
    'shared memory': Math.floor(multiprocessor.shared / sharedPerBlock),
  };
  const blocks = Math.min(...Object.values(by));
  const limit = /** @type {[string, number][]} */ (Object.entries(by)).find(([, n]) => n === blocks)?.[0];
  return { blocks, warps: blocks * warps, share: (blocks * warps) / most, limit };
}
