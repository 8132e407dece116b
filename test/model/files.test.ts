import { cp, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { GPT2, Tokenizer } from '../../dist/index.js';
import { SafetensorsFile, type TensorSource, writeSafetensors } from '../../dist/model/safetensors.js';

const fixtures = 'test/unit/fixtures/model-files';
const CPU = { device: 'cpu', threads: 1 } as const;
const folder = await mkdtemp(join(tmpdir(), 'kotodama-model-files-'));
t.teardown(() => rm(folder, { recursive: true }));

/** Hugging Face's file with its list of tensors changed. */
async function changed(name: string, change: (tensors: TensorSource[]) => TensorSource[]): Promise<string> {
  const target = join(folder, name);
  await cp(join(fixtures, 'hf'), target, { recursive: true });
  const source = await SafetensorsFile.open(join(fixtures, 'hf/model.safetensors'));
  const tensors: TensorSource[] = [];
  for (const { name, shape } of source.tensors.values()) {
    const values = await source.read(name);
    tensors.push({ name, shape, read: () => values });
  }
  await source.close();
  await writeSafetensors(join(target, 'model.safetensors'), change(tensors));
  return target;
}

const WTE = 'transformer.wte.weight';

t.test('every way in which the names are written', async (t) => {
  const rename = (to: (name: string) => string) => (tensors: TensorSource[]) =>
    tensors.map((tensor) => ({ ...tensor, name: to(tensor.name) }));
  const folders = [
    join(fixtures, 'hf-base'),
    await changed(
      'bare',
      rename((name) => name.replace('transformer.', '')),
    ),
    await changed(
      'model',
      rename((name) => `model.${name}`),
    ),
    await changed(
      'model-bare',
      rename((name) => name.replace('transformer.', 'model.')),
    ),
    await changed('head', (tensors) => {
      const wte = tensors.find(({ name }) => name === WTE)!;
      return [...tensors, { ...wte, name: 'lm_head.weight' }];
    }),
    // What safetensors.torch.save_model leaves of two names of one tensor.
    await changed('head-alone', (tensors) =>
      tensors.map((tensor) => (tensor.name === WTE ? { ...tensor, name: 'lm_head.weight' } : tensor)),
    ),
    await changed('masks', (tensors) => [
      ...tensors,
      { name: 'transformer.h.0.attn.bias', shape: [1, 1, 2, 2], read: () => new Float32Array(4) },
      { name: 'transformer.h.1.attn.masked_bias', shape: [], read: () => new Float32Array(1) },
    ]),
  ];
  const original = await GPT2.fromPretrained(join(fixtures, 'hf'), CPU);
  for (const folder of folders) {
    const model = await GPT2.fromPretrained(folder, CPU);
    for (const { name } of original.tensors) {
      t.same(await model.readTensor(name), await original.readTensor(name), `${folder}: ${name}`);
    }
    await model.dispose();
  }
  await original.dispose();
});

t.test('files that do not fit are refused with the name of what is wrong', async (t) => {
  const without = await changed('without', (tensors) => tensors.filter(({ name }) => !name.includes('h.1.mlp.c_fc.w')));
  const more = await changed('more', (tensors) => [
    ...tensors,
    { name: 'transformer.h.2.ln_1.bias', shape: [12], read: () => new Float32Array(12) },
  ]);
  const twice = await changed('twice', (tensors) => [...tensors, { ...tensors[0], name: `model.${tensors[0].name}` }]);
  const transposed = await changed('transposed', (tensors) =>
    tensors.map((tensor) => (tensor.name.includes('c_attn.weight') ? { ...tensor, shape: [36, 12] } : tensor)),
  );
  const head = await changed('other-head', (tensors) => {
    const wte = tensors.find(({ name }) => name === WTE)!;
    const read = async () => (await wte.read()).map((value, index) => (index === 5 ? value + 1 : value));
    return [...tensors, { ...wte, name: 'lm_head.weight', read }];
  });
  const cases: [string, RegExp][] = [
    [without, /tensor 'transformer.h.1.mlp.c_fc.weight' is missing/],
    [more, /tensor 'transformer.h.2.ln_1.bias' is not part/],
    [twice, /is there twice/],
    [transposed, /shape of tensor 'transformer.h.0.attn.c_attn.weight': expected \[12, 36\], received \[36, 12\]/],
    [head, /'lm_head.weight' differs .*element 5\)/],
  ];
  for (const [folder, message] of cases) {
    await t.rejects(GPT2.fromPretrained(folder, CPU), { code: 'ERR_MODEL_FILE', message });
  }
});

t.test('missing and broken files', async (t) => {
  for (const [name, hint] of [
    [join(folder, 'nowhere'), /named owner\/name/],
    ['gpt2-is-no-folder-here', /named owner\/name, such as openai-community\/gpt2/],
    ['https://huggingface.co/openai-community/gpt2', /give its name alone, openai-community\/gpt2/],
    ['https://huggingface.co/openai-community/gpt2/tree/main', /give its name alone, openai-community\/gpt2/],
  ] as const) {
    await t.rejects(GPT2.fromPretrained(name, CPU), { code: 'ERR_IO', message: `There is no model ${name}`, hint });
    await t.rejects(Tokenizer.fromPretrained(name), { code: 'ERR_TOKENIZER', hint });
  }

  const above = join(folder, 'above');
  for (const name of ['first', 'second', 'notes']) await mkdir(join(above, name), { recursive: true });
  const noModel = { code: 'ERR_MODEL_FILE', expected: 'config.json and model.safetensors' };
  const received = 'only first, notes, second';
  await t.rejects(GPT2.fromPretrained(above, CPU), { ...noModel, received, hint: /folder of a run that has saved/ });
  for (const [name, hint] of [
    ['first', `did you mean ${above}/first?`],
    ['second', `did you mean ${above}/first or ${above}/second?`],
  ] as const) {
    await writeFile(join(above, name, 'config.json'), '{}');
    await t.rejects(GPT2.fromPretrained(above, CPU), { ...noModel, message: /above holds no model/, received, hint });
  }
  await t.rejects(GPT2.fromPretrained(join(above, 'notes'), CPU), { ...noModel, received: 'an empty folder' });

  const noWeights = join(folder, 'no-weights');
  await mkdir(noWeights);
  await cp(join(fixtures, 'hf/config.json'), join(noWeights, 'config.json'));
  await t.rejects(GPT2.fromPretrained(noWeights, CPU), { code: 'ERR_IO', message: /model.safetensors/ });
  await writeFile(join(noWeights, 'pytorch_model.bin'), 'PK');
  await t.rejects(GPT2.fromPretrained(noWeights, CPU), {
    code: 'ERR_MODEL_FILE',
    message: /pytorch_model.bin.*pickle/s,
  });

  const broken = join(folder, 'broken');
  await cp(join(fixtures, 'hf'), broken, { recursive: true });
  await truncate(join(broken, 'model.safetensors'), 9000);
  await t.rejects(GPT2.fromPretrained(broken, CPU), { code: 'ERR_MODEL_FILE', message: /broken\/model.safetensors/ });
  await writeFile(join(broken, 'config.json'), '{"model_type": "gpt2", ');
  await t.rejects(GPT2.fromPretrained(broken, CPU), { code: 'ERR_MODEL_FILE', message: /config.json is not JSON/ });
  await writeFile(join(broken, 'config.json'), '{"model_type": "bert"}');
  await t.rejects(GPT2.fromPretrained(broken, CPU), { code: 'ERR_MODEL_FILE', message: /'gpt2', received 'bert'/ });
});

t.test('weights in several files', async (t) => {
  const target = join(folder, 'shards');
  await cp(join(fixtures, 'hf'), target, { recursive: true });
  const source = await SafetensorsFile.open(join(target, 'model.safetensors'));
  const weightMap: Record<string, string> = {};
  const parts: TensorSource[][] = [[], [], []];
  for (const [index, { name, shape }] of [...source.tensors.values()].entries()) {
    parts[index % 3].push({ name, shape, read: () => source.read(name) });
    weightMap[name] = `model-0000${(index % 3) + 1}-of-00003.safetensors`;
  }
  for (const [index, part] of parts.entries()) {
    await writeSafetensors(join(target, `model-0000${index + 1}-of-00003.safetensors`), part);
  }
  await source.close();
  await rm(join(target, 'model.safetensors'));
  const indexPath = join(target, 'model.safetensors.index.json');
  await writeFile(indexPath, JSON.stringify({ metadata: { total_size: 1 }, weight_map: weightMap }));

  const [original, model] = [
    await GPT2.fromPretrained(join(fixtures, 'hf'), CPU),
    await GPT2.fromPretrained(target, CPU),
  ];
  for (const { name } of original.tensors) t.same(await model.readTensor(name), await original.readTensor(name));
  await original.dispose();
  await model.dispose();

  const cases: [unknown, RegExp][] = [
    [{}, /weight_map/],
    [{ weight_map: { a: '../hf/model.safetensors' } }, /weight_map.*'\.\.\/hf\/model.safetensors'/],
    [{ weight_map: { a: 3 } }, /weight_map/],
    [{ weight_map: { ...weightMap, [WTE]: 'model-00009-of-00003.safetensors' } }, /00009/],
    [{ weight_map: { [WTE]: weightMap[WTE] } }, /is missing/],
  ];
  for (const [index, message] of cases) {
    await writeFile(indexPath, JSON.stringify(index));
    await t.rejects(GPT2.fromPretrained(target, CPU), { message });
  }
});

t.test('saving', async (t) => {
  const model = await GPT2.fromPretrained(join(fixtures, 'hf'), CPU);
  const vocabulary = join(folder, 'tokenizer.json');
  await writeFile(vocabulary, '{}');
  const target = join(folder, 'deep/inside');
  const tokenizer = {
    ...{ vocabSize: 61, bosTokenId: 7, eosTokenId: 8, padTokenId: 9, unkTokenId: undefined },
    ...{ encode: () => [], decode: () => '', files: [vocabulary] },
  };
  await model.savePretrained(target, { tokenizer });
  await model.savePretrained(target, { tokenizer: { ...tokenizer, files: [join(target, 'tokenizer.json')] } });
  t.same((await readdir(target)).sort(), ['config.json', 'model.safetensors', 'tokenizer.json']);
  t.match(JSON.parse(await readFile(join(target, 'config.json'), 'utf8')), { eos_token_id: 2, n_inner: 20 });

  const again = await GPT2.fromPretrained(target, CPU);
  t.same(again.config, model.config);
  for (const { name } of model.tensors) t.same(await again.readTensor(name), await model.readTensor(name), name);
  await again.dispose();
  const opened = await SafetensorsFile.open(join(target, 'model.safetensors'));
  t.notOk(opened.tensors.has('lm_head.weight'), 'the tied head is not written twice');
  t.same(opened.metadata, { format: 'pt' });
  await opened.close();

  await t.rejects(model.savePretrained(vocabulary), { code: 'ERR_IO', message: /could not be made/ });
  await t.rejects(model.savePretrained(join(vocabulary, 'inside')), { code: 'ERR_IO' });
  await t.rejects(model.savePretrained(target, { tokenizer: { ...tokenizer, files: ['/nowhere/a.json'] } }), {
    code: 'ERR_IO',
    message: /nowhere/,
  });
  await model.dispose();
});

t.test('an error of the system in the middle of the weights leaves the old ones', async (t) => {
  const model = await GPT2.fromPretrained(join(fixtures, 'hf'), CPU);
  const target = join(folder, 'full');
  await model.savePretrained(target);
  const before = await readFile(join(target, 'model.safetensors'));
  const file = await SafetensorsFile.open(join(target, 'model.safetensors'));
  const enospc = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  const sources = [...file.tensors.values()].map(({ name, shape }, index) => ({
    name,
    shape,
    read: () => (index === 9 ? Promise.reject(enospc) : file.read(name)),
  }));
  await t.rejects(writeSafetensors(join(target, 'model.safetensors'), sources), {
    code: 'ERR_IO',
    message: /ENOSPC/,
    hint: /disk is full/,
  });
  await file.close();
  t.same(await readFile(join(target, 'model.safetensors')), before);
  t.same((await readdir(target)).sort(), ['config.json', 'model.safetensors']);
  await model.dispose();
});
