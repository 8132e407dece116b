import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { JsonObject } from '../../../dist/tokenizer/index.js';
import { TOKENIZER_FOLDER } from './blocks.js';

/** The content of a tokenizer.json with a byte-level BPE. */
export interface BpeJson extends JsonObject {
  model: { vocab: { [token: string]: number }; merges: string[] };
}

/** A file of the demo's tokenizer, a byte-level BPE with 2048 ids. */
export function readTokenizerFile(name: 'tokenizer.json'): BpeJson;
export function readTokenizerFile(name: 'tokenizer_config.json'): JsonObject;
export function readTokenizerFile(name: string): JsonObject {
  return JSON.parse(readFileSync(join(TOKENIZER_FOLDER, name), 'utf8'));
}

/** A tokenizer.json with a unigram model of these pieces, the unknown one with id 0 before them. */
export function unigramJson(pieces: readonly (readonly [piece: string, score: number])[]): JsonObject {
  return {
    added_tokens: [{ id: 0, content: '<unk>', special: true }],
    pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: false },
    decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' },
    model: { type: 'Unigram', unk_id: 0, vocab: [['<unk>', 0], ...pieces] },
  };
}
