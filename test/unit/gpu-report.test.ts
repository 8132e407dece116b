// The arithmetic behind bench/gpu-report: occupancy, rooflines, MFU, and what is read from the toolkit's output.
import fc from 'fast-check';
import t, { type Test as TapTest } from 'tap';
import { type Counters, type Operation, traffic, workOf, worksOf } from '../../bench/gpu-report/counted.mjs';
import { devices } from '../../bench/gpu-report/devices.mjs';
import { verdicts } from '../../bench/gpu-report/limits.mjs';
import { machineLoop, parseSass } from '../../bench/gpu-report/machine-code.mjs';
import { table } from '../../bench/gpu-report/markdown.mjs';
import { multiprocessors, occupancy } from '../../bench/gpu-report/occupancy.mjs';
import { parsePtxas } from '../../bench/gpu-report/ptxas.mjs';
import { report } from '../../bench/gpu-report/report.mjs';
import { imbalance, limits, MMA_FLOPS, roofline, type Work } from '../../bench/gpu-report/roofline.mjs';
import { modelFlops, totals } from '../../bench/gpu-report/totals.mjs';

const [a100, , h100] = devices as [(typeof devices)[0], (typeof devices)[0], (typeof devices)[0]];
const near = (t: TapTest, found: number, wanted: number, relative = 1e-12) =>
  t.ok(Math.abs(found - wanted) <= relative * Math.abs(wanted), `${found} is ${wanted}`);

t.test('occupancy: examples that others published', async (t) => {
  // CUDA C++ Best Practices Guide, "Calculating Occupancy": compute capability 7.0, 37 registers a thread.
  const volta = { ...multiprocessors['8.0']!, shared: 96 * 1024, sharedReserved: 0 };
  t.match(occupancy({ threads: 128, registers: 37, shared: 0 }, volta), {
    blocks: 12,
    share: 0.75,
    limit: 'registers',
  });
  t.match(occupancy({ threads: 320, registers: 37, shared: 0 }, volta), { blocks: 4, share: 0.625 });
  t.match(occupancy({ threads: 256, registers: 32, shared: 0 }, volta), { share: 1 }, '32 registers fill it');
  // S. Boehm, "How to Optimize a CUDA Matmul Kernel": RTX A6000, 1024 threads, 37 registers, 8 KiB: one block.
  t.match(occupancy({ threads: 1024, registers: 37, shared: 8192 }, multiprocessors['8.6']!), { blocks: 1 });
  // Tuning guides: a block has at most 163, 99 and 227 KiB, since 1 KiB is reserved.
  for (const [capability, most] of Object.entries({ '8.0': 163, '8.9': 99, '9.0': 227 })) {
    const blocks = (kibibytes: number) =>
      occupancy({ threads: 128, registers: 32, shared: kibibytes * 1024 }, multiprocessors[capability]!).blocks;
    t.equal(blocks(most), 1);
    t.equal(blocks(most + 1), 0);
  }
  t.match(occupancy({ threads: 32, registers: 16, shared: 0 }, multiprocessors['8.0']!), {
    blocks: 32,
    limit: 'blocks',
  });
});

t.test('rates: a whole number of products a clock, as tensor cores are built', async (t) => {
  for (const { name, tensor, multiprocessors, clock } of devices) {
    const flops = tensor / multiprocessors / clock;
    const power = 2 ** Math.round(Math.log2(flops));
    t.ok(Math.abs(flops / power - 1) < 2e-3, `${name}: ${flops.toFixed(1)} a clock and multiprocessor`);
  }
});

const nothing: Work = {
  blocks: 108,
  mma: 0,
  instructions: 0,
  kinds: {},
  sharedWavefronts: 0,
  sectorBytes: 0,
  memoryBytes: 0,
};

t.test('rooflines: each limit by itself', async (t) => {
  const clock = 1 / a100.clock;
  const alone = (work: Partial<Work>) => roofline({ ...nothing, ...work }, a100);
  near(t, alone({ mma: 108 }).seconds, 2 * clock, 1e-3); // two clocks an mma and multiprocessor
  t.equal(alone({ mma: 108 }).limit, 'tensor');
  near(t, alone({ instructions: 108 * 4 }).seconds, clock);
  near(t, alone({ kinds: { float: 108 } }).seconds, clock / 2); // 64 lanes for 32 threads
  near(t, alone({ kinds: { int: 54, predicate: 54 } }).seconds, clock / 2);
  near(t, alone({ kinds: { special: 108 } }).seconds, 2 * clock);
  near(t, alone({ kinds: { double: 108 } }).seconds, clock);
  near(t, alone({ kinds: { shuffle: 108 } }).seconds, clock);
  near(t, alone({ sharedWavefronts: 108 }).seconds, clock);
  near(t, alone({ sectorBytes: 5120 }).seconds, clock);
  near(t, alone({ memoryBytes: 1555e9 }).seconds, 1);
  t.equal(alone({ memoryBytes: 1 }).limit, 'memory');
  t.equal(limits({ ...nothing, sectorBytes: 1e9 }, h100).L2, 0, 'no L2 limit where none is published');
});

t.test('rooflines: properties', async (t) => {
  const count = fc.integer({ min: 0, max: 1e9 });
  const work = fc.record({
    blocks: fc.integer({ min: 1, max: 1e5 }),
    mma: count,
    instructions: count,
    kinds: fc.record({ int: count, float: count, special: count, move: count }),
    sharedWavefronts: count,
    sectorBytes: count,
    memoryBytes: count,
  });
  fc.assert(
    fc.property(work, fc.constantFrom(...devices), (work, device) => {
      const { seconds, limit, times, waves } = roofline(work, device);
      const twice = roofline(
        {
          ...work,
          mma: 2 * work.mma,
          instructions: 2 * work.instructions,
          kinds: Object.fromEntries(Object.entries(work.kinds).map(([kind, n]) => [kind, 2 * n])),
          sharedWavefronts: 2 * work.sharedWavefronts,
          sectorBytes: 2 * work.sectorBytes,
          memoryBytes: 2 * work.memoryBytes,
        },
        device,
      );
      return (
        Object.values(times).every((time) => time <= seconds) &&
        times[limit] === seconds &&
        waves.seconds >= seconds &&
        waves.seconds <= seconds * imbalance(work.blocks, device.multiprocessors) * (1 + 1e-12) &&
        Math.abs(twice.seconds - 2 * seconds) <= 1e-12 * seconds
      );
    }),
  );
  t.equal(imbalance(108, 108), 1);
  t.equal(imbalance(109, 108), 216 / 109);
  t.equal(imbalance(1, 108), 108);
  t.equal(imbalance(0, 108), 1);
  const few = roofline({ ...nothing, blocks: 54, mma: 54 }, a100);
  near(t, few.waves.seconds, 2 * few.seconds);
  const bytes = roofline({ ...nothing, blocks: 54, memoryBytes: 1 }, a100);
  t.equal(bytes.waves.seconds, bytes.seconds, 'memory is shared by all');
});

/** A kernel of 144 blocks that are all alike. */
const kernel = (more: Partial<Counters> = {}): Counters => ({
  launches: 1,
  blocks: 144,
  blocks_run: 144,
  unlike: 0,
  threads: 128,
  instructions: 1000,
  by_kind: { mma: 400, int: 600 },
  mma: 400,
  global_sectors: 300,
  global_read_sectors: 200,
  global_read_bytes: 6400,
  global_write_sectors: 100,
  global_write_bytes: 3200,
  shared_wavefronts: 700,
  shared_conflicts: 7,
  local_bytes: 0,
  static_shared: 0,
  dynamic_shared: 49152,
  loops: [
    { instructions: 900, mma: 400, shared_conflicts: 0, by_kind: { mma: 400, int: 500 } },
    { instructions: 950, mma: 400, shared_conflicts: 0, by_kind: { mma: 400, int: 550 } },
  ],
  ...more,
});
const plain = { mma: 0, by_kind: { int: 1000 }, loops: [] };

const operation = (name: string, kernels: Record<string, Counters>, more: Partial<Operation> = {}): Operation => ({
  name,
  description: name,
  perMicroStep: 12,
  perStep: 0,
  flops: 0,
  fewestRead: 1000,
  fewestWritten: 3200,
  counters: { kernels },
  ...more,
});

t.test('what goes to memory', async (t) => {
  const gemm = operation('c_fc forward', { gemm_bf16_nn: kernel() });
  t.match(workOf(kernel(), gemm), { memoryBytes: 1000 + 3200, sectorBytes: 9600 }, 'tiles: each operand once');
  t.match(workOf(kernel(plain), gemm), { memoryBytes: 6400 + 3200 }, 'else what is read');
  t.match(worksOf(operation('zero', {})), [{ memoryBytes: 4200, mma: 0 }], 'a memset writes its bytes');
  t.match(traffic(gemm), { fewest: 4200, bytes: 9600, sectorBytes: 9600, bytesRatio: 9600 / 4200 });
});

const counts = (operations: Operation[]) => ({
  batch: 4,
  block: 1024,
  layers: 12,
  width: 768,
  parameters: 124_439_808, // GPT-2 small, as Hugging Face counts it
  positionParameters: 1024 * 768,
  operations,
});

t.test('MFU: GPT-2 124M by the formula of PaLM and nanoGPT', async (t) => {
  const { causal, square } = modelFlops(counts([]));
  near(t, square / 4096, 6 * (124_439_808 - 786_432) + 12 * 12 * 12 * 64 * 1024);
  near(t, causal / 4096, 6 * (124_439_808 - 786_432) + 6 * 12 * 12 * 64 * 1024);
});

t.test('totals: as often as operations occur', async (t) => {
  const mma = 312e12 / MMA_FLOPS; // a second of an A100
  const of = counts([
    operation('c_fc forward', { gemm_bf16_nn: kernel({ mma, blocks: 144 }) }),
    operation(
      'AdamW',
      { adamw: kernel({ ...plain, global_read_sectors: 1555e9 / 32, global_write_sectors: 0 }) },
      {
        perMicroStep: 0,
        perStep: 1,
      },
    ),
    operation('cast', { cast: kernel(plain) }, { perMicroStep: 0 }),
  ]);
  const total = totals(of, a100);
  near(t, total.microStep, 12);
  near(t, total.microStepWaves, 12 * (216 / 144));
  near(t, total.step, 1);
  t.equal(total.launches, 12);
  near(t, total.mfu, modelFlops(of).causal / 12 / 312e12);
  near(t, total.mfuStep, modelFlops(of).causal / 13 / 312e12);
});

t.test('ptxas -v', async (t) => {
  const text = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'gemm' for 'sm_80'
ptxas info    : Function properties for gemm
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 211 registers, used 1 barriers, 472 bytes cmem[0]
ptxas info    : Compiling entry function 'norm' for 'sm_80'
ptxas info    : Function properties for norm
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, 1024 bytes smem, 400 bytes cmem[0]`;
  t.strictSame(
    [...parsePtxas(text)],
    [
      ['gemm', { registers: 211, stack: 0, spillStores: 0, spillLoads: 0, shared: 0 }],
      ['norm', { registers: 255, stack: 16, spillStores: 8, spillLoads: 12, shared: 1024 }],
    ],
  );
  t.throws(() => parsePtxas("Compiling entry function 'x' for 'sm_80'\n"), /says nothing of x/);
});

/** Instructions as cuobjdump -sass prints them, 16 bytes each. */
function listing(name: string, instructions: string[]): string {
  const line = (text: string, i: number) =>
    `        /*${(16 * i).toString(16).padStart(4, '0')}*/                   ${text} ;    /* 0x00000a00ff017624 */\n` +
    '                                                    /* 0x000fe400078e00ff */\n';
  return `\t\tFunction : ${name}\n\t.headerflags\t@"EF_CUDA_SM80"\n${instructions.map(line).join('')}`;
}

t.test('machine code: the steady path of the main loop', async (t) => {
  const code = listing('attention', [
    'MOV R1, c[0x0][0x28]', //           0x00
    'BAR.SYNC 0x0', //                   0x10  the loop's head
    '@P0 BRA 0x50', //                   0x20  no more copies
    'LDGSTS.E [R1], [R2.64]', //         0x30
    'LDGSTS.E [R1+0x10], [R4.64]', //    0x40
    'LDSM.16.M88.4 R8, [R3]', //         0x50
    'HMMA.16816.F32.BF16 R4, R8, R9, R4', //  0x60
    '@!P1 BRA 0xd0', //                  0x70  the rescaling is behind the loop
    'HMMA.16816.F32.BF16 R4, R8, R9, R4', //  0x80
    '@P2 IADD3 R9, R9, 0x1, RZ', //      0x90
    '@P2 BRA 0x90', //                   0xa0  a loop within
    '@P3 BRA 0x10', //                   0xb0
    'EXIT', //                           0xc0
    'FMUL R4, R4, R5', //                0xd0
    'FMUL R5, R5, R5', //                0xe0
    'BRA 0x80', //                       0xf0
    'BRA 0x100', //                      0x100 padding
  ]);
  const functions = parseSass(`${listing('plain', ['EXIT'])}${code}`);
  t.strictSame([...functions.keys()], ['plain', 'attention']);
  t.equal(machineLoop(functions.get('plain')!), null);
  t.strictSame(machineLoop(functions.get('attention')!), {
    instructions: 11,
    mma: 2,
    kinds: { BAR: 1, BRA: 4, LDGSTS: 2, LDSM: 1, HMMA: 2, IADD3: 1 },
    all: 14,
    allMma: 2,
  });
  // A predicated call leaves a loop, a plain one comes back.
  const calls = listing('k', ['HMMA R0', 'CALL.REL.NOINC 0x60', '@P0 CALL.REL.NOINC 0x40', 'BRA 0x0', 'EXIT', 'NOP']);
  t.match(machineLoop(parseSass(calls).get('k')!), { instructions: 4, mma: 1, all: 4 });
});

t.test('limits, and the report', async (t) => {
  const fine = { registers: 200, stack: 0, spillStores: 0, spillLoads: 0, shared: 0 };
  const norm = { ...plain, global_read_sectors: 31, global_sectors: 131, global_read_bytes: 992 };
  const of = counts([
    operation('c_fc forward', { gemm_bf16_nn: kernel() }),
    operation('attention forward', { attention_forward_bf16_64: kernel({ blocks_run: 36, unlike: 0.01 }) }),
    operation('LayerNorm forward', { layernorm_forward_bf16: kernel(norm) }),
    operation('AdamW, matrices', { adamw: kernel(norm) }, { perMicroStep: 0, perStep: 1 }),
    operation('zero', {}),
    operation(
      'attention forward, dropout',
      {
        attention_forward_bf16_64_dropout: kernel({
          loops: [{ instructions: 2600, mma: 400, shared_conflicts: 0, by_kind: { mma: 400, int: 2200 } }],
        }),
      },
      { perMicroStep: 0 },
    ),
  ]);
  const names = of.operations.flatMap(({ counters }) => Object.keys(counters.kernels));
  const assembled = new Map(['sm_80', 'sm_90'].map((sm) => [sm, new Map(names.map((name) => [name, fine]))]));
  const loop = { instructions: 132, mma: 64, kinds: {}, all: 150, allMma: 64 };
  const machineLoops = new Map([
    [
      'sm_80',
      new Map([
        ['gemm_bf16_nn', loop],
        ['attention_forward_bf16_64', loop],
      ]),
    ],
  ]);
  const rows = devices.map((device) => ({ device, total: totals(of, device) }));
  const first = { device: a100.name, counts: of, mfu: 0.76, mfuWaves: 0.7, mfuSquare: 0.8 };
  const found = verdicts({ counts: [of], assembled, machineLoops, totals: [first] });
  t.ok(
    found.every(({ holds }) => holds),
    'all hold',
    { found },
  );

  const decide = (change: (operations: Operation[]) => void, more = {}) => {
    const changed = structuredClone(of);
    change(changed.operations);
    return verdicts({ counts: [changed], assembled, machineLoops, totals: [first], ...more })
      .filter(({ holds }) => !holds)
      .map(({ what, found }) => `${what}: ${found}`);
  };
  const of0 = (operations: Operation[], i: number) => Object.values(operations[i]!.counters.kernels)[0]!;
  const only = (missed: string[], pattern: RegExp) => {
    t.equal(missed.length, 1, missed.join('; '));
    t.match(missed[0], pattern);
  };
  only(
    decide((o) => {
      of0(o, 0).loops[0]!.shared_conflicts = 3;
    }),
    /bank conflicts.*gemm_bf16_nn: 3/,
  );
  only(
    decide((o) => {
      of0(o, 0).loops[0]!.instructions = 1001;
      of0(o, 0).loops[1]!.instructions = 1002;
    }),
    /GEMM.*PTX.*gemm_bf16_nn 2.50 \(missed\)/,
  );
  only(
    decide((o) => {
      of0(o, 1).loops = [{ ...of0(o, 1).loops[0]!, instructions: 2500 }];
    }),
    /attention main loop without dropout, PTX.* 6.25 \(missed\)/,
  );
  only(
    decide((o) => {
      of0(o, 2).global_sectors = 140;
    }),
    /LayerNorm forward: 1.00 asked for, 1.07 in sectors/,
  );
  only(
    decide((o) => {
      of0(o, 3).global_read_bytes = 1400;
    }),
    /AdamW, matrices: 1.10 asked for/,
  );
  only(
    decide((o) => {
      of0(o, 3).local_bytes = 4;
    }),
    /adamw used local memory/,
  );
  const spills = new Map([['sm_90', new Map([['adamw', { ...fine, spillLoads: 8 }]])]]);
  only(
    decide(() => {}, { assembled: spills }),
    /adamw: stack 0 B, spilled 0 and 8 B/,
  );
  const slow = new Map([
    [
      'sm_80',
      new Map([
        ['gemm_bf16_nn', { ...loop, instructions: 200 }],
        ['attention_forward_bf16_64', loop],
      ]),
    ],
  ]);
  only(
    decide(() => {}, { machineLoops: slow }),
    /sm_80 machine code: gemm_bf16_nn 3.13 \(missed\)/,
  );
  only(
    decide(() => {}, { totals: [{ ...first, mfu: 0.749 }] }),
    /MFU.*A100.*B=4, T=1024: 74.9 %/,
  );

  const write = (loops: typeof machineLoops) =>
    report({
      counts: [of],
      all: [{ of, rows }],
      assembled,
      machineLoops: loops,
      version: '13.0',
      devices,
      verdicts: found,
    });
  const text = write(machineLoops);
  t.match(text, /^# .*counted, not timed/);
  t.match(text, new RegExp(`\\*\\*${found.length} of ${found.length} limits hold\\*\\*`));
  t.match(text, /\| gemm_bf16_nn \| 128 \| 49,152 \| 200 \| 0 \| 0 \| 2 \(12.5 %, registers\)/);
  t.match(text, /\| gemm_bf16_nn \| c_fc forward \| 2.25 \| 44.4 % \|/);
  t.match(text, /\| attention forward \| attention_forward_bf16_64 \| 1 \| 144 \| 36 \| 1.0 % \|/);
  t.match(text, /\| zero \| 0.0 \| 0.0 \| 0 \|/);
  for (const { name } of devices) t.ok(text.includes(`| ${name} |`), name);
  const columns = [...text.matchAll(/\| ([^|]+) µs (?=\| limit)/g)].map(([, name]) => name);
  t.strictSame(columns, ['A100 40 GB', 'H100 SXM', 'RTX 4090'], 'one column of each chip');
  t.notMatch(text, /NaN|undefined|Infinity/);
  t.match(text, /limit on attention is for loops without dropout.*:\nattention_forward_bf16_64_dropout 6\.50\.\n/);
  t.match(write(new Map()), /There was no cuobjdump/);
});

t.test('tables', async (t) => {
  t.equal(
    table(
      ['a', 'b'],
      [
        ['x', '1,000'],
        ['y', 2],
      ],
    ),
    '| a | b |\n| --- | ---: |\n| x | 1,000 |\n| y | 2 |',
  );
  t.equal(table(['a'], []), '| a |\n| --- |');
});
