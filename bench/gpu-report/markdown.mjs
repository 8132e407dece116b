// @ts-check
// The report's text.

import { SECTOR, traffic, worksOf } from './counted.mjs';
import { isMemoryBound, mainLoops } from './limits.mjs';
import { multiprocessors, occupancy } from './occupancy.mjs';
import { roofline } from './roofline.mjs';

/** @typedef {import('./counted.mjs').Counts} Counts */
/** @typedef {import('./counted.mjs').Counters} Counters */
/** @typedef {import('./devices.mjs').Device} Device */
/** @typedef {import('./ptxas.mjs').Assembled} Assembled */
/** @typedef {ReturnType<import('./machine-code.mjs').machineLoop>} MachineLoop */

/** Numbers are aligned to the right. @param {string[]} head @param {(string | number)[][]} rows */
export function table(head, rows) {
  const right = head.map((_, i) => rows.length > 0 && rows.every((row) => /^[\d.,%×\- ]*$/.test(String(row[i]))));
  const line = (/** @type {(string | number)[]} */ cells) => `| ${cells.join(' | ')} |`;
  return [line(head), line(right.map((r) => (r ? '---:' : '---'))), ...rows.map(line)].join('\n');
}

const thousands = (/** @type {number} */ n) => Math.round(n).toLocaleString('en-US');
const millions = (/** @type {number} */ n) => (n / 1e6).toFixed(2);
const fixed = (/** @type {number} */ n, digits = 2) => n.toFixed(digits);
const percent = (/** @type {number} */ n) => `${(100 * n).toFixed(1)} %`;
const microseconds = (/** @type {number} */ seconds) => fixed(seconds * 1e6, 1);
const milliseconds = (/** @type {number} */ seconds) => fixed(seconds * 1e3);

/** @param {Counts} counts @returns {[string, string, Counters][]} */
const launched = (counts) =>
  counts.operations.flatMap((operation) =>
    Object.entries(operation.counters.kernels).map(
      ([kernel, counters]) => /** @type {[string, string, Counters]} */ ([operation.name, kernel, counters]),
    ),
  );

/**
 * Each kernel as the assembler made it, and how many of its blocks a multiprocessor holds.
 *
 * @param {Counts} counts
 * @param {Map<string, Map<string, Assembled>>} assembled by architecture
 */
export function kernelTable(counts, assembled) {
  const capability = /** @type {Record<string, string>} */ ({ sm_80: '8.0', sm_90: '9.0' });
  /** @type {Map<string, Counters>} */
  const used = new Map();
  for (const [, kernel, counters] of launched(counts)) {
    const known = used.get(kernel);
    if (known === undefined || known.dynamic_shared < counters.dynamic_shared) used.set(kernel, counters);
  }
  const rows = [...used]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([kernel, { threads, static_shared, dynamic_shared }]) => {
      const row = [kernel, threads, thousands(static_shared + dynamic_shared)];
      for (const [architecture, kernels] of assembled) {
        const { registers, spillStores, spillLoads, stack } = /** @type {Assembled} */ (kernels.get(kernel));
        const shared = static_shared + dynamic_shared;
        const resident = occupancy({ threads, registers, shared }, multiprocessors[capability[architecture]]);
        row.push(registers, spillStores + spillLoads, stack);
        row.push(`${resident.blocks} (${percent(resident.share)}, ${resident.limit})`);
      }
      return row;
    });
  const head = [...assembled.keys()].flatMap((name) => [`${name} registers`, 'spilled B', 'stack B', 'blocks an SM']);
  return table(['kernel', 'threads', 'shared B', ...head], rows);
}

/**
 * @param {Counts} counts
 * @param {Map<string, Map<string, MachineLoop>>} machineLoops by architecture
 */
export function loopTable(counts, machineLoops) {
  const rows = [...mainLoops(counts)].map(([kernel, { operation, loop, perMma, counters }]) => {
    const per = (/** @type {string[]} */ ...kinds) =>
      fixed(kinds.reduce((sum, kind) => sum + (loop.by_kind[kind] ?? 0), 0) / loop.mma);
    const machine = [...machineLoops.values()].map((loops) => {
      const found = loops.get(kernel);
      return found ? `${fixed(found.instructions / found.mma)} (${found.all} / ${found.allMma})` : '';
    });
    return [
      kernel,
      operation,
      fixed(perMma),
      percent(loop.mma / loop.instructions),
      per('int', 'predicate'),
      per('float', 'special', 'convert', 'half'),
      per('move', 'control', 'barrier'),
      per('ldmatrix', 'ld.shared', 'st.shared', 'shuffle'),
      per('cp.async', 'ld.global', 'st.global'),
      fixed(counters.shared_wavefronts / counters.mma),
      loop.shared_conflicts,
      counters.shared_conflicts,
      ...machine,
    ];
  });
  return table(
    [
      'kernel',
      'in',
      'instructions / mma',
      'mma share',
      'integer',
      'float',
      'move, control',
      'shared',
      'global',
      'shared wavefronts / mma',
      'conflicts',
      'conflicts, whole kernel',
      ...[...machineLoops.keys()].map((name) => `${name} / mma, steady (all / mma)`),
    ],
    rows,
  );
}

/** Columns on samples only where there are any. @param {Counts} counts */
export function instructionTable(counts) {
  const rows = launched(counts).map(([name, kernel, c]) => {
    const kind = (/** @type {string[]} */ ...kinds) => millions(kinds.reduce((sum, k) => sum + (c.by_kind[k] ?? 0), 0));
    return {
      operation: name,
      kernel,
      launches: c.launches,
      blocks: thousands(c.blocks),
      run: c.blocks_run === c.blocks ? '' : thousands(c.blocks_run),
      unlike: c.unlike === 0 ? '' : percent(c.unlike),
      'instructions M': millions(c.instructions),
      'mma M': millions(c.mma),
      integer: kind('int', 'predicate'),
      float: kind('float', 'half', 'special', 'convert', 'double'),
      'move, control': kind('move', 'control', 'barrier', 'ld.param', 'ld.const', 'fence'),
      shared: kind('ldmatrix', 'stmatrix', 'ld.shared', 'st.shared', 'shuffle'),
      global: kind('cp.async', 'ld.global', 'st.global', 'ld.generic', 'st.generic', 'atomic'),
      'wavefronts M': millions(c.shared_wavefronts),
      conflicts: thousands(c.shared_conflicts),
    };
  });
  const head = Object.keys(rows[0]).filter((name) => rows.some((row) => /** @type {any} */ (row)[name] !== ''));
  return table(
    head,
    rows.map((row) => head.map((name) => /** @type {any} */ (row)[name])),
  );
}

/** @param {Counts} counts */
export function trafficTable(counts) {
  const megabytes = (/** @type {number} */ n) => fixed(n / 1e6, 1);
  const rows = counts.operations.map((operation) => {
    const { fewest, bytes, sectorBytes, bytesRatio, sectorRatio } = traffic(operation);
    const full = sectorBytes === 0 ? 1 : bytes / sectorBytes;
    return [
      operation.name,
      megabytes(fewest),
      megabytes(bytes),
      thousands(sectorBytes / SECTOR),
      percent(full),
      fixed(bytesRatio, 3),
      isMemoryBound(operation.name) ? fixed(sectorRatio, 3) : 'tiles again',
    ];
  });
  return table(
    ['operation', 'fewest MB', 'asked for MB', 'sectors', 'of them used', 'ratio', 'ratio in sectors'],
    rows,
  );
}

/**
 * @param {Counts} counts
 * @param {Device[]} devices
 */
export function rooflineTable(counts, devices) {
  const rows = counts.operations.map((operation) => {
    const works = worksOf(operation);
    const cells = devices.flatMap((device) => {
      const times = works.map((work) => roofline(work, device));
      const longest = times.reduce((a, b) => (b.seconds > a.seconds ? b : a));
      const sum = (/** @type {(t: ReturnType<typeof roofline>) => number} */ of) =>
        times.reduce((n, t) => n + of(t), 0);
      return [microseconds(sum((t) => t.seconds)), longest.limit, microseconds(sum((t) => t.waves.seconds))];
    });
    const times = operation.perMicroStep > 0 ? `${operation.perMicroStep}` : operation.perStep > 0 ? 'a step' : '-';
    return [operation.name, times, ...cells];
  });
  return table(
    ['operation', 'a micro-step', ...devices.flatMap(({ name }) => [`${name} µs`, 'limit', 'whole blocks µs'])],
    rows,
  );
}

/** @param {{ device: Device, total: ReturnType<typeof import('./totals.mjs').totals> }[]} totals */
export function totalTable(totals) {
  const rows = totals.map(({ device, total }) => [
    device.name,
    milliseconds(total.ideal),
    milliseconds(total.microStep),
    milliseconds(total.microStepWaves),
    milliseconds(total.step),
    percent(total.mfu),
    percent(total.mfuWaves),
    percent(total.mfuSquare),
    percent(total.mfuStep),
    percent(total.mfuStepWaves),
  ]);
  return table(
    [
      'device',
      'ideal ms',
      'micro-step ms',
      'whole blocks ms',
      'optimizer ms',
      'MFU',
      'MFU, whole blocks',
      "MFU, PaLM's count",
      'MFU with optimizer',
      'with optimizer, whole blocks',
    ],
    rows,
  );
}

/** @param {import('./limits.mjs').Verdict[]} verdicts */
export function verdictTable(verdicts) {
  const rows = verdicts.map(({ what, limit, found, holds }) => [what, limit, found, holds ? 'holds' : '**missed**']);
  return table(['what', 'limit', 'found', ''], rows);
}
