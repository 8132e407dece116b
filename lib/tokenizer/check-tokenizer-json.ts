import { KotodamaError } from '../errors.js';
import { describe } from '../validate.js';

/** A parsed JSON object. */
export type JsonObject = { [key: string]: unknown };

/** One entry of `added_tokens` in tokenizer.json. */
export interface AddedToken {
  id: number;
  content: string;
  special?: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
  /** Whether it counts only where no letter, digit, mark or `_` is beside it. */
  single_word?: boolean;
  /** Whether it is looked for after the normalizer, and after those that are not. Default: if it is not special. */
  normalized?: boolean;
}

/** See {@link AddedToken.normalized}. */
export function isNormalized({ normalized, special }: AddedToken): boolean {
  return normalized ?? special !== true;
}

/** A tokenizer.json whose tables are what they should be. */
export interface CheckedTokenizerJson extends JsonObject {
  model: JsonObject;
  added_tokens?: AddedToken[];
}

/** Above every vocabulary in use by a factor of ten; a larger id would make tables of gigabytes. */
const MOST_IDS = 2 ** 22;

/**
 * Checks the tables that code is about to trust: ids, pieces, merges.
 *
 * @returns the same, with the type of its model where the tables tell it and it is not there, as in older files
 * @throws KotodamaError `ERR_TOKENIZER`
 */
export function checkTokenizerJson(json: JsonObject): CheckedTokenizerJson {
  const model = asObject(json.model);
  if (model === undefined) {
    const keys = Object.keys(json).slice(0, 8);
    throw new KotodamaError('ERR_TOKENIZER', 'This is not a tokenizer.json', {
      expected: 'an object with the key "model"',
      received: keys.length === 0 ? 'no keys' : `the keys ${keys.join(', ')}`,
    });
  }
  const { added_tokens: added = [] } = json;
  if (!Array.isArray(added)) throw broken('added_tokens', 'a list', added);
  for (const token of added) {
    const { content, id } = asObject(token) ?? {};
    if (typeof content !== 'string') throw broken('the content of an added token', 'a string', content);
    if (!isId(id)) throw broken(`the id of the added token ${JSON.stringify(content)}`, ID, id);
  }
  checkVocabulary(model);
  checkMerges(model.merges);
  const type = model.type ?? typeOf(model);
  return { ...json, model: { ...model, ...(type !== undefined && { type }) }, added_tokens: added };
}

/** As Python's tokenizers find it out. */
function typeOf({ vocab, merges }: JsonObject): string | undefined {
  if (Array.isArray(vocab)) return 'Unigram';
  return merges === undefined ? undefined : 'BPE';
}

const ID = `a whole number below ${MOST_IDS}`;

/** A table from token to id, or a list of [piece, score]; a list has no more ids than entries. */
function checkVocabulary({ vocab, unk_id: unknown = null }: JsonObject): void {
  if (Array.isArray(vocab)) {
    if (vocab.length > MOST_IDS) throw broken('the vocabulary', `at most ${MOST_IDS} entries`, vocab.length);
    for (const [id, entry] of vocab.entries()) {
      const isPiece = Array.isArray(entry) && typeof entry[0] === 'string' && typeof entry[1] === 'number';
      if (!isPiece) throw broken(`piece ${id} of the vocabulary`, 'a text and a score', entry);
    }
    if (unknown !== null && (!isId(unknown) || unknown >= vocab.length)) {
      throw broken('unk_id', `a whole number below ${vocab.length}`, unknown);
    }
    return;
  }
  const table = asObject(vocab);
  if (table === undefined) throw broken('the vocabulary', 'an object or a list', vocab);
  for (const [token, id] of Object.entries(table)) {
    if (!isId(id)) throw broken(`the id of ${JSON.stringify(token)}`, ID, id);
  }
}

function checkMerges(merges: unknown): void {
  if (merges === undefined) return;
  if (!Array.isArray(merges)) throw broken('the merges', 'a list', merges);
  for (const merge of merges) {
    const parts: unknown = typeof merge === 'string' ? merge.split(' ', 2) : merge;
    const isPair = Array.isArray(parts) && parts.length === 2 && parts.every((part) => typeof part === 'string');
    if (!isPair) throw broken('a merge', 'two tokens', merge);
  }
}

function isId(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) < MOST_IDS;
}

/** The value if it is an object, and no list. */
export function asObject(value: unknown): JsonObject | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined;
}

function broken(what: string, expected: string, received: unknown): KotodamaError {
  return new KotodamaError('ERR_TOKENIZER', `tokenizer.json cannot be used: ${what} is damaged`, {
    expected,
    received: describe(received),
  });
}
