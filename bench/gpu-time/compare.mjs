// @ts-check
// What was timed on a GPU beside what was counted for it, and beside PyTorch.

import { worksOf } from '../gpu-report/counted.mjs';
import { table } from '../gpu-report/markdown.mjs';
import { roofline } from '../gpu-report/roofline.mjs';
import { totals } from '../gpu-report/totals.mjs';

/** @typedef {import('../gpu-report/counted.mjs').Counts} Counts */
/** @typedef {import('../gpu-report/devices.mjs').Device} Device */
/** @typedef {import('./peers.mjs').Entry} Entry */

/**
 * What bench/cuda/time.cc prints.
 *
 * @typedef {object} Timed
 * @property {string} device
 * @property {string} detail
 * @property {number} batch
 * @property {number} block
 * @property {number} layers
 * @property {number} modelFlops
 * @property {string} [date] when it ran
 * @property {string} [commit] of what; `-dirty` behind it where files were changed
 * @property {{ name: string, description: string, perMicroStep: number, perStep: number, flops: number,
 *   fewestBytes: number, milliseconds: number, fastest: number }[]} operations
 */

/**
 * The counts of the same step, and the rates of the device; undefined where there are none.
 *
 * @param {Timed} timed
 * @param {{ counts: Counts[] } | undefined} report bench/results/gpu-report.json
 * @param {Device[]} devices
 */
export function match(timed, report, devices) {
  const device = devices.find(({ pattern }) => pattern.test(timed.device));
  const counts = report?.counts.find(
    ({ batch, block, layers }) => batch === timed.batch && block === timed.block && layers === timed.layers,
  );
  return { device, counts };
}

/**
 * Seconds of the roofline of each operation, by description, and of the steps.
 *
 * @param {Counts | undefined} counts
 * @param {Device | undefined} device
 */
export function counted(counts, device) {
  /** @type {Map<string, number>} */
  const seconds = new Map();
  if (counts === undefined || device === undefined) return seconds;
  for (const operation of counts.operations) {
    const sum = worksOf(operation).reduce((total, work) => total + roofline(work, device).seconds, 0);
    seconds.set(operation.description, sum);
  }
  const { microStep, step } = totals(counts, device);
  seconds.set('ForwardBackward', microStep);
  seconds.set('ForwardBackward, Step', microStep + step);
  return seconds;
}

/**
 * Our step and PyTorch's; empty where our step was not timed.
 *
 * @param {Timed} timed
 * @param {{ torch: string, pythonVersion: string, entries: Entry[] }} peers
 */
export function peerReport(timed, { torch, pythonVersion, entries }) {
  const ours = timed.operations.find(({ description }) => description === 'ForwardBackward, Step');
  if (ours === undefined) return '';
  const row = (/** @type {string} */ who, /** @type {number} */ milliseconds) => [
    who,
    milliseconds.toFixed(2),
    Math.round((timed.batch * timed.block * 1e3) / milliseconds).toLocaleString('en-US'),
    (milliseconds / ours.milliseconds).toFixed(2),
  ];
  const rows = [row('kotodama', ours.milliseconds)];
  const failed = [];
  for (const entry of entries) {
    if ('error' in entry) failed.push(`- failed: ${entry.error}`);
    else rows.push(row(entry.who, entry.milliseconds));
  }
  return `## Beside PyTorch

The step with one micro-step, medians; PyTorch ${torch} with Python ${pythonVersion}: bf16 by autocast, fused AdamW, its own attention.
Ours is timed by the device's events, PyTorch's by the host's clock until the loss is read. GPT-2's vocabulary is 50257;
nanoGPT takes 50304 instead, with which PyTorch's products are faster.

${table(['', 'ms a step', 'tokens/s', 'times ours'], rows)}
${failed.length > 0 ? `\n${failed.join('\n')}\n` : ''}`;
}

/**
 * @param {Timed} timed
 * @param {{ device: Device | undefined, counts: Counts | undefined }} found by {@link match}
 * @param {Parameters<typeof peerReport>[1]} [peers]
 */
export function timeReport(timed, { device, counts }, peers) {
  const rooflines = counted(counts, device);
  const cells = timed.operations.map(({ name, description, perMicroStep, perStep, flops, fewestBytes, ...row }) => {
    const seconds = row.milliseconds / 1e3;
    const roofline = rooflines.get(description);
    const isStep = description.startsWith('ForwardBackward');
    const mfu = isStep && device !== undefined ? `${((100 * flops) / seconds / device.tensor).toFixed(1)} %` : '';
    return [
      name,
      isStep ? '' : perMicroStep > 0 ? perMicroStep : perStep > 0 ? 'a step' : '-',
      (seconds * 1e6).toFixed(1),
      (row.fastest * 1e3).toFixed(1),
      flops > 0 ? (flops / seconds / 1e12).toFixed(1) : '',
      fewestBytes > 0 ? Math.round(fewestBytes / seconds / 1e9) : '',
      mfu,
      roofline === undefined ? '' : (roofline * 1e6).toFixed(1),
      roofline === undefined ? '' : `${((100 * roofline) / seconds).toFixed(0)} %`,
    ];
  });
  const head = [
    '',
    'a micro-step',
    'median µs',
    'fastest µs',
    'TFLOP/s',
    'GB/s',
    'MFU',
    'counted µs',
    'of the roofline',
  ];
  const tokens = timed.batch * timed.block;
  const step = timed.operations.find(({ description }) => description === 'ForwardBackward');
  const origin = timed.date === undefined ? '' : `${timed.date}, commit ${timed.commit ?? 'unknown'}; `;
  return `# Timed on ${timed.device}

${origin}${timed.detail}; GPT-2 with ${timed.layers} layers, B=${timed.batch}, T=${timed.block}, bf16. Medians by the device's own events; every
operation finds its operands in memory, not in the cache. GB/s: of the fewest bytes that the operation can move. MFU counts 6 for
each token and parameter, the positions aside, and causal attention. \`counted\`: the roofline of \`npm run gpu-report\`${
    device === undefined
      ? ', which knows no rates of this device'
      : counts === undefined
        ? ', which has not been run for this shape'
        : ` with the rates of ${device.name}`
  }.

${table(head, cells)}
${step === undefined ? '' : `\n${Math.round((tokens / step.milliseconds) * 1e3).toLocaleString('en-US')} tokens a second in micro-steps.\n`}${
  peers === undefined ? '' : `\n${peerReport(timed, peers)}`
}`;
}
