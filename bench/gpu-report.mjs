// What the CUDA kernels cost, counted without a GPU.
//
//   npm run gpu-report [-- --sample 8]
//
// Runs every operation of a GPT-2 124M training step on the simulator (test/gpu-sim), which counts; assembles the kernels
// for what the assembler says of them; and from both and published rates works out the least time each could take.
// Writes bench/results/gpu-report.md and .json. Takes about five minutes on two cores; with --sample N only N blocks of
// each row of a grid are run and stand for the others, for a quick look.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build, buildSimulator, cached, run } from './cuda/build.mjs';
import { mainLoop } from './gpu-report/counted.mjs';
import { devices } from './gpu-report/devices.mjs';
import { verdicts as decide } from './gpu-report/limits.mjs';
import { report } from './gpu-report/report.mjs';
import { assemble } from './gpu-report/tools.mjs';
import { totals } from './gpu-report/totals.mjs';

/** The first is what the tables show. */
const BATCHES = [4, 16];
const ARCHITECTURES = ['sm_80', 'sm_90'];

const note = (text) => process.stderr.write(`${text}\n`);

const { values } = parseArgs({ options: { sample: { type: 'string', default: '0' } } });

note('building');
const simulator = buildSimulator();
const folder = build('bench/cuda', 'gpu-report', ['-DKOTODAMA_CUDA_ARCHITECTURES=none']);
const counts = BATCHES.map((batch, i) => {
  note(`counting, B=${batch}`);
  const options = ['--batch', String(batch), '--sample', values.sample, ...(i > 0 ? ['--step-only'] : [])];
  const env = { KOTODAMA_CUDA_DRIVER: simulator, KOTODAMA_SIM_CHECKS: 'none', KOTODAMA_SIM_MEMORY: '40G' };
  return JSON.parse(run(join(folder, 'count'), options, env).stdout);
});
note('assembling');
const { assembled, machineLoops, version } = assemble(
  join(folder, 'cuda', 'kernels.ptx'),
  cached(folder, 'KOTODAMA_NVCC'),
  ARCHITECTURES,
);

const all = counts.map((of) => ({ of, rows: devices.map((device) => ({ device, total: totals(of, device) })) }));
const largest = all[all.length - 1];
const verdicts = decide({
  counts,
  assembled,
  machineLoops,
  totals: largest.rows
    .filter(({ device }) => device.id.startsWith('a100'))
    .map(({ device, total }) => ({ ...total, device: device.name, counts: largest.of })),
});
const text = report({ counts, all, assembled, machineLoops, version, devices, verdicts });

const results = fileURLToPath(new URL('results', import.meta.url));
mkdirSync(results, { recursive: true });
writeFileSync(join(results, 'gpu-report.md'), text);
const plain = (maps) => Object.fromEntries([...maps].map(([name, map]) => [name, Object.fromEntries(map)]));
const withMainLoop = (operation) => ({
  ...operation,
  counters: {
    kernels: Object.fromEntries(
      Object.entries(operation.counters.kernels).map(([name, kernel]) => {
        const loop = mainLoop(kernel);
        return [name, { ...kernel, loops: loop === undefined ? [] : [loop] }];
      }),
    ),
  },
});
const json = {
  ptxas: version,
  devices: devices.map(({ pattern, ...device }) => device),
  counts: counts.map((of) => ({ ...of, operations: of.operations.map(withMainLoop) })),
  assembled: plain(assembled),
  machineLoops: plain(machineLoops),
  totals: all.map(({ of, rows }) => ({
    batch: of.batch,
    block: of.block,
    devices: Object.fromEntries(rows.map(({ device, total }) => [device.id, total])),
  })),
  verdicts,
};
writeFileSync(join(results, 'gpu-report.json'), `${JSON.stringify(json)}\n`);
console.log(text);
