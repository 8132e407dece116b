import { spawnSync } from 'node:child_process';
import t from 'tap';

interface Memory {
  rss: number;
  heapUsed: number;
  external: number;
}

const MIB = 2 ** 20;

/** What memory.mjs measures in a process of its own: the test runner's would be in the figures. */
function measure(what: 'steps' | 'cycles'): Memory[];
function measure(what: 'making'): [number, number] | [null, null];
function measure(what: string): unknown {
  const { NODE_OPTIONS: _, ...env } = process.env;
  const words = ['--expose-gc', 'test/model/memory.mjs', what];
  const { status, stdout, stderr } = spawnSync(process.execPath, words, { encoding: 'utf8', env });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

function growth(found: readonly Memory[], key: keyof Memory): number {
  return ((found.at(-1) as Memory)[key] - (found[0] as Memory)[key]) / MIB;
}

/** How much the process mostly grows by from one measurement to the next: a leak shows in each, what allocators keep in few. */
function usualGrowth(found: readonly Memory[]): number {
  const growths = found.slice(1).map((_, index) => growth(found.slice(index, index + 2), 'rss'));
  return growths.sort((a, b) => a - b)[growths.length >> 1];
}

t.test('4,000 steps: memory at the end is what it was after 500', async (t) => {
  const found = measure('steps');
  t.equal(found.length, 8);
  for (const key of ['rss', 'heapUsed', 'external'] as const) {
    t.comment(`${key}: ${found.map((memory) => (memory[key] / MIB).toFixed(1)).join(', ')} MiB`);
  }
  // A kilobyte lost in each of the 3,500 steps would be more.
  t.ok(growth(found, 'heapUsed') < 1.5, `heap grew by ${growth(found, 'heapUsed')} MiB`);
  t.ok(growth(found, 'external') < 1.5, `buffers grew by ${growth(found, 'external')} MiB`);
  // 8 KiB lost in each step would be as much in each 500 of them.
  t.ok(usualGrowth(found) < 4, `the process grows by ${usualGrowth(found)} MiB`);
});

t.test('50 models made and disposed: memory after the last one is what it was after the tenth', async (t) => {
  const found = measure('cycles');
  t.equal(found.length, 5);
  for (const key of ['rss', 'heapUsed', 'external'] as const) {
    t.comment(`${key}: ${found.map((memory) => (memory[key] / MIB).toFixed(1)).join(', ')} MiB`);
  }
  t.ok(growth(found, 'heapUsed') < 1, `heap grew by ${growth(found, 'heapUsed')} MiB`);
  // One model with its gradients and moments has 13 MiB; 10 of them would be 130.
  t.ok(usualGrowth(found) < 5, `the process grows by ${usualGrowth(found)} MiB`);
});

t.test('a model is made in little more than its parameters take', async (t) => {
  const [before, after] = measure('making');
  // NaN, in JSON.
  if (before === null) return t.plan(0, 'this system does not say what a process held at most');
  const parameters = (250_000 * 256 * 4) / MIB;
  const peak = (after - before) / MIB;
  t.ok(peak > 0.9 * parameters && peak < 1.4 * parameters, `${peak} MiB for parameters of ${parameters} MiB`);
});
