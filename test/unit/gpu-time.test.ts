// The tables of bench:cuda: what was timed beside what was counted, and beside PyTorch.
import { spawnSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { Counts } from '../../bench/gpu-report/counted.mjs';
import { devices } from '../../bench/gpu-report/devices.mjs';
import { counted, match, peerReport, timeReport } from '../../bench/gpu-time/compare.mjs';
import { findPeer, PADDED, timePeers } from '../../bench/gpu-time/peers.mjs';

const timed = {
  device: 'NVIDIA A100-SXM4-80GB',
  detail: 'compute capability 8.0',
  batch: 16,
  block: 1024,
  layers: 12,
  modelFlops: 13e12,
  operations: [
    ['c_fc forward', 'gemm', 12, 0, 312e8, 2039e4, 0.2],
    ['AdamW', 'adamw', 0, 1, 0, 2039e5, 0.4],
    ['cast', 'cast', 0, 0, 0, 2039e5, 0.4],
    ['micro-step', 'ForwardBackward', 1, 0, 312e9, 0, 2],
    ['step with one micro-step', 'ForwardBackward, Step', 1, 0, 312e9, 0, 2.5],
  ].map(([name, description, perMicroStep, perStep, flops, fewestBytes, milliseconds]) => ({
    ...{ name: name as string, description: description as string },
    ...{ perMicroStep: perMicroStep as number, perStep: perStep as number },
    ...{ flops: flops as number, fewestBytes: fewestBytes as number },
    ...{ milliseconds: milliseconds as number, fastest: (milliseconds as number) / 2 },
  })),
};

const kernel = { launches: 1, blocks: 108, blocks_run: 108, unlike: 0, threads: 128, instructions: 0, by_kind: {} };
const noBytes = { global_sectors: 0, global_read_sectors: 0, global_read_bytes: 0, global_write_bytes: 0 };
const noShared = { shared_wavefronts: 0, shared_conflicts: 0, static_shared: 0, dynamic_shared: 0, local_bytes: 0 };
const counts: Counts = {
  ...{ batch: 16, block: 1024, layers: 12, width: 768, parameters: 124_439_808, positionParameters: 786_432 },
  operations: [
    ['gemm', 12, 0, { mma: 312e8 / 4096, global_write_sectors: 0 }],
    ['adamw', 0, 1, { mma: 0, global_write_sectors: 2039e5 / 32 }],
  ].map(([description, perMicroStep, perStep, more]) => ({
    ...{ name: description as string, description: description as string },
    ...{ perMicroStep: perMicroStep as number, perStep: perStep as number, flops: 0, fewestRead: 0, fewestWritten: 0 },
    counters: {
      kernels: {
        k: {
          ...kernel,
          ...noBytes,
          ...noShared,
          loops: [],
          ...(more as { mma: number; global_write_sectors: number }),
        },
      },
    },
  })),
};

t.test('devices by the names that drivers give', async (t) => {
  const names = {
    'NVIDIA A100-SXM4-40GB': 'a100-40',
    'NVIDIA A100-SXM4-80GB': 'a100-80',
    'NVIDIA A100 80GB PCIe': 'a100-80',
    'NVIDIA H100 80GB HBM3': 'h100',
    'NVIDIA H200': 'h200',
    'NVIDIA H200 NVL': undefined,
    'NVIDIA GH200 480GB': undefined,
    'NVIDIA GeForce RTX 4090': 'rtx4090',
    'NVIDIA GeForce RTX 4090 Laptop GPU': undefined,
    'NVIDIA GeForce RTX 4090 D': undefined,
    'NVIDIA H100 PCIe': undefined,
    'Kotodama GPU simulator': undefined,
  };
  for (const [device, id] of Object.entries(names)) {
    t.equal(match({ ...timed, device }, undefined, devices).device?.id, id, device);
  }
  t.equal(match(timed, { counts: [{ ...counts, batch: 4 }, counts] }, devices).counts, counts);
  t.equal(match(timed, { counts: [{ ...counts, batch: 4 }] }, devices).counts, undefined);
});

t.test('times beside rooflines', async (t) => {
  const found = match(timed, { counts: [counts] }, devices);
  const seconds = counted(found.counts, found.device);
  const near = (key: string, wanted: number) => t.ok(Math.abs(seconds.get(key)! / wanted - 1) < 1e-9, key);
  near('gemm', 1e-4);
  near('adamw', 1e-4);
  near('ForwardBackward', 12e-4);
  near('ForwardBackward, Step', 13e-4);
  const text = timeReport(timed, found);
  t.match(text, /^# Timed on NVIDIA A100-SXM4-80GB/);
  t.match(text, /with the rates of A100 80 GB/);
  t.match(text, '| c_fc forward | 12 | 200.0 | 100.0 | 156.0 | 102 |  | 100.0 | 50 % |');
  t.match(text, '| AdamW | a step | 400.0 | 200.0 |  | 510 |  | 100.0 | 25 % |');
  t.match(text, '| cast | - | 400.0 | 200.0 |  | 510 |  |  |  |');
  t.match(text, '| micro-step |  | 2000.0 | 1000.0 | 156.0 |  | 50.0 % | 1200.0 | 60 % |');
  t.match(text, '| step with one micro-step |  | 2500.0 | 1250.0 | 124.8 |  | 40.0 % | 1300.0 | 52 % |');
  t.match(text, '8,192,000 tokens a second');
  t.match(text, /\n\ncompute capability 8\.0; GPT-2 with/);
  const dated = timeReport({ ...timed, date: '2026-11-28', commit: '1234567-dirty' }, found);
  t.match(dated, '2026-11-28, commit 1234567-dirty; compute capability 8.0; GPT-2 with');
});

t.test('without rates, without counts', async (t) => {
  const unknown = timeReport({ ...timed, device: 'GPU' }, { device: undefined, counts });
  t.match(unknown, /which knows no rates of this device/);
  t.match(unknown, '| micro-step |  | 2000.0 | 1000.0 | 156.0 |  |  |  |  |');
  t.match(timeReport(timed, { device: devices[1], counts: undefined }), /which has not been run for this shape/);
  t.notMatch(timeReport({ ...timed, operations: [] }, { device: undefined, counts: undefined }), /tokens a second/);
});

const entry = (vocabulary: number, compiled: boolean) => ({ who: `PyTorch ${vocabulary}`, vocabulary, compiled });
const found = { torch: '2.11.0', pythonVersion: '3.12.3' };

t.test('beside PyTorch', async (t) => {
  const finished = { ...entry(50257, false), milliseconds: 5, fastest: 4, peakBytes: 1, loss: 1 };
  const entries = [finished, { ...entry(PADDED, true), error: 'PyTorch 50304: OutOfMemoryError' }];
  const text = timeReport(timed, { device: undefined, counts: undefined }, { ...found, entries });
  t.match(text, 'tokens a second in micro-steps.\n\n## Beside PyTorch\n');
  t.match(text, 'PyTorch 2.11.0 with Python 3.12.3');
  t.match(text, '|  | ms a step | tokens/s | times ours |\n| --- | ---: | ---: | ---: |\n');
  t.match(text, '| kotodama | 2.50 | 6,553,600 | 1.00 |\n| PyTorch 50257 | 5.00 | 3,276,800 | 2.00 |\n');
  t.match(text, /\n\n- failed: PyTorch 50304: OutOfMemoryError\n$/);
  t.notMatch(timeReport(timed, { device: undefined, counts: undefined }), /PyTorch/);
  t.notMatch(peerReport(timed, { ...found, entries: [finished] }), /failed/);
  t.equal(peerReport({ ...timed, operations: [] }, { ...found, entries }), '', 'nothing to compare with');
});

/** A program that imports torch as far as one can see, and answers as bench/peers/gpt2.py does. */
function python(folder: string, gpu: string | null): string {
  const path = join(folder, 'python.cjs');
  writeFileSync(
    path,
    `#!${process.execPath}
const asked = { warm: false };
const answers = {
  describe: ({ device }) => ({ torch: '2.11.0', python: '3.12.3', gpu: device === 'cuda' ? ${JSON.stringify(gpu)} : 1, reason: 'No CUDA\\nhere' }),
  train({ model, compile, device, precision, tuned, batch, block }) {
    if (device !== 'cuda' || precision !== 'bf16' || !tuned || batch !== 16 || block !== 1024) throw new Error('what?');
    if (compile && model.vocabSize === 50257) return { error: 'OutOfMemoryError: ' + 'x'.repeat(500) + '\\nmore' };
    if (compile) process.exit(3);
    asked.seconds = model.vocabSize / 1e6;
    return {};
  },
  steps({ count }) {
    const seconds = Array.from({ length: count }, (_, i) => (asked.warm ? asked.seconds + (i - 2) / 1e3 : 9));
    asked.warm = true;
    return { seconds, loss: 11 };
  },
  memory: () => ({ peakBytes: 5 }),
};
if (process.argv[2] !== '-c') {
  require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
    const request = JSON.parse(line);
    console.log(JSON.stringify(answers[request.do](request)));
  });
}
`,
  );
  chmodSync(path, 0o755);
  return path;
}

t.test('PyTorch is asked for a step, eager and compiled, with both vocabularies', async (t) => {
  const named = python(t.testdir(), 'NVIDIA H200');
  const peer = await findPeer(named);
  t.strictSame(peer, { python: named, ...found, gpu: 'NVIDIA H200' });
  const progress: string[] = [];
  const entries = await timePeers(peer!, { batch: 16, block: 1024, steps: 5 }, (who) => progress.push(who));
  t.strictSame(progress, [
    'PyTorch eager, vocabulary 50257',
    'PyTorch compiled, vocabulary 50257',
    'PyTorch eager, vocabulary 50304',
    'PyTorch compiled, vocabulary 50304',
  ]);
  const [eager, compiled, eagerPadded, compiledPadded] = entries as [object, { error: string }, object, object];
  const rounded = (entry: object) =>
    Object.fromEntries(Object.entries(entry).map(([key, v]) => [key, typeof v === 'number' ? +v.toFixed(6) : v]));
  const finished = { compiled: false, peakBytes: 5, loss: 11 };
  t.match(rounded(eager), { ...finished, vocabulary: 50257, milliseconds: 50.257, fastest: 48.257 }, 'no warm-ups');
  t.match(rounded(eagerPadded), { ...finished, vocabulary: 50304, milliseconds: 50.304, fastest: 48.304 });
  t.match(compiled.error, /^PyTorch compiled, vocabulary 50257: OutOfMemoryError: x+\.\.\.$/);
  t.equal(compiled.error.length, 203);
  t.match(compiledPadded, {
    vocabulary: 50304,
    compiled: true,
    error: 'PyTorch compiled, vocabulary 50304 ended early',
  });
});

t.test('the Python that is named must have PyTorch with CUDA', async (t) => {
  const named = python(t.testdir(), null);
  await t.rejects(findPeer(named), {
    message: /KOTODAMA_BENCH_PYTHON: .*python\.cjs with PyTorch 2\.11\.0 \(No CUDA\); install/,
  });
  const path = join(t.testdir(), 'missing');
  await t.rejects(findPeer(path), { message: /KOTODAMA_BENCH_PYTHON: .*missing.*ENOENT/ });
  const env = { ...process.env, KOTODAMA_BENCH_PYTHON: path };
  const time = (...more: string[]) =>
    spawnSync(process.execPath, ['bench/gpu-time.mjs', '--program', ...more], { encoding: 'utf8', env });
  const { status, stderr } = time('/no/such/program');
  t.not(status, 0);
  t.match(stderr, /KOTODAMA_BENCH_PYTHON: .*missing/, 'said before anything is built or run');
  t.match(
    time('/no/such/program', '--dry-run').stderr,
    /spawnSync \/no\/such\/program ENOENT/,
    'a dry run asks nobody',
  );
});
