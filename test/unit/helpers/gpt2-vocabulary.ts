import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { JsonObject } from '../../../dist/tokenizer/index.js';

const require = createRequire(import.meta.url);
const FOLDER = dirname(require.resolve('gpt-3-encoder'));

/** GPT-2's encoder as others have written it in JavaScript; it takes `<|endoftext|>` for ordinary text. */
export const reference = require('gpt-3-encoder') as {
  encode: (text: string) => number[];
  decode: (ids: number[]) => string;
};

/** GPT-2's tokenizer.json. */
export function gpt2Json(): JsonObject {
  const vocab = JSON.parse(readFileSync(join(FOLDER, 'encoder.json'), 'utf8'));
  const merges = readFileSync(join(FOLDER, 'vocab.bpe'), 'utf8').trimEnd().split('\n').slice(1);
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    added_tokens: [{ id: 50256, content: '<|endoftext|>', special: true }],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    decoder: byteLevel,
    model: { type: 'BPE', vocab, merges },
  };
}
