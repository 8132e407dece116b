// @ts-check
// The limits that the kernels are held to, each with what was found.

import { mainLoop, traffic } from './counted.mjs';

/** @typedef {import('./counted.mjs').Counts} Counts */
/** @typedef {import('./ptxas.mjs').Assembled} Assembled */
/** @typedef {ReturnType<import('./machine-code.mjs').machineLoop>} MachineLoop */

/** @typedef {{ what: string, limit: string, found: string, holds: boolean | null }} Verdict `holds` null: not known */

export const INSTRUCTIONS_PER_MMA = { gemm: 2.5, attention: 6 };
export const BYTES_RATIO = 1.05;
export const MFU = 0.75;

/** Whether an operation is one whose time is that of its bytes. @param {string} name */
export const isMemoryBound = (name) => /^(LayerNorm|AdamW|cross-entropy|embedding|cast|GELU|global norm)/.test(name);

/** @param {string} kernel */
export function familyOf(kernel) {
  return /^gemm_bf16_/.test(kernel) ? 'gemm' : /^attention_.*_bf16_/.test(kernel) ? 'attention' : null;
}

const twoDigits = (/** @type {number} */ n) => n.toFixed(2);
const missed = (/** @type {string[]} */ list, /** @type {string} */ fine) =>
  list.length === 0 ? fine : list.join('; ');

/**
 * Main loops of tensor-core kernels: for each kernel the operation in which it takes the most instructions per mma.
 *
 * @param {Counts} counts
 */
export function mainLoops(counts) {
  /** @type {Map<string, { operation: string, loop: NonNullable<ReturnType<typeof mainLoop>>, perMma: number, counters: import('./counted.mjs').Counters }>} */
  const worst = new Map();
  for (const operation of counts.operations) {
    for (const [kernel, counters] of Object.entries(operation.counters.kernels)) {
      const loop = mainLoop(counters);
      if (loop === undefined) continue;
      const perMma = loop.instructions / loop.mma;
      const known = worst.get(kernel);
      if (known !== undefined && known.perMma >= perMma) continue;
      worst.set(kernel, { operation: operation.name, loop, perMma, counters });
    }
  }
  return worst;
}

/**
 * @param {Map<string, Assembled>[]} assembled one an architecture
 * @param {Counts} counts
 * @returns {Verdict}
 */
function noLocalMemory(assembled, counts) {
  const bad = assembled.flatMap((kernels) =>
    [...kernels]
      .filter(([, k]) => k.stack + k.spillStores + k.spillLoads > 0)
      .map(([name, k]) => `${name}: stack ${k.stack} B, spilled ${k.spillStores} and ${k.spillLoads} B`),
  );
  const local = counts.operations.flatMap(({ counters }) =>
    Object.entries(counters.kernels).filter(([, k]) => k.local_bytes > 0),
  );
  bad.push(...local.map(([name]) => `${name} used local memory when it ran`));
  return {
    what: 'Spills and local memory, every kernel, sm_80 and sm_90',
    limit: '0 bytes',
    found: missed(bad, `0 bytes in ${assembled.map((kernels) => kernels.size).join(' + ')} kernels`),
    holds: bad.length === 0,
  };
}

/** @param {Counts} counts @returns {Verdict} */
function noConflicts(counts) {
  const bad = [...mainLoops(counts)].filter(([kernel]) => familyOf(kernel) !== null);
  const conflicts = bad.filter(([, { loop }]) => loop.shared_conflicts > 0);
  return {
    what: 'Shared-memory bank conflicts in the GEMM and attention main loops',
    limit: '0',
    found: missed(
      conflicts.map(([kernel, { loop }]) => `${kernel}: ${loop.shared_conflicts}`),
      `0 in ${bad.length} kernels`,
    ),
    holds: conflicts.length === 0,
  };
}

/** @param {Counts} counts @returns {Verdict} */
function fewestBytes(counts) {
  const all = counts.operations.filter(({ name }) => isMemoryBound(name) && !/GELU|global norm/.test(name));
  const ratios = all.map((operation) => ({ name: operation.name, ...traffic(operation) }));
  const worst = new Map();
  for (const r of ratios) {
    const known = worst.get(r.name);
    if (known === undefined || known.sectorRatio < r.sectorRatio) worst.set(r.name, r);
  }
  const bad = [...worst.values()].filter((r) => r.bytesRatio > BYTES_RATIO || r.sectorRatio > BYTES_RATIO);
  const most = Math.max(...[...worst.values()].map((r) => r.sectorRatio));
  return {
    what: 'Bytes of LayerNorm, AdamW, cross-entropy, embedding, dropout and casts against the fewest possible, in whole sectors',
    limit: `at most ${BYTES_RATIO} times`,
    found: missed(
      bad.map((r) => `${r.name}: ${twoDigits(r.bytesRatio)} asked for, ${twoDigits(r.sectorRatio)} in sectors`),
      `at most ${most.toFixed(3)}`,
    ),
    holds: bad.length === 0,
  };
}

/**
 * @param {'gemm' | 'attention'} family
 * @param {Counts} counts
 * @param {Map<string, Map<string, MachineLoop>>} machineLoops by architecture
 * @returns {Verdict[]}
 */
function instructionsPerMma(family, counts, machineLoops) {
  const limit = INSTRUCTIONS_PER_MMA[family];
  const isOurs = (/** @type {string} */ kernel) => familyOf(kernel) === family && !kernel.endsWith('_dropout');
  const list = (/** @type {[string, number][]} */ values) =>
    values.map(([kernel, n]) => `${kernel} ${twoDigits(n)}${n > limit ? ' (missed)' : ''}`).join(', ');
  const loop = family === 'gemm' ? 'GEMM main loop' : 'attention main loop without dropout';
  const what = `Issued warp instructions per mma.m16n8k16 in the ${loop}`;
  /** @type {[string, number][]} */
  const ptx = [...mainLoops(counts)]
    .filter(([kernel]) => isOurs(kernel))
    .map(([kernel, { perMma }]) => [kernel, perMma]);
  const verdicts = [
    {
      what: `${what}, PTX as executed`,
      limit: `at most ${limit}`,
      found: list(ptx),
      holds: ptx.every(([, n]) => n <= limit),
    },
  ];
  const used = new Set(ptx.map(([kernel]) => kernel));
  for (const [architecture, loops] of machineLoops) {
    /** @type {[string, number][]} */
    const values = [];
    for (const [kernel, loop] of loops) {
      if (loop !== null && used.has(kernel)) values.push([kernel, loop.instructions / loop.mma]);
    }
    verdicts.push({
      what: `${what}, ${architecture} machine code`,
      limit: `at most ${limit}`,
      found: list(values),
      holds: values.length > 0 && values.every(([, n]) => n <= limit),
    });
  }
  return verdicts;
}

/**
 * What the limit on attention leaves out: main loops with dropout that are beyond it. The step that is counted has none.
 *
 * @param {Counts} counts
 */
export function beyondWithDropout(counts) {
  return [...mainLoops(counts)]
    .filter(([kernel, { perMma }]) => kernel.endsWith('_dropout') && perMma > INSTRUCTIONS_PER_MMA.attention)
    .map(([kernel, { perMma }]) => `${kernel} ${twoDigits(perMma)}`);
}

/**
 * @param {{ mfu: number, mfuWaves: number, mfuSquare: number }} total of the micro-step
 * @param {string} device
 * @param {Counts} counts
 * @returns {Verdict}
 */
function utilisation(total, device, counts) {
  const percent = (/** @type {number} */ n) => `${(100 * n).toFixed(1)} %`;
  return {
    what: `MFU of the micro-step's roofline, ${device}, B=${counts.batch}, T=${counts.block}`,
    limit: `at least ${100 * MFU} %`,
    found: `${percent(total.mfu)} (${percent(total.mfuWaves)} with whole blocks on each multiprocessor; ${percent(total.mfuSquare)} by PaLM's count)`,
    holds: total.mfu >= MFU,
  };
}

/**
 * @param {object} found
 * @param {Counts[]} found.counts smallest batch first
 * @param {Map<string, Map<string, Assembled>>} found.assembled by architecture
 * @param {Map<string, Map<string, MachineLoop>>} found.machineLoops by architecture; empty without a disassembler
 * @param {{ device: string, counts: Counts, mfu: number, mfuWaves: number, mfuSquare: number }[]} found.totals on A100
 * @returns {Verdict[]}
 */
export function verdicts({ counts, assembled, machineLoops, totals }) {
  const first = counts[0];
  return [
    noLocalMemory([...assembled.values()], first),
    noConflicts(first),
    fewestBytes(first),
    ...instructionsPerMma('gemm', first, machineLoops),
    ...instructionsPerMma('attention', first, machineLoops),
    ...totals.map((total) => utilisation(total, total.device, total.counts)),
  ];
}
