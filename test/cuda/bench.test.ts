import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import t from 'tap';
import { cached } from '../../bench/cuda/build.mjs';
import type { Counts, Operation } from '../../bench/gpu-report/counted.mjs';
import { parsePtxas } from '../../bench/gpu-report/ptxas.mjs';
import { buildSimulator } from '../gpu-sim/build.js';
import { buildPrograms, configure, isReal, program, run } from './build.js';

// The programs of bench/cuda: what they count against what follows from the shapes, and that nothing is timed where
// nothing can be.

const shape = { layers: 2, heads: 2, width: 128, vocab: 600, batch: 2, block: 128 };
const options = Object.entries(shape).flatMap(([name, value]) => [`--${name}`, String(value)]);
const rows = shape.batch * shape.block;

t.test('npm run test:cuda says what is wrong', async (t) => {
  const env = { ...process.env, KOTODAMA_CUDA_DRIVER: '/some/libcuda.so' };
  const { status, stderr } = spawnSync('node', ['scripts/test-cuda.mjs'], { encoding: 'utf8', env });
  t.equal(status, 1);
  t.match(stderr, /^test:cuda: KOTODAMA_CUDA_DRIVER names \/some\/libcuda.so; unset it/);
});

if (!configure().hasKernels) {
  t.pass('what the programs count', { skip: 'no nvcc here: there are no CUDA kernels to count or time' });
} else if (isReal) {
  t.test('times every operation and the step', async (t) => {
    buildPrograms();
    const { status, output } = run(program('bench/time'), [...options, '--repeats', '3', '--json']);
    t.equal(status, 0, 'ends well', { output });
    const { operations } = JSON.parse(output);
    t.ok(operations.length > 20);
    for (const { name, milliseconds, fastest } of operations) {
      t.ok(milliseconds >= fastest && fastest > 0, `${name}: ${milliseconds} ms`);
    }
  });
} else {
  buildPrograms();
  // The kernels are checked by other tests; here they are counted.
  const env = { KOTODAMA_CUDA_DRIVER: buildSimulator(), KOTODAMA_SIM_CHECKS: 'none' };

  const { status, output } = run(program('bench/count'), options, env);
  t.equal(status, 0, 'bench/count ends well', { output });
  const counts: Counts = JSON.parse(output);

  t.test('static shared memory is what the assembler makes of it', async (t) => {
    const nvcc = cached(dirname(program('cuda')), 'KOTODAMA_NVCC') as string;
    const target = ['-arch=sm_86', '-cubin', '-o', join(t.testdir(), 'kernels.cubin')];
    // Optimization is slow and has no say in it.
    const assembled = run(nvcc, ['-Xptxas', '-v,-O0', ...target, program(join('cuda', 'kernels.ptx'))]);
    t.equal(assembled.status, 0, 'assembles', { output: assembled.output.slice(0, 1000) });
    const expected = parsePtxas(assembled.output);
    let declared = 0;
    for (const { name, counters } of counts.operations) {
      for (const [kernel, { static_shared }] of Object.entries(counters.kernels)) {
        t.equal(static_shared, expected.get(kernel)?.shared, `${name}: ${kernel}`);
        if (static_shared > 0) declared += 1;
      }
    }
    t.ok(declared > 0, 'some kernels declare shared memory');
  });

  t.test('counts', async (t) => {
    const find = (name: string): Operation => {
      const found = counts.operations.find((operation) => operation.name === name);
      if (found === undefined) throw new Error(`there is no ${name}`);
      return found;
    };
    const sum = (operation: Operation, key: 'mma' | 'global_write_bytes' | 'global_read_bytes' | 'launches') =>
      Object.values(operation.counters.kernels).reduce((total, kernel) => total + kernel[key], 0);

    const { width: c, layers, vocab, batch, block, heads } = shape;
    const padded = Math.ceil(vocab / 64) * 64;
    const f = 4 * c;
    t.equal(
      counts.parameters,
      vocab * c + block * c + layers * (12 * c * c + 13 * c) + 2 * c,
      'parameters as Hugging Face counts them',
    );
    t.equal(counts.positionParameters, block * c);

    // Whole tiles: an mma for each 16 x 8 x 16 products.
    const products: [string, number, number, number, number][] = [
      ['c_attn forward', rows, 3 * c, c, layers],
      ['c_proj forward', rows, c, c, layers],
      ['c_fc forward', rows, f, c, layers],
      ['mlp c_proj forward', rows, c, f, layers],
      ['c_attn dW', c, 3 * c, rows, layers],
      ['c_fc dX', rows, c, f, layers],
      ['head logits', rows, padded, c, 1],
      ['head dW', padded, c, rows, 1],
      ['head dX', rows, c, padded, 1],
    ];
    for (const [name, m, n, k, times] of products) {
      const operation = find(name);
      t.equal(operation.flops, 2 * m * n * k, name);
      // A bias gradient may be one more row of products, by a matrix of ones.
      const ones = name === 'c_attn dW' ? n / 8 : 0;
      const mma = sum(operation, 'mma') - (m * n * k) / (16 * 8 * 16);
      t.ok(mma === 0 || mma === (ones * k) / 16, `${name}: mma`, { mma });
      t.equal(operation.perMicroStep, times, `${name}: once a layer`);
    }
    const attention = find('attention forward');
    t.equal(attention.flops, 4 * batch * c * ((block * (block + 1)) / 2));
    t.ok(sum(attention, 'mma') >= attention.flops / 4096, 'attention computes what the mask leaves, and its tiles');
    t.ok(sum(attention, 'mma') <= (4 * batch * heads * block * block * (c / heads)) / 4096, 'and less than the square');

    const norm = find('LayerNorm forward + residual');
    t.equal(norm.perMicroStep, 2 * layers);
    t.equal(norm.fewestRead, rows * c * (4 + 2) + 2 * c * 4);
    t.equal(norm.fewestWritten, rows * c * (4 + 2) + 2 * rows * 4);
    const adamw = find('AdamW, matrices');
    const matrices = padded * c + block * c + layers * 12 * c * c;
    t.match(adamw, { perStep: 1, perMicroStep: 0, fewestRead: matrices * 16, fewestWritten: matrices * 14 });
    for (const operation of counts.operations) {
      t.ok(sum(operation, 'launches') > 0 || operation.name === 'zero', `${operation.name} ran`);
      // Sums of few numbers aside, what must be written is.
      if (operation.fewestWritten === 0) continue;
      t.ok(sum(operation, 'global_write_bytes') >= operation.fewestWritten, `${operation.name}: all is written`);
    }

    const sampled: Counts = JSON.parse(run(program('bench/count'), [...options, '--sample', '2'], env).output);
    t.strictSame(
      sampled.operations.map(({ description }) => description),
      counts.operations.map(({ description }) => description),
    );
    const sample = sampled.operations.find(({ name }) => name === 'c_fc forward')!;
    t.equal(sum(sample, 'mma'), sum(find('c_fc forward'), 'mma'), 'some blocks stand for all');
    const step: Counts = JSON.parse(
      run(program('bench/count'), [...options, '--sample', '2', '--step-only'], env).output,
    );
    t.ok(step.operations.every(({ perMicroStep, perStep }) => perMicroStep + perStep > 0));
  });

  t.test('times are refused, and the motions work', async (t) => {
    const refused = run(program('bench/time'), options, env);
    t.equal(refused.status, 1);
    t.match(refused.output, /^time: this is the simulator, which has no times: unset KOTODAMA_CUDA_DRIVER/);
    const dry = run(program('bench/time'), [...options, '--dry-run'], env);
    t.equal(dry.status, 0, 'ends well', { output: dry.output });
    t.match(dry.output, /c_fc forward +2 {2}not timed.*\nmicro-step +1 {2}not timed\nstep with one micro-step/s);
    t.notMatch(dry.output, /\d\.\d{4}/);
    const { operations } = JSON.parse(run(program('bench/time'), [...options, '--dry-run', '--json'], env).output);
    t.ok(operations.length > 20);
    t.ok(operations.every((row: object) => !('milliseconds' in row)));
  });

  t.test('bad arguments, no device', async (t) => {
    t.match(run(program('bench/count'), ['--batch', 'two'], env).output, /^count: expected --layers.*received --batch/);
    t.match(run(program('bench/time'), ['--size', '3'], env).output, /^time: expected --layers.*received --size/);
    t.match(run(program('bench/count'), ['--layers'], env).output, /^count: expected --layers.*received --layers/);
    const none = { KOTODAMA_CUDA_DRIVER: '/no/such/library.so' };
    t.match(run(program('bench/count'), options, none).output, /^count: CUDA cannot be used: .*cannot be opened/);
    const large = run(program('bench/count'), [...options, '--batch', '100000'], {
      ...env,
      KOTODAMA_SIM_MEMORY: '1G',
    });
    t.match(large.output, /^count: .*\bneeds\b/);
  });
}
