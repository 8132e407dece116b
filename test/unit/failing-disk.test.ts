import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import t from 'tap';
import { buildShim, FailingDisk, MODES, type Mode } from '../failing-disk/disk.js';

/*
 * A run has checkpoints of steps 1 and 5 and saves step 10, keeping one, and adds a loss of 2 to it, while the disk fails at the n-th call that
 * changes something: for every n.
 */

/** What scenario.mjs tells of one n. */
interface Attempt {
  n: number;
  /** Calls that changed something. */
  calls: number;
  error?: string;
  problems?: string[];
  /** Step of the checkpoint that a resumed run would continue from. */
  newest?: number;
  /** Newer checkpoints that are not whole. */
  damaged: number;
  /** What its state says. */
  loss?: number;
  /** The run's newest model says which step it is from. */
  weights: number;
}

type Disk = Pick<FailingDisk, 'env' | 'folder' | 'control'>;

const folder = t.testdir();
const shim = buildShim(folder);
let folders = 0;

function disk(): FailingDisk {
  return new FailingDisk(shim, join(folder, `disk-${folders++}`));
}

function scenario(disk: Disk, mode: Mode, first: number, last: number): SpawnSyncReturns<string> {
  return program('scenario', disk, mode, [first, last]);
}

function program(
  name: string,
  { env, folder, control }: Disk,
  mode: Mode,
  rest: readonly unknown[],
): SpawnSyncReturns<string> {
  const error = mode === 'forever' ? constants.errno.EROFS : constants.errno.ENOSPC;
  const words = [`test/failing-disk/${name}.mjs`, folder, control, MODES[mode], error, ...rest];
  return spawnSync(process.execPath, words.map(String), { encoding: 'utf8', env: { PATH: process.env.PATH, ...env } });
}

function attempts<T = Attempt>({ status, signal, stdout, stderr }: SpawnSyncReturns<string>): T[] {
  if (status !== 0 && signal !== 'SIGKILL') throw new Error(stderr);
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as T);
}

for (const mode of ['once', 'short', 'forever'] as const) {
  t.test(`a disk that fails ${mode}`, async (t) => {
    const found = attempts(scenario(disk(), mode, 1, 1000));
    t.ok(found.length > 30, `${found.length} calls`);
    for (const { n, error, problems, newest, damaged, weights } of found) {
      const what = `call ${n}: ${error ?? problems?.join('; ')}`;
      t.equal(damaged, 0, what);
      if (error === undefined) t.equal(newest, 10, what);
      else {
        t.equal(newest, 5, what);
        t.match(error, /^ERR_IO The checkpoint of step 10 could not be saved; the one before is untouched/);
      }
      t.ok(weights === 5 || weights === newest, `${what}: the newest model is that of step ${weights}`);
      for (const problem of problems ?? []) {
        t.match(problem, /^ERR_IO The checkpoint .*step-00000010 (was written|is whole), but/);
      }
    }
    t.ok(found.some(({ error }) => error !== undefined) && found.some(({ problems }) => problems?.length));
    t.match(found.at(-1), { problems: [], newest: 10, weights: 10, loss: 2 }, 'beyond the last call nothing fails');
  });
}

t.test('a process that is killed at any call', async (t) => {
  const target = disk();
  const calls = attempts(scenario(target, 'once', 1000, 1000))[0]?.calls ?? 0;
  t.ok(calls > 30, `${calls} calls`);
  const newest: number[] = [];
  const losses: number[] = [];
  for (let n = 1; n <= calls + 1; n++) {
    const run = scenario(target, 'kill', n, n);
    t.equal(run.signal, n <= calls ? 'SIGKILL' : null, `call ${n}`);
    const [left] = attempts(run);
    if (n === 1) continue;
    t.equal(left?.damaged, 0);
    t.ok(left?.newest === 5 || left?.newest === 10, `killed at call ${n - 1}: step ${left?.newest} is whole`);
    newest.push(left?.newest ?? 0);
    losses.push(left?.loss ?? 0);
  }
  // Once the new one is there it stays.
  t.same(
    newest,
    newest.toSorted((a, b) => a - b),
  );
  t.ok(newest.includes(5) && newest.includes(10));
  t.same(
    losses,
    losses.toSorted((a, b) => a - b),
  );
  t.ok(losses.includes(1) && losses.includes(2));
});

// A disk that fails from a call on keeps what a process leaves there that is killed in the place of this call.
for (const mode of ['once', 'short', 'forever'] as const) {
  for (const what of ['all', 'weights'] as const) {
    t.test(`a disk that fails ${mode} while a model is saved over another, which differs in ${what}`, async (t) => {
      const run = program('saving', disk(), mode, [what]);
      const seen = attempts<{ n: number; error?: string; found: string }>(run);
      t.ok(seen.length > 20, `${seen.length} calls`);
      for (const { n, error, found } of seen) {
        const whole = error === undefined ? ['after'] : ['before', 'after'];
        // Without config.json the folder is refused.
        if (what === 'all' && error?.includes('could not be put into')) whole.push('none');
        t.ok(whole.includes(found), `call ${n}: ${found}, ${error}`);
        if (error?.includes('could not be written')) t.equal(found, 'before', `call ${n}: ${error}`);
      }
      t.ok(seen.some(({ error }) => error !== undefined) && seen.at(-1)?.error === undefined);
    });
  }
}

// A process that is killed loses nothing that it wrote; where the power goes, only what was synced is sure to be there.
t.test('what has to outlast a power cut is synced before anything depends on it', async (t) => {
  const target = disk();
  const log = `${target.folder}.log`;
  attempts(scenario({ ...target, env: { ...target.env, FAILING_DISK_LOG: log } }, 'once', 1000, 1000));
  const calls = readFileSync(log, 'utf8').trimEnd().split('\n');
  /** Files with content, and new names, that a power cut would undo. */
  const unsynced = new Set<string>();
  const renamed = new Set<string>();
  let [renames, removals] = [0, 0];
  for (const line of calls) {
    const [call, path, from] = line.split('\t') as [string, string, string];
    const isOld = /\/\.?step-0000000[15]\b/.test(call === 'rename' ? from : path);
    if (isOld) {
      removals++;
      t.same([...renamed], [], `the new checkpoint has its name for good: ${line}`);
    } else if (/^(open|write|pwrite|writev|ftruncate)/.test(call)) {
      unsynced.add(path);
    } else if (/^f(data)?sync$/.test(call)) {
      unsynced.delete(path);
      for (const name of renamed) if (dirname(name) === path) renamed.delete(name);
    } else if (call === 'rename' && !from.endsWith('/.best.tmp')) {
      renames++;
      const open = [...unsynced, ...renamed].filter((name) => name === from || name.startsWith(`${from}/`));
      t.same(open, [], `what gets its name is synced: ${line}`);
      renamed.add(path);
    }
  }
  t.ok(renames > 5 && removals > 2, `${renames} renames, ${removals} calls on old checkpoints`);
  t.same([...renamed], [], 'no name is left that a power cut would undo');
});
