import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as passed } from 'node:timers/promises';
import t from 'tap';
import { writeChecksums } from '../../dist/checksums.js';
import { BlockDataset, DataLoader } from '../../dist/data/index.js';
import type { ModelOptions } from '../../dist/model/build.js';
import { GPT2 } from '../../dist/model/gpt2.js';
import { listCheckpoints, type TrainerState } from '../../dist/train/checkpoint.js';
import type { EndEvent, TrainEvent } from '../../dist/train/events.js';
import { checkIdentity } from '../../dist/train/identity.js';
import { Trainer, type TrainerOptions } from '../../dist/train/trainer.js';
import { letters, TinyLoader, tinyModel } from './tiny.js';

type Options = Partial<TrainerOptions> & { out: string };
type Teardown = { teardown(work: () => unknown): void };

/** Runs to the end with a model of its own, dropout on. */
async function run(t: Teardown, options: Options, seed = 1): Promise<TrainEvent[]> {
  const model = options.model ?? (await ownModel(t, seed));
  const valid = new TinyLoader(2, { sameEachEpoch: true });
  const shared = { tokenizer: letters(), train: new TinyLoader(5), valid, evalEvery: 4, lr: 1e-2 };
  const trainer = new Trainer({ ...shared, schedule: 'constant', warmupSteps: 1, ...options, model });
  const seen: TrainEvent[] = [];
  for await (const event of trainer.run()) seen.push(event);
  return seen;
}

async function ownModel(t: Teardown, seed: number, options: ModelOptions & { dropout?: number } = {}): Promise<GPT2> {
  const model = await tinyModel({ seed, dropout: 0.1, ...options });
  t.teardown(() => model.dispose());
  return model;
}

/** What does not depend on the clock. */
function numbers(events: TrainEvent[]): unknown[] {
  return events.flatMap((event) => {
    if (event.type === 'eval') return [['eval', event.step, event.loss]];
    return event.type === 'step' ? [[event.step, event.loss, event.gradNorm, event.learningRate, event.epoch]] : [];
  });
}

t.test('stopped anywhere and resumed: the same numbers, bit for bit', async (t) => {
  const folder = t.testdir();
  const whole = numbers(await run(t, { out: join(folder, 'whole'), maxSteps: 12 }));
  // 5 is the end of an epoch, 4 an evaluation, 1 the warmup.
  for (const stop of [1, 4, 5, 7, 11]) {
    const out = join(folder, `stopped-${stop}`);
    const first = await run(t, { out, maxSteps: stop });
    const second = await run(t, { out, maxSteps: 12, resume: true });
    t.match(second[0], { type: 'start', step: stop, resumedFrom: /step-/ });
    const both = [...numbers(first), ...numbers(second)];
    // The end of the first part has an evaluation of its own.
    t.same(
      both.filter((row) => (row as unknown[])[0] !== 'eval' || ((row as number[])[1] as number) % 4 === 0),
      whole,
      `stopped at ${stop}`,
    );
  }
});

t.test('the weights of the model that is passed in do not matter: dropout follows the checkpoint too', async (t) => {
  const out = join(t.testdir(), 'run');
  await run(t, { out, maxSteps: 4 });
  const model = await ownModel(t, 1);
  await model.writeTensor('transformer.wpe.weight', new Float32Array(8 * 16).fill(9));
  const { inputIds, labels } = (await new TinyLoader(1)[Symbol.asyncIterator]().next()).value;
  await model.forwardBackward({ inputIds, labels });
  await model.step({ learningRate: 1 });
  // Nor what was accumulated and not applied.
  await model.forwardBackward({ inputIds, labels });
  const resumed = await run(t, { model, out, maxSteps: 8, resume: true });
  const whole = await run(t, { out: `${out}-whole`, maxSteps: 8 });
  t.same(numbers(resumed), numbers(whole).slice(-5));
});

t.test('a damaged checkpoint is passed over with a warning, and the run repeats those steps', async (t) => {
  const out = join(t.testdir(), 'run');
  const first = await run(t, { out, maxSteps: 8, saveEvery: 4 });
  truncateSync(join(out, 'checkpoints', 'step-00000008', 'optimizer.safetensors'), 100);
  const second = await run(t, { out, maxSteps: 8, resume: true });
  t.match(second[0], { type: 'start', step: 4 });
  t.match(second[1], { type: 'warning', code: 'ERR_CHECKPOINT', message: /step-00000008 is damaged.*optimizer/ });
  t.same(numbers(second), numbers(first).slice(-5));
});

t.test('where every checkpoint is damaged nothing is begun again or renamed', async (t) => {
  const out = join(t.testdir(), 'run');
  await run(t, { out, maxSteps: 8, saveEvery: 4 });
  for (const step of await listCheckpoints(out)) {
    truncateSync(join(out, 'checkpoints', `step-0000000${step}`, 'optimizer.safetensors'), 100);
  }
  const before = readFileSync(join(out, 'model.safetensors'));
  await t.rejects(run(t, { out, maxSteps: 8, resume: true }), {
    code: 'ERR_CHECKPOINT',
    message: /holds no whole checkpoint.*step-00000008: optimizer.*\n.*step-00000004: optimizer/s,
  });
  t.same(await listCheckpoints(out), [4, 8]);
  t.same(readFileSync(join(out, 'model.safetensors')), before);
});

t.test('the weights of the run are those of the checkpoint that it goes on from', async (t) => {
  const out = join(t.testdir(), 'run');
  await run(t, { out, maxSteps: 4 });
  const whole = readFileSync(join(out, 'model.safetensors'));
  // As after a crash between the checkpoint and the copy of its weights.
  rmSync(join(out, 'model.safetensors'));
  rmSync(join(out, 'config.json'));
  await run(t, { out, maxSteps: 4, resume: true });
  t.same(readFileSync(join(out, 'model.safetensors')), whole);
  t.ok(existsSync(join(out, 'config.json')));
});

t.test('another process that trains in the folder is in the way, one that was killed there is not', async (t) => {
  const out = join(t.testdir(), 'run');
  await run(t, { out, maxSteps: 2 });
  t.notOk(existsSync(join(out, '.run.lock')), 'nothing is left of the first run');
  const module = new URL('../../dist/train/run-lock.js', import.meta.url).href;
  const script = `import { lockRunFolder } from '${module}';
    await lockRunFolder(process.argv[1]);
    console.log('locked');
    setInterval(() => {}, 1000);`;
  // Its parent never asks how it ended: it stays in the list of processes, as in a container without an init.
  const words = [process.execPath, '--input-type=module', '--eval', script, out];
  const parent = spawn('sh', ['-c', '"$@" & exec sleep 1000', 'sh', ...words]);
  t.teardown(() => parent.kill('SIGKILL'));
  await once(parent.stdout, 'data');
  const { pid: other } = JSON.parse(readFileSync(join(out, '.run.lock'), 'utf8'));
  await t.rejects(run(t, { out, maxSteps: 4, resume: true }), {
    code: 'ERR_BUSY',
    message: new RegExp(`Process ${other} is training in `),
  });
  process.kill(other, 'SIGKILL');
  while (!/^State:\s+Z/m.test(readFileSync(`/proc/${other}/status`, 'utf8'))) await passed(5);
  t.ok(existsSync(join(out, '.run.lock')));
  t.match((await run(t, { out, maxSteps: 4, resume: true })).at(-1), { type: 'end', step: 4 });

  // Its number may be another process's by now, and what another machine left cannot be asked.
  const { pid, ppid } = process;
  const { dev, ino } = statSync(out, { bigint: true });
  const started = readFileSync(`/proc/${ppid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ')[19];
  const lock = { pid: ppid, host: hostname(), started, folder: `${dev}:${ino}` };
  writeFileSync(join(out, '.run.lock'), JSON.stringify(lock));
  await t.rejects(run(t, { out, maxSteps: 4, resume: true }), { code: 'ERR_BUSY' });
  for (const [what, left] of Object.entries({
    'the same number, another process': { ...lock, started: '1' },
    'another machine': { ...lock, host: 'elsewhere' },
    'a copy of the folder': { ...lock, folder: '1:2' },
    'this process': { ...lock, pid },
    'nothing that can be read': '',
  })) {
    writeFileSync(join(out, '.run.lock'), typeof left === 'string' ? left : JSON.stringify(left));
    t.match((await run(t, { out, maxSteps: 4, resume: true })).at(-1), { type: 'end', step: 4 }, what);
  }
});

t.test('two runs of one process do not share a folder', async (t) => {
  const out = join(t.testdir(), 'run');
  const link = `${out}-link`;
  await run(t, { out, maxSteps: 2 });
  symlinkSync(out, link);
  const model = await ownModel(t, 1);
  const shared = { tokenizer: letters(), train: new TinyLoader(5), maxSteps: 4, resume: true };
  const first = new Trainer({ ...shared, model, out }).run();
  t.match((await first.next()).value, { type: 'start', step: 2 });
  for (const same of [out, link]) {
    const second = run(t, { out: same, maxSteps: 6, resume: true });
    await t.rejects(second, { code: 'ERR_BUSY', message: /^This process is training in / });
  }
  await first.return();
  // Both ask before either has the folder.
  const both = [1, 2].map(() => run(t, { out, maxSteps: 6, resume: true }));
  const ends = await Promise.allSettled(both);
  t.same(ends.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
  t.match(
    ends.find(({ status }) => status === 'rejected'),
    { reason: { code: 'ERR_BUSY' } },
  );
  t.match((await run(t, { out, maxSteps: 8, resume: true })).at(-1), { type: 'end', step: 8 });
});

t.test('of two that begin at once one has the folder', async (t) => {
  const out = join(t.testdir(), 'run');
  const module = new URL('../../dist/train/run-lock.js', import.meta.url).href;
  const script = `import { lockRunFolder } from '${module}';
    process.stdin.once('data', async () => {
      console.log(await lockRunFolder(process.argv[1]).then(() => 'locked', ({ code }) => code));
      process.stdin.once('data', () => process.exit());
    });
    console.log('ready');`;
  for (let round = 0; round < 6; round++) {
    // In every other one over what a killed process left.
    if (round % 2 === 1) {
      mkdirSync(`${out}${round}`, { recursive: true });
      writeFileSync(join(`${out}${round}`, '.run.lock'), '{"pid":1,"host":"elsewhere"}');
    }
    const both = [0, 1].map(() => spawn(process.execPath, ['--input-type=module', '--eval', script, `${out}${round}`]));
    const said = (child: (typeof both)[0]) => once(child.stdout, 'data').then(String);
    t.same(await Promise.all(both.map(said)), ['ready\n', 'ready\n']);
    const answers = both.map(said);
    for (const child of both) child.stdin.write('go');
    t.same((await Promise.all(answers)).sort(), ['ERR_BUSY\n', 'locked\n']);
    const ends = both.map((child) => once(child, 'close'));
    for (const child of both) child.stdin.write('end');
    await Promise.all(ends);
  }
});

t.test('losses of another validation text are not compared', async (t) => {
  const out = join(t.testdir(), 'run');
  /** Blocks of other numbers have other losses; the marks tell them apart as those of files do. */
  const valid = (name: string, batches: number) =>
    Object.assign(new TinyLoader(batches, { sameEachEpoch: true }), { identity: async () => ({ name }) });
  const start = (maxSteps: number, options: Partial<TrainerOptions>) =>
    run(t, { out, maxSteps, evalEvery: 2, patience: 3, ...(maxSteps > 2 && { resume: true }), ...options });
  const warned = (seen: TrainEvent[]) =>
    seen.flatMap((event) => (event.type === 'warning' && /^validation data or/.test(event.message) ? event.step : []));
  const state = (step: number): TrainerState =>
    JSON.parse(readFileSync(join(out, `checkpoints/step-0000000${step}/trainer_state.json`), 'utf8'));
  await start(2, { valid: valid('a', 2) });
  // Better than anything that will be measured.
  const file = join(out, 'checkpoints/step-00000002/trainer_state.json');
  const best = { step: 2, loss: 0.01, since: 2 };
  writeFileSync(file, JSON.stringify({ ...state(2), best }));
  await writeChecksums(join(out, 'checkpoints/step-00000002'));
  cpSync(out, `${out}-old`, { recursive: true });

  const same = await start(3, { valid: valid('a', 2), patience: 9 });
  t.same(warned(same), []);
  t.match(same.at(-1), { best: { step: 2, loss: 0.01 } });
  const without = await start(4, { valid: undefined, patience: 0 });
  t.same(warned(without), [], 'no text at all');
  t.match(state(4), { best: { step: 2 }, measured: { data: { name: 'a' } } });
  const other = await start(8, { valid: valid('b', 2) });
  t.same(warned(other), [4]);
  t.match(other.at(-1), { step: 8, reason: 'completed' });
  t.ok(((other.at(-1) as EndEvent).best?.step ?? 0) > 4, 'the best one is of the new text, and patience begins again');
  t.match(state(8), { measured: { data: { name: 'b' }, batches: 50 } });
  t.same(warned(await start(9, { valid: valid('b', 2), evalBatches: 1 })), [8]);

  // A state of an older release, which does not say.
  const older = `${out}-old`;
  const { measured: _, ...oldState } = JSON.parse(
    readFileSync(join(older, 'checkpoints/step-00000002/trainer_state.json'), 'utf8'),
  );
  writeFileSync(join(older, 'checkpoints/step-00000002/trainer_state.json'), JSON.stringify(oldState));
  await writeChecksums(join(older, 'checkpoints/step-00000002'));
  const again = await start(3, { out: older, valid: valid('b', 2), patience: 9 });
  t.same(warned(again), []);
  t.match(again.at(-1), { step: 3, best: { step: 2, loss: 0.01 } });
});

t.test('another model, tokenizer or batch is another run: the differences are listed', async (t) => {
  const out = join(t.testdir(), 'run');
  await run(t, { out, maxSteps: 2 });
  const model = await tinyModel({ vocabSize: 40, dropout: 0.1 });
  t.teardown(() => model.dispose());
  const other = { model, tokenizer: letters(40), train: new TinyLoader(5, { batchSize: 4 }) };
  await t.rejects(run(t, { out, maxSteps: 4, resume: true, ...other }), {
    code: 'ERR_CHECKPOINT',
    message: new RegExp(
      [
        'vocabSize: 32 in the run, 40 now',
        'batchSize: 2 in the run, 4 now',
        'tokenizer: letters 32 in the run, letters 40 now',
      ].join('\\n *'),
    ),
  });
  const rounded = await ownModel(t, 1, { precision: 'bf16' });
  await t.rejects(run(t, { out, model: rounded, maxSteps: 4, resume: true }), {
    code: 'ERR_CHECKPOINT',
    message: /is another one:\n {2}precision: fp32 in the run, bf16 now\n/,
  });
  const again = await run(t, { out, maxSteps: 4, resume: true });
  t.match(again.at(-1), { type: 'end', step: 4 });
});

t.test('other texts in memory make another run; what older releases saved does not say which they were', async (t) => {
  const out = join(t.testdir(), 'run');
  const list = ['abcdefghijklmnopqrstuvwxyz', 'zyxwvutsrqponmlkjihgfedcba'];
  const loader = (texts: Parameters<typeof BlockDataset.fromTexts>[0]) =>
    new DataLoader(BlockDataset.fromTexts(texts, { tokenizer: letters(), blockSize: 8 }), { batchSize: 2 });
  const start = (maxSteps: number, train: DataLoader, valid: DataLoader) =>
    run(t, { out, maxSteps, train, valid, evalEvery: 2, patience: 9, ...(maxSteps > 2 && { resume: true }) });
  const warned = (seen: TrainEvent[]) => seen.flatMap((event) => (event.type === 'warning' ? event.message : []));
  await start(2, loader(list), loader(list));
  await t.rejects(start(3, loader([...list].reverse()), loader(list)), {
    code: 'ERR_CHECKPOINT',
    message: /is another one:\n {2}data\.of\.sha256: [0-9a-f]{64} in the run, [0-9a-f]{64} now\n/,
  });
  t.same(
    warned(
      await start(
        3,
        loader([...list]),
        loader(() => list),
      ),
    ),
    [],
    'nobody knows what a function gives',
  );
  t.same(warned(await start(4, loader(list), loader(list.slice(1)))), [], 'nor what it gave');
  t.match(warned(await start(5, loader(list), loader(list))), [/^validation data or --eval-batches/]);

  const checkpoint = join(out, 'checkpoints/step-00000005');
  const state: TrainerState = JSON.parse(readFileSync(join(checkpoint, 'trainer_state.json'), 'utf8'));
  for (const data of [state.identity.data, state.measured?.data] as { of: { [key: string]: unknown } }[]) {
    t.match(data.of, { count: 2, sha256: String });
    delete data.of.count;
    delete data.of.sha256;
  }
  writeFileSync(join(checkpoint, 'trainer_state.json'), JSON.stringify(state));
  await writeChecksums(checkpoint);
  t.same(warned(await start(6, loader(list), loader(list))), []);
});

t.test('other frozen tensors make another run', async (t) => {
  const out = join(t.testdir(), 'run');
  await run(t, { out, maxSteps: 2, freeze: ['wte', 'h.0'] });
  const model = await ownModel(t, 1);
  for (const [freeze, now] of [
    [undefined, 'nothing'],
    [['wte'], 'wte'],
  ] as const) {
    await t.rejects(run(t, { out, model, maxSteps: 4, resume: true, freeze }), {
      code: 'ERR_CHECKPOINT',
      message: new RegExp(`freeze: wte h.0 in the run, ${now} now`),
    });
  }
  const again = await run(t, { out, model, maxSteps: 4, resume: true, freeze: ['wte', 'h.0'] });
  t.match(again.at(-1), { type: 'end', step: 4 });
});

t.test('stochastic rounding: the copies of a resumed run are those of one that was not stopped', async (t) => {
  const folder = t.testdir();
  const rounded = { precision: 'bf16', stochasticRounding: true } as const;
  const start = async (name: string, maxSteps: number, options: Partial<TrainerOptions> & ModelOptions = {}) => {
    const { threads = 1, ...more } = options;
    const model = await ownModel(t, 1, { ...rounded, threads });
    return run(t, { model, out: join(folder, name), maxSteps, ...more });
  };
  // Frozen tensors have copies, too.
  for (const freeze of [undefined, ['wte', 'h.0.attn']]) {
    const [whole, parts] = freeze === undefined ? ['whole', 'parts'] : ['whole-frozen', 'parts-frozen'];
    const expected = numbers(await start(whole, 12, { freeze }));
    const first = await start(parts, 6, { freeze });
    const second = await start(parts, 12, { freeze, resume: true, threads: 2 });
    const found = [...numbers(first), ...numbers(second)].filter((row) => {
      const [kind, step] = row as [unknown, number];
      return kind !== 'eval' || step % 4 === 0;
    });
    t.same(found, expected);
  }
  const nearest = await ownModel(t, 1, { precision: 'bf16' });
  const other = { model: nearest, out: join(folder, 'nearest'), maxSteps: 12 };
  t.notSame(numbers(await run(t, other)), numbers(await start('again', 12)), 'rounding to the nearest is another run');
});

t.test('another rounding makes another run', async (t) => {
  const out = join(t.testdir(), 'run');
  const [nearest, stochastic] = [
    await ownModel(t, 1, { precision: 'bf16' }),
    await ownModel(t, 1, { precision: 'bf16', stochasticRounding: true }),
  ];
  await run(t, { model: nearest, out, maxSteps: 2 });
  await t.rejects(run(t, { model: stochastic, out, maxSteps: 4, resume: true }), {
    code: 'ERR_CHECKPOINT',
    message: /stochasticRounding: false in the run, true now/,
  });
  const older = () => checkIdentity(out, { precision: 'bf16' }, { precision: 'bf16', stochasticRounding: true });
  t.throws(older, { message: /stochasticRounding: false in the run/ }, 'older releases rounded to the nearest');
  const again = await run(t, { model: nearest, out, maxSteps: 4, resume: true });
  t.match(again.at(-1), { type: 'end', step: 4 });
});

t.test('another seed of dropout or another epsilon of LayerNorm makes another run', async (t) => {
  const folder = t.testdir();
  const out = join(folder, 'run');
  await run(t, { out, maxSteps: 2 });
  await t.rejects(run(t, { out, maxSteps: 4, resume: true }, 7), {
    code: 'ERR_CHECKPOINT',
    message: /is another one:\n {2}modelSeed: 1 in the run, 7 now\n {2}hint: .*GPT2\.create\(config, \{ seed \}\)/,
  });
  const { config } = await ownModel(t, 1);
  const model = await GPT2.create({ ...config, layerNormEpsilon: 1e-3 }, { device: 'cpu', seed: 1 });
  t.teardown(() => model.dispose());
  await t.rejects(run(t, { out, model, maxSteps: 4, resume: true }), {
    message: /layerNormEpsilon: 0\.00001 in the run, 0\.001 now/,
  });
  const loaded = await GPT2.fromPretrained(out, { device: 'cpu', threads: 1, seed: 1 });
  t.teardown(() => loaded.dispose());
  t.match((await run(t, { out, model: loaded, maxSteps: 3, resume: true })).at(-1), { type: 'end', step: 3 });

  // An older release said neither.
  const checkpoint = join(out, 'checkpoints/step-00000003');
  const state: TrainerState = JSON.parse(readFileSync(join(checkpoint, 'trainer_state.json'), 'utf8'));
  delete state.identity.modelSeed;
  delete state.identity.layerNormEpsilon;
  writeFileSync(join(checkpoint, 'trainer_state.json'), JSON.stringify(state));
  await writeChecksums(checkpoint);
  t.match((await run(t, { out, maxSteps: 4, resume: true }, 7)).at(-1), { type: 'end', step: 4 });

  const still = join(folder, 'still');
  const plain = async (seed: number) => ({ out: still, model: await ownModel(t, seed, { dropout: 0 }) });
  await run(t, { ...(await plain(1)), maxSteps: 2 });
  const again = await run(t, { ...(await plain(7)), maxSteps: 4, resume: true });
  t.match(again.at(-1), { type: 'end', step: 4 }, 'without dropout the seed plays no part');
});

t.test('a length that the run has already', async (t) => {
  const out = join(t.testdir(), 'run');
  await run(t, { out, maxSteps: 3 });
  const before = readFileSync(join(out, 'run.json'));
  await t.rejects(run(t, { out, maxSteps: 2, resume: true }), {
    code: 'ERR_OPTIONS',
    message:
      /stands at step 3: --max-steps \(API: maxSteps\): expected at least 3, received 2\n {2}hint: it counts from/,
  });
  t.same(readFileSync(join(out, 'run.json')), before, 'it is not recorded');
  const types = (events: TrainEvent[]) => events.map(({ type }) => type);
  const complete = await run(t, { out, maxSteps: 3, resume: true });
  t.same(types(complete), ['start', 'warning', 'end'], 'a run that is complete');
  t.match(complete[1], {
    code: 'ERR_OPTIONS',
    message: /^the run had ended at step 3 already: nothing is trained; a larger --max-steps or --epochs \(API/,
  });

  const longer = `${out}-longer`;
  await run(t, { out: longer, maxSteps: 6, saveEvery: 3 });
  for (const step of [4, 6]) rmSync(join(longer, `checkpoints/step-0000000${step}`), { recursive: true, force: true });
  const cut = await run(t, { out: longer, maxSteps: 3, resume: true });
  t.match(cut[1], { type: 'warning', message: /^the run had ended at step 3 already/ });
});

t.test('epochs that the run has begun already', async (t) => {
  const out = join(t.testdir(), 'run');
  await run(t, { out, epochs: 3, maxSteps: 7 });
  await t.rejects(run(t, { out, epochs: 1, resume: true }), {
    code: 'ERR_OPTIONS',
    message: /stands in epoch 2: --epochs \(API: epochs\): expected at least 2, received 1\n {2}hint: it counts from/,
  });
  t.match((await run(t, { out, epochs: 2, resume: true })).at(-1), { step: 10, reason: 'completed' });
  const again = await run(t, { out, epochs: 2, resume: true });
  t.match(again[1], { type: 'warning', message: /^the run had ended at step 10 already/ }, 'its last epoch has ended');
  t.match(again.at(-1), { type: 'end', step: 10 });
  await t.rejects(run(t, { out, epochs: 1, resume: true }), { message: /stands in epoch 2: / });
});

t.test('a run that is not there', async (t) => {
  const out = join(t.testdir(), 'nothing');
  await t.rejects(run(t, { out, maxSteps: 2, resume: true }), { code: 'ERR_CHECKPOINT', message: /holds no run/ });
});
