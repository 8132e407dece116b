import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { BlockDataset, DataLoader } from '../../dist/data/index.js';
import type { Batch } from '../../dist/data/types.js';
import { KotodamaError } from '../../dist/errors.js';
import { GPT2 } from '../../dist/model/gpt2.js';
import { newestCheckpoint } from '../../dist/train/checkpoint.js';
import type { StepEvent, TrainEvent } from '../../dist/train/events.js';
import { Trainer, type TrainerOptions } from '../../dist/train/trainer.js';
import { letters, TinyLoader, tinyModel, VOCABULARY } from './tiny.js';

type Options = Partial<TrainerOptions> & { model: GPT2; out: string };

function trainer(options: Options): Trainer {
  return new Trainer({ tokenizer: letters(), train: new TinyLoader(6), maxSteps: 4, lr: 1e-2, ...options });
}

async function events(options: Options, signal?: AbortSignal): Promise<TrainEvent[]> {
  const seen: TrainEvent[] = [];
  for await (const event of trainer(options).run({ signal })) seen.push(event);
  return seen;
}

const steps = (seen: TrainEvent[]) => seen.filter((event): event is StepEvent => event.type === 'step');
const losses = (seen: TrainEvent[]) => steps(seen).map(({ loss }) => loss);
const types = (seen: TrainEvent[]) => seen.map(({ type, step }) => `${type} ${step}`);

/** A model that is disposed with the test. */
async function model(t: { teardown(work: () => unknown): void }, options = {}): Promise<GPT2> {
  const made = await tinyModel(options);
  t.teardown(() => made.dispose());
  return made;
}

t.test('a run in events', async (t) => {
  const out = join(t.testdir(), 'run');
  const valid = new TinyLoader(3, { sameEachEpoch: true });
  const options = {
    evalEvery: 2,
    sampleEvery: 3,
    saveEvery: 2,
    samplePrompt: 'a',
    sampleTokens: 5,
    schedule: 'constant',
  };
  const seen = await events({ model: await model(t), out, valid, ...options } as Options);
  t.same(
    types(seen).filter((text) => text !== 'checkpoint 2'),
    ['start 0', 'step 1', 'step 2', 'eval 2', 'step 3', 'sample 3', 'step 4', 'eval 4', 'checkpoint 4', 'end 4'],
  );
  t.ok(types(seen).indexOf('checkpoint 2') > types(seen).indexOf('eval 2'), 'it is written beside the training');
  t.match(seen[0], {
    ...{ resumedFrom: null, out, precision: 'fp32', batchSize: 2, blockSize: 8, gradAccum: 1, tokensPerStep: 16 },
    ...{ totalSteps: 4, device: { device: 'cpu' }, configuration: { training: { lr: 1e-2, maxSteps: 4 } } },
  });
  t.match(steps(seen)[1], { learningRate: 1e-2, epoch: 1, tokens: 32 });
  t.ok(steps(seen).every(({ gradNorm, tokensPerSecond }) => gradNorm > 0 && tokensPerSecond > 0));
  t.ok(losses(seen)[3] < losses(seen)[0], 'it learns');
  t.match(seen.at(-1), {
    reason: 'completed',
    loss: losses(seen)[3],
    checkpoint: join(out, 'checkpoints', 'step-00000004'),
  });
  t.same(JSON.parse(JSON.stringify(seen)), seen, 'plain JSON');
  const names = ['checkpoints', 'config.json', 'model.safetensors', 'run.json'];
  t.same(readdirSync(out).sort(), names);
  t.equal(valid.open, 0);
});

t.test('validation data in another order each time is told, unless evaluations take in all of it', async (t) => {
  const folder = t.testdir();
  const warned = async (name: string, options: Partial<TrainerOptions>) => {
    const seen = await events({
      model: await model(t),
      out: join(folder, name),
      maxSteps: 1,
      evalEvery: 1,
      ...options,
    });
    return seen.flatMap((event) => (event.type === 'warning' ? [`${event.code} ${event.message}`] : []));
  };
  const told = await warned('shuffled', { valid: new TinyLoader(3), evalBatches: 2 });
  t.equal(told.length, 1);
  t.match(
    told[0],
    /^ERR_OPTIONS the validation data comes in another order each time: unless evalBatches .*shuffle it$/,
  );
  t.same(await warned('all', { valid: new TinyLoader(3), evalBatches: 0 }), []);
  const known = Object.assign(new TinyLoader(3), { batchesPerEpoch: 3 });
  t.same(await warned('known', { valid: known, evalBatches: 3 }), []);
  t.same(await warned('once', { valid: new TinyLoader(3), evalBatches: 2, evalEvery: 0 }), []);
  t.same(await warned('in order', { valid: new TinyLoader(3, { sameEachEpoch: true }), evalBatches: 2 }), []);
});

t.test('the newest weights are those of the model after its last step', async (t) => {
  const out = join(t.testdir(), 'run');
  const trained = await model(t);
  await events({ model: trained, out });
  const loaded = await GPT2.fromPretrained(out, { device: 'cpu' });
  t.teardown(() => loaded.dispose());
  for (const { name } of trained.tensors) t.same(await loaded.readTensor(name), await trained.readTensor(name), name);
});

t.test('accumulation equals one large batch: the mean is over all labels of the step', async (t) => {
  const many = new TinyLoader(6);
  const large = new (class extends TinyLoader {
    override async *[Symbol.asyncIterator](): AsyncGenerator<Batch> {
      const parts: Batch[] = [];
      for await (const part of new TinyLoader(6)) parts.push(part);
      for (let index = 0; index < 6; index += 3) yield join3(parts.slice(index, index + 3));
    }
  })(2, { batchSize: 6 });
  const folder = t.testdir();
  const small = await events({ model: await model(t), out: join(folder, 'a'), train: many, gradAccum: 3, maxSteps: 2 });
  const whole = await events({ model: await model(t), out: join(folder, 'b'), train: large, maxSteps: 2 });
  for (const [index, step] of steps(small).entries()) {
    const other = steps(whole)[index];
    t.ok(Math.abs(step.loss - other.loss) < 1e-6, `${step.loss} is ${other.loss}`);
    t.ok(Math.abs(step.gradNorm - other.gradNorm) < 1e-5 * other.gradNorm, `${step.gradNorm} is ${other.gradNorm}`);
    t.equal(step.tokens, other.tokens);
  }
});

function join3(parts: Batch[]): Batch {
  const joined = (key: 'inputIds' | 'labels') => ({
    data: Int32Array.from(parts.flatMap((part) => Array.from(part[key].data))),
    shape: [6, 8] as [number, number],
  });
  return { inputIds: joined('inputIds'), labels: joined('labels') };
}

t.test('epochs: steps are counted first for a decaying schedule, and the last step takes what is left', async (t) => {
  const out = join(t.testdir(), 'run');
  const options = {
    epochs: 2,
    maxSteps: undefined,
    gradAccum: 5,
    warmupSteps: 0,
    minLr: 0,
    schedule: 'linear',
  } as const;
  const seen = await events({ model: await model(t), out, ...options });
  t.match(seen[0], { totalSteps: 3, stepsPerEpoch: 2 });
  t.same(
    steps(seen).map(({ epoch, tokens }) => ({ epoch, tokens })),
    [
      { epoch: 1, tokens: 80 },
      { epoch: 2, tokens: 160 },
      { epoch: 2, tokens: 192 },
    ],
  );
  t.same(
    steps(seen).map(({ learningRate }) => learningRate.toFixed(6)),
    ['0.010000', '0.006667', '0.003333'],
  );
});

t.test('one call into the engine ends a step, unless somebody looks at the gradients first', async (t) => {
  const updates = async (options: Partial<TrainerOptions>) => {
    const made = await model(t);
    const calls: string[] = [];
    for (const name of ['step', 'trainStep'] as const) {
      const call = made[name].bind(made) as (...values: unknown[]) => Promise<never>;
      made[name] = (...values: unknown[]) => {
        calls.push(name);
        return call(...values);
      };
    }
    const seen = await events({ model: made, out: join(t.testdir(), `run-${Object.keys(options)}`), ...options });
    return { calls: calls.join(' '), losses: losses(seen) };
  };
  const plain = await updates({});
  t.equal(plain.calls, 'trainStep trainStep trainStep trainStep');
  const skips = await updates({ spikes: 'skip' });
  t.same(skips, { calls: 'step step step step', losses: plain.losses });
  const measured = await updates({ histogramEvery: 2 });
  t.same(measured, { calls: 'trainStep step trainStep step', losses: plain.losses });
  const short = await updates({ epochs: 1, maxSteps: undefined, gradAccum: 4 });
  t.equal(short.calls, 'trainStep step', 'the last step has two micro-batches');
});

t.test('gradients from before the run are no part of its first step', async (t) => {
  const [used, fresh] = [await model(t), await model(t)];
  await used.forwardBackward({ inputIds: [[1, 2, 3]], labels: [[2, 3, 4]] });
  const norms = [];
  for (const [name, made] of Object.entries({ used, fresh })) {
    const seen = await events({ model: made, out: join(t.testdir(), `run-${name}`), maxSteps: 1 });
    norms.push(steps(seen)[0]?.gradNorm);
  }
  t.equal(norms[0], norms[1]);
});

t.test('counting first changes nothing', async (t) => {
  const folder = t.testdir();
  const shared = { schedule: 'constant', warmupSteps: 0, lr: 1e-3 } as const;
  const counted = { ...shared, schedule: 'linear', minLr: 1e-3, epochs: 1, maxSteps: undefined } as const;
  const a = await events({ model: await model(t), out: join(folder, 'a'), ...counted });
  const b = await events({ model: await model(t), out: join(folder, 'b'), ...shared, maxSteps: 6 });
  t.same(losses(a), losses(b));
});

t.test(
  'a loader that was looked at begins an epoch all the same, whether its batches are counted or not',
  async (t) => {
    const folder = t.testdir();
    const texts = ['abcdefghijklmnopqrstuvwxyz'.repeat(5)];
    const counted = {
      schedule: 'linear',
      warmupSteps: 0,
      minLr: 1e-3,
      lr: 1e-3,
      epochs: 1,
      maxSteps: undefined,
    } as const;
    const trained = async (name: string, looks: number, options: Partial<TrainerOptions>) => {
      const dataset = BlockDataset.fromTexts(texts, { tokenizer: letters(), blockSize: 8 });
      const train = new DataLoader(dataset, { batchSize: 2 });
      let looked = 0;
      if (looks > 0) for await (const _ of train) if (++looked === looks) break;
      return losses(await events({ model: await model(t), out: join(folder, name), train, ...options }));
    };
    const whole = await trained('whole', 0, counted);
    t.equal(whole.length, 8);
    t.same(await trained('counted', 3, counted), whole);
    t.same(await trained('uncounted', 3, { ...counted, schedule: 'constant' }), whole);
  },
);

t.test('a place that the loader was given is where the run begins', async (t) => {
  const loader = () =>
    new DataLoader(BlockDataset.fromTexts(['abcdefghij'.repeat(9)], { tokenizer: letters(), blockSize: 8 }), {
      batchSize: 2,
    });
  const [before, train] = [loader(), loader()];
  for await (const _ of before) break;
  train.restore(before.state());
  const shared = { schedule: 'constant', epochs: 1, maxSteps: undefined } as const;
  const seen = await events({ model: await model(t), out: join(t.testdir(), 'run'), train, ...shared });
  t.equal(steps(seen).length, 5, 'of six batches');
});

t.test('evaluation, samples and checkpoints do not change the training', async (t) => {
  const folder = t.testdir();
  const busy = { evalEvery: 1, sampleEvery: 1, saveEvery: 1, valid: new TinyLoader(2) };
  const a = await events({ model: await model(t, { dropout: 0.2 }), out: join(folder, 'a'), ...busy });
  const b = await events({ model: await model(t, { dropout: 0.2 }), out: join(folder, 'b') });
  t.same(losses(a), losses(b));
});

t.test('a sample that finds no memory is a warning, and the run goes on', async (t) => {
  const crowded = await model(t);
  crowded.generate = () => {
    throw new KotodamaError('ERR_MEMORY', 'no room for a decoder');
  };
  const seen = await events({ model: crowded, out: join(t.testdir(), 'run'), sampleEvery: 2 });
  t.same(types(seen), [
    ...['start 0', 'step 1', 'step 2', 'warning 2', 'step 3', 'step 4', 'warning 4', 'checkpoint 4', 'end 4'],
  ]);
  t.match(seen[3], { code: 'ERR_MEMORY', message: 'no room for a decoder' });
});

t.test('abort: the running step ends, the checkpoint is saved, the last event says so', async (t) => {
  const out = join(t.testdir(), 'run');
  const controller = new AbortController();
  const loader = new TinyLoader(6);
  const seen: TrainEvent[] = [];
  const run = trainer({ model: await model(t), out, train: loader, maxSteps: 100, valid: new TinyLoader(2) });
  for await (const event of run.run({ signal: controller.signal })) {
    seen.push(event);
    if (event.type === 'step' && event.step === 3) setImmediate(() => controller.abort());
  }
  t.match(seen.at(-1), { type: 'end', reason: 'aborted' });
  const last = seen.at(-1)?.step ?? 0;
  t.ok(last >= 3 && last < 6, `${last}`);
  t.match(seen.at(-2), { type: 'checkpoint', step: last });
  t.notOk(seen.some(({ type }) => type === 'eval'));
  t.equal(loader.open, 0);
});

t.test('leaving the loop ends the run without saving, and the model is free again', async (t) => {
  const folder = t.testdir();
  const shared = await model(t);
  const loader = new TinyLoader(6);
  for await (const event of trainer({ model: shared, out: join(folder, 'a'), train: loader }).run()) {
    if (event.type === 'step') break;
  }
  t.equal(loader.open, 0);
  t.same(readdirSync(join(folder, 'a')), ['run.json']);
  await events({ model: shared, out: join(folder, 'b') });
});

t.test('two trainings on one model at once', async (t) => {
  const folder = t.testdir();
  const shared = await model(t);
  const first = trainer({ model: shared, out: join(folder, 'a') }).run();
  await first.next();
  await t.rejects(events({ model: shared, out: join(folder, 'b') }), { code: 'ERR_BUSY' });
  t.notOk(existsSync(join(folder, 'b')));
  t.equal((await first.next()).value?.type, 'step', 'the first one goes on');
  await first.return();
});

t.test('a loss that is no number stops the run, names the blocks and leaves the last checkpoint', async (t) => {
  const out = join(t.testdir(), 'run');
  const broken = await model(t);
  const run = trainer({ model: broken, out, saveEvery: 2, gradAccum: 2, maxSteps: 10 }).run();
  const seen: TrainEvent[] = [];
  await t.rejects(
    async () => {
      for await (const event of run) {
        seen.push(event);
        if (event.type !== 'step' || event.step !== 3) continue;
        await broken.writeTensor('transformer.ln_f.weight', new Float32Array(16).fill(Number.NaN));
      }
    },
    {
      code: 'ERR_NON_FINITE',
      message: /^Step 4: the loss is NaN in block.* 1 to 2 of epoch 2, which begin with "/,
      hint: /last checkpoint, .*step-00000002, is untouched/,
    },
  );
  t.ok(types(seen).includes('checkpoint 2'), 'told before the end, however long it took');
  t.same(readdirSync(join(out, 'checkpoints')), ['step-00000002']);
  const whole = await newestCheckpoint(out);
  t.match(whole, { checkpoint: { state: { step: 2 } }, damaged: [] });
});

t.test('a gradient that is no number stops the run before the weights change', async (t) => {
  const out = join(t.testdir(), 'run');
  const broken = await model(t);
  const run = trainer({ model: broken, out, gradAccum: 6 }).run();
  await run.next();
  // Logits of a common size from a huge and a tiny factor: the loss is finite, the tiny one's gradient is not.
  await broken.writeTensor('transformer.ln_f.weight', new Float32Array(16).fill(8e37));
  await broken.writeTensor(
    'transformer.wte.weight',
    new Float32Array(VOCABULARY * 16).map((_, index) => (index % 7) * 1e-37),
  );
  const before = await broken.readTensor('transformer.h.0.attn.c_attn.weight');
  await t.rejects(
    async () => {
      for await (const _ of run);
    },
    { code: 'ERR_NON_FINITE', message: /^Step 1: the gradient norm is (Infinity|NaN) in blocks 1 to 12 of epoch 1/ },
  );
  t.same(await broken.readTensor('transformer.h.0.attn.c_attn.weight'), before);
});

t.test('options: every problem in one message', async (t) => {
  const shared = await model(t);
  const bad = { lr: Number.NaN, gradAccum: 0, evalEvry: 5, tokenizer: letters(33) };
  t.throws(() => trainer({ model: shared, out: 'nowhere', ...bad } as Options), {
    code: 'ERR_OPTIONS',
    message: new RegExp(
      [
        '4 problems',
        'evalEvry: .*did you mean evalEvery\\?',
        'gradAccum: .*received 0',
        'lr: .*received NaN',
        "tokenizer: expected at most 32 ids, the model's vocabSize, received 33",
      ].join('[\\s\\S]*'),
    ),
  });
  for (const [name, hint] of [
    ['batchSize', /it belongs to the DataLoader/],
    ['signal', /it belongs to the run: trainer\.run\({ signal }\)/],
  ] as const) {
    t.throws(() => trainer({ model: shared, out: 'nowhere', [name]: 1 } as Options), { code: 'ERR_OPTIONS', hint });
  }
});

t.test('a folder with another run or a model, a disposed model, an empty pass', async (t) => {
  const folder = t.testdir();
  const out = join(folder, 'a');
  const shared = await model(t);
  await events({ model: shared, out });
  await t.rejects(events({ model: shared, out }), { code: 'ERR_CHECKPOINT', hint: /resume/ });
  const base = join(folder, 'base');
  await shared.savePretrained(base);
  const weights = readFileSync(join(base, 'model.safetensors'));
  await shared.writeTensor('transformer.ln_f.bias', new Float32Array(shared.config.nEmbd).fill(1));
  await t.rejects(events({ model: shared, out: base }), { code: 'ERR_CHECKPOINT', message: /holds a model/ });
  t.ok(readFileSync(join(base, 'model.safetensors')).equals(weights), 'untouched');
  await t.rejects(events({ model: shared, out: join(folder, 'b'), train: new TinyLoader(0) }), { code: 'ERR_DATA' });
  const gone = await tinyModel();
  await gone.dispose();
  await t.rejects(events({ model: gone, out: join(folder, 'c') }), { code: 'ERR_DISPOSED' });
});

t.test('what is missing or of another kind is listed', async (t) => {
  const model = await tinyModel();
  t.teardown(() => model.dispose());
  const given = { tokenizer: letters(), train: null, seed: 'abc', resume: 1, maxStep: 4 };
  t.throws(() => new Trainer({ model, ...given } as unknown as TrainerOptions), {
    code: 'ERR_OPTIONS',
    message: new RegExp(
      [
        'maxStep: .* unknown name .did you mean maxSteps',
        'train: expected a DataLoader, .* received null',
        'out: expected a string that is not empty, received nothing',
        'resume: expected true or false, received 1',
        "seed: expected an integer of at least 0, received 'abc'",
      ].join('.*'),
      's',
    ),
  });
  const blocks = BlockDataset.fromTexts(['abc'], { tokenizer: letters(), blockSize: 2 });
  const train = 'train: expected a DataLoader.*wrap a dataset.*';
  for (const [data, problems] of [
    [blocks, `2 problems\n {2}${train}\n {2}valid: expected a DataLoader.*wrap a`],
    [null, `2 problems\n {2}train: expected a DataLoader.*\n {2}valid: expected a DataLoader[^(]*$`],
    [{ batchSize: 2 }, `2 problems\n {2}${train}\n {2}valid: expected a DataLoader[^(]*$`],
    [[], `: ${train}$`], // measured on an array of batches
  ] as const) {
    const parts = { model, tokenizer: letters(), out: join(t.testdirName, 'a'), train: data, valid: data };
    t.throws(() => new Trainer(parts as unknown as TrainerOptions), {
      code: 'ERR_OPTIONS',
      message: new RegExp(problems, 's'),
    });
  }
  const later = Promise.resolve();
  const promises = { model: later, tokenizer: later, train: later, out: 'a' } as unknown as TrainerOptions;
  const missing = 'received a Promise .is an await missing..';
  t.throws(() => new Trainer(promises), {
    message: new RegExp(
      `: 3 problems\\n {2}model: .*${missing}\\n {2}tokenizer: .*${missing}\\n {2}train: .*${missing}$`,
    ),
  });
  t.throws(() => new Trainer(undefined as unknown as TrainerOptions), { code: 'ERR_OPTIONS' });
  t.throws(() => new Trainer({} as TrainerOptions), {
    code: 'ERR_OPTIONS',
    message: /model: .*tokenizer: .*out: /s,
  });
});
