import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { essence, kotodama, parseEvents, readEvents, tinyTraining, workplace } from './program.js';

t.test('resuming a run that is complete changes nothing', async (t) => {
  const cwd = workplace(t);
  await kotodama(tinyTraining('runs/a', { 'max-steps': 3, valid: 'valid.txt' }), { cwd });
  const before = readEvents(join(cwd, 'runs/a'));
  const again = await kotodama(['train', '--json', '--resume', '--out', 'runs/a'], { cwd });
  t.equal(again.code, 0, again.stderr);
  t.same(
    parseEvents(again.stdout).map(({ type, step }) => `${type} ${step}`),
    ['start 3', 'warning 3', 'end 3'],
  );
  t.same(essence(readEvents(join(cwd, 'runs/a'))), essence(before));
});

t.test('the last words know the whole run, and where everything is', async (t) => {
  const cwd = workplace(t);
  // Training text alone is learned by heart: a high rate makes the validation loss rise at once.
  const rising = { 'max-steps': 4, valid: 'valid.txt', 'eval-every': 2, 'save-every': 2, lr: 0.01 };
  await kotodama(tinyTraining('runs/a', rising), { cwd });
  const best = Math.min(...evaluations(cwd));
  const resume = ['train', '--resume', '--out', 'runs/a', '--max-steps', '8', '--lr', '5', '--tensorboard'];
  const again = await kotodama(resume, { cwd });
  t.equal(again.code, 0, again.stderr);
  const after = evaluations(cwd);
  t.equal(after.length, 4);
  t.equal(Math.min(...after), best, 'the first start was better');
  t.notMatch(again.stderr, 'the best so far');
  t.match(again.stderr, `the best validation loss was ${best.toFixed(4)}, at step 4\n`);
  t.match(again.stderr, '\nthe best model: runs/a/checkpoints/best\n');
  t.match(again.stderr, '\nnext: kotodama generate --model runs/a/checkpoints/best --prompt');
  t.match(again.stderr, '\nTensorBoard: tensorboard --logdir runs/a/tensorboard\n');
  t.ok(existsSync(join(cwd, 'runs/a/tensorboard')));
  // What is said can be copied into a shell.
  renameSync(join(cwd, 'runs/a'), join(cwd, "runs/it's 日本"));
  const moved = await kotodama(['train', '--resume', '--out', "runs/it's 日本", '--tensorboard'], { cwd });
  t.match(moved.stderr, "\nTensorBoard: tensorboard --logdir 'runs/it'\\''s 日本/tensorboard'\n");
  t.match(moved.stderr, "\nnext: kotodama generate --model 'runs/it'\\''s 日本/checkpoints/best' --prompt");
});

function evaluations(cwd: string): number[] {
  return readEvents(join(cwd, 'runs/a')).flatMap((event) => (event.type === 'eval' ? event.loss : []));
}

t.test('epochs: more of them continue where the last one ended', async (t) => {
  const cwd = workplace(t);
  const epochs = { schedule: 'constant', 'warmup-steps': 0, 'shuffle-buffer': 5 };
  await kotodama(tinyTraining('runs/whole', { ...epochs, epochs: 3 }), { cwd });
  await kotodama(tinyTraining('runs/parts', { ...epochs, epochs: 1 }), { cwd });
  const more = await kotodama(['train', '--json', '--resume', '--out', 'runs/parts', '--epochs', '3'], { cwd });
  t.equal(more.code, 0, more.stderr);
  const [expected, found] = ['whole', 'parts'].map((name) => essence(readEvents(join(cwd, 'runs', name))));
  t.same(found, expected);
  t.match(found.at(-1), { epoch: 3 });
});

t.test('another length takes the place of the one that was recorded, in steps or in epochs', async (t) => {
  const cwd = workplace(t);
  const resume = async (...more: string[]) => {
    const run = await kotodama(['train', '--json', '--resume', '--out', 'runs/a', ...more], { cwd });
    t.equal(run.code, 0, run.stderr);
    return parseEvents(run.stdout);
  };
  await kotodama(tinyTraining('runs/a', { 'max-steps': 3, 'save-every': 0 }), { cwd });
  const epoch = (await resume('--epochs', '1')).at(-1);
  t.ok((epoch?.step ?? 0) > 10, `the epoch ends with step ${epoch?.step}`);
  const steps = (epoch?.step ?? 0) + 5;
  t.match((await resume('--max-steps', `${steps}`)).at(-1), { type: 'end', step: steps }, 'in the second epoch');
  const [, over, end] = await resume();
  t.match(over, { type: 'warning', message: /^the run had ended at step \d+ already: nothing is trained/ });
  t.match(end, { type: 'end', step: steps });
  const back = await kotodama(['train', '--resume', '--out', 'runs/a', '--epochs', '1'], { cwd });
  t.equal(back.code, 2);
  t.match(back.stderr, 'The run in runs/a stands in epoch 2: --epochs (API: epochs): expected at least 2, received 1');
});

t.test('a run goes on where its text has moved to, and not with another text', async (t) => {
  const cwd = workplace(t);
  await kotodama(tinyTraining('runs/a', { 'max-steps': 2 }), { cwd });
  mkdirSync(join(cwd, 'moved'));
  renameSync(join(cwd, 'train.txt'), join(cwd, 'moved/train.txt'));
  writeFileSync(join(cwd, 'other.txt'), 'another text\n'.repeat(100));
  const resume = (...more: string[]) =>
    kotodama(['train', '--json', '--resume', '--out', 'runs/a', '--max-steps', '4', ...more], { cwd });
  t.match(await resume(), {
    code: 2,
    stderr: /--train: expected a file that exists, received train\.txt, as recorded in runs\/a\/run\.json$/m,
  });
  t.match(await resume('--train', 'other.txt'), {
    code: 1,
    stderr:
      /^error ERR_CHECKPOINT: The run in runs\/a is another one:\n {2}data: train\.txt of \d+ bytes in the run, other\.txt of 1300 bytes now\n {2}hint/,
  });
  const changed = readFileSync(join(cwd, 'moved/train.txt'), 'utf8').replace(/e/, 'u');
  writeFileSync(join(cwd, 'train.txt'), changed);
  t.match((await resume()).stderr, /data: train\.txt of \d+ bytes in the run, with another content now/);
  rmSync(join(cwd, 'train.txt'));
  t.match(await resume('--train', 'moved/train.txt'), { code: 0 });
  t.match(await resume('--max-steps', '6'), { code: 0 }, 'the new place is remembered');
});

t.test(
  'a run goes on without the folder that its tokenizer came from, and with options that say what it is',
  async (t) => {
    const cwd = workplace(t);
    const run = (...words: string[]) => kotodama(['train', '--json', '--max-steps', '4', ...words], { cwd });
    await kotodama(tinyTraining('runs/base', { 'max-steps': 2 }), { cwd });
    await run('--train', 'train.txt', '--init-from', 'runs/base', '--out', 'tuned', '--max-steps', '2');
    renameSync(join(cwd, 'runs/base'), join(cwd, 'runs/moved'));
    const resume = (...words: string[]) => run('--resume', '--out', 'tuned', ...words);
    t.match(
      await resume('--tokenizer', 'base'),
      { code: 2, stderr: /--tokenizer: .*received base/ },
      'as it was asked for',
    );
    t.match(await resume(), { code: 0 });
    t.match(JSON.parse(readFileSync(join(cwd, 'tuned/run.json'), 'utf8')).options, { tokenizer: 'runs/base' });

    const same = ['--init-from', './runs/../runs/base', '--dropout', '0', '--text-field', 'text'];
    t.match(await resume(...same, '--max-steps', '6'), { code: 0 });
    t.match(await resume('--init-from', 'runs/moved', '--dropout', '0.1', '--text-field', 'body'), {
      code: 1,
      stderr: new RegExp(
        [
          'begun differently:',
          '--init-from: "./runs/../runs/base" in the run, "runs/moved" now',
          '--dropout: 0 in the run, 0.1 now',
          '--text-field: "text" in the run, "body" now',
        ].join('\n *'),
      ),
    });
  },
);

t.test('a run that was killed before its first checkpoint begins again', async (t) => {
  const cwd = workplace(t);
  const run = await kotodama(tinyTraining('runs/a', { 'max-steps': 100_000, 'save-every': 0 }), {
    cwd,
    onOutput: (stdout, child) => {
      if (stdout.includes('"step":2,')) child.kill('SIGKILL');
    },
  });
  t.equal(run.signal, 'SIGKILL');
  const again = await kotodama(['train', '--json', '--resume', '--out', 'runs/a', '--max-steps', '4'], { cwd });
  t.equal(again.code, 0, again.stderr);
  t.match(parseEvents(again.stdout)[1], {
    type: 'warning',
    message: /no whole checkpoint: the run begins again at step 0/,
  });
  t.same(
    readEvents(join(cwd, 'runs/a')).flatMap((event) => (event.type === 'step' ? event.step : [])),
    [1, 2, 3, 4],
  );
});

t.test('a disk that is full while saving: the last checkpoint survives and can be continued', async (t) => {
  const cwd = workplace(t);
  const first = await kotodama(tinyTraining('runs/a', { 'max-steps': 4 }), { cwd });
  t.equal(first.code, 0, first.stderr);
  const resume = ['train', '--json', '--resume', '--out', 'runs/a', '--max-steps', '8', '--save-every', '2'];
  const full = await kotodama(resume, { cwd, fileBlocks: 40 });
  t.equal(full.code, 1);
  t.match(full.stderr, /^error ERR_IO: The checkpoint of step 8 could not be saved/);
  const events = parseEvents(full.stdout);
  const warnings = events.filter((event) => event.type === 'warning' && event.code === 'ERR_IO');
  t.match(warnings[0], { step: 6, code: 'ERR_IO', message: /The checkpoint of step 6 could not be saved.*EFBIG/ });
  t.same(
    events.flatMap((event) => (event.type === 'step' ? event.step : [])),
    [5, 6, 7, 8],
    'training goes on in between',
  );
  const again = await kotodama(resume, { cwd });
  t.equal(again.code, 0, again.stderr);
  t.match(parseEvents(again.stdout)[0], { resumedFrom: 'runs/a/checkpoints/step-00000004' });
});

t.test('stochastic rounding is for bf16, and stays what it was', async (t) => {
  const cwd = workplace(t);
  const rounded = [...tinyTraining('runs/parts', { 'max-steps': 3, precision: 'bf16' }), '--stochastic-rounding'];
  const refused = await kotodama([...tinyTraining('runs/parts'), '--stochastic-rounding'], { cwd });
  t.equal(refused.code, 2);
  t.match(refused.stderr, '--stochastic-rounding: expected nothing without --precision bf16, received true');
  const first = await kotodama(rounded, { cwd });
  t.equal(first.code, 0, first.stderr);
  const resume = ['train', '--json', '--resume', '--out', 'runs/parts', '--max-steps', '6'];
  const changed = await kotodama([...resume, '--stochastic-rounding=false'], { cwd });
  t.equal(changed.code, 1);
  t.match(changed.stderr, /--stochastic-rounding: true in the run, false now/);
  const second = await kotodama(resume, { cwd });
  t.equal(second.code, 0, second.stderr);
  t.match(JSON.parse(readFileSync(join(cwd, 'runs/parts/run.json'), 'utf8')), { stochasticRounding: true });
});

t.test('a run that has lost its checkpoints is not begun again over its model', async (t) => {
  const cwd = workplace(t);
  const out = join(cwd, 'runs/a');
  await kotodama(tinyTraining('runs/a', { 'max-steps': 2, 'save-every': 0 }), { cwd });
  const files = ['model.safetensors', 'metrics.jsonl', 'run.json'];
  const contents = () => files.map((name) => readFileSync(join(out, name), 'utf8'));
  const before = contents();
  // Whether its folder is there or not.
  for (const lost of ['checkpoints/step-00000002', 'checkpoints']) {
    rmSync(join(out, lost), { recursive: true });
    const { code, stderr } = await kotodama(['train', '--resume', '--out', 'runs/a', '--max-steps', '4'], { cwd });
    t.equal(code, 1);
    t.match(
      stderr,
      /^error ERR_CHECKPOINT: runs\/a holds a model, but no checkpoint.*\n? *hint: .*--init-from runs\/a/,
    );
    t.same(contents(), before);
  }
  const other = ['train', '--init-from', 'runs/a', '--train', 'train.txt', '--out', 'runs/b', '--max-steps', '1'];
  t.match(await kotodama(other, { cwd }), { code: 0 }, 'as the hint says');
});

t.test('the checkpoint says what the model is like, not the files that a person may change', async (t) => {
  const cwd = workplace(t);
  const out = join(cwd, 'runs/a');
  await kotodama(tinyTraining('runs/a', { 'max-steps': 2 }), { cwd });
  const resume = (steps: number) =>
    kotodama(['train', '--json', '--resume', '--out', 'runs/a', '--max-steps', `${steps}`], { cwd });
  const config = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8'));
  writeFileSync(join(out, 'config.json'), JSON.stringify({ ...config, n_layer: 2 }));
  const changed = await resume(4);
  t.equal(changed.code, 0, changed.stderr);
  t.match(parseEvents(changed.stdout)[0], { step: 2, resumedFrom: 'runs/a/checkpoints/step-00000002' });
  rmSync(join(out, 'config.json'));
  t.match(await resume(6), { code: 0 });
  t.same(JSON.parse(readFileSync(join(out, 'config.json'), 'utf8')), config);
});
