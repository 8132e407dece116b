// Writes models in every format for other programs to open, and beside them what they have to find. Run by hand, in the
// repository's root after npm run build, when something about the formats has changed:
//
//   node test/elsewhere/write.mjs DIR              writes DIR
//   python test/elsewhere/open.py DIR              needs torch, transformers 5, gguf, safetensors
//   node test/elsewhere/llama.mjs DIR FOLDER       needs node-llama-cpp, installed in FOLDER
//
// The committed tests read the same formats with readers of their own, so none of this is needed for npm test.

import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GPT2, Tokenizer } from '../../dist/index.js';

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error('node test/elsewhere/write.mjs DIR');
mkdirSync(folder, { recursive: true });

const TEXTS = [
  'All human beings are born free and equal in dignity and rights.',
  'すべての人間は、生まれながらにして自由であり、',
  // No two spaces: README.md says where llama.cpp keeps them.
  "it's 1948,\tand a tab",
];

/** Every tensor is noise: a bias of 0 or a gain of 1 would hide where it went. */
async function makeModel(tokenizer, seed) {
  const config = { vocabSize: tokenizer.vocabSize, nPositions: 64, nEmbd: 64, nHead: 4, nLayer: 2, nInner: 192 };
  const { bosTokenId, eosTokenId, padTokenId } = tokenizer;
  const model = await GPT2.create({ ...config, bosTokenId, eosTokenId, padTokenId }, { device: 'cpu', seed });
  let state = seed;
  const next = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 31 - 1;
  };
  for (const { name } of model.tensors) {
    const gain = name.includes('ln_') && name.endsWith('weight') ? 1 : 0;
    const values = await model.readTensor(name);
    await model.writeTensor(
      name,
      values.map(() => gain + 0.3 * next()),
    );
  }
  return model;
}

async function greedy(model, ids, count) {
  const found = [];
  for await (const id of model.generateIds(ids, { maxNewTokens: count, temperature: 0, eosTokenId: null }))
    found.push(id);
  return found;
}

const sentencePiece = join(folder, 'sentencepiece');
mkdirSync(sentencePiece, { recursive: true });
copyFileSync('test/unit/fixtures/sentencepiece/unigram-nmt-nfkc.model', join(sentencePiece, 'spiece.model'));

const tokenizers = {
  bpe: await Tokenizer.fromPretrained('demo/tokenizer'),
  unigram: await Tokenizer.fromPretrained(sentencePiece),
};
for (const [name, tokenizer] of Object.entries(tokenizers)) {
  const out = (file) => join(folder, 'models', name, file);
  mkdirSync(out(''), { recursive: true });
  const model = await makeModel(tokenizer, 7);
  const texts = TEXTS.map((text) => ({ text, ids: Array.from(tokenizer.encode(text)) }));
  const ids = texts[0].ids.slice(0, 12);
  const { logits } = await model.forward({ inputIds: [ids] });
  const expected = { texts, ids, logits: Array.from(logits.data), greedy: await greedy(model, ids, 24) };
  writeFileSync(out('expected.json'), JSON.stringify(expected));
  await model.savePretrained(out('hf'), { tokenizer });
  await model.savePretrained(out('hf-sharded'), { tokenizer, maxShardBytes: 100_000 });
  await model.savePretrained(out('hf-bf16'), { tokenizer, dtype: 'bf16' });
  for (const dtype of ['f32', 'f16', 'q8_0']) await model.saveGguf(out(`${dtype}.gguf`), { tokenizer, dtype });
  await model.dispose();
}
process.stdout.write(`${readFileSync(join(folder, 'models', 'bpe', 'hf', 'config.json'), 'utf8')}\n`);
