// One model, several callers at once: texts beside texts, beside training, and beside what holds the model.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import type { GenerateOptions, GPT2, TrainEvent } from '../../dist/index.js';
import { Trainer } from '../../dist/index.js';
import { letters, TinyLoader, tinyModel } from './tiny.js';

const tokenizer = letters();
const BATCH = { inputIds: [[1, 2, 3, 4]], labels: [[2, 3, 4, -100]] };

async function write(model: GPT2, options: Partial<GenerateOptions> = {}): Promise<string> {
  let text = '';
  for await (const piece of model.generate('ab', { tokenizer, maxNewTokens: 30, ...options })) text += piece;
  return text;
}

async function make(t: { teardown(work: () => unknown): void }, options = {}): Promise<GPT2> {
  const model = await tinyModel(options);
  t.teardown(() => model.dispose());
  return model;
}

t.test('several texts at once are those that each would be alone, past the context too', async (t) => {
  const model = await make(t);
  const seeds = [1, 2, 3, 4, 5];
  const alone: string[] = [];
  for (const seed of seeds) alone.push(await write(model, { seed }));
  t.same(await Promise.all(seeds.map((seed) => write(model, { seed }))), alone);
  t.equal(new Set(alone).size, seeds.length);
  const measured = await model.evaluate(BATCH);
  const [, , ...same] = await Promise.all([write(model), write(model), model.evaluate(BATCH), model.evaluate(BATCH)]);
  t.same(same, [measured, measured]);
});

t.test('a reader that goes away in the middle of a call leaves the model to the next one', async (t) => {
  const model = await make(t);
  const wanted = await write(model);
  // The stream asks for the next piece at once: when it is destroyed, that call is in the engine, and nobody awaits it.
  const stream = Readable.from(model.generate('ab', { tokenizer, maxNewTokens: 1000 }));
  for await (const _ of stream) break;
  t.equal(await write(model), wanted);

  const pieces = model.generate('ab', { tokenizer, maxNewTokens: 1000 });
  await pieces.next();
  const abandoned = [pieces.next(), pieces.return()];
  t.equal(await write(model), wanted);
  await Promise.all(abandoned);
});

t.test('a text that waits ends with its signal, long before its turn', async (t) => {
  const model = await make(t);
  const abort = new AbortController();
  let saved = false;
  const saving = model.savePretrained(t.testdir()).then(() => {
    saved = true;
  });
  const waiting = write(model, { signal: abort.signal });
  abort.abort();
  await t.rejects(waiting, { code: 'ERR_ABORTED' });
  t.equal(saved, false);
  await saving;
  t.ok(await write(model));
});

t.test('dispose ends the texts that are on their way', async (t) => {
  const model = await tinyModel();
  const texts = [1, 2, 3].map((seed) => write(model, { seed, maxNewTokens: 1000 }));
  const ends = texts.map((text) => t.rejects(text, { code: 'ERR_DISPOSED' }));
  await setImmediate();
  await model.dispose();
  await Promise.all(ends);
});

t.test('the arrays of a call that waits are its own', async (t) => {
  const model = await make(t);
  const batch = () => ({
    inputIds: { data: Int32Array.of(1, 2, 3, 4), shape: [1, 4] as [number, number] },
    labels: { data: Int32Array.of(2, 3, 4, 5), shape: [1, 4] as [number, number] },
  });
  const { loss } = await model.evaluate(batch());
  const [name, ones] = ['transformer.ln_f.bias', new Float32Array(16).fill(1)];
  const given = batch();
  const calls = [model.evaluate(BATCH), model.evaluate(given), model.writeTensor(name, ones)] as const;
  for (const { data, shape } of [given.inputIds, given.labels]) {
    data.fill(9);
    shape[1] = 2;
  }
  ones.fill(9);
  await calls[0];
  t.equal((await calls[1]).loss, loss);
  await calls[2];
  t.same(await model.readTensor(name), new Float32Array(16).fill(1));

  const moments = () => ({ expAvg: new Float32Array(16).fill(2), expAvgSq: new Float32Array(16).fill(3) });
  for (const others of [[], [BATCH]]) {
    const state = moments();
    const waiting = [...others.map((batch) => model.evaluate(batch)), model.writeOptimizerState(name, state)];
    state.expAvg.fill(9);
    state.expAvgSq.fill(9);
    await Promise.all(waiting);
    t.same(await model.readOptimizerState(name), moments());
    const zeros = new Float32Array(16);
    await t.rejects(model.writeOptimizerState(name, { expAvg: zeros, expAvgSq: new Float32Array(3) }), {
      code: 'ERR_OPTIONS',
    });
    t.same(await model.readOptimizerState(name), moments(), 'neither or both');
  }
});

t.test('both moments are those of one step, beside training too', async (t) => {
  const model = await make(t);
  const name = 'transformer.ln_f.bias';
  let trains = true;
  const training = (async () => {
    // They are the gradient and its square then.
    const options = { learningRate: 1e-2, betas: [0, 0], maxGradNorm: 0 } as const;
    while (trains) await model.trainStep(BATCH, options);
  })();
  const firsts = new Set<number>();
  for (let i = 0; i < 20; i++) {
    const { expAvg, expAvgSq } = await model.readOptimizerState(name);
    t.same(
      expAvgSq,
      expAvg.map((value) => value * value),
    );
    firsts.add(expAvg[0] as number);
  }
  trains = false;
  await training;
  t.ok(firsts.size > 1, 'it went on meanwhile');
});

t.test('what is saved while others train is one state of the model', async (t) => {
  const [model, twin] = [await make(t), await make(t)];
  const folder = t.testdir({ calm: {}, beside: {} });
  await twin.savePretrained(join(folder, 'calm'));
  const saving = model.savePretrained(join(folder, 'beside'));
  const training = model.trainStep(BATCH, { learningRate: 1e-2 });
  t.match(await training, { applied: true });
  await saving;
  const read = (name: string) => readFile(join(folder, name, 'model.safetensors'));
  t.ok((await read('calm')).equals(await read('beside')), 'the step waited');
  const stepped = await model.readTensor('transformer.wte.weight');
  t.notSame(stepped, await twin.readTensor('transformer.wte.weight'));
});

t.test('texts beside a run leave its losses and weights as they are', async (t) => {
  const folder = t.testdir();
  /** Up to step `maxSteps`, with dropout, a frozen tensor, evaluations, samples and checkpoints; `beside` works meanwhile. */
  const run = async (model: GPT2, out: string, maxSteps: number, beside?: () => Promise<unknown>) => {
    const events: TrainEvent[] = [];
    const trainer = new Trainer({
      ...{ model, tokenizer, train: new TinyLoader(6), valid: new TinyLoader(2), out: join(folder, out), maxSteps },
      ...{ lr: 1e-2, schedule: 'constant', gradAccum: 2, evalEvery: 4, sampleEvery: 5, saveEvery: 3 },
      ...{ freeze: ['wpe'], resume: maxSteps > 6 },
    });
    let running = true;
    const others = [1, 2, 3].map(async () => {
      while (running && beside !== undefined) await beside();
    });
    try {
      for await (const event of trainer.run()) events.push(event);
    } finally {
      running = false;
      await Promise.all(others);
    }
    return events.flatMap((event) => {
      if (event.type === 'step') return [[event.step, event.loss, event.gradNorm]];
      if (event.type === 'eval') return [[event.step, event.loss]];
      return event.type === 'sample' ? [[event.step, event.text]] : [];
    });
  };
  const calm = await make(t, { dropout: 0.2 });
  const wanted = [...(await run(calm, 'calm', 6)), ...(await run(calm, 'calm', 12))];
  t.equal(wanted.length, 12 + 4 + 2);

  const busy = await make(t, { dropout: 0.2 });
  let texts = 0;
  const beside = async () => {
    await write(busy, { seed: texts });
    await busy.evaluate(BATCH);
    texts++;
  };
  const seen = await run(busy, 'busy', 6, beside);
  // Another model continues, which reads the checkpoint while it writes.
  const other = await make(t, { dropout: 0.2 });
  t.same([...seen, ...(await run(other, 'busy', 12, () => write(other)))], wanted);
  t.ok(texts > 0, `${texts} texts`);
  for (const { name } of calm.tensors) t.same(await other.readTensor(name), await calm.readTensor(name), name);
  t.same(other.counters, calm.counters);
});

t.test('what is forgotten to await is found where the model changes', async (t) => {
  const model = await make(t);
  const busy = { code: 'ERR_BUSY', message: /the model is being changed by another call\n {2}hint: await each call/ };
  const forgotten = model.forwardBackward(BATCH);
  await t.rejects(model.step({ learningRate: 1e-3 }), busy);
  await t.rejects(model.writeTensor('transformer.ln_f.bias', new Float32Array(16)), busy);
  await t.rejects(model.zeroGradients(), busy);
  t.throws(() => model.freeze(['wte']), busy);
  t.throws(() => model.counters, busy);
  t.throws(() => {
    model.counters = { step: 1, microStep: 1 };
  }, busy);
  const gradient = model.readGradient('transformer.ln_f.bias');
  await forgotten;
  t.ok(
    (await gradient).some((value) => value !== 0),
    'what reads comes after it',
  );
  t.same(model.counters, { step: 0, microStep: 1 });
});

t.test('counters and frozen tensors can be set while others read', async (t) => {
  const model = await make(t);
  await model.trainStep(BATCH, { learningRate: 1e-3 });
  const reading = model.evaluate(BATCH);
  t.throws(() => model.memoryPlan({ batchSize: 1, blockSize: 4 }), { code: 'ERR_BUSY' });
  t.same(model.counters, { step: 1, microStep: 1 });
  model.counters = { step: 5, microStep: 9 };
  t.same(model.counters, { step: 5, microStep: 9 });
  t.same(model.freeze(['wpe']), ['transformer.wpe.weight']);
  const before = await model.readTensor('transformer.wpe.weight');
  await model.trainStep(BATCH, { learningRate: 1e-3 });
  t.same(model.counters, { step: 6, microStep: 10 });
  t.same(await model.readTensor('transformer.wpe.weight'), before);
  await reading;
  for (const wrong of [{ steps: 3 }, null, { step: -1, microStep: 0 }, { step: 0.5, microStep: 0 }]) {
    t.throws(
      () => {
        model.counters = wrong as never;
      },
      { code: 'ERR_OPTIONS', message: /counters/ },
    );
  }
  t.same(model.counters, { step: 6, microStep: 10 });
});
