// What npm run bench counts with, and what it refuses before it measures.
import { spawnSync } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { findTorch } from '../../bench/suite/contenders.mjs';
import { median, spread } from '../../bench/suite/statistics.mjs';

/** A program that does nothing and ends with `status`. */
function program(folder: string, name: string, status: number, says = ''): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\necho "${says}" >&2\nexit ${status}\n`);
  chmodSync(path, 0o755);
  return path;
}

t.test('a median is the middle value, or the mean of the two in the middle', (t) => {
  t.equal(median([3, 1, 2]), 2);
  t.equal(median([10, 1, 2, 4]), 3);
  t.equal(median([1, 2]), 1.5);
  t.equal(median([7]), 7);
  t.ok(Number.isNaN(median([])));
  t.strictSame(spread([4, 1, 2, 10]), { median: 3, min: 1, max: 10, samples: 4 });
  t.end();
});

t.test('the Python that is named must have torch', (t) => {
  const folder = t.testdir();
  const good = program(folder, 'good', 0);
  t.equal(findTorch(good), good);
  const without = program(folder, 'without', 1, "No module named 'torch'");
  t.throws(() => findTorch(without), { message: /KOTODAMA_BENCH_PYTHON.*without \(No module named 'torch'\)/ });
  t.throws(() => findTorch(join(folder, 'missing')), { message: /KOTODAMA_BENCH_PYTHON.*missing.*ENOENT/ });
  t.end();
});

t.test('a number of threads that is none', (t) => {
  for (const threads of ['abc', '0', '1.5', '']) {
    const { status, stderr } = spawnSync(process.execPath, ['bench/suite.mjs', `--threads=${threads}`], {
      encoding: 'utf8',
    });
    t.not(status, 0);
    t.match(stderr, `--threads: expected a whole number from 1, received ${threads}`);
  }
  t.end();
});
