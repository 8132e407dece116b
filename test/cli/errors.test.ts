import { type ChildProcess, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { kotodama, MAIN, parseEvents, TOKENIZER, tinyTraining, workplace } from './program.js';

t.test('a pattern that cannot be looked at is one problem among others', async (t) => {
  const cwd = workplace(t);
  symlinkSync('loop.txt', join(cwd, 'loop.txt'));
  for (const [command, files] of [
    ['train', '--train'],
    ['evaluate', '--data'],
    ['inspect-data', '--train'],
  ] as const) {
    const { code, stderr } = await kotodama([command, files, 'loo*.txt', '--block-size', '0'], { cwd });
    t.equal(code, 2, command);
    t.match(
      stderr,
      new RegExp(`${files}: expected a pattern of files that can be read, received loo\\*.txt, too many`),
    );
    t.match(stderr, '--block-size');
  }
});

t.test('a name that would steer the terminal is shown as it is', async (t) => {
  const { stderr } = await kotodama(['\x1b]0;owned\x07'], { cwd: t.testdir() });
  t.match(stderr, "error ERR_OPTIONS: There is no command '␛]0;owned␇'");
});

t.test('a full disk behind the standard output', { skip: !existsSync('/dev/full') }, async (t) => {
  const program = `exec '${process.execPath}' '${MAIN}' --version > /dev/full`;
  const { status, stderr } = spawnSync('sh', ['-c', program], { encoding: 'utf8' });
  t.equal(status, 1);
  t.match(stderr, /^error ERR_IO: The standard output cannot be written \(ENOSPC.*\n {2}hint: .*\n$/);
});

t.test('what is wrong is said before any work, all of it at once', async (t) => {
  const cwd = workplace(t);
  const words = ['train', '--train', 'gone.txt', '--valid', '.', '--lr', 'NaN', '--n-hed', '3', '--schedule', 'cosin'];
  words.push('--device', 'tpu', '--config', 'c.json');
  writeFileSync(join(cwd, 'c.json'), '{"n-layr": 3, "n-embd": 24}');
  const run = await kotodama(words, { cwd });
  t.equal(run.code, 2);
  t.equal(run.stdout, '');
  for (const part of [
    'options of kotodama train are not valid: 9 problems',
    "'n-layr' in c.json: expected a known name, received an unknown name (did you mean --n-layer?)",
    '--n-hed: expected a known name, received an unknown name (did you mean --n-head?)',
    '--lr: expected a number above 0, received NaN',
    `--schedule: expected 'cosine', 'linear', 'constant', 'wsd' or 'inverse-sqrt', received 'cosin' (did you mean 'cosine'?)`,
    "--device: expected 'auto', 'cpu', 'cuda' or 'cuda:N', received 'tpu'",
    '--tokenizer: expected DIR, received nothing',
    '--out: expected DIR, received nothing',
    '--train: expected a file that exists, received gone.txt',
    '--valid: expected a file, received ., a folder',
  ]) {
    t.match(run.stderr, part);
  }
  t.notMatch(run.stderr, /^ +at /m, 'no stack');
  t.same(readdirSync(cwd).sort(), ['c.json', 'train.txt', 'valid.txt']);
});

t.test('places where nothing is, or something else, are problems among the others', async (t) => {
  const cwd = workplace(t);
  const gone = (flag: string, place: string) =>
    `--${flag}: expected a folder that exists, or a name of the Hub, received ${place} (check the path; `;
  for (const [words, ...parts] of [
    [
      'train --train train.txt --tokenizer /nope/tok --init-from ./gone --out train.txt --on-event ./none.mjs --lr -1',
      ...[gone('tokenizer', '/nope/tok'), gone('init-from', './gone')],
      '--out: expected a folder, or nothing yet, received train.txt, a file',
      '--on-event: expected a module that exists, received ./none.mjs',
      '--lr: expected a number above 0',
    ],
    [
      'train --train train.txt --tokenizer train.txt --out train.txt/a --on-event . --lr -1',
      '--tokenizer: expected a folder, received train.txt, a file (give the folder that holds tokenizer.json ',
      '--out: expected a path that can be read, received train.txt/a, ',
      '--on-event: expected a module, received ., a folder',
    ],
    ...['generate --top-k 0', 'evaluate --data train.txt --batch-size 0'].map((start): [string, ...string[]] => [
      `${start} --model ./gone --tokenizer gone`,
      ...[gone('model', './gone'), gone('tokenizer', 'gone')],
    ]),
    ['tokenize --tokenizer ./gone --input zz --output a.bin', gone('tokenizer', './gone'), '--input: '],
  ] as [string, ...string[]][]) {
    const run = await kotodama(words.split(' '), { cwd });
    t.equal(run.code, 2, words);
    for (const part of parts) t.match(run.stderr, part);
  }
  t.same(readdirSync(cwd).sort(), ['train.txt', 'valid.txt']);
});

t.test('options that would do nothing', async (t) => {
  const cwd = workplace(t);
  const useless = { 'max-steps': 1, patience: 3, 'sample-prompt': 'a', 'dashboard-host': '0.0.0.0' };
  const refused = await kotodama(tinyTraining('runs/a', useless), { cwd });
  t.equal(refused.code, 2);
  for (const part of [
    '--patience: expected 0 without a validation set (--valid, API: valid), received 3',
    "--sample-prompt: expected nothing without --sample-every, received 'a'",
    "--dashboard-host: expected nothing without --dashboard, received '0.0.0.0'",
  ]) {
    t.match(refused.stderr, part);
  }
  // A release that did not refuse it.
  t.equal((await kotodama(tinyTraining('runs/a', { 'max-steps': 1 }), { cwd })).code, 0);
  const path = join(cwd, 'runs/a/run.json');
  const record = JSON.parse(readFileSync(path, 'utf8'));
  writeFileSync(path, JSON.stringify({ ...record, options: { ...record.options, patience: 3 } }));
  const resume = ['train', '--resume', '--out', 'runs/a', '--max-steps', '2'];
  t.equal((await kotodama([...resume, '--patience', '4'], { cwd })).code, 2);
  const again = await kotodama(resume, { cwd });
  t.equal(again.code, 0, again.stderr);
});

t.test('errors name what to do', async (t) => {
  const cwd = workplace(t);
  writeFileSync(join(cwd, 'short.txt'), 'too short');
  writeFileSync(join(cwd, 'empty.txt'), '');
  const fails = async (name: string, more: { [flag: string]: string | number }, ...patterns: (RegExp | string)[]) => {
    const out = `runs/${name}`;
    const run = await kotodama(tinyTraining(out, { 'max-steps': 1, ...more }), { cwd });
    t.ok(run.code === 1 || run.code === 2, `${name}: ${run.code}`);
    for (const pattern of patterns) t.match(run.stderr, pattern, name);
    t.notMatch(run.stderr, /^ +at /m, name);
  };
  await fails('short', { train: 'short.txt' }, /^error ERR_DATA: /, /17/);
  t.same(readdirSync(join(cwd, 'runs/short')), [], 'no run was begun');
  await fails('empty', { train: 'empty.txt' }, /^error ERR_DATA: /, 'empty');
  await fails('heads', { 'n-head': 3 }, '--n-head: expected a divisor of --n-embd (16), received 3');
  await fails('tokenizer', { tokenizer: cwd }, /^error ERR_TOKENIZER: /);
  await fails('device', { device: 'cuda:99' }, /^error ERR_DEVICE: /);
  await fails('init', { 'init-from': cwd }, /^error ERR_/);

  await kotodama(tinyTraining('runs/a', { 'max-steps': 1 }), { cwd });
  const metrics = readFileSync(join(cwd, 'runs/a/metrics.jsonl'), 'utf8');
  await fails('a', {}, /^error ERR_CHECKPOINT: runs\/a holds another run/, 'continue it with --resume');
  t.equal(readFileSync(join(cwd, 'runs/a/metrics.jsonl'), 'utf8'), metrics);
  const changed = await kotodama(['train', '--resume', '--out', 'runs/a', '--batch-size', '4', '--seed', '7'], { cwd });
  t.equal(changed.code, 1);
  t.match(changed.stderr, /begun differently:\n {2}--batch-size: 2 in the run, 4 now\n {2}--seed: 0 in the run, 7 now/);
  const nothing = await kotodama(['train', '--resume', ...tinyTraining('runs/none').slice(1)], { cwd });
  t.match(nothing.stderr, /^error ERR_CHECKPOINT: runs\/none holds no run/);
  const mistyped = await kotodama(['train', '--resume', '--out', 'runs/aa'], { cwd });
  t.match(mistyped.stderr, /^error ERR_CHECKPOINT: runs\/aa holds no run to continue\n {2}hint: check the path/);
});

t.test('a fresh run replaces no file of a person', async (t) => {
  const cwd = workplace(t);
  const config = JSON.stringify({ nLayer: 1 });
  writeFileSync(join(cwd, 'config.json'), config);
  const refused = await kotodama(tinyTraining('.', { config: 'config.json', 'max-steps': 1 }), { cwd });
  t.equal(refused.code, 1);
  t.match(refused.stderr, /^error ERR_CHECKPOINT: \. holds config\.json, which a run would replace\n {2}hint: choose/);
  mkdirSync(join(cwd, 'mine'));
  writeFileSync(join(cwd, 'mine/tokenizer.json'), '{}');
  const other = await kotodama(tinyTraining('mine', { 'max-steps': 1 }), { cwd });
  t.match(other.stderr, 'mine holds tokenizer.json, which a run would replace');
  t.same(readdirSync(cwd).sort(), ['config.json', 'mine', 'train.txt', 'valid.txt']);
  t.equal(readFileSync(join(cwd, 'config.json'), 'utf8'), config);

  const tokenizer = join(cwd, 'tokenizer');
  cpSync(TOKENIZER, tokenizer, { recursive: true });
  const beside = await kotodama(tinyTraining('tokenizer', { tokenizer, 'max-steps': 1 }), { cwd });
  t.equal(beside.code, 0, 'the folder of its own tokenizer is none of these');
});

t.test('the standard input, whose length nobody knows', async (t) => {
  const cwd = workplace(t);
  const text = readFileSync(join(cwd, 'train.txt'));
  const decaying = await kotodama(tinyTraining('runs/a', { train: '-', epochs: 1 }), { cwd });
  t.equal(decaying.code, 2);
  t.match(decaying.stderr, /--train: expected files, or --max-steps with -, received '-'/);
  const onStart = (child: ChildProcess) => child.stdin?.end(text);
  const lengths: { [flag: string]: string | number }[] = [{ 'max-steps': 3 }, { epochs: 1, schedule: 'constant' }];
  for (const flags of lengths) {
    const out = `runs/${Object.keys(flags)[0]}`;
    const run = await kotodama(tinyTraining(out, { train: '-', 'num-workers': 0, ...flags }), { cwd, onStart });
    t.equal(run.code, 0, run.stderr);
    const steps = parseEvents(run.stdout).filter(({ type }) => type === 'step').length;
    t.ok('epochs' in flags ? steps > 10 : steps === 3, `${steps} steps`);
  }
});

t.test('data that ends a run: what is saved can be continued, and how', async (t) => {
  const cwd = workplace(t);
  const text = readFileSync(join(cwd, 'train.txt'));
  const flags = { 'max-steps': 500, 'shuffle-buffer': 0, 'num-workers': 0, 'warmup-steps': 1, schedule: 'constant' };
  const onStart = (child: ChildProcess) => child.stdin?.end(text);
  const piped = await kotodama(tinyTraining('runs/piped', { ...flags, train: '-' }), { cwd, onStart });
  t.equal(piped.code, 1);
  t.match(
    piped.stderr,
    /hint: .*step \d+ is saved, .* goes on from it; pipe the same data in again, from its beginning$/m,
  );

  writeFileSync(join(cwd, 'bad.txt'), Buffer.concat([text, Buffer.from([0xff, 0x0a]), text]));
  const bad = await kotodama(tinyTraining('runs/bad', { ...flags, train: 'bad.txt', 'max-steps': 40 }), { cwd });
  t.equal(bad.code, 1);
  t.match(
    bad.stderr,
    /hint: repair it, .*is saved: --resume --skip-bad .* goes on without it; with a mended .* another run$/m,
  );
  const on = await kotodama(['train', '--resume', '--skip-bad', '--out', 'runs/bad'], { cwd });
  t.equal(on.code, 0, on.stderr);
});

t.test('a loss that stops being a number: the lines are named, and what was saved can be continued', async (t) => {
  const cwd = workplace(t);
  const flags = { 'save-every': 1, 'max-steps': 50, 'warmup-steps': 0, schedule: 'constant', 'shuffle-buffer': 0 };
  const run = await kotodama(tinyTraining('runs/a', { ...flags, lr: 1e38, 'grad-clip': 0 }), { cwd });
  t.equal(run.code, 1);
  t.match(run.stderr, /^error ERR_NON_FINITE: /m);
  t.match(run.stderr, /train\.txt lines \d+ to \d+/);
  t.match(run.stderr, /the last checkpoint, runs\/a\/checkpoints\/step-\d{8}, is untouched/);
  t.notMatch(run.stderr, /^ +at /m);
});

t.test('a configuration that does not fit the weights', async (t) => {
  const cwd = workplace(t);
  await kotodama(tinyTraining('runs/a', { 'max-steps': 1 }), { cwd });
  const path = join(cwd, 'runs/a/config.json');
  rmSync(join(cwd, 'runs/a/checkpoints'), { recursive: true });
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), vocab_size: 100 }));
  const flags = ['--init-from', 'runs/a', '--train', 'train.txt', '--out', 'runs/b', '--device', 'cpu'];
  const run = await kotodama(['train', ...flags], { cwd });
  t.equal(run.code, 1);
  t.match(run.stderr, /^error ERR_MODEL_FILE: .*wte\.weight': expected \[100, 16\], received \[2048, 16\]/m);
  t.notOk(existsSync(join(cwd, 'runs/b')));
});
