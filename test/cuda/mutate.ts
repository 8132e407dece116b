import { spawn } from 'node:child_process';
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { program } from './build.js';
import { type Ptx, parsePtx } from './ptx.js';

/** The kernels as the tests execute them. */
export function readKernels(): Ptx {
  return parsePtx(readFileSync(program(join('cuda', 'kernels.ptx')), 'utf8'));
}

/** How the simulator or the comparison with float64 finds a broken kernel. */
export type Finding =
  | 'race' // of two threads in shared memory
  | 'early read' // of what cp.async has not brought yet
  | 'unwritten' // memory is read
  | 'outside' // of all memory
  | 'misaligned' // access
  | 'divergent' // a .sync instruction that not all its lanes reach
  | 'barrier' // that not all threads reach
  | 'endless' // a kernel
  | 'refused' // PTX that is none
  | 'bits' // are others in a second run
  | 'numbers'; // are wrong

const FINDINGS: [Finding, RegExp][] = [
  ['early read', /cp\.async destination before its wait/],
  ['race', /shared-memory race/],
  ['unwritten', /memory that nobody wrote/],
  ['outside', /which is in no allocation|bytes of shared memory\n/],
  ['misaligned', /which is not a multiple of/],
  ['divergent', /named in the mask|do not execute|mask leaves it out|divergent barrier|which does not execute it/],
  ['barrier', /barrier that not all threads reach/],
  ['endless', /does this kernel end\?/],
  ['refused', /takes neither the machine code nor the PTX/],
  ['numbers', /^# {3}.*(differ; worst at|error is .* more than twice|not so: (?!.*same bits))/m],
  ['bits', /not so: .*same bits/],
];

export interface Verdict {
  /** undefined: nothing was found. */
  finding: Finding | undefined;
  output: string;
}

/** Runs the operations' cases whose name holds `cases` with these kernels. */
export function runCases(ptx: string, cases: string, file: string, env: Record<string, string>): Promise<Verdict> {
  writeFileSync(file, ptx);
  const child = spawn(program('ops_test_of_file'), [cases], {
    env: { ...process.env, ...env, KOTODAMA_TEST_KERNELS: file, KOTODAMA_SIM_INSTRUCTION_LIMIT: '20M' },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      const finding = FINDINGS.find(([, pattern]) => pattern.test(output))?.[0];
      if (code === 0 && /^ok /m.test(output)) resolve({ finding: undefined, output });
      else if (code === 1 && finding !== undefined) resolve({ finding, output });
      else reject(new Error(`'${cases}' ended with ${code ?? signal} and says nothing that is known:\n${output}`));
    });
  });
}

/** A text with one piece replaced. `find` must be there exactly once: a broken kernel that is none would test nothing. */
export function replaceOnce(text: string, find: string, replacement: string): string {
  const parts = text.split(find);
  if (parts.length !== 2) throw new Error(`'${find}' is ${parts.length - 1} times in the text, expected once`);
  return parts.join(replacement);
}

/** The CUDA compiler that the build found. */
function compiler(): string {
  const cache = readFileSync(program('CMakeCache.txt'), 'utf8');
  return /^KOTODAMA_NVCC:\w+=(.+)$/m.exec(cache)?.[1] as string;
}

/**
 * The PTX of some of the kernels' source files with one piece replaced. Of attention only heads of 64 are compiled.
 *
 * @param folder is made, and deleted again.
 */
export async function compileChanged(
  folder: string,
  sources: readonly string[],
  change: { file: string; find: string; replacement: string },
): Promise<string> {
  cpSync('kernels', folder, { recursive: true });
  const edit = (file: string, work: (text: string) => string) => {
    const path = join(folder, file);
    writeFileSync(path, work(readFileSync(path, 'utf8')));
  };
  edit(change.file, (text) => replaceOnce(text, change.find, change.replacement));
  for (const source of sources) {
    edit(source, (text) => text.replace(/^KOTODAMA_ATTENTION\w*\((32|96|128)\)$/gm, ''));
  }
  writeFileSync(join(folder, 'some.cu'), sources.map((name) => `#include "${name}"\n`).join(''));
  const output = join(folder, 'some.ptx');
  const options = ['-std=c++17', '-O3', '-arch=compute_80', '-lineinfo', '-ptx', join(folder, 'some.cu'), '-o', output];
  const child = spawn(compiler(), options, { stdio: ['ignore', 'pipe', 'pipe'] });
  let messages = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      messages += text;
    });
  }
  const code = await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
  if (code !== 0) throw new Error(`the changed ${change.file} does not compile:\n${messages}`);
  const { prologue, kernels, files } = parsePtx(readFileSync(output, 'utf8'));
  rmSync(folder, { recursive: true });
  return prologue + [...kernels.values()].join('\n') + files;
}

/** Runs `work` on every item, as many at a time as there are cores. */
export async function inParallel<T, R>(
  items: readonly T[],
  work: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async () => {
    for (let index = next++; index < items.length; index = next++) results[index] = await work(items[index]!, index);
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return results;
}
