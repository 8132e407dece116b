// The table of bench:cuda: what was timed beside what was counted.
import t from 'tap';
import type { Counts } from '../../bench/gpu-report/counted.mjs';
import { devices } from '../../bench/gpu-report/devices.mjs';
import { counted, match, timeReport } from '../../bench/gpu-time/compare.mjs';

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
});

t.test('without rates, without counts', async (t) => {
  const unknown = timeReport({ ...timed, device: 'GPU' }, { device: undefined, counts });
  t.match(unknown, /which knows no rates of this device/);
  t.match(unknown, '| micro-step |  | 2000.0 | 1000.0 | 156.0 |  |  |  |  |');
  t.match(timeReport(timed, { device: devices[1], counts: undefined }), /which has not been run for this shape/);
  t.notMatch(timeReport({ ...timed, operations: [] }, { device: undefined, counts: undefined }), /tokens a second/);
});
