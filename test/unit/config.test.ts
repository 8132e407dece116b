import { readFile } from 'node:fs/promises';
import t from 'tap';
import { parameterCount, parameterShapes, resolveConfig } from '../../dist/model/config.js';
import { configFromHuggingFace, configToHuggingFace } from '../../dist/model/hf-config.js';

t.test('defaults are GPT-2 small', async (t) => {
  const config = resolveConfig({ vocabSize: 50257 });
  t.match(config, { nPositions: 1024, nEmbd: 768, nLayer: 12, nHead: 12, nInner: 3072, layerNormEpsilon: 1e-5 });
  t.match(config, { initializerRange: 0.02, embdPdrop: 0, attnPdrop: 0, residPdrop: 0, eosTokenId: undefined });
});

t.test('counts the parameters of the published models', async (t) => {
  // Sizes of gpt2, gpt2-medium, gpt2-large and gpt2-xl as Transformers counts them.
  const published: [number, number, number, number][] = [
    [12, 12, 768, 124_439_808],
    [24, 16, 1024, 354_823_168],
    [36, 20, 1280, 774_030_080],
    [48, 25, 1600, 1_557_611_200],
  ];
  for (const [nLayer, nHead, nEmbd, count] of published) {
    const config = resolveConfig({ vocabSize: 50257, nLayer, nHead, nEmbd });
    t.equal(parameterCount(config), count);
    const elements = parameterShapes(config).map(({ shape }) => shape.reduce((a, b) => a * b, 1));
    t.equal(
      elements.reduce((a, b) => a + b, 0),
      count,
    );
  }
});

t.test('names every problem in one error', async (t) => {
  const wrong = {
    vocabSize: 0,
    nLayers: 12,
    nHead: 7,
    nPositions: 1.5,
    residPdrop: 1,
    layerNormEpsilon: Number.NaN,
    initializerRange: '0.02',
  };
  const message = [
    /^The model configuration is not valid: 7 problems$/m,
    /vocabSize: expected an integer from 1 to 2147483647, received 0$/m,
    /nLayers: .*did you mean nLayer\?/,
    /nHead: expected a divisor of nEmbd \(768\), received 7 \(try 6\)/,
    /nPositions: expected an integer .*received 1.5$/m,
    /residPdrop: expected a number of at least 0 and below 1, received 1$/m,
    /layerNormEpsilon: expected a number above 0, received NaN$/m,
    /initializerRange: expected a number of at least 0, received '0.02'$/m,
  ];
  try {
    resolveConfig(wrong as never);
    t.fail('was accepted');
  } catch (error) {
    t.match(error, { code: 'ERR_OPTIONS' });
    for (const expected of message) t.match((error as Error).message, expected);
  }
  t.throws(() => resolveConfig({ vocabSize: 9, dropout: 0.1 } as never), {
    code: 'ERR_OPTIONS',
    hint: 'did you mean embdPdrop, attnPdrop or residPdrop?',
  });
  t.throws(() => resolveConfig({} as never), { code: 'ERR_OPTIONS', message: /vocabSize.*received nothing/ });
  t.throws(() => resolveConfig({ vocabSize: 10, eosTokenId: 10 }), { message: /eosTokenId.*from 0 to 9, received 10/ });
  t.throws(() => resolveConfig({ vocabSize: 10, nLayer: 1e6 }), { message: /nLayer.*from 1 to 4096/ });
  t.throws(() => resolveConfig(undefined as never), { code: 'ERR_OPTIONS' });
  t.throws(() => resolveConfig([] as never), { code: 'ERR_OPTIONS', message: /an object/ });
});

t.test('a width beyond all limits is named itself', async (t) => {
  const sizes = { vocabSize: 10, nHead: 1, nEmbd: 2 ** 31 - 1 };
  t.throws(() => resolveConfig(sizes), {
    code: 'ERR_OPTIONS',
    message: /nEmbd: expected an integer from 1 to 536870911/,
  });
  t.equal(resolveConfig({ ...sizes, nEmbd: 2 ** 29 - 1 }).nInner, 2 ** 31 - 4);
});

t.test('goes to config.json and back', async (t) => {
  const configs = [
    { vocabSize: 50257 },
    { vocabSize: 61, nEmbd: 12, nHead: 3, nInner: 20, nLayer: 1, attnPdrop: 0.2, bosTokenId: 1, eosTokenId: 2 },
  ];
  for (const input of configs) {
    const config = resolveConfig(input);
    const json = JSON.parse(JSON.stringify(configToHuggingFace(config)));
    t.same(configFromHuggingFace(json, 'config.json'), config);
  }
});

t.test("reads Transformers' own file", async (t) => {
  const path = 'test/unit/fixtures/model-files/hf/config.json';
  const config = configFromHuggingFace(JSON.parse(await readFile(path, 'utf8')), path);
  t.match(config, { vocabSize: 61, nPositions: 24, nEmbd: 12, nLayer: 2, nHead: 3, nInner: 20 });
  t.match(config, { embdPdrop: 0.1, attnPdrop: 0.2, residPdrop: 0.05, bosTokenId: 1, eosTokenId: 2, padTokenId: 0 });
});

t.test('names that Transformers has for the same count more than those of GPT-2', async (t) => {
  const json = { model_type: 'gpt2', n_positions: 64, n_ctx: 64, n_embd: 48, n_layer: 2, n_head: 4 };
  const aliases = { max_position_embeddings: 32, hidden_size: 96, num_hidden_layers: 3, num_attention_heads: 8 };
  const found = { nPositions: 32, nEmbd: 96, nLayer: 3, nHead: 8 };
  t.match(configFromHuggingFace({ ...json, ...aliases }, 'config.json'), found);
  t.match(configFromHuggingFace({ model_type: 'gpt2', ...aliases }, 'config.json'), found);
  t.match(configFromHuggingFace({ ...json, num_attention_heads: 2 }, 'config.json'), { nHead: 2, nEmbd: 48 });
  t.match(configFromHuggingFace({ ...json, num_attention_heads: null }, 'config.json'), { nHead: 4 });
});

t.test("an absent field has Transformers' default", async (t) => {
  const config = configFromHuggingFace({ model_type: 'gpt2', vocab_size: 100, eos_token_id: 50256 }, 'config.json');
  t.match(config, { nEmbd: 768, attnPdrop: 0.1, eosTokenId: undefined }, 'an id outside the vocabulary means none');
  t.equal(configFromHuggingFace({ model_type: 'gpt2', eos_token_id: [5, 6] }, 'config.json').eosTokenId, 5);
  const ids = { bosTokenId: 50256, eosTokenId: undefined, padTokenId: undefined };
  t.match(configFromHuggingFace({ model_type: 'gpt2', eos_token_id: null }, 'config.json'), ids);
});

t.test('refuses what the engine would compute differently', async (t) => {
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ model_type: 'llama' }, /model_type: expected 'gpt2', received 'llama'/],
    [{ model_type: undefined }, /model_type/],
    [{ architectures: ['GPT2ForSequenceClassification'] }, /architectures.*GPT2ForSequenceClassification/],
    [{ architectures: 'GPT2LMHeadModel' }, /architectures/],
    [{ activation_function: 'relu' }, /activation_function: expected 'gelu_new'.*received 'relu'/],
    [{ scale_attn_weights: false }, /scale_attn_weights/],
    [{ scale_attn_by_inverse_layer_idx: true }, /scale_attn_by_inverse_layer_idx/],
    [{ tie_word_embeddings: false }, /tie_word_embeddings/],
    [{ add_cross_attention: true }, /add_cross_attention/],
    [{ quantization_config: { bits: 4 } }, /quantization_config/],
    [{ n_head: 7 }, /nHead/],
    [{ n_embd: '768' }, /nEmbd/],
    [{ vocab_size: null, n_layer: 0 }, /nLayer/],
  ];
  for (const [fields, message] of cases) {
    const json = { model_type: 'gpt2', ...fields };
    t.throws(() => configFromHuggingFace(json, 'a/config.json'), { code: 'ERR_MODEL_FILE', message });
    t.throws(() => configFromHuggingFace(json, 'a/config.json'), { message: /^a\/config.json/ });
  }
  for (const json of [null, [], 'gpt2', 3]) {
    t.throws(() => configFromHuggingFace(json, 'config.json'), { code: 'ERR_MODEL_FILE', message: /a JSON object/ });
  }
});
