import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { KotodamaError, messageOf } from '../errors.js';
import { hubHint } from '../hub/index.js';
import type { JsonObject } from './check-tokenizer-json.js';

/** The files of a tokenizer's folder that matter, by their paths. */
export interface TokenizerFiles {
  /** tokenizer.json, or a SentencePiece model. */
  model: string;
  kind: 'json' | 'sentencepiece';
  /** tokenizer_config.json */
  config: string | undefined;
  /** special_tokens_map.json */
  specialTokens: string | undefined;
  /** added_tokens.json */
  addedTokens: string | undefined;
  /** config.json of the model beside it. */
  modelConfig: string | undefined;
}

export const JSON_NAME = 'tokenizer.json';
export const CONFIG_NAME = 'tokenizer_config.json';
const SPECIAL_TOKENS_NAME = 'special_tokens_map.json';
const ADDED_TOKENS_NAME = 'added_tokens.json';
const MODEL_CONFIG_NAME = 'config.json';

/** The usual name of a SentencePiece model. */
export const SENTENCEPIECE_NAME = 'spiece.model';
/** Names under which they are published, the likeliest first. */
const SENTENCEPIECE_NAMES = [SENTENCEPIECE_NAME, 'tokenizer.model', 'sentencepiece.model', 'sentencepiece.bpe.model'];

const OLDER_GPT2_NAMES: readonly string[] = ['vocab.json', 'merges.txt'];

/** Names of files that say how text is tokenized, for us or for Transformers. */
export const TOKENIZER_NAMES: readonly string[] = [
  ...[JSON_NAME, CONFIG_NAME, SPECIAL_TOKENS_NAME, ...SENTENCEPIECE_NAMES],
  ...[ADDED_TOKENS_NAME, ...OLDER_GPT2_NAMES],
];

/**
 * Finds the tokenizer in a folder.
 *
 * @throws KotodamaError `ERR_TOKENIZER` when the folder is missing or holds no tokenizer
 */
export async function findTokenizerFiles(folder: string): Promise<TokenizerFiles> {
  const names = await listFolder(folder);
  const model = modelAmong(names);
  if (model !== undefined) {
    const pathOf = (name: string) => (names.includes(name) ? join(folder, name) : undefined);
    return {
      model: join(folder, model),
      kind: model === JSON_NAME ? 'json' : 'sentencepiece',
      config: pathOf(CONFIG_NAME),
      specialTokens: pathOf(SPECIAL_TOKENS_NAME),
      addedTokens: pathOf(ADDED_TOKENS_NAME),
      modelConfig: pathOf(MODEL_CONFIG_NAME),
    };
  }
  throw noTokenizer(folder, names, folder);
}

/** @param target where Python should write what is missing */
function noTokenizer(where: string, names: readonly string[], target: string): KotodamaError {
  return new KotodamaError('ERR_TOKENIZER', `There is no tokenizer in ${where}`, {
    expected: 'tokenizer.json, or a SentencePiece model such as spiece.model',
    received: names.length === 0 ? 'an empty folder' : `only ${names.slice(0, 8).join(', ')}`,
    ...(isOlderGpt2(names) && { hint: conversion(where, names, target) }),
  });
}

/** Whether these are the two files that GPT-2's tokenizer was kept in before tokenizer.json. */
function isOlderGpt2(names: readonly string[]): boolean {
  return OLDER_GPT2_NAMES.every((name) => names.includes(name));
}

function conversion(where: string, names: readonly string[], target: string): string {
  // AutoTokenizer asks one of these files for the tokenizer's class.
  const known = [CONFIG_NAME, MODEL_CONFIG_NAME].some((name) => names.includes(name));
  const load = `${known ? 'AutoTokenizer' : 'GPT2TokenizerFast'}.from_pretrained('${where}')`;
  return `in Python, \`${load}.save_pretrained('${target}')\` makes ${JSON_NAME} of ${OLDER_GPT2_NAMES.join(' and ')}`;
}

/** Whether a folder holds a tokenizer. */
export async function holdsTokenizer(folder: string): Promise<boolean> {
  return modelAmong(await listFolder(folder)) !== undefined;
}

/**
 * The files of a repository that {@link findTokenizerFiles} would use.
 *
 * @param where the repository, for the error
 * @throws KotodamaError `ERR_TOKENIZER` when there is nothing but a tokenizer in GPT-2's older files
 */
export function chooseTokenizerFiles(names: readonly string[], where: string): string[] {
  const model = modelAmong([...names].sort()) ?? JSON_NAME;
  if (!names.includes(model) && isOlderGpt2(names)) throw noTokenizer(where, names, 'tokenizer');
  // config.json may tell of which kind the tokenizer is, where tokenizer_config.json does not.
  const rest = [CONFIG_NAME, SPECIAL_TOKENS_NAME, MODEL_CONFIG_NAME];
  // A tokenizer.json holds its added tokens itself.
  if (model !== JSON_NAME) rest.push(ADDED_TOKENS_NAME);
  return [model, ...rest.filter((name) => names.includes(name))];
}

function modelAmong(names: readonly string[]): string | undefined {
  if (names.includes(JSON_NAME)) return JSON_NAME;
  const models = names.filter((name) => name.endsWith('.model'));
  return SENTENCEPIECE_NAMES.find((usual) => models.includes(usual)) ?? models[0];
}

async function listFolder(folder: string): Promise<string[]> {
  try {
    if (!(await stat(folder)).isDirectory()) {
      throw new KotodamaError('ERR_TOKENIZER', `${folder} is not a folder`, {
        hint: 'give the folder that holds tokenizer.json or the SentencePiece model, not the file itself',
      });
    }
    return (await readdir(folder)).sort();
  } catch (cause) {
    if (cause instanceof KotodamaError) throw cause;
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    const reason = missing ? 'was not found' : `cannot be read (${messageOf(cause)})`;
    throw new KotodamaError('ERR_TOKENIZER', `The tokenizer's folder ${folder} ${reason}`, {
      expected: 'a folder with tokenizer.json and tokenizer_config.json, or with a SentencePiece model',
      hint: hubHint('tokenizer', folder),
      cause,
    });
  }
}

/** @throws KotodamaError `ERR_TOKENIZER` naming the file, when it is not readable or not a JSON object */
export async function readJsonObject(path: string): Promise<JsonObject> {
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new KotodamaError('ERR_TOKENIZER', `${path} cannot be read (${messageOf(cause)})`, { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw new KotodamaError('ERR_TOKENIZER', `${path} does not hold a tokenizer`, {
    expected: 'a JSON object',
    received: Array.isArray(value) ? 'an array' : `${value}`,
  });
}

/** Reads files whole, by their paths. */
export async function readContents(paths: readonly string[]): Promise<Map<string, Uint8Array>> {
  const contents = new Map<string, Uint8Array>();
  for (const path of paths) contents.set(path, await readFile(path));
  return contents;
}

/** sha256 over names and contents, in hexadecimal. */
export function fingerprintOf(contents: ReadonlyMap<string, Uint8Array>): string {
  const hash = createHash('sha256');
  for (const [path, content] of contents) hash.update(`${basename(path)} ${content.length}\n`).update(content);
  return hash.digest('hex');
}
