// What a Trainer is given: parts that do not belong together, what is no part, and models that were trained before.
import { join } from 'node:path';
import t from 'tap';
import {
  BlockDataset,
  BufferedShuffleDataset,
  DataLoader,
  TokenDataset,
  writeTokenFiles,
} from '../../dist/data/index.js';
import type { ModelOptions } from '../../dist/model/build.js';
import { GPT2 } from '../../dist/model/gpt2.js';
import { TrainerControl } from '../../dist/train/control.js';
import type { StepEvent } from '../../dist/train/events.js';
import { Trainer, type TrainerOptions, type TrainerRunOptions } from '../../dist/train/trainer.js';
import { letters, TinyLoader, tinyModel } from './tiny.js';

type Teardown = { teardown(work: () => unknown): void };

async function own(t: Teardown, made: Promise<GPT2>): Promise<GPT2> {
  const model = await made;
  t.teardown(() => model.dispose());
  return model;
}

async function numbers(trainer: Trainer): Promise<unknown[]> {
  const seen: unknown[] = [];
  for await (const event of trainer.run()) {
    if (event.type === 'step') seen.push([(event as StepEvent).loss, event.gradNorm]);
  }
  return seen;
}

for (const engine of [
  { precision: 'fp32' },
  { precision: 'bf16' },
  { precision: 'bf16', stochasticRounding: true },
] as const satisfies ModelOptions[]) {
  t.test(`a model that was trained before: only its weights count, ${JSON.stringify(engine)}`, async (t) => {
    const folder = t.testdir();
    const used = await own(t, tinyModel({ dropout: 0.2, ...engine }));
    const trainer = (model: GPT2, out: string) =>
      new Trainer({
        model,
        tokenizer: letters(),
        train: new TinyLoader(6),
        out: join(folder, out),
        maxSteps: 5,
        lr: 1e-2,
      });
    await numbers(trainer(used, 'first'));
    // A micro-step whose gradient is dropped: dropout counts it.
    await used.forwardBackward({ inputIds: [[1, 2, 3]], labels: [[2, 3, 4]] });
    const saved = join(folder, 'saved');
    await used.savePretrained(saved);
    const loaded = await own(
      t,
      GPT2.fromPretrained(saved, { device: 'cpu', threads: 1, seed: 1, dropout: 0.2, ...engine }),
    );
    const [again, fresh] = [await numbers(trainer(used, 'again')), await numbers(trainer(loaded, 'fresh'))];
    t.same(again, fresh);
    for (const { name } of used.tensors) t.same(await used.readTensor(name), await loaded.readTensor(name), name);
  });
}

t.test('parts that are no parts, such as promises that nobody awaited', async (t) => {
  const promise = tinyModel();
  const model = await own(t, promise);
  const shared = { train: new TinyLoader(2), out: join(t.testdirName, 'run') };
  const make = (parts: object) => () => new Trainer({ ...shared, ...parts } as unknown as TrainerOptions);
  const tokenizer = Promise.resolve(letters());
  t.throws(make({ model: promise, tokenizer }), {
    code: 'ERR_OPTIONS',
    message:
      /2 problems\n {2}model: expected a GPT2, .*\(is an await missing\?\)\n {2}tokenizer: expected a Tokenizer, .*\(is an await/,
  });
  t.throws(make({ model, tokenizer: { encode: () => [] } }), {
    message: /: tokenizer: expected a Tokenizer, received an/,
  });
  t.throws(make({ model: {}, tokenizer: letters() }), { message: /: model: expected a GPT2, received an object/ });
});

t.test('ids of another tokenizer', async (t) => {
  const folder = t.testdir();
  const model = await own(t, tinyModel());
  const other = { ...letters(), fingerprint: 'others 32' };
  const blocks = (tokenizer: typeof other) => BlockDataset.fromTexts(['a'.repeat(50)], { tokenizer, blockSize: 8 });
  const file = join(folder, 'a.bin');
  await writeTokenFiles(blocks(other).tokens(), { output: file, tokenizer: other, sources: [] });
  const sources = {
    blocks: blocks(other),
    shuffled: new BufferedShuffleDataset(blocks(other)),
    'token file': await TokenDataset.open(file, { blockSize: 8 }),
  };
  const make = (train: DataLoader, valid?: DataLoader) =>
    new Trainer({ model, tokenizer: letters(), train, valid, out: join(folder, 'run') });
  const right = new DataLoader(blocks(letters()), { batchSize: 2 });
  for (const [name, source] of Object.entries(sources)) {
    const loader = new DataLoader(source, { batchSize: 2 });
    const message = /: train: expected ids of the tokenizer letters 32, received those of others 32/;
    t.throws(() => make(loader), { code: 'ERR_OPTIONS', message }, name);
    t.throws(() => make(right, loader), { message: /: valid: expected ids of the tokenizer letters 32/ }, name);
  }
  t.doesNotThrow(() => make(right, new DataLoader(blocks(letters()), { batchSize: 2 })));
  const { fingerprint: _, ...unmarked } = letters();
  const unknown = BlockDataset.fromTexts(['abc'], { tokenizer: unmarked, blockSize: 2 });
  t.doesNotThrow(() => make(new DataLoader(unknown, { batchSize: 1 })), 'a tokenizer that does not say who it is');
});

t.test('how a run is steered: what is misspelled is not left out in silence', async (t) => {
  const model = await own(t, tinyModel());
  const out = join(t.testdir(), 'run');
  const trainer = new Trainer({ model, tokenizer: letters(), train: new TinyLoader(2), out, maxSteps: 1 });
  const { signal } = new AbortController();
  for (const [how, message] of [
    [{ signal: new AbortController() }, /signal: expected an AbortSignal, .*\n {2}hint: give its signal/],
    [signal, /options: expected an object, received an AbortSignal\n {2}hint: write { signal }/],
    [{ abortSignal: signal }, /abortSignal: expected one of signal, control, onProgress, received an unknown name/],
    [null, /options: expected an object, received null/],
    [{ control: {} }, /control: expected a TrainerControl, received an object/],
    [{ onProgress: true }, /onProgress: expected a function, received true/],
  ] as [TrainerRunOptions, RegExp][]) {
    await t.rejects(trainer.run(how).next(), { code: 'ERR_OPTIONS', message });
  }
  const right = { signal, control: new TrainerControl(), onProgress: () => {} };
  const seen = [];
  for await (const { type } of trainer.run(right)) seen.push(type);
  t.equal(seen.at(-1), 'end');
});
