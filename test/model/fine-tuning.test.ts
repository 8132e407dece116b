import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { GPT2, Trainer } from '../../dist/index.js';
import { letters, TinyLoader, tinyModel } from './tiny.js';

interface Trained {
  losses: number[];
  gradNorms: number[];
  tensors: Record<string, number[]>;
}
interface Expected {
  options: { learningRate: number; betas: [number, number]; eps: number; weightDecay: number; maxGradNorm: number };
  batches: number[][][];
  frozen: Record<string, Trained>;
  resized: { rows: number[]; inputIds: number[][]; logits: number[] };
}
const expected: Expected = JSON.parse(readFileSync('test/unit/fixtures/fine-tuning/expected.json', 'utf8'));
const fixture = 'test/unit/fixtures/interchange/model';
const CPU = { device: 'cpu', threads: 1, dropout: 0 } as const;
const WTE = 'transformer.wte.weight';
const WPE = 'transformer.wpe.weight';

const PATTERNS: Record<string, string[]> = {
  'embedding and first block': ['wte', 'h.0'],
  biases: ['*.bias'],
  "all but the head's norm": ['{wte,wpe}', 'transformer.h'],
};

const difference = (found: ArrayLike<number>, wanted: readonly number[]) =>
  wanted.reduce((most, value, index) => Math.max(most, Math.abs(value - found[index]!)), 0);

async function train(model: GPT2): Promise<Pick<Trained, 'losses' | 'gradNorms'>> {
  const found: Pick<Trained, 'losses' | 'gradNorms'> = { losses: [], gradNorms: [] };
  for (const rows of expected.batches) {
    const inputIds = rows.map((row) => row.slice(0, -1));
    const { loss } = await model.forwardBackward({ inputIds, labels: rows.map((row) => row.slice(1)) });
    const { gradNorm } = await model.step(expected.options);
    found.losses.push(loss);
    found.gradNorms.push(gradNorm);
  }
  return found;
}

for (const [name, { losses, gradNorms, tensors }] of Object.entries(expected.frozen)) {
  t.test(`frozen as PyTorch's parameters without requires_grad: ${name}`, async (t) => {
    const model = await GPT2.fromPretrained(fixture, CPU);
    const before = new Map<string, Float32Array>();
    for (const { name } of model.tensors) before.set(name, await model.readTensor(name));
    const frozen = model.freeze(PATTERNS[name]!);
    const found = await train(model);
    t.ok(difference(found.losses, losses) < 1e-4, `losses ${found.losses}, PyTorch ${losses}`);
    t.ok(difference(found.gradNorms, gradNorms) < 1e-4, `norms ${found.gradNorms}, PyTorch ${gradNorms}`);
    for (const [key, values] of Object.entries(tensors)) {
      t.ok(difference(await model.readTensor(key), values) < 1e-4, key);
    }
    for (const { name } of model.tensors) {
      const same = Buffer.from((await model.readTensor(name)).buffer).equals(Buffer.from(before.get(name)!.buffer));
      t.equal(same, frozen.includes(name), `${name}: ${same ? 'as it was' : 'trained'}`);
    }
    await model.dispose();
  });
}

t.test('gradients of frozen tensors are 0, whoever looked at them before', async (t) => {
  const model = await GPT2.fromPretrained(fixture, CPU);
  t.teardown(() => model.dispose());
  const inputIds = [[3, 4, 5]];
  const pass = () => model.forwardBackward({ inputIds, labels: [[4, 5, 6]] });
  const gradients = async () => {
    const found: [string, Float32Array][] = [];
    for (const { name } of model.tensors) found.push([name, await model.readGradient(name)]);
    return new Map(found);
  };
  const norm = (values: Map<string, Float32Array>) =>
    Math.sqrt([...values.values()].reduce((sum, tensor) => tensor.reduce((all, value) => all + value ** 2, sum), 0));
  await pass();
  const all = await gradients();
  const frozen = model.freeze(['wte', 'h.0']);
  const trained = () =>
    new Map([...all].map(([key, values]) => [key, frozen.includes(key) ? values.map(() => 0) : values]));
  t.same(await gradients(), trained(), 'frozen after the pass');
  await model.zeroGradients();
  await pass();
  t.same(await gradients(), trained(), 'frozen before it');
  t.ok(Math.abs((await model.gradientNorm()) / norm(trained()) - 1) < 1e-5);
  t.same(await gradients(), trained(), 'the norm changes nothing');
  model.freeze([]);
  t.same(await gradients(), trained(), 'they belong to what is trained from now on');
  await model.zeroGradients();
  await pass();
  t.same(await gradients(), all);
});

t.test('bf16: the copies for computing follow the trained tensors alone', async (t) => {
  const model = await GPT2.fromPretrained(fixture, { ...CPU, precision: 'bf16' });
  model.freeze(['h.0', 'wpe']);
  await train(model);
  // Writing a tensor makes its copy anew: nothing may change.
  const inputIds = [[3, 4, 5]];
  const { logits } = await model.forward({ inputIds });
  for (const { name } of model.tensors) await model.writeTensor(name, await model.readTensor(name));
  t.same((await model.forward({ inputIds })).logits.data, logits.data);
  await model.dispose();
});

t.test('which tensors a pattern freezes', async (t) => {
  const model = await GPT2.create({ vocabSize: 9, nEmbd: 4, nHead: 1, nLayer: 12, nPositions: 4 }, { device: 'cpu' });
  t.teardown(() => model.dispose());
  const names = model.tensors.map(({ name }) => name);
  const block = (layer: number) => names.filter((name) => name.startsWith(`transformer.h.${layer}.`));
  const cases: [string[], string[]][] = [
    [['wte'], [WTE]],
    [
      ['wte.weight', 'transformer.wpe.weight'],
      [WTE, WPE],
    ],
    [['h.1'], block(1)],
    [['h.[0-2]'], [0, 1, 2].flatMap(block)],
    [['h.1?', 'h.1*'], [1, 10, 11].flatMap(block)],
    [['h.{3,5}.attn'], [3, 5].flatMap(block).filter((name) => name.includes('.attn.'))],
    [['h.*.ln_1', 'ln_f'], names.filter((name) => /ln_1|ln_f/.test(name))],
    [['*.bias'], names.filter((name) => name.endsWith('.bias'))],
    [['*attn*'], names.filter((name) => name.includes('attn'))],
    [[], []],
  ];
  for (const [patterns, wanted] of cases) t.same(model.freeze(patterns), wanted, patterns.join(' '));
  t.throws(() => model.freeze(['h.12']), { code: 'ERR_OPTIONS', message: /No tensor of the model matches 'h.12'/ });
  t.throws(() => model.freeze(['wte', 'wt']), { code: 'ERR_OPTIONS', message: /'wt'/ });
  t.throws(() => model.freeze(['h.[9-0]']), { code: 'ERR_OPTIONS', message: /not a pattern/ });
  t.throws(() => model.freeze(['*']), { code: 'ERR_OPTIONS', message: /nothing is left to train/ });
});

t.test('a longer vocabulary begins with the mean, as in Transformers', async (t) => {
  const model = await GPT2.fromPretrained(fixture, { ...CPU, vocabSize: 64, eosTokenId: 63, padTokenId: 62 });
  t.match(model.config, { vocabSize: 64, bosTokenId: 1, eosTokenId: 63, padTokenId: 62 });
  const { rows, inputIds, logits } = expected.resized;
  const wte = await model.readTensor(WTE);
  t.equal(wte.length, 64 * 12);
  // Transformers adds a thousand-millionth of the rows' covariance.
  t.ok(difference(wte.subarray(61 * 12), rows) < 5e-4, `${difference(wte.subarray(61 * 12), rows)}`);
  t.ok(difference((await model.forward({ inputIds })).logits.data, logits) < 5e-3);
  const before = await GPT2.fromPretrained(fixture, CPU);
  t.same(wte.subarray(0, 61 * 12), await before.readTensor(WTE));
  await before.dispose();
  await model.dispose();
});

t.test('a shorter context keeps the first positions', async (t) => {
  const [whole, short] = [
    await GPT2.fromPretrained(fixture, CPU),
    await GPT2.fromPretrained(fixture, { ...CPU, nPositions: 7 }),
  ];
  t.equal(short.config.nPositions, 7);
  t.same(await short.readTensor(WPE), (await whole.readTensor(WPE)).subarray(0, 7 * 12));
  const inputIds = [[5, 6, 7, 8, 9, 10, 11]];
  t.same((await short.forward({ inputIds })).logits.data, (await whole.forward({ inputIds })).logits.data);
  await short.dispose();
  await whole.dispose();
});

t.test('what a loaded model cannot become', async (t) => {
  const load = (options: object) => GPT2.fromPretrained(fixture, { ...CPU, ...options });
  const cases: [object, RegExp][] = [
    [{ nPositions: 25 }, /nPositions: expected an integer from 1 to 24, received 25/],
    [{ nPositions: 0 }, /nPositions/],
    [{ vocabSize: 60 }, /vocabSize: expected an integer of at least 61, received 60/],
    [{ vocabSize: 60, nPositions: 30 }, /2 problems/],
    [{ eosTokenId: 61 }, /eosTokenId: expected an integer from 0 to 60/],
    [{ dropout: 1 }, /Pdrop/],
    [{ nLayer: 1 }, /nLayer/],
  ];
  for (const [options, message] of cases) await t.rejects(load(options), { code: 'ERR_OPTIONS', message });
});

t.test('every published size of GPT-2 is known', async (t) => {
  // The numbers of the config.json of openai-community/gpt2, -medium, -large and -xl; the counts of the papers' weights.
  const sizes: [nEmbd: number, nLayer: number, nHead: number, parameters: number][] = [
    [768, 12, 12, 124_439_808],
    [1024, 24, 16, 354_823_168],
    [1280, 36, 20, 774_030_080],
    [1600, 48, 25, 1_557_611_200],
  ];
  const { configFromHuggingFace } = await import('../../dist/model/hf-config.js');
  const { parameterCount, parameterShapes } = await import('../../dist/model/config.js');
  for (const [n_embd, n_layer, n_head, parameters] of sizes) {
    const json = { ...JSON.parse(readFileSync(join(fixture, 'config.json'), 'utf8')), n_embd, n_layer, n_head };
    const config = configFromHuggingFace({ ...json, vocab_size: 50257, n_positions: 1024, n_ctx: 1024 }, 'config.json');
    t.equal(parameterCount(config), parameters);
    const elements = parameterShapes(config).map(({ shape }) => shape.reduce((a, b) => a * b, 1));
    t.equal(
      elements.reduce((a, b) => a + b, 0),
      parameters,
    );
  }
});

t.test('a Trainer freezes for its run', async (t) => {
  const model = await tinyModel();
  const before = await model.readTensor(WTE);
  const options = { tokenizer: letters(), train: new TinyLoader(4), maxSteps: 3, freeze: ['wte'] };
  const run = async (more: object, name: string) => {
    const out = join(t.testdir(), name);
    for await (const _ of new Trainer({ model, out, ...options, ...more }).run());
  };
  await run({}, 'a');
  t.same(await model.readTensor(WTE), before);
  await run({ freeze: undefined }, 'b');
  t.notSame(await model.readTensor(WTE), before);
  await t.rejects(run({ freeze: ['wtx'] }, 'c'), { code: 'ERR_OPTIONS', message: /'wtx'/ });
  await t.rejects(run({ freeze: [] }, 'd'), { code: 'ERR_OPTIONS', message: /freeze/ });
  await model.dispose();
});

t.test('from the folder of a model with buffers and other names', async (t) => {
  // As openai-community/gpt2 is: names without `transformer.`, and the causal masks among the weights.
  const folder = t.testdir();
  cpSync(fixture, folder, { recursive: true });
  const { SafetensorsFile, writeSafetensors } = await import('../../dist/model/safetensors.js');
  const source = await SafetensorsFile.open(join(fixture, 'model.safetensors'));
  const tensors = [...source.tensors.values()].map(({ name, shape }) => ({
    name: name.replace('transformer.', ''),
    shape,
    read: () => source.read(name),
  }));
  const mask = { name: 'h.0.attn.bias', shape: [1, 1, 24, 24], read: () => new Float32Array(576) };
  await writeSafetensors(join(folder, 'model.safetensors'), [...tensors, mask]);
  writeFileSync(join(folder, 'merges.txt'), '');
  const [plain, tuned] = [
    await GPT2.fromPretrained(fixture, CPU),
    await GPT2.fromPretrained(folder, { ...CPU, vocabSize: 70 }),
  ];
  t.same((await tuned.readTensor(WTE)).subarray(0, 61 * 12), await plain.readTensor(WTE));
  await source.close();
  await plain.dispose();
  await tuned.dispose();
});
