// What becomes of calls on a host with little memory (see poor-host.cc): one JSON object on stdout, with an error's code
// and message, or true, for each.

import { readFileSync, writeFileSync } from 'node:fs';
import { GPT2 } from '../../dist/index.js';

/** Of one sequence. */
function batch(length) {
  const data = new Int32Array(length).fill(5);
  return { data, shape: [1, length] };
}

async function outcome(call) {
  try {
    await call();
    return true;
  } catch ({ code, message }) {
    return `${code} ${message}`;
  }
}

async function using(config, options, use) {
  const sizes = { vocabSize: 50, nLayer: 1, nHead: 4, nEmbd: 16, nPositions: 4096, ...config };
  const model = await GPT2.create(sizes, { device: 'cpu', threads: 2, ...options });
  try {
    return await use(model);
  } finally {
    await model.dispose();
  }
}

/** As `outcome`, where another program takes all but 20 MiB of the memory after the engine's first look at it. */
async function outcomeBesideAnother(call) {
  const file = process.env.POOR_HOST_MEMINFO;
  const before = readFileSync(file, 'utf8');
  writeFileSync(`${file}.next`, before.replace(/MemAvailable: +\d+/, 'MemAvailable: 20480'));
  const found = await outcome(call);
  writeFileSync(file, before);
  return found;
}

const found = {};
// 25 MiB of logits, then 196.
await using({ vocabSize: 50257, nEmbd: 8 }, {}, async (model) => {
  found.smallForward = await outcome(() => model.forward({ inputIds: batch(128) }));
  found.forward = await outcome(() => model.forward({ inputIds: batch(1024) }));
});
// 16 MiB of probabilities, then 64 beside 24 that they are computed from, then 256.
await using({ nEmbd: 1024, nInner: 16 }, {}, async (model) => {
  found.smallAttention = await outcome(() => model.attention({ inputIds: batch(1024), layer: 0 }));
  found.wideAttention = await outcome(() => model.attention({ inputIds: batch(2048), layer: 0 }));
  found.attention = await outcome(() => model.attention({ inputIds: batch(4096), layer: 0 }));
});
// 24 MiB of hidden states beside as many that they are copied from, 4 of each layer.
await using({ nLayer: 5, nEmbd: 512, nInner: 16 }, {}, async (model) => {
  const states = () => model.hiddenStates({ inputIds: batch(2048) });
  found.smallHidden = await outcome(states);
  found.hidden = await outcomeBesideAnother(states);
});
// Each thread works on one of 64 heads.
for (const threads of [1, 64]) {
  await using({ nHead: 64, nEmbd: 128, nInner: 16 }, { threads }, async (model) => {
    found[`threads${threads}`] = await outcome(() => model.reserve({ batchSize: 1, blockSize: 4096 }));
  });
}
// One head, however many threads.
await using({ nHead: 1, nEmbd: 256 }, { threads: 64 }, async (model) => {
  found.oneHead = await outcome(() => model.forwardBackward({ inputIds: batch(1024), labels: batch(1024) }));
});
found.peakFlops = String(await using({}, {}, (model) => model.peakFlops()));
process.stdout.write(JSON.stringify(found));
