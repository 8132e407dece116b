// Broken variants of our own kernels, one mistake each: the simulator's checks find it, or the comparison with float64
// where only numbers are wrong. mutations-sync.test.ts leaves out every barrier.
import { join } from 'node:path';
import t from 'tap';
import { buildSimulator } from '../gpu-sim/build.js';
import { buildPrograms, configure } from './build.js';
import { compileChanged, type Finding, inParallel, readKernels, runCases } from './mutate.js';
import { joinPtx } from './ptx.js';

interface Mutation {
  mistake: string;
  /** Cases of ops_test. */
  cases: string;
  findings: Finding[];
}

/** A mistake in the source. */
interface SourceMutation extends Mutation {
  file: string;
  find: string;
  replacement: string;
  /** The source files that hold all kernels of the cases. */
  sources: string[];
}

/** A mistake in the PTX of one kernel, at the first match or at all; the other kernels are those of the cases. */
interface PtxMutation extends Mutation {
  kernel: string;
  others?: string[];
  find: RegExp;
  replacement: string;
}

const attention = { sources: ['attention_f32.cu'], file: 'attention_f32.cu', cases: 'attention f32 B1 T97 H3 D64' };
const tensorAttention = { sources: ['attention_bf16.cu'], cases: 'attention bf16 B1 T97 H3 D64' };
const decode = { sources: ['attention_decode.cu'], file: 'attention_decode.cu', cases: 'cached attention f32 D24' };
const layerNorm = { sources: ['layernorm.cu', 'reduce_rows.cu'], file: 'layernorm.cu', cases: 'layernorm 97x200 f32' };
const embedding = { sources: ['embedding.cu'], file: 'embedding.cu', cases: 'embedding 3x97 V97 C200' };
const loss = {
  sources: ['cross_entropy.cu'],
  file: 'cross_entropy.cu',
  cases: 'cross-entropy 5x4999 of 5056, large f32',
};
const optimizer = { sources: ['global_norm.cu', 'adamw.cu'], cases: 'adamw 12345' };

const sourceMutations: SourceMutation[] = [
  // Attention
  {
    ...attention,
    mistake: 'a query sees the key after it',
    find: 'F::X() + 16 * c > query ? -INFINITY',
    replacement: 'F::X() + 16 * c > query + 1 ? -INFINITY',
    findings: ['numbers'],
  },
  {
    ...attention,
    mistake: 'a query does not see its own key in backward',
    find: 's[r][c] = key > query ? 0.0f : expf(s[r][c] * p.scale - lse[c]);',
    replacement: 's[r][c] = key >= query ? 0.0f : expf(s[r][c] * p.scale - lse[c]);',
    findings: ['numbers'],
  },
  {
    ...attention,
    mistake: 'sums are not made smaller when the maximum grows',
    find: 'sum[r] *= shrink;',
    replacement: '',
    findings: ['numbers'],
  },
  {
    ...attention,
    mistake: 'the rows of a tile are one number too short',
    find: 'kStride = D + 4;',
    replacement: 'kStride = D + 3;',
    findings: ['misaligned'],
  },
  {
    ...attention,
    mistake: 'copies read positions beyond the last one',
    find: 'const bool inside = first + row < t && column < d;',
    replacement: 'const bool inside = column < d;',
    findings: ['outside', 'numbers'],
  },
  {
    ...attention,
    mistake: 'two warps use the same part of the weights',
    find: 'float* rows = weights + Row() * kWeightStride;',
    replacement: 'float* rows = weights + Row() % 32 * kWeightStride;',
    findings: ['race'],
  },
  {
    ...tensorAttention,
    mistake: 'tensor cores: a query sees the key after it',
    file: 'attention_bf16_tiles.cuh',
    find: 'if (column + 8 * n + e % 2 > row + e / 2 * 8) c[n][e] = value;',
    replacement: 'if (column + 8 * n + e % 2 > row + 1 + e / 2 * 8) c[n][e] = value;',
    findings: ['numbers'],
  },
  {
    ...tensorAttention,
    mistake: 'tensor cores: tiles are written with another permutation than they are read',
    file: 'attention_bf16_tiles.cuh',
    find: 'target_ = SwizzledOffset<kChunks>(row, chunk);',
    replacement: 'target_ = SwizzledOffset<kChunks>(row, chunk ^ 1);',
    findings: ['numbers'],
  },
  {
    ...decode,
    mistake: 'a new position sees one that is not there yet',
    find: 'min(p.past + n + 1, start + p.keys_per_split)',
    replacement: 'min(p.past + n + 2, start + p.keys_per_split)',
    findings: ['numbers'],
  },
  {
    ...decode,
    mistake: 'the loop over the keys does not move on',
    find: 'first < end; first += kDecodeThreads',
    replacement: 'first < end; first += first + kDecodeThreads < end ? kDecodeThreads : 0',
    findings: ['endless'],
  },
  {
    ...decode,
    mistake: 'one lane of eight adds up the key',
    find: 'const float sum = LanesSum(part);',
    replacement: 'const float sum = thread % kLanesPerKey == 0 ? LanesSum(part) : 0.0f;',
    findings: ['divergent'],
  },
  // LayerNorm
  {
    ...layerNorm,
    mistake: 'epsilon outside of the root',
    find: '1.0f / sqrtf(WarpSum(squares) / p.c + p.eps)',
    replacement: '1.0f / (sqrtf(WarpSum(squares) / p.c) + p.eps)',
    findings: ['numbers'],
  },
  {
    ...layerNorm,
    mistake: 'rows of the last group that are not there are added up',
    find: 'const int rows = min(warps, last - base);',
    replacement: 'const int rows = warps;',
    findings: ['unwritten'],
  },
  {
    ...layerNorm,
    mistake: 'the last bias is not copied to shared memory',
    find: 'bias[i] = Load4(p.bias + 4 * i);',
    replacement: 'if (i + 1 < vectors) bias[i] = Load4(p.bias + 4 * i);',
    findings: ['unwritten'],
  },
  {
    ...layerNorm,
    mistake: 'the row of a warp begins where the bias is',
    find: 'float4* row = bias + vectors + warp * vectors;',
    replacement: 'float4* row = bias + warp * vectors;',
    findings: ['race', 'numbers'],
  },
  {
    ...layerNorm,
    mistake: 'an address one number too far',
    find: 'float4 v = Load4(x + 4 * i);',
    replacement: 'float4 v = Load4(x + 4 * i + 1);',
    findings: ['misaligned'],
  },
  {
    ...layerNorm,
    mistake: 'a piece too many at the end of a row',
    find: 'Store4(out + 4 * i, make_float4(',
    replacement: 'Store4(out + 4 * (i + 1), make_float4(',
    findings: ['outside', 'numbers', 'bits'],
  },
  {
    sources: ['gemm_f32.cu', 'reduce_rows.cu'],
    file: 'reduce_rows.cu',
    cases: 'gemm f32 tn 128x136x97',
    mistake: 'a barrier where only threads that have a column come',
    find: '  __syncthreads();\n  if (threadIdx.y != 0 || column >= p.columns) return;',
    replacement: '  if (column < p.columns) __syncthreads();\n  if (threadIdx.y != 0 || column >= p.columns) return;',
    findings: ['divergent', 'barrier'],
  },
  // Embedding
  {
    ...embedding,
    mistake: 'the sort leaves out its smallest distance',
    find: 'distance > 0; distance /= 2',
    replacement: 'distance > 1; distance /= 2',
    findings: ['numbers', 'outside', 'unwritten'],
  },
  {
    ...embedding,
    mistake: 'all of the sort is ascending',
    find: 'const bool ascending = (low & run) == 0;',
    replacement: 'const bool ascending = true;',
    findings: ['numbers', 'outside', 'unwritten'],
  },
  {
    ...embedding,
    mistake: 'the second part of the columns is read before the first is done with',
    find: '      __syncthreads();\n      for (int i = threadIdx.x; part == 0',
    replacement: '      if (part == 0) __syncthreads();\n      for (int i = threadIdx.x; part == 0',
    findings: ['race'],
  },
  {
    ...embedding,
    mistake: 'a run of equal ids ends one too early',
    find: 'next < n && ids[next] == id; ++next',
    replacement: 'next + 1 < n && ids[next] == id; ++next',
    findings: ['numbers'],
  },
  {
    ...embedding,
    mistake: 'a run of equal ids reaches into the next one',
    find: 'ids[next + kRowsAtOnce - 1] == id;',
    replacement: 'ids[next + kRowsAtOnce - 2] == id;',
    findings: ['numbers'],
  },
  // Cross-entropy
  {
    ...loss,
    mistake: 'exponentials without their maximum',
    find: 'const float probability = i + j < p.v ? Exp<X>(piece.v[j] - max) * scale : 0.0f;',
    replacement: 'const float probability = i + j < p.v ? Exp<X>(piece.v[j]) * scale : 0.0f;',
    findings: ['numbers'],
  },
  {
    ...loss,
    mistake: 'the sum is not made smaller when the maximum grows',
    find: 'sum *= Exp<X>(max - top);',
    replacement: '',
    findings: ['numbers'],
  },
  {
    ...loss,
    cases: 'cross-entropy 7x97 of 128 f32',
    mistake: 'the padding counts',
    find: 'sum += i + j < p.v ? Exp<X>(piece.v[j] - max) : 0.0f;',
    replacement: 'sum += Exp<X>(piece.v[j] - max);',
    findings: ['numbers'],
  },
  {
    ...loss,
    mistake: 'all warps leave their maximum at one place',
    find: 'warp_max[warp] = max;',
    replacement: 'warp_max[0] = max;',
    findings: ['race', 'unwritten'],
  },
  // Optimizer
  {
    ...optimizer,
    file: 'global_norm.cu',
    mistake: 'the numbers behind the last four are forgotten',
    find: 'if (4 * vectors + thread < p.n) add(p.grads[4 * vectors + thread]);',
    replacement: '',
    findings: ['numbers'],
  },
  {
    ...optimizer,
    file: 'global_norm.cu',
    mistake: 'a number too many at the end',
    find: 'if (4 * vectors + thread < p.n) add',
    replacement: 'if (4 * vectors + thread <= p.n) add',
    findings: ['outside', 'numbers'],
  },
  {
    ...optimizer,
    file: 'adamw.cu',
    mistake: 'the second moment is not corrected',
    find: 'root(sqrtf(s.correction2))',
    replacement: 'root(1.0f)',
    findings: ['numbers'],
  },
  {
    ...optimizer,
    cases: 'adamw, stochastic rounding, 12345',
    file: 'rounding.cuh',
    mistake: 'every tensor is rounded as if it were the first one',
    find: 'const uint64_t group = static_cast<uint64_t>(first + index) / 4;',
    replacement: 'const uint64_t group = static_cast<uint64_t>(index) / 4;',
    findings: ['numbers'],
  },
  {
    ...optimizer,
    cases: 'adamw, stochastic rounding, 12345',
    file: 'rounding.cuh',
    mistake: 'the step does not choose the random numbers',
    find: 'step = key.y;',
    replacement: 'step = 0;',
    findings: ['numbers'],
  },
  {
    ...optimizer,
    file: 'common.cuh',
    mistake: 'all warps leave their sum at one place',
    find: 'if (lane == 0) scratch[warp] = x;',
    replacement: 'if (lane == 0) scratch[0] = x;',
    findings: ['race', 'unwritten'],
  },
  // Dropout
  {
    ...layerNorm,
    cases: 'layernorm 300x136 dropout f32',
    file: 'common.cuh',
    mistake: 'two words of the random numbers change places',
    find: 'v.y = words.y < dropout.threshold',
    replacement: 'v.y = words.z < dropout.threshold',
    findings: ['numbers'],
  },
];

const gemm = {
  kernel: 'gemm_bf16_nn_64x64',
  others: ['gemm_finish_splits_bf16'],
  cases: 'gemm bf16 nn 63x264x1024',
};
const forward = {
  kernel: 'attention_forward_bf16_64',
  others: ['attention_backward_queries_bf16_64', 'attention_backward_keys_bf16_64'],
  cases: 'attention bf16 B1 T200 H1 D64',
};
const norm = {
  kernel: 'layernorm_forward_f32',
  others: ['layernorm_backward_f32', 'sum_rows'],
  cases: 'layernorm 97x200 f32',
};

const ptxMutations: PtxMutation[] = [
  ...[gemm, forward].flatMap((kernel): PtxMutation[] => [
    {
      ...kernel,
      mistake: 'two registers of a fragment of A change places',
      find: /(mma\.sync[^;]*?\}, \{)(%r\d+), (%r\d+), (%r\d+), (%r\d+)\}/,
      replacement: '$1$3, $2, $4, $5}',
      findings: ['numbers'],
    },
    {
      ...kernel,
      mistake: 'the two registers of a fragment of B change places',
      find: /(mma\.sync[^;]*?\}, \{%r\d+, %r\d+, %r\d+, %r\d+\}, \{)(%r\d+), (%r\d+)\}/,
      replacement: '$1$3, $2}',
      findings: ['numbers'],
    },
    {
      ...kernel,
      mistake: 'matrices are not transposed',
      find: /(ldmatrix\S*)\.trans/,
      replacement: '$1',
      findings: ['numbers'],
    },
    {
      ...kernel,
      mistake: 'one group of copies more may be on its way',
      find: /cp\.async\.wait_group (\d)/,
      replacement: 'cp.async.wait_group 1$1',
      findings: ['early read'],
    },
    {
      ...kernel,
      mistake: 'copies to shared memory go behind its end',
      find: /(cp\.async\.cg\.shared\.global \[%r\d+)( \+ \d+)?\]/g,
      replacement: '$1 + 131072]',
      findings: ['outside'],
    },
  ]),
  {
    ...forward,
    mistake: 'a copy is not cut at the last position',
    find: /(cp\.async\.cg\.shared\.global \[[^;]*\], 16), %r\d+;/g,
    replacement: '$1;',
    findings: ['outside', 'numbers'],
  },
  {
    ...norm,
    mistake: 'a shuffle whose mask leaves out one of its lanes',
    find: /(shfl\.sync\.bfly\.b32[^;]*), [^,;]+;/,
    replacement: '$1, 0x7fffffff;',
    findings: ['divergent'],
  },
  {
    ...norm,
    mistake: 'a shuffle over half the distance',
    find: /(shfl\.sync\.bfly\.b32\s+[^,;]+, [^,;]+), [^,;]+(,[^;]*;)/,
    replacement: '$1, 8$2',
    findings: ['numbers'],
  },
  {
    ...norm,
    mistake: 'a store to shared memory is left out',
    find: /st\.shared\.v4\.f32[^;]*;/,
    replacement: '',
    findings: ['unwritten'],
  },
];

if (!configure().hasKernels) {
  t.plan(0, 'no nvcc here: there are no CUDA kernels to break');
} else {
  buildPrograms();
  const env = { KOTODAMA_CUDA_DRIVER: buildSimulator() };
  const folder = t.testdir();
  const ptx = readKernels();

  t.test('mistakes in the source', async (t) => {
    const run = async ({ sources, file, find, replacement, cases }: SourceMutation, index: number) => {
      const changed = await compileChanged(join(folder, `source-${index}`), sources, { file, find, replacement });
      return runCases(changed, cases, join(folder, `source-${index}.ptx`), env);
    };
    const verdicts = await inParallel(sourceMutations, run);
    check(t, sourceMutations, verdicts);
    // What is compiled in this way is right as long as nothing is changed.
    const whole = new Map(sourceMutations.map((mutation) => [`${mutation.sources} ${mutation.cases}`, mutation]));
    const rights = await inParallel([...whole.values()], (mutation, index) =>
      run({ ...mutation, replacement: mutation.find }, sourceMutations.length + index),
    );
    for (const { finding, output } of rights)
      t.equal(finding, undefined, 'nothing is found without a mistake', { output });
  });

  t.test('mistakes in the PTX', async (t) => {
    const verdicts = await inParallel(
      ptxMutations,
      async ({ kernel, others = [], find, replacement, cases }, index) => {
        const text = ptx.kernels.get(kernel);
        if (text === undefined || text.search(find) < 0) throw new Error(`${kernel} has no ${find}`);
        const kernels = [text.replace(find, replacement), ...others.map((name) => ptx.kernels.get(name) as string)];
        return runCases(joinPtx(ptx, kernels), cases, join(folder, `ptx-${index}.ptx`), env);
      },
    );
    check(t, ptxMutations, verdicts);
  });
}

function check(test: Pick<typeof t, 'ok'>, mutations: Mutation[], verdicts: { finding?: Finding; output: string }[]) {
  mutations.forEach(({ mistake, cases, findings }, index) => {
    const { finding, output } = verdicts[index];
    const caught = finding !== undefined && findings.includes(finding);
    test.ok(caught, `${mistake} (${cases}): ${finding}`, caught ? {} : { output: output.slice(-3000) });
  });
}
