import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { GPT2, Tokenizer } from '../../dist/index.js';
import { loadSentencePiece } from '../../dist/tokenizer/index.js';
import { readGguf, readLlmc, readSafetensors, type StoredTensor, transpose } from '../unit/helpers/model-readers.js';

const files = 'test/unit/fixtures/model-files';
const fixtures = 'test/unit/fixtures/interchange';
const CPU = { device: 'cpu', threads: 1 } as const;
const folder = t.testdir();

interface Expected {
  inputIds: number[][];
  logits: Record<'v3' | 'v5', number[]>;
  q8: { values: number[]; bytes: string };
}
const expected: Expected = JSON.parse(readFileSync(join(fixtures, 'expected.json'), 'utf8'));

/** Equal, but that only the names of what is not are shown. */
function same(t: Test, found: Map<string, StoredTensor>, wanted: Map<string, StoredTensor>, name: string): void {
  t.same([...found.keys()].sort(), [...wanted.keys()].sort(), `${name}: names`);
  const different = [...wanted].filter(([key, { dtype, shape, bytes }]) => {
    const tensor = found.get(key);
    return !(tensor?.dtype === dtype && `${tensor.shape}` === `${shape}` && tensor.bytes.equals(bytes));
  });
  t.same(
    different.map(([key]) => key),
    [],
    name,
  );
}

/** The largest of more numbers than a call takes arguments. */
function most(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b), -Infinity);
}

/** Largest difference over the largest reference. */
function error(found: ArrayLike<number>, reference: readonly number[]): number {
  const scale = Math.max(...reference.map(Math.abs));
  return Math.max(...reference.map((value, index) => Math.abs(value - found[index]!))) / scale;
}

t.test("what is saved is what Transformers saves: float32, and PyTorch's float16 and bfloat16", async (t) => {
  const model = await GPT2.fromPretrained(join(files, 'hf'), CPU);
  for (const [dtype, name, torch] of [
    ['f32', 'hf', 'float32'],
    ['f16', 'hf-f16', 'float16'],
    ['bf16', 'hf-bf16', 'bfloat16'],
  ] as const) {
    const out = join(folder, name);
    await model.savePretrained(out, { dtype });
    const [ours, theirs] = [out, join(files, name)].map((folder) => readSafetensors(join(folder, 'model.safetensors')));
    same(t, ours!.tensors, theirs!.tensors, name);
    t.same(ours!.metadata, theirs!.metadata);
    const config = (folder: string) => JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
    const { dtype: theirDtype, ...their } = config(join(files, name));
    t.equal(theirDtype, torch);
    const our = config(out);
    t.equal(our.torch_dtype, torch);
    for (const key of Object.keys(our)) if (key in their) t.same(our[key], their[key], key);
    for (const key of ['architectures', 'model_type', 'bos_token_id', 'eos_token_id', 'pad_token_id']) {
      t.ok(key in our && key in their, key);
    }
  }
  await t.rejects(model.savePretrained(folder, { dtype: 'q8_0' as never }), { code: 'ERR_OPTIONS', message: /dtype/ });
  await t.rejects(model.savePretrained(folder, { maxShards: 3 } as never), {
    code: 'ERR_OPTIONS',
    message: /maxShards/,
  });
  await model.writeTensor('transformer.ln_f.bias', new Float32Array(12).fill(70000));
  await t.rejects(model.savePretrained(join(folder, 'much'), { dtype: 'f16' }), {
    code: 'ERR_NON_FINITE',
    message: /'transformer.ln_f.bias' cannot be stored as f16: element 0.*received 70000/,
  });
  await model.dispose();
});

t.test('several files, and back to one', async (t) => {
  const model = await GPT2.fromPretrained(join(files, 'hf'), CPU);
  const { tensors: wanted } = readSafetensors(join(files, 'hf/model.safetensors'));
  const out = join(folder, 'shards');
  const list = () => readdirSync(out).sort();
  await model.savePretrained(out);
  for (const maxShardBytes of [4000, 9000]) {
    await model.savePretrained(out, { maxShardBytes });
    const { metadata, weight_map: places } = JSON.parse(
      readFileSync(join(out, 'model.safetensors.index.json'), 'utf8'),
    );
    const names = list().filter((name) => name.endsWith('.safetensors'));
    const count = String(names.length).padStart(5, '0');
    t.ok(names.length > 1, `${names.length} files`);
    t.same(
      names,
      names.map((_, index) => `model-${String(index + 1).padStart(5, '0')}-of-${count}.safetensors`),
      'what was there before is gone',
    );
    const found = new Map<string, StoredTensor>();
    for (const name of names) {
      const { tensors } = readSafetensors(join(out, name));
      const bytes = [...tensors.values()].reduce((sum, { bytes }) => sum + bytes.length, 0);
      t.ok(bytes <= maxShardBytes || tensors.size === 1, `${name}: ${bytes} bytes`);
      for (const [key, tensor] of tensors) {
        t.equal(places[key], name);
        found.set(key, tensor);
      }
    }
    same(t, found, wanted, `at most ${maxShardBytes} bytes`);
    t.equal(Object.keys(places).length, wanted.size);
    const numbers = [...wanted.values()].reduce((sum, { values }) => sum + values.length, 0);
    t.same(metadata, { total_parameters: numbers, total_size: 4 * numbers });
    const again = await GPT2.fromPretrained(out, CPU);
    for (const { name } of model.tensors) t.same(await again.readTensor(name), await model.readTensor(name), name);
    await again.dispose();
  }
  await model.savePretrained(out);
  t.same(list(), ['config.json', 'model.safetensors']);
  await model.dispose();
});

t.test('the class of the tokenizer', async (t) => {
  const model = await GPT2.create({ vocabSize: 2048, nEmbd: 4, nHead: 1, nLayer: 1, nPositions: 4 }, CPU);
  const classOf = async (folder: string) => {
    await model.savePretrained(join(folder, 'out'), { tokenizer: await Tokenizer.fromPretrained(folder) });
    return JSON.parse(readFileSync(join(folder, 'out/config.json'), 'utf8')).tokenizer_class;
  };
  const make = (name: string, source: string, as: string) => {
    mkdirSync(join(folder, name));
    cpSync(source, join(folder, name, as));
    return join(folder, name);
  };
  t.equal(await classOf(make('demo', 'demo/tokenizer/tokenizer.json', 'tokenizer.json')), undefined);
  cpSync('demo/tokenizer/tokenizer_config.json', join(folder, 'demo/tokenizer_config.json'));
  t.equal(await classOf(join(folder, 'demo')), 'PreTrainedTokenizerFast');
  const spiece = make('spiece', 'test/unit/fixtures/sentencepiece/unigram-nmt-nfkc.model', 'spiece.model');
  t.equal(await classOf(spiece), 'BertGenerationTokenizer');
  writeFileSync(join(spiece, 'config.json'), '{"tokenizer_class": "T5Tokenizer"}');
  t.equal(await classOf(spiece), 'T5Tokenizer', 'as the model beside it has it');
  writeFileSync(join(spiece, 'config.json'), '{"tokenizer_class": ');
  t.equal(await classOf(spiece), 'BertGenerationTokenizer', 'a broken config.json is not the matter of the tokenizer');
  await model.dispose();
});

t.test("llm.c's checkpoints: read", async (t) => {
  for (const version of ['v3', 'v5'] as const) {
    const model = await GPT2.fromPretrained(join(fixtures, `${version}.bin`), CPU);
    t.match(model.config, { vocabSize: 61, nPositions: 24, nEmbd: 12, nLayer: 2, nHead: 3, nInner: 48 });
    const { logits } = await model.forward({ inputIds: expected.inputIds });
    const found = error(logits.data, expected.logits[version]);
    t.ok(found < 1e-5, `${version}: ${found} from Transformers`);
    await model.dispose();
  }
});

t.test("llm.c's checkpoints: written", async (t) => {
  const model = await GPT2.fromPretrained(join(fixtures, 'model'), CPU);
  for (const [dtype, version] of [
    ['f32', 'v3'],
    ['bf16', 'v5'],
  ] as const) {
    const path = join(folder, `${version}.bin`);
    await model.saveLlmc(path, { dtype });
    t.ok(readFileSync(path).equals(readFileSync(join(fixtures, `${version}.bin`))), `${version}: the same bytes`);
  }
  const { header, sections, rest } = readLlmc(join(folder, 'v3.bin'));
  t.same(header.slice(0, 9), [20240326, 3, 24, 61, 2, 3, 12, 128, 0]);
  t.equal(rest, 0);
  const { tensors } = readSafetensors(join(fixtures, 'model/model.safetensors'));
  const of = (name: string) => tensors.get(`transformer.${name}`)!.values;
  t.same(sections.get('wte'), [...of('wte.weight'), ...Array.from({ length: (128 - 61) * 12 }, () => 0)]);
  t.same(
    sections.get('fcprojw'),
    [0, 1].flatMap((layer) => transpose(of(`h.${layer}.mlp.c_proj.weight`), 48)),
  );
  t.same(
    sections.get('qkvb'),
    [0, 1].flatMap((layer) => of(`h.${layer}.attn.c_attn.bias`)),
  );
  await t.rejects(model.saveLlmc(join(folder, 'x.bin'), { dtype: 'f16' as never }), { code: 'ERR_OPTIONS' });
  await model.dispose();

  const [odd, eps] = await Promise.all([
    GPT2.fromPretrained(join(files, 'hf'), CPU),
    GPT2.create({ vocabSize: 8, nEmbd: 4, nHead: 1, nLayer: 1, nPositions: 4, layerNormEpsilon: 1e-6 }, CPU),
  ]);
  await t.rejects(odd.saveLlmc(join(folder, 'x.bin')), { code: 'ERR_OPTIONS', message: /nInner: expected.*48/ });
  await t.rejects(eps.saveLlmc(join(folder, 'x.bin')), { code: 'ERR_OPTIONS', message: /layerNormEpsilon/ });
  await odd.dispose();
  await eps.dispose();
});

t.test("llm.c's checkpoints: damaged", async (t) => {
  const good = readFileSync(join(fixtures, 'v3.bin'));
  const path = join(folder, 'damaged.bin');
  const cases: [string, (bytes: Buffer) => Buffer, RegExp][] = [
    ['cut', (bytes) => bytes.subarray(0, -4), /file size: expected 23488 bytes by its header, received 23484/],
    ['longer', (bytes) => Buffer.concat([bytes, Buffer.alloc(4)]), /file size/],
    ['header alone', (bytes) => bytes.subarray(0, 1000), /file size: expected at least 1024/],
    ['version', (bytes) => set(bytes, 1, 1), /version of the checkpoint: expected 3 \(float32\) or 5.*received 1/],
    ['no layers', (bytes) => set(bytes, 4, 0), /nLayer: expected an integer from 1/],
    ['heads', (bytes) => set(bytes, 5, 5), /nHead: expected a divisor of nEmbd/],
    ['huge', (bytes) => set(bytes, 3, 2 ** 31 - 1), /padded vocabulary: expected at least/],
    ['padding', (bytes) => set(bytes, 7, 60), /padded vocabulary/],
    ['negative', (bytes) => set(bytes, 6, -12), /nEmbd/],
  ];
  const set = (bytes: Buffer, index: number, value: number) => {
    const changed = Buffer.from(bytes);
    changed.writeInt32LE(value, 4 * index);
    return changed;
  };
  for (const [name, change, message] of cases) {
    writeFileSync(path, change(good));
    await t.rejects(GPT2.fromPretrained(path, CPU), { code: 'ERR_MODEL_FILE', message }, name);
    await t.rejects(GPT2.fromPretrained(path, CPU), { message: /damaged.bin/ });
  }
});

t.test('files that are no models are named for what they are', async (t) => {
  const path = join(folder, 'pytorch_model.bin');
  const int32 = (value: number) => Buffer.from(Int32Array.of(value, 1, 0).buffer);
  const cases: [Buffer, RegExp][] = [
    [Buffer.from('PK\x03\x04....'), /pickle, which can run any code.*model.safetensors.*save_pretrained/s],
    [Buffer.from([0x80, 2, 0x8a, 10]), /pickle.*put its tensors into a GPT2LMHeadModel/s],
    [Buffer.from('GGUF\x03\0\0\0'), /is a GGUF file.*not read/s],
    [int32(20240520), /is a token file.*--train/s],
    [int32(20240801), /is a token file/],
    [int32(20240527), /state of a training run.*model_/s],
    [int32(20240327), /record of a training step/],
    [int32(20240328), /tokenizer/],
    [Buffer.from('version https://git-lfs.github.com/spec/v1\n'), /is a pointer of Git LFS.*\n.*git lfs pull/],
    [Buffer.from('{"a": 1}'), /no model: expected a folder.*llm.c/],
    [Buffer.alloc(0), /no model/],
  ];
  for (const [bytes, message] of cases) {
    writeFileSync(path, bytes);
    await t.rejects(GPT2.fromPretrained(path, CPU), { code: 'ERR_MODEL_FILE', message });
  }
  const weights = join(files, 'hf/model.safetensors');
  const alone = { code: 'ERR_MODEL_FILE', message: /holds weights alone.*\n.*give its folder/ };
  await t.rejects(GPT2.fromPretrained(weights, CPU), alone);
  const pickled = join(folder, 'pickled');
  cpSync(join(files, 'hf'), pickled, { recursive: true });
  rmSync(join(pickled, 'model.safetensors'));
  writeFileSync(join(pickled, 'pytorch_model.bin.index.json'), '{}');
  await t.rejects(GPT2.fromPretrained(pickled, CPU), { code: 'ERR_MODEL_FILE', message: /pickle.*save_pretrained/s });
  // Transformers loads a folder with such a file, and no file by itself.
  const inside = join(pickled, 'pytorch_model.bin');
  writeFileSync(inside, 'PK\x03\x04....');
  const message = new RegExp(`from_pretrained\\('${pickled}'\\)\\.save`);
  await t.rejects(GPT2.fromPretrained(inside, CPU), { code: 'ERR_MODEL_FILE', message });
});

t.test('GGUF: a byte-level BPE', async (t) => {
  const tokenizer = await Tokenizer.fromPretrained('demo/tokenizer');
  const config = {
    vocabSize: 2051,
    nEmbd: 64,
    nHead: 2,
    nLayer: 2,
    nPositions: 20,
    nInner: 96,
    layerNormEpsilon: 1e-6,
  };
  const model = await GPT2.create({ ...config, eosTokenId: 5 }, { ...CPU, seed: 3 });
  t.teardown(() => model.dispose());
  for (const { name, shape } of model.tensors) {
    // Biases and gains are not 0 and 1 in a model that has learned.
    if (shape.length === 1)
      await model.writeTensor(
        name,
        Float32Array.from({ length: shape[0]! }, (_, i) => i / 7 - 3),
      );
  }
  const json = JSON.parse(readFileSync('demo/tokenizer/tokenizer.json', 'utf8'));
  const vocabulary = Object.entries(json.model.vocab as Record<string, number>).sort(([, a], [, b]) => a - b);
  for (const dtype of ['f32', 'f16', 'q8_0'] as const) {
    const path = join(folder, `demo-${dtype}.gguf`);
    await model.saveGguf(path, { tokenizer, dtype });
    const { metadata, tensors } = readGguf(path);
    const {
      'tokenizer.ggml.tokens': tokens,
      'tokenizer.ggml.token_type': types,
      ...rest
    } = Object.fromEntries(metadata);
    t.same(tokens, [...vocabulary.map(([token]) => token), '[PAD2048]', '[PAD2049]', '[PAD2050]']);
    t.same(types, [3, ...Array.from({ length: 2047 }, () => 1), 5, 5, 5], 'control, normal and unused tokens');
    t.same(rest, {
      'general.architecture': 'gpt2',
      'general.name': `demo-${dtype}`,
      'general.file_type': { f32: 0, f16: 1, q8_0: 7 }[dtype],
      ...(dtype === 'q8_0' && { 'general.quantization_version': 2 }),
      'gpt2.block_count': 2,
      'gpt2.context_length': 20,
      'gpt2.embedding_length': 64,
      'gpt2.feed_forward_length': 96,
      'gpt2.attention.head_count': 2,
      'gpt2.attention.layer_norm_epsilon': Math.fround(1e-6),
      'tokenizer.ggml.model': 'gpt2',
      'tokenizer.ggml.pre': 'gpt-2',
      'tokenizer.ggml.add_bos_token': false,
      'tokenizer.ggml.add_eos_token': false,
      'tokenizer.ggml.merges': json.model.merges,
      'tokenizer.ggml.bos_token_id': 0,
      'tokenizer.ggml.eos_token_id': 5,
      'tokenizer.ggml.unknown_token_id': 0,
    });
    await checkTensors(t, model, tensors, dtype);
  }
  await t.rejects(model.saveGguf(join(folder, 'x.gguf'), {} as never), { code: 'ERR_OPTIONS', message: /tokenizer/ });
  const small = await GPT2.create({ vocabSize: 100, nEmbd: 4, nHead: 1, nLayer: 1, nPositions: 4 }, CPU);
  await t.rejects(small.saveGguf(join(folder, 'x.gguf'), { tokenizer }), { code: 'ERR_TOKENIZER', message: /100 ids/ });
  await small.dispose();
});

/** Names, shapes from the innermost dimension, types, and values within what a type rounds off. */
async function checkTensors(t: Test, model: GPT2, tensors: Map<string, StoredTensor>, dtype: string): Promise<void> {
  const inBlock: [string, string, boolean][] = [
    ['ln_1', 'attn_norm', false],
    ['attn.c_attn', 'attn_qkv', true],
    ['attn.c_proj', 'attn_output', true],
    ['ln_2', 'ffn_norm', false],
    ['mlp.c_fc', 'ffn_up', true],
    ['mlp.c_proj', 'ffn_down', true],
  ];
  const names: [string, string, boolean][] = [
    ['transformer.wte.weight', 'token_embd.weight', false],
    ['transformer.wpe.weight', 'position_embd.weight', false],
    ...['weight', 'bias'].map((part): [string, string, boolean] => [
      `transformer.ln_f.${part}`,
      `output_norm.${part}`,
      false,
    ]),
  ];
  for (let layer = 0; layer < model.config.nLayer; layer++) {
    for (const part of ['weight', 'bias']) {
      for (const [from, to, linear] of inBlock) {
        names.push([
          `transformer.h.${layer}.${from}.${part}`,
          `blk.${layer}.${to}.${part}`,
          linear && part === 'weight',
        ]);
      }
    }
  }
  t.same([...tensors.keys()].sort(), names.map(([, name]) => name).sort());
  for (const [from, to, linear] of names) {
    const { shape } = model.tensors.find(({ name }) => name === from)!;
    const values = Array.from(await model.readTensor(from));
    const tensor = tensors.get(to)!;
    const wanted = linear ? transpose(values, shape[0]!) : values;
    t.same(tensor.shape, linear ? shape : [...shape].reverse(), `${to}: shape`);
    const matrix = shape.length === 2 && from !== 'transformer.wpe.weight';
    t.equal(tensor.dtype, matrix ? dtype.toUpperCase() : 'F32', `${to}: type`);
    const largest = most(wanted.map(Math.abs));
    // Half a unit of binary16's 11 bits; half a step of 127 of the largest in a block, and that step is rounded too.
    const tolerance = !matrix || dtype === 'f32' ? 0 : dtype === 'f16' ? 2 ** -11 : 0.57 / 127;
    const difference = most(wanted.map((value, index) => Math.abs(value - tensor.values[index]!)));
    t.ok(difference <= tolerance * largest, `${to}: ${difference}`);
  }
}

t.test('GGUF: rows that are not whole blocks stay in f16', async (t) => {
  const model = await GPT2.create({ vocabSize: 2048, nEmbd: 24, nHead: 2, nLayer: 1, nPositions: 8, nInner: 64 }, CPU);
  const path = join(folder, 'odd.gguf');
  await model.saveGguf(path, { tokenizer: await Tokenizer.fromPretrained('demo/tokenizer'), dtype: 'q8_0' });
  const { tensors } = readGguf(path);
  const types = Object.fromEntries([...tensors].map(([name, { dtype }]) => [name, dtype]));
  t.match(types, { 'token_embd.weight': 'F16', 'blk.0.ffn_up.weight': 'F16', 'blk.0.ffn_down.weight': 'Q8_0' });
  await model.dispose();
});

t.test('GGUF: a tokenizer that names no end of a text', async (t) => {
  const json = JSON.parse(readFileSync('demo/tokenizer/tokenizer.json', 'utf8'));
  const marks = async (tokenizer: Tokenizer, config: { vocabSize: number; bosTokenId?: number }) => {
    const model = await GPT2.create({ ...config, nEmbd: 4, nHead: 1, nLayer: 1, nPositions: 4 }, CPU);
    const path = join(folder, 'no-end.gguf');
    try {
      await model.saveGguf(path, { tokenizer });
    } finally {
      await model.dispose();
    }
    const { metadata } = readGguf(path);
    return ['bos', 'eos'].map((name) => metadata.get(`tokenizer.ggml.${name}_token_id`));
  };
  // llama.cpp would take the token 11 for both.
  const control = Tokenizer.fromJson(json, { bos_token: null, eos_token: null });
  t.equal(control.eosTokenId, undefined);
  t.same(await marks(control, { vocabSize: 2048 }), [0, 0], 'a control token stands for no text');
  t.same(await marks(control, { vocabSize: 2048, bosTokenId: 7 }), [7, 7], 'what begins a text ends the one before');
  const ordinary = Tokenizer.fromJson({ ...json, added_tokens: [] });
  t.same(await marks(ordinary, { vocabSize: 2050 }), [2048, 2048], 'an id that is never made');
  await t.rejects(marks(ordinary, { vocabSize: 2048 }), {
    code: 'ERR_TOKENIZER',
    message: /no token that can end a text/,
    hint: /add-tokens/,
  });
});

t.test('GGUF: SentencePiece', async (t) => {
  const model = await GPT2.create({ vocabSize: 1408, nEmbd: 32, nHead: 1, nLayer: 1, nPositions: 8 }, CPU);
  const save = async (name: string) => {
    const tokenizer = await loadSentencePiece(`test/unit/fixtures/sentencepiece/${name}.model`);
    await model.saveGguf(join(folder, 'sp.gguf'), { tokenizer });
    const { metadata } = readGguf(join(folder, 'sp.gguf'));
    const of = (key: string) => metadata.get(`tokenizer.ggml.${key}`);
    return { tokenizer, of };
  };
  const unigram = await save('unigram-nmt-nfkc');
  t.equal(unigram.of('model'), 't5');
  t.same((unigram.of('tokens') as string[]).slice(0, 7), ['<pad>', '<unk>', '<s>', '</s>', '<cls>', '<sep>', '▁']);
  t.same((unigram.of('token_type') as number[]).slice(0, 7), [3, 2, 3, 3, 3, 3, 1]);
  t.match(unigram.of('tokens'), { length: 1408 });
  t.same(
    [0, 899, 900, 1407].map((id) => unigram.tokenizer.idToPiece(id) ?? `[PAD${id}]`),
    [...[0, 899, 900, 1407].map((id) => (unigram.of('tokens') as string[])[id])],
  );
  t.match(unigram.of('scores'), { length: 1408 });
  t.ok((unigram.of('scores') as number[])[899]! < 0);
  t.ok((unigram.of('precompiled_charsmap') as number[]).length > 100_000);
  // This tokenizer has no prefix; see tokenizer-metadata.ts.
  t.same([unigram.of('add_space_prefix'), unigram.of('remove_extra_whitespaces')], [false, false]);
  t.same(
    ['bos', 'eos', 'padding', 'unknown'].map((name) => unigram.of(`${name}_token_id`)),
    [2, 3, 0, 1],
  );

  const bpe = await save('bpe-identity');
  t.equal(bpe.of('model'), 'llama');
  t.equal((bpe.of('tokens') as string[])[3 + 0x41], '<0x41>');
  t.equal((bpe.of('token_type') as number[])[3 + 0x41], 6);
  t.same([bpe.of('add_space_prefix'), bpe.of('remove_extra_whitespaces')], [true, true]);
  t.equal(bpe.of('precompiled_charsmap'), undefined);

  const refused: [string, RegExp][] = [
    ['unigram-suffix', /spaces before words/],
    ['unigram-nmt-nfkc-cf', /unknown characters in bytes for a unigram/],
    ['bpe-rules', /its BPE|does not normalize/],
    ['word', /no tokenizer of this kind/],
    ['char', /no tokenizer of this kind/],
  ];
  for (const [name, message] of refused) await t.rejects(save(name), { code: 'ERR_TOKENIZER', message }, name);
  await model.dispose();
});

t.test('GGUF: tokenizers of other kinds are refused', async (t) => {
  const model = await GPT2.create({ vocabSize: 2048, nEmbd: 4, nHead: 1, nLayer: 1, nPositions: 4 }, CPU);
  const json = JSON.parse(readFileSync('demo/tokenizer/tokenizer.json', 'utf8'));
  const lower = Tokenizer.fromJson({ ...json, normalizer: { type: 'Lowercase' } });
  const whole = Tokenizer.fromJson({ ...json, model: { ...json.model, ignore_merges: true } });
  for (const tokenizer of [lower, whole]) {
    const saved = model.saveGguf(join(folder, 'x.gguf'), { tokenizer });
    await t.rejects(saved, { code: 'ERR_TOKENIZER', message: /no tokenizer of this kind/ });
  }
  await model.dispose();
});
