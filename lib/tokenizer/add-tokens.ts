import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { KotodamaError } from '../errors.js';
import { copyIntoFolder, ioError, makeFolder, writeAtomically, writeJsonFile } from '../files.js';
import type { HubOptions } from '../hub/index.js';
import { checkArgument, checkPath } from '../validate.js';
import type { JsonObject } from './check-tokenizer-json.js';
import { Tokenizer } from './tokenizer.js';
import { findTokenizerFiles, holdsTokenizer, readJsonObject } from './tokenizer-files.js';

/**
 * Makes a tokenizer with more special tokens, such as `<|user|>`: the ids of all other tokens stay, the new ones come after
 * them, and a text that spells one becomes its id. A model learns them by fine-tuning, where its embedding grows by them.
 *
 * @param from a folder, or a name of the Hub
 * @param folder where to write it; made when it is missing
 * @returns the new tokenizer
 * @throws KotodamaError `ERR_OPTIONS` when a token is there already, when no text would become it, or when the folder holds
 *   a tokenizer; `ERR_TOKENIZER`, `ERR_HUB`, `ERR_IO`
 */
export async function addTokens(
  from: string,
  tokens: readonly string[],
  folder: string,
  options: HubOptions = {},
): Promise<Tokenizer> {
  const isText = (token: unknown) => typeof token === 'string';
  checkArgument(Array.isArray(tokens) && tokens.every(isText), 'the new tokens', 'an array of strings', tokens);
  checkPath('the folder to write to', folder);
  const tokenizer = await Tokenizer.fromPretrained(from, options);
  checkTokens(tokens, tokenizer);
  const { dir } = tokenizer.source as { dir: string };
  const { model, kind, config, specialTokens } = await findTokenizerFiles(dir);
  // Tried before anything is written.
  let write: (target: string) => Promise<void>;
  if (kind === 'json') {
    const json = withAddedTokens(await readJsonObject(model), tokens, tokenizer.vocabSize);
    checkFound(tokens, Tokenizer.fromJson(json), tokenizer.vocabSize);
    write = (target) => writeJsonFile(target, json);
  } else {
    const bytes = Buffer.concat([await readFile(model), ...tokens.map(userDefinedPiece)]);
    checkFound(tokens, Tokenizer.fromSentencePiece(bytes), tokenizer.vocabSize);
    write = (target) => writeAtomically(target, (file) => file.writeFile(bytes));
  }
  await makeFolder(folder).catch((cause) => {
    throw ioError(cause, `${folder} could not be made`);
  });
  if (await holdsTokenizer(folder)) {
    throw new KotodamaError('ERR_OPTIONS', `${folder} holds a tokenizer, on which a model may depend`, {
      hint: 'choose another folder',
    });
  }
  for (const file of [config, specialTokens]) if (file !== undefined) await copyIntoFolder(file, folder);
  await write(join(folder, basename(model)));
  return Tokenizer.fromPretrained(folder);
}

/**
 * Refuses tokens that no text becomes: a SentencePiece model writes spaces in another way, and one of words takes only whole
 * words.
 */
function checkFound(tokens: readonly string[], tokenizer: Tokenizer, first: number): void {
  const index = tokens.findIndex((token, index) => !tokenizer.encode(token).includes(first + index));
  if (index < 0) return;
  throw new KotodamaError('ERR_OPTIONS', `${JSON.stringify(tokens[index])} cannot be added`, {
    expected: 'a token that the tokenizer finds in a text',
    received: 'one that no text would become',
    hint: 'a SentencePiece model finds no token with a space or U+2581, and a model of words none at all: choose another one',
  });
}

function checkTokens(tokens: readonly string[], { vocabulary }: Tokenizer): void {
  if (tokens.length === 0) throw new KotodamaError('ERR_OPTIONS', 'There is no token to add');
  for (const [index, token] of tokens.entries()) {
    const known = vocabulary.tokens.includes(token) ? 'the tokenizer has it already' : 'it is there twice';
    if (token !== '' && !vocabulary.tokens.includes(token) && tokens.indexOf(token) === index) continue;
    throw new KotodamaError('ERR_OPTIONS', `${JSON.stringify(token)} cannot be added`, {
      expected: 'a new token that is not empty',
      received: token === '' ? 'an empty one' : known,
    });
  }
}

function withAddedTokens(json: JsonObject, tokens: readonly string[], first: number): JsonObject {
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const added = tokens.map((content, index) => ({ id: first + index, content, ...flags }));
  return { ...json, added_tokens: [...((json.added_tokens as object[] | undefined) ?? []), ...added] };
}

/**
 * A piece to append to a SentencePiece model. A protocol buffer's repeated field may go on anywhere in the message, so that
 * its end will do: field 1 of ModelProto, with text (field 1) and type (field 3) user-defined (4), found before all others.
 */
function userDefinedPiece(token: string): Buffer {
  const text = Buffer.from(token, 'utf8');
  const piece = Buffer.concat([Buffer.of(0x0a), varint(text.length), text, Buffer.of(0x18, 4)]);
  return Buffer.concat([Buffer.of(0x0a), varint(piece.length), piece]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return Buffer.from([...bytes, rest]);
    bytes.push((rest & 0x7f) | 0x80);
  }
}
