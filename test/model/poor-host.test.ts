import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

const folder = t.testdir();
const library = join(folder, 'poor-host.so');
const words = ['-std=c++17', '-O1', '-Wall', '-Wextra', '-Werror', '-shared', '-fPIC', '-o', library];
const compiled = spawnSync('c++', [...words, 'test/model/poor-host.cc', '-ldl'], { encoding: 'utf8' });
if (compiled.status !== 0) throw new Error(`poor-host.cc does not compile:\n${compiled.stderr}`);
const meminfo = join(folder, 'meminfo');
// 80 MiB are free.
writeFileSync(meminfo, 'MemTotal: 8388608 kB\nMemFree: 4194304 kB\nMemAvailable: 81920 kB\n');

const { NODE_OPTIONS: _, ...rest } = process.env;
const preloaded = [rest.LD_PRELOAD, library].filter(Boolean).join(':');
const env = { ...rest, LD_PRELOAD: preloaded, POOR_HOST_MEMINFO: meminfo };
const { status, stdout, stderr } = spawnSync(process.execPath, ['test/model/poor-host.mjs'], { encoding: 'utf8', env });
if (status !== 0) throw new Error(stderr);
const found = JSON.parse(stdout) as Record<string, unknown>;
const free = '[\\d.]+ MiB are free';

t.test('results that do not fit into the memory are errors', async (t) => {
  const hint = 'hint: use a smaller batch size or block size';
  t.equal(found.smallForward, true);
  t.match(found.forward, new RegExp(`^ERR_MEMORY forward with .* needs [\\d.]+ MiB, ${free}\n {2}${hint}$`));
  t.equal(found.smallAttention, true);
  t.match(found.wideAttention, new RegExp(`^ERR_MEMORY attention with .* needs 88.0 MiB, ${free}\n {2}${hint}$`));
  t.match(found.attention, /^ERR_MEMORY /);
  t.equal(found.smallHidden, true);
  t.match(found.hidden, new RegExp(`^ERR_MEMORY hiddenStates with .* needs 24.0 MiB, ${free}\n {2}${hint}$`));
});

t.test('threads without a head of their own take no memory for one', async (t) => {
  t.equal(found.oneHead, true);
});

t.test('fewer threads are proposed where they would do', async (t) => {
  t.equal(found.threads1, true);
  t.match(found.threads64, /^ERR_MEMORY .*\n {2}hint: not even one block of 4096 fits: .* or fewer threads$/);
});

t.test('the peak is known where processor time is counted in long ticks', async (t) => {
  if (found.peakFlops === 'null') return t.plan(0, 'portable code is not measured');
  t.ok(Number(found.peakFlops) > 1e7 && Number(found.peakFlops) < 1e15, String(found.peakFlops));
});
