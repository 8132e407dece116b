import { cpSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { kotodama, tinyTraining, workplace } from './program.js';

t.test('two runs that differ in one option, and what each was made of', async (t) => {
  const cwd = workplace(t);
  const shared = { 'max-steps': 6, valid: 'valid.txt', 'eval-every': 3, 'num-workers': 0, seed: 3 };
  for (const [out, lr] of Object.entries({ 'runs/a': 0.01, 'runs/b': 0.02, 'runs/c': 0.01 })) {
    const { code, stderr } = await kotodama(tinyTraining(out, { ...shared, lr }), { cwd });
    t.equal(code, 0, stderr);
  }
  const record = JSON.parse(readFileSync(join(cwd, 'runs/a/run.json'), 'utf8'));
  t.match(record, {
    ...{ version: 1, kotodama: /^\d+\.\d+\.\d+/, node: process.version, system: /linux|darwin/, device: /^cpu, / },
    ...{ precision: 'fp32', seed: 3, parameters: Number, tokenizer: /^[0-9a-f]{64}$/ },
    ...{ model: { nEmbd: 16 }, training: { lr: 0.01, maxSteps: 6, spikes: 'log' }, options: { train: ['train.txt'] } },
    data: { batchSize: 2, of: { seed: 3, of: { files: [{ name: 'train.txt', sha256: /^[0-9a-f]{64}$/ }] } } },
    valid: { of: { files: [{ name: 'valid.txt' }] } },
    starts: [{ step: 0, resumedFrom: null, time: /^20\d\d-/ }],
  });

  const text = await kotodama(['compare', 'runs/a', 'runs/b'], { cwd });
  t.equal(text.code, 0, text.stderr);
  t.match(text.stdout, /^ +runs\/a +runs\/b\nsteps +6 +6\nended +completed +completed\n/);
  t.match(
    text.stdout,
    /settings: \d+ are the same, 2 differ\n {2}training.lr +0.01 +0.02\n {2}training.minLr +0.001 +0.002\n\n/,
  );
  t.match(text.stdout, /losses: of 6 common steps, step \d is the first that differs/);
  t.match(text.stdout, /validation at step +runs\/a +runs\/b +difference\n {2}3 +/);

  const json = JSON.parse((await kotodama(['compare', 'runs/a', 'runs/c', '--json'], { cwd })).stdout);
  t.match(json, { different: [], commonSteps: 6, firstDifference: null });
  const same = await kotodama(['compare', 'runs/a', 'runs/c'], { cwd });
  t.match(same.stdout, /settings: all \d+ are the same\n\nlosses: equal bit for bit in all 6 common steps\n/);

  const more = ['train', '--json', '--resume', '--out', 'runs/a', '--max-steps', '8', '--lr', '0.005'];
  const resumed = await kotodama(more, { cwd });
  t.match(resumed.stdout, /"type":"warning".*other options: lr 0.01 before, 0.005 now; minLr 0.001 before, 0.0005 now/);
  const after = JSON.parse(readFileSync(join(cwd, 'runs/a/run.json'), 'utf8'));
  t.match(after, { training: { lr: 0.005 }, starts: [{ step: 0 }, { step: 6, resumedFrom: /step-00000006/ }] });
});

t.test('long settings show where they differ', async (t) => {
  const cwd = workplace(t);
  const folder = `data/${'corpus-'.repeat(8)}1`;
  mkdirSync(join(cwd, folder), { recursive: true });
  for (const name of ['one', 'two']) {
    const file = `${folder}/${name}.txt`;
    cpSync(join(cwd, 'train.txt'), join(cwd, file));
    await kotodama(tinyTraining(`runs/${name}`, { train: file, 'max-steps': 1 }), { cwd });
  }
  const { stdout } = await kotodama(['compare', 'runs/one', 'runs/two'], { cwd });
  t.match(stdout, /options.train.0 +\.\.\.\S+corpus-1\/one.txt +\.\.\.\S+corpus-1\/two.txt\n/);
});

t.test('what cannot be compared', async (t) => {
  const cwd = workplace(t);
  const one = await kotodama(['compare', 'runs/a'], { cwd });
  t.match(one, { code: 2, stderr: /two folders of runs, received runs\/a/ });
  const none = await kotodama(['compare', 'runs/a', 'runs/b'], { cwd });
  t.match(none, { code: 1, stderr: /runs\/a holds no run/ });
});
