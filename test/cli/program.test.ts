import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { kotodama } from './program.js';

const run = (...words: string[]) => kotodama(words, { cwd: '.' });

t.test('help, of the program and of each command', async (t) => {
  for (const words of [[], ['--help'], ['help'], ['help', '--help']]) {
    const { code, stdout } = await run(...words);
    t.equal(code, 0);
    for (const name of ['train', 'generate', 'evaluate', 'doctor', 'demo']) t.match(stdout, `kotodama ${name}`);
  }
  const [train, generate] = await Promise.all([run('train', '--help'), run('generate', '-h')]);
  t.match(train.stdout, /--grad-accum N +micro-batches per optimizer step \[1\]/);
  t.match(train.stdout, 'Examples:');
  t.match(generate.stdout, /--top-k N/);
  t.equal((await run('help', 'train')).stdout, train.stdout);
  t.match((await run('help', 'trian')).stderr, "did you mean 'train'?");
});

t.test('version', async (t) => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
  t.equal((await run('--version')).stdout, `${version}\n`);
});

t.test('a command that does not exist', async (t) => {
  const { code, stderr } = await run('trian');
  t.equal(code, 2);
  t.match(stderr, /^error ERR_OPTIONS: There is no command 'trian'.*\n {2}hint: did you mean 'train'\?/);
});

t.test('options that are missing, of each command', async (t) => {
  const outcomes = await Promise.all([run('generate'), run('evaluate', '--data', 'no.txt'), run('doctor', '--jsn')]);
  t.same(
    outcomes.map(({ code }) => code),
    [2, 2, 2],
  );
  t.match(outcomes[0].stderr, '--model: expected DIR, received nothing');
  t.match(
    outcomes[1].stderr,
    /2 problems\n.*--model: expected DIR, received nothing\n.*--data: expected a file that exists/,
  );
  t.match(outcomes[2].stderr, 'did you mean --json?');
});

t.test('a model that is not there', async (t) => {
  const { code, stderr } = await run('generate', '--model', 'nowhere', '--prompt', 'x');
  t.equal(code, 2);
  t.match(
    stderr,
    /^error ERR_OPTIONS: .*--model: expected a folder that exists, .*received nowhere\n {2}hint: .*owner\/name/,
  );
  const begun = t.testdir({ 'run.json': '{}' });
  const tuning = ['--train', 'README.md', '--out', join(begun, 'out'), '--max-steps', '1'];
  for (const words of [
    ['generate', '--model', begun, '--prompt', 'x'],
    ['export', '--model', begun, '--format', 'gguf', '--out', join(begun, 'a.gguf')],
    ['train', '--init-from', begun, ...tuning],
  ]) {
    const early = await run(...words);
    t.match(early.stderr, /^error ERR_CHECKPOINT: The run in .* has no checkpoint yet/, words[0]);
  }
});

t.test('doctor, for people and for programs', async (t) => {
  const [shown, json] = await Promise.all([run('doctor'), run('doctor', '--json')]);
  t.equal(shown.code, 0, shown.stderr);
  t.match(shown.stdout, /^kotodama {2}\d/);
  t.match(shown.stdout, /^addon {5}works$/m);
  t.match(shown.stdout, /^kernels {3}(nvcc|none in this build; .*`npm rebuild kotodama)/m);
  t.match(shown.stdout, /^toolkit {3}(nvcc|none found)/m);
  t.match(shown.stdout, /^cpu {7}.*, computes$/m);
  const findings = JSON.parse(json.stdout);
  t.match(findings, { node: process.version, nodeProblem: null, addonProblem: null });
  t.match(findings.devices[0], { device: 'cpu', totalBytes: Number });
});

t.test('doctor on a Node that is too old', async (t) => {
  const preload = join(
    t.testdir({ 'old.cjs': "Object.defineProperty(process, 'version', { value: 'v18.20.8' });" }),
    'old.cjs',
  );
  const { code, stdout } = await kotodama(['doctor'], { cwd: '.', env: { NODE_OPTIONS: `--require ${preload}` } });
  t.equal(code, 1);
  t.match(stdout, /^node {6}v18\.20\.8, which does not fit: kotodama needs Node \^20/m);
});
