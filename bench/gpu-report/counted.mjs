// @ts-check
// From the simulator's counters to the figures of the report.

/** @typedef {import('./roofline.mjs').Work} Work */

/**
 * A kernel's counters, as `kotodama_sim_counters_json` of test/gpu-sim gives them.
 *
 * @typedef {object} Counters
 * @property {number} launches
 * @property {number} blocks
 * @property {number} blocks_run
 * @property {number} unlike
 * @property {number} threads
 * @property {number} instructions
 * @property {Record<string, number>} by_kind
 * @property {number} mma
 * @property {number} global_sectors
 * @property {number} global_read_sectors
 * @property {number} global_read_bytes
 * @property {number} global_write_sectors
 * @property {number} global_write_bytes
 * @property {number} shared_wavefronts
 * @property {number} shared_conflicts
 * @property {number} local_bytes
 * @property {number} static_shared
 * @property {number} dynamic_shared
 * @property {{ instructions: number, mma: number, shared_conflicts: number, by_kind: Record<string, number> }[]} loops
 */

/**
 * @typedef {object} Operation
 * @property {string} name
 * @property {string} description
 * @property {number} perMicroStep
 * @property {number} perStep
 * @property {number} flops
 * @property {number} fewestRead
 * @property {number} fewestWritten
 * @property {{ kernels: Record<string, Counters> }} counters
 */

/**
 * What bench/cuda/count.cc prints.
 *
 * @typedef {object} Counts
 * @property {number} batch
 * @property {number} block
 * @property {number} layers
 * @property {number} width
 * @property {number} parameters
 * @property {number} positionParameters
 * @property {Operation[]} operations
 */

export const SECTOR = 32;

/**
 * The loop around most of the tensor-core work, the smallest of those; undefined where there is none.
 *
 * @param {Counters} counters
 */
export function mainLoop(counters) {
  const withMma = counters.loops.filter((loop) => loop.mma > 0);
  return withMma.sort((a, b) => b.mma - a.mma || a.instructions - b.instructions)[0];
}

/**
 * A kernel's part of an operation, for the roofline. What goes to memory: everything it writes; what it reads, but at
 * most each operand once where tiles are read again and again from the cache (the kernels with tensor-core products).
 *
 * @param {Counters} counters
 * @param {Operation} operation
 * @returns {Work}
 */
export function workOf(counters, operation) {
  const read = counters.global_read_sectors * SECTOR;
  return {
    blocks: counters.blocks,
    mma: counters.mma,
    instructions: counters.instructions,
    kinds: counters.by_kind,
    sharedWavefronts: counters.shared_wavefronts,
    sectorBytes: counters.global_sectors * SECTOR,
    memoryBytes:
      (counters.mma > 0 ? Math.min(read, operation.fewestRead) : read) + counters.global_write_sectors * SECTOR,
  };
}

/** A memset has no kernel, but writes its bytes. @param {Operation} operation @returns {Work[]} */
export function worksOf(operation) {
  const kernels = Object.values(operation.counters.kernels);
  if (kernels.length > 0) return kernels.map((counters) => workOf(counters, operation));
  const bytes = operation.fewestRead + operation.fewestWritten;
  return [
    { blocks: 0, mma: 0, instructions: 0, kinds: {}, sharedWavefronts: 0, sectorBytes: bytes, memoryBytes: bytes },
  ];
}

/**
 * An operation's traffic against the fewest bytes: what its lanes asked for, and the sectors that this took.
 *
 * @param {Operation} operation
 */
export function traffic(operation) {
  const kernels = Object.values(operation.counters.kernels);
  const fewest = operation.fewestRead + operation.fewestWritten;
  const bytes = kernels.reduce((sum, k) => sum + k.global_read_bytes + k.global_write_bytes, 0);
  const sectorBytes = kernels.reduce((sum, k) => sum + k.global_sectors * SECTOR, 0);
  return { fewest, bytes, sectorBytes, bytesRatio: bytes / fewest, sectorRatio: sectorBytes / fewest };
}
