// @ts-check
// The whole report as Markdown.

import { beyondWithDropout } from './limits.mjs';
import {
  instructionTable,
  kernelTable,
  loopTable,
  rooflineTable,
  totalTable,
  trafficTable,
  verdictTable,
} from './markdown.mjs';

/** @typedef {import('./counted.mjs').Counts} Counts */
/** @typedef {import('./devices.mjs').Device} Device */

const samples = `\`run\`: how many of the blocks were run; where it is not all of them, some of each row of
the grid along x stand for the others, and \`unlike\` is the largest difference in instructions between two that stand for the same
row.`;

/** @param {Counts} counts */
const sampled = (counts) =>
  counts.operations.some(({ counters }) => Object.values(counters.kernels).some((k) => k.blocks_run < k.blocks));

/** @param {Counts} counts */
function dropoutNote(counts) {
  const loops = beyondWithDropout(counts);
  if (loops.length === 0) return '';
  return `
The limit on attention is for loops without dropout, as in the step above. With it they take more, in PTX as executed:
${loops.join(', ')}.
No masks are stored, so each kernel draws them anew: for each four probabilities a Philox4x32-10, ten rounds of two 64-bit products.
`;
}

/** @param {Counts} counts */
const shape = (counts) => `B=${counts.batch}, T=${counts.block}`;

/**
 * @param {object} found
 * @param {Counts[]} found.counts
 * @param {{ of: Counts, rows: { device: Device, total: ReturnType<typeof import('./totals.mjs').totals> }[] }[]} found.all
 * @param {Map<string, Map<string, import('./ptxas.mjs').Assembled>>} found.assembled
 * @param {Map<string, Map<string, ReturnType<typeof import('./machine-code.mjs').machineLoop>>>} found.machineLoops
 * @param {string} found.version of ptxas
 * @param {Device[]} found.devices
 * @param {import('./limits.mjs').Verdict[]} found.verdicts
 */
export function report({ counts, all, assembled, machineLoops, version, devices, verdicts }) {
  const first = counts[0];
  // One of each chip: those with other memory have rows in the tables of the step.
  const chip = (/** @type {Device} */ { capability, multiprocessors }) => `${capability}, ${multiprocessors}`;
  const shown = devices.filter((device, i) => devices.findIndex((other) => chip(other) === chip(device)) === i);
  const missed = verdicts.filter(({ holds }) => !holds).length;
  return `# What the CUDA kernels cost: counted, not timed

No GPU was used. Every operation of a GPT-2 training step (124M, ${first.layers} layers, bf16, the list is the model's own) ran on
the simulator in \`test/gpu-sim\`, which executes the PTX that ships and counts, on random operands,
with the tiles that are chosen for an A100's 108 multiprocessors; \`ptxas\` ${version} assembled the same PTX. Times are
rooflines: the least that the counted work can take at NVIDIA's published rates. A real GPU takes longer. \`npm run gpu-report\`
makes this page; \`npm run bench:cuda\` measures on a GPU.

**${verdicts.length - missed} of ${verdicts.length} limits hold** (last table).

## Kernels as assembled

Registers a thread, bytes spilled (stores and loads), bytes of stack, and resident blocks of a multiprocessor with the share of its
warps and what limits them. Shared memory is that of the largest launch here.

${kernelTable(first, assembled)}

## Main loops

The loop with the most tensor-core work: warp instructions issued per mma.m16n8k16, the mma included, as executed in PTX. In machine
code the steady iteration is counted: the path with all products and copies and the fewest other instructions, without masked last
tiles; in brackets all instructions of the loop, and its mma. A loop within it counts there as one turn, so that with dropout, which
is drawn in such loops, machine code takes more than is said. PTX and machine code differ where one is several of the other: 64-bit
sums are two instructions, most moves and address conversions none. Wavefronts are of the whole kernel: 128 bytes of shared memory a
clock; an A100 does an mma every 2 clocks, an H100 every clock.${machineLoops.size === 0 ? ' There was no cuobjdump: machine code was not looked at.' : ''}

${loopTable(first, machineLoops)}

## Instructions, ${shape(first)}

Of one launch of each operation, in millions of warp instructions. ${sampled(first) ? samples : 'Every block was run.'}

${instructionTable(first)}

## Bytes, ${shape(first)}

\`fewest\`: each operand read once, each result written once. \`asked for\`: by the threads, re-reading tiles from the cache included;
sectors are 32 bytes. The split sums of K and the bias gradients of a product count as its own. Products and attention read their
operands in tiles, again and again from the cache, so their ratio says how much, not how well.

${trafficTable(first)}

## Rooflines, ${shape(first)}

Microseconds of one operation, all its kernels one after the other, and the limit of the longest: \`tensor\` products, \`issue\` slots
(four schedulers), lanes for \`fp32\`, \`fp64\`, \`integer\`, \`special\` functions and \`shuffle\`s, \`shared\` memory wavefronts,
\`L2\` (A100 alone publishes it), \`memory\`. To memory goes what is written and, of operands that are read in tiles, each byte once.
\`whole blocks\`: the same when a multiprocessor takes whole blocks, so that the busiest one decides. What occurs 12 times in a
micro-step occurs once a layer.

${rooflineTable(first, shown)}

${all
  .map(
    ({ of, rows }) => `## The step, ${shape(of)}

${totalTable(rows)}`,
  )
  .join('\n\n')}

A micro-step adds to the gradients of one before; it launches ${all[0].rows[0].total.launches} kernels at ${shape(first)}. What a launch costs is not
counted: recorded graphs hide most of it. MFU is the model's arithmetic over the device's tensor rate and the time. The arithmetic:
6 for each token and parameter, the positions aside, and 6 L C T a token for causal attention (12 L C T, the whole square, in PaLM's
count), whatever the kernels do beside: padding of the vocabulary, scores computed again in backward. \`ideal\` is that arithmetic
at the tensor rate. The step has one micro-step.

Rates:
${devices.map((d) => `- ${d.name}: ${d.tensor / 1e12} TFLOP/s, ${d.memory / 1e9} GB/s, ${d.multiprocessors} multiprocessors at ${d.clock / 1e9} GHz. ${d.source}.`).join('\n')}

The tensor rate of H100 and H200 needs \`wgmma\`; the kernels use \`mma.sync\`, which stays below it, so that their figures are
further from what a GPU would show than the others. Type conversions have a rate of their own on GPUs; they are counted as issue slots alone, because most
of PTX's cost nothing in machine code.

## Limits

${verdictTable(verdicts)}
${dropoutNote(first)}`;
}
