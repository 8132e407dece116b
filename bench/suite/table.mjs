// @ts-check
// The results as text: Markdown, so that the README can show the same lines.

/** @param {number} value */
const percent = (value) => `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`;
/** @param {number} seconds */
const time = (seconds) => (seconds < 1 ? `${(1000 * seconds).toPrecision(3)} ms` : `${seconds.toPrecision(3)} s`);
/** @param {number} bytes */
const gibibytes = (bytes) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;

/** @param {string[]} head @param {string[][]} rows */
function table(head, rows) {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** @param {any} peaks */
export function peaksLine({ threads, f32, bf16, readBytes }) {
  const rate = (/** @type {number} */ value) => `${(value / 1e9).toFixed(0)} G`;
  return `${threads} thread${threads > 1 ? 's' : ''}: fp32 ${rate(f32)}FLOP/s, bf16 ${rate(bf16)}FLOP/s, memory read ${rate(readBytes)}B/s`;
}

/** @param {any[]} operations @param {number} threads @param {number} readBytes */
export function operationsTable(operations, threads, readBytes) {
  const others = [...new Set(operations.flatMap(({ rivals }) => Object.keys(rivals)))];
  const rows = operations.map(({ name, seconds, best, flops, share, bytes, rivals }) => [
    name,
    time(seconds),
    time(best),
    flops ? percent(share) : '',
    bytes ? `${(bytes / seconds / 1e9).toFixed(1)} GB/s, ${percent(bytes / seconds / readBytes)}` : '',
    ...others.map((other) =>
      rivals[other] ? `${time(rivals[other])} (${(rivals[other] / seconds).toFixed(2)}x)` : '',
    ),
  ]);
  const head = ['operation', 'median', 'best', 'of peak', 'bytes, of read rate', ...others];
  return `${threads} thread${threads > 1 ? 's' : ''}\n\n${table(head, rows)}`;
}

/** @param {any[]} cases */
export function trainingTable(cases) {
  const rows = cases.flatMap(({ name, timings }) => {
    const [ours] = timings;
    return timings.map((/** @type {any} */ timing, /** @type {number} */ i) => [
      i === 0 ? name : '',
      timing.who,
      `${time(timing.median)} (${time(timing.min)} to ${time(timing.max)}, ${timing.samples})`,
      timing.tokensPerSecond.toPrecision(3),
      percent(timing.share),
      timing.shareOfLimit ? percent(timing.shareOfLimit) : '',
      timing.peakBytes ? gibibytes(timing.peakBytes) : '',
      i === 0 ? '' : `${(timing.median / ours.median).toFixed(2)}x`,
      timing.load.toFixed(1),
    ]);
  });
  return table(
    [
      'step',
      'who',
      'median (least to most, steps)',
      'tok/s',
      'of peak',
      'of limit',
      'peak memory',
      'time of ours',
      'load',
    ],
    rows,
  );
}

/** @param {any[]} generations */
export function generationTable(generations) {
  const rows = generations.flatMap(({ precision, timings }) =>
    timings.map((/** @type {any} */ timing, /** @type {number} */ i) => [
      i === 0 ? precision : '',
      timing.who,
      `${time(timing.median)} (${time(timing.min)} to ${time(timing.max)})`,
      timing.tokensPerSecond.toPrecision(3),
      percent(timing.share),
      i === 0 ? '' : `${(timing.median / timings[0].median).toFixed(2)}x`,
    ]),
  );
  return table(['generation', 'who', 'a token', 'tok/s', 'of read rate', 'time of ours'], rows);
}

/** @param {any[]} steps */
export function partsTable(steps) {
  const names = Object.keys(steps[0].parts);
  const rows = steps.map(({ name, seconds, parts }) => {
    // Of the steps that were watched, not of those that were timed as a whole.
    const all = names.reduce((sum, part) => sum + parts[part], 0);
    const shares = names.map((part) => percent(parts[part] / all));
    return [name, time(seconds), ...shares, percent(1 - (parts.gemm + parts.attention) / all)];
  });
  return table(['one thread', 'step', ...names, 'all but gemm and attention'], rows);
}
