// Runs that are killed at random moments, and continued, until they are done. 5 kills altogether; `npm run test:kill` does
// 50. KOTODAMA_TEST_KILLS says another number, KOTODAMA_TEST_SEED repeats the choices of an earlier time.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { printedSeed } from '../unit/helpers/seed.js';
import { essence, kotodama, readEvents, TOKENIZER, tinyTraining, workplace } from './program.js';

const KILLS = Number(process.env.KOTODAMA_TEST_KILLS ?? 5);
/** Of one run; then comes the next one. */
const MOST_PER_RUN = 12;
const MAX_STEPS = 60;

/** Shuffled, accumulating, with dropout, over several epochs: whatever a checkpoint may forget shows. */
const SHARED = {
  ...{ 'max-steps': MAX_STEPS, 'save-every': 7, 'grad-accum': 2, dropout: 0.1, 'shuffle-buffer': 10, seed: 5 },
  ...{ valid: 'valid.txt', 'eval-every': 10, 'sample-every': 15, 'sample-tokens': 8, patience: 6, keep: 2 },
  ...{ spikes: 'skip', 'spike-window': 16, 'spike-sigma': 3 },
};

/** Kinds of runs, one after the other. */
const KINDS: { [name: string]: { [flag: string]: string | number } } = {
  texts: { train: 'train.txt' },
  'token files': { train: 'tokens.bin' },
  'bf16, two threads, an inverse square root': { precision: 'bf16', threads: 2, schedule: 'inverse-sqrt' },
  'token files in order': { train: 'tokens.bin', 'shuffle-buffer': 0, 'batch-size': 3, schedule: 'wsd' },
};

/** Numbers in [0, 1) from a seed (mulberry32). */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

t.test(`runs that are killed ${KILLS} times equal those that were not, bit for bit`, async (t) => {
  const cwd = workplace(t);
  const tokenize = ['tokenize', '--tokenizer', TOKENIZER, '--input', 'train.txt', '--output', 'tokens.bin'];
  t.equal((await kotodama(tokenize, { cwd })).code, 0);
  const seed = printedSeed(t);
  const next = randomNumbers(seed);
  const kinds = Object.entries(KINDS);
  const perRun = Math.min(MOST_PER_RUN, Math.ceil(KILLS / 2));
  let kills = 0;

  for (let number = 0; kills < KILLS; number++) {
    const [name, flags] = kinds[number % kinds.length];
    const whole = `runs/whole-${number % kinds.length}`;
    if (number < kinds.length) {
      const { code, stderr } = await kotodama(tinyTraining(whole, { ...SHARED, ...flags, 'num-workers': 0 }), { cwd });
      t.equal(code, 0, stderr);
    }
    const out = `runs/killed-${number}`;
    const killed = await killAndResume(t, { cwd, out, flags, most: Math.min(perRun, KILLS - kills), next });
    // A run may end before its kill comes; then one more takes its place.
    t.comment(`${name}: killed ${killed} times`);
    kills += killed;
    const [expected, found] = [whole, out].map((run) => essence(readEvents(join(cwd, run))));
    t.same(found, expected, name);
    t.equal(found.length, MAX_STEPS + 6 + 4);
    // Weights, moments, positions, windows: the same bytes.
    const last = `checkpoints/step-000000${MAX_STEPS}`;
    const [a, b] = [whole, out].map((run) => readFileSync(join(cwd, run, last, 'SHA256SUMS'), 'utf8'));
    t.equal(b, a, name);
  }
});

interface KillOptions {
  cwd: string;
  out: string;
  flags: { [flag: string]: string | number };
  /** Kills at most. */
  most: number;
  next: () => number;
}

/** Trains to the end; gives the number of kills on the way. */
async function killAndResume(t: Pick<typeof import('tap')['default'], 'equal'>, options: KillOptions): Promise<number> {
  const { cwd, out, flags, most, next } = options;
  let kills = 0;
  for (;;) {
    // Killed before it wrote what it is, there is nothing to continue.
    const begun = existsSync(join(cwd, out, 'run.json'));
    // Threads that tokenize and what they prepare are free to change.
    const workers = { 'num-workers': Math.floor(next() * 3), 'prefetch-factor': 1 + Math.floor(next() * 9) };
    const resume = ['train', '--json', '--resume', '--out', out, ...words(workers)];
    const command = begun ? resume : tinyTraining(out, { ...SHARED, ...flags, ...workers });
    // Some while the program starts; most after some events and then somewhere inside a step or a checkpoint.
    const early = next() < 0.15;
    const after = early ? 0 : 2 + Math.floor(next() * 30);
    const delay = next() * (early ? 1500 : 20);
    let aimed = kills >= most;
    const run = await kotodama(command, {
      cwd,
      onStart: (child) => {
        if (aimed || after > 0) return;
        aimed = true;
        setTimeout(() => child.kill('SIGKILL'), delay);
      },
      onOutput: (stdout, child) => {
        if (aimed || stdout.split('\n').length < after) return;
        aimed = true;
        setTimeout(() => child.kill('SIGKILL'), delay);
      },
    });
    if (run.signal !== 'SIGKILL') {
      t.equal(run.code, 0, run.stderr);
      return kills;
    }
    kills++;
  }
}

function words(flags: { [flag: string]: string | number }): string[] {
  return Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
}
