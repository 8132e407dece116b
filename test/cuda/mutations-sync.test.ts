// Broken variants of our own kernels, each of which must be caught: by the simulator's checks, or by the comparison with
// float64 where only numbers are wrong.
import { join } from 'node:path';
import t from 'tap';
import { buildSimulator } from '../gpu-sim/build.js';
import { buildPrograms, configure } from './build.js';
import { inParallel, readKernels, runCases } from './mutate.js';
import { joinPtx, sourceOf } from './ptx.js';

/** Kernels, and cases of ops_test that run them through every part of their code. */
interface Family {
  kernels: RegExp;
  /** Kernels that the same operations launch, or ask for their shared memory before they choose a wide one. */
  others?: RegExp;
  cases: string;
  /** Of the simulated device: what is left out must be noticed in one of them. The default device alone where absent. */
  settings?: Record<string, string>[];
}

/** The bf16 tiles keep four steps in the shared memory of the one, and three in that of the other. */
const muchAndLittleShared: Record<string, string>[] = [{}, { KOTODAMA_SIM_CAPABILITY: '8.6' }];

// Kernels whose names differ only in their widths are instances of one template: one of them stands for all.
const families: Family[] = [
  { kernels: /^attention_\w+_bf16_64$/, cases: 'attention bf16 B1 T200 H1 D64' },
  {
    // It takes half as many queries at a time.
    kernels: /^attention_backward_keys_bf16_128$/,
    others: /^attention_\w+_bf16_128$/,
    cases: 'attention bf16 B1 T150 H1 D128',
  },
  { kernels: /^attention_\w+_bf16_32_dropout$/, cases: 'attention bf16 B1 T199 H2 D32 dropout' },
  { kernels: /^attention_\w+_f32_64$/, cases: 'attention f32 B1 T200 H1 D64' },
  { kernels: /^attention_plain_\w+_f32$/, cases: 'attention f32 B1 T150 H1 D200' },
  { kernels: /^attention_plain_\w+_bf16$/, cases: 'attention bf16 B1 T150 H1 D200' },
  { kernels: /^(append_to_cache|attention_decode\w*)_f32$/, cases: 'cached attention f32 D24' },
  { kernels: /^(append_to_cache|attention_decode\w*)_bf16$/, cases: 'cached attention bf16 D24' },
  {
    kernels: /^gemm_bf16_nn_64x64$/,
    others: /^gemm_finish_splits_bf16$/,
    cases: 'gemm bf16 nn 63x264x1024',
    settings: muchAndLittleShared,
  },
  {
    kernels: /^gemm_bf16_nt_64x64$/,
    others: /^gemm_finish_splits_bf16$/,
    cases: 'gemm bf16 nt 63x264x1024',
    settings: muchAndLittleShared,
  },
  {
    // Its warps pass their rows through shared memory in two parts, those of the small tiles in one.
    kernels: /^gemm_bf16_nn_128x128$/,
    cases: 'gemm bf16 nn 968x952x200',
    settings: [
      { KOTODAMA_SIM_MULTIPROCESSORS: '2' },
      { KOTODAMA_SIM_MULTIPROCESSORS: '2', KOTODAMA_SIM_CAPABILITY: '8.6' },
    ],
  },
  {
    // The blocks of the first rows run a loop of their own, which sums the columns of b.
    kernels: /^gemm_bf16_tn_64x64$/,
    others: /^(gemm_finish_splits_bf16|sum_rows)$/,
    cases: 'gemm bf16 tn 136x64x288',
    settings: muchAndLittleShared,
  },
  { kernels: /^gemm_f32_nn_128x128$/, cases: 'gemm f32 nn 968x952x200' },
  { kernels: /^gemm_f32_nt_64x64$/, cases: 'gemm f32 nt 97x136x200' },
  { kernels: /^(gemm_f32_tn_64x64|sum_rows)$/, others: /^column_sums_f32$/, cases: 'gemm f32 tn 128x136x97' },
  { kernels: /^gemm_plain_f32$/, cases: 'gemm f32 tt 19x23x33' },
  { kernels: /^gemm_plain_bf16$/, cases: 'gemm bf16 tt 19x23x33' },
  { kernels: /^layernorm_(for|back)ward_f32$/, others: /^sum_rows$/, cases: 'layernorm 1025x64 f32' },
  {
    kernels: /^layernorm_forward_wide_f32$/,
    others: /^(layernorm_((for|back)ward|backward_wide)_f32|sum_rows)$/,
    cases: 'layernorm 120x16384 dropout f32',
  },
  {
    kernels: /^layernorm_backward_wide_f32$/,
    others: /^(layernorm_(for|back)ward_f32|sum_rows)$/,
    cases: 'layernorm 220x8400 f32',
  },
  { kernels: /^layernorm_(for|back)ward_bf16$/, others: /^sum_rows$/, cases: 'layernorm 1025x64 bf16' },
  {
    kernels: /^layernorm_forward_wide_bf16$/,
    others: /^(layernorm_((for|back)ward|backward_wide)_bf16|sum_rows)$/,
    cases: 'layernorm 120x16384 dropout bf16',
  },
  {
    kernels: /^layernorm_backward_wide_bf16$/,
    others: /^(layernorm_(for|back)ward_bf16|sum_rows)$/,
    cases: 'layernorm 220x8400 bf16',
  },
  { kernels: /^cross_entropy_f32$/, cases: 'cross-entropy 5x4999 of 5056, large f32' },
  { kernels: /^cross_entropy_bf16$/, cases: 'cross-entropy 5x4999 of 5056, large bf16' },
  { kernels: /^embedding_(sort|backward)$/, others: /^embedding_forward$/, cases: 'embedding 3x97 V97 C200' },
  { kernels: /^global_norm_\w+$/, others: /^adamw$/, cases: 'adamw 12345' },
  { kernels: /^reduce_loss$/, cases: 'reduce loss 5000' },
];

/** An instruction that orders threads or copies. */
const SYNC = /^\s*(bar(?:rier)?\.sync|bar\.warp\.sync|cp\.async\.(?:wait_group|wait_all|commit_group))\b[^;\n]*;/gm;

/**
 * Such instructions that nobody misses: kernel, instruction, its places among those of its kind (from the end where
 * negative), and what does the same work beside it.
 */
const spare: [RegExp, string, number[], string][] = [
  [/^attention_backward_keys_bf16/, 'bar.warp.sync', [0, 1], 'Stage comes after a barrier of the whole block'],
  [/^attention_\w+_f32_/, 'bar.warp.sync', [0], 'the first Accumulate comes after a barrier of the whole block'],
  [/^attention_plain_forward/, 'bar.sync', [3, 4], 'BlockSum ends with one, the loop with another'],
  [/^attention_plain_backward_queries/, 'bar.sync', [1], 'BlockSum ends with one, but its scratch is not used again'],
  [
    /^attention_decode/,
    'bar.sync',
    [0, 1, 5, 6],
    'one before the loop and one at its start; BlockSum and the loop end with one',
  ],
  [
    /^gemm_bf16_\w+_64x64$/,
    'bar.warp.sync',
    [-1],
    'nothing is staged after the last rows, and there is one part of them',
  ],
  [/^(global_norm_\w+|reduce_loss)$/, 'bar.sync', [1, 3], 'BlockSum ends with one, but its scratch is not used again'],
];

if (!configure().hasKernels) {
  t.plan(0, 'no nvcc here: there are no CUDA kernels to break');
} else {
  buildPrograms();
  const env = { KOTODAMA_CUDA_DRIVER: buildSimulator() };
  const folder = t.testdir();
  const ptx = readKernels();
  const namesLike = (pattern?: RegExp) => [...ptx.kernels.keys()].filter((name) => pattern?.test(name));
  /** The module of a family, with one of its kernels replaced. */
  const moduleOf = (family: Family, name?: string, text?: string) => {
    const names = new Set([...namesLike(family.kernels), ...namesLike(family.others)]);
    return joinPtx(
      ptx,
      Array.from(names, (other) => (other === name ? text : ptx.kernels.get(other)) as string),
    );
  };
  const run = async (module: string, { cases, settings = [{}] }: Family, name: string) => {
    const file = join(folder, `${name}.ptx`);
    let verdict = await runCases(module, cases, file, { ...env, ...settings[0] });
    for (const setting of settings.slice(1)) {
      if (verdict.finding === undefined) verdict = await runCases(module, cases, file, { ...env, ...setting });
    }
    return verdict;
  };

  t.test('without a change nothing is found', async (t) => {
    const verdicts = await inParallel(families, (family, index) => run(moduleOf(family), family, `whole-${index}`));
    families.forEach(({ kernels, cases }, index) => {
      t.ok(namesLike(kernels).length > 0, `${kernels} names kernels`);
      t.equal(verdicts[index].finding, undefined, cases, { output: verdicts[index].output });
    });
  });

  t.test('each barrier, each wait for copies and each group of copies, left out alone', async (t) => {
    const templateOf = (name: string) => name.replace(/_(\d+x\d+|\d+)(?=_|$)/g, '');
    const covered = new Set(families.flatMap(({ kernels }) => namesLike(kernels)).map(templateOf));
    const mutants: {
      family: Family;
      kernel: string;
      kind: string;
      places: [number, number];
      start: number;
      end: number;
    }[] = [];
    for (const family of families) {
      for (const kernel of namesLike(family.kernels)) {
        const matches = [...ptx.kernels.get(kernel)!.matchAll(SYNC)];
        for (const match of matches) {
          const kind = match[1] as string;
          const alike = matches.filter((other) => other[1] === kind);
          const place = alike.indexOf(match);
          const places: [number, number] = [place, place - alike.length];
          mutants.push({ family, kernel, kind, places, start: match.index, end: match.index + match[0].length });
        }
      }
    }
    for (const [name, text] of ptx.kernels) {
      if (text.search(SYNC) >= 0) t.ok(covered.has(templateOf(name)), `a family covers ${name}`);
    }
    const used = new Set<unknown>();
    const verdicts = await inParallel(mutants, ({ family, kernel, start, end }, index) => {
      const text = ptx.kernels.get(kernel)!;
      return run(moduleOf(family, kernel, text.slice(0, start) + text.slice(end)), family, `sync-${index}`);
    });
    mutants.forEach(({ kernel, kind, places, start }, index) => {
      const entry = spare.find(
        ([k, what, at]) => k.test(kernel) && what === kind && places.some((place) => at.includes(place)),
      );
      const { finding } = verdicts[index];
      const name = `${kernel}: ${kind} ${places[0]} of ${sourceOf(ptx, ptx.kernels.get(kernel)!, start)}`;
      if (entry === undefined) t.ok(finding, `${name}: ${finding}`);
      else {
        used.add(entry);
        t.notOk(finding, `${name} is spare: ${entry[3]}`);
      }
    });
    for (const entry of spare) t.ok(used.has(entry), `the kernels still have ${entry[0]} ${entry[1]} ${entry[2]}`);
  });
}
