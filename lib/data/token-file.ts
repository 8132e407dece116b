import { type FileHandle, open, stat } from 'node:fs/promises';
import { KotodamaError } from '../errors.js';
import { ioError, readJsonFile } from '../files.js';
import { describe } from '../validate.js';
import { isUrl, publicName } from './sources/public-name.js';

/**
 * A token file is 256 little-endian int32 numbers (magic, version, count, zeros) and then `count` little-endian ids. The
 * two kinds are those of llm.c (`dev/data/data_common.py`): uint16 for GPT-2, uint32 for Llama 3.
 */
export const TOKEN_TYPES = {
  uint16: { magic: 20240520, version: 1, bytes: 2 },
  uint32: { magic: 20240801, version: 7, bytes: 4 },
} as const;

/** How an id is stored: `uint16` for vocabularies of up to 65,536 ids, else `uint32`. */
export type TokenType = keyof typeof TOKEN_TYPES;

export const HEADER_BYTES = 1024;

/** The header's count is an int32. */
export const MOST_TOKENS = 2 ** 31 - 1;

/** Ids that uint16 can hold. */
const UINT16_IDS = 65_536;

/** Documents that notes tell the places of. */
export const MOST_DOCUMENTS = 2 ** 20;

/** A place takes at most 11 bytes, and the rest some hundred; a file beyond that is none of ours. */
const MOST_NOTES_BYTES = 16 * 2 ** 20;

const NOTES_FORMAT = 'kotodama-tokens';
const NOTES_VERSION = 1;

/** What `FILE.bin.json` says about `FILE.bin`. */
export interface TokenFileNotes {
  format: typeof NOTES_FORMAT;
  version: typeof NOTES_VERSION;
  tokenizer: TokenizerMark;
  dtype: TokenType;
  /** Ids in this file. */
  tokens: number;
  /** Which of the files of one text this is, counted from 0. */
  shard: number;
  /** The texts, as they were named; URLs without login and query. */
  sources: string[];
  /**
   * Number of the token that each document begins with, in order. What comes before the first one belongs to a document of
   * the file before. Left out when it is not known, or above a million documents.
   */
  documents?: number[];
}

/** What tells tokenizers apart. */
export interface TokenizerMark {
  /** {@link Tokenizer.fingerprint} */
  fingerprint: string;
  vocabSize: number;
}

/** A token file whose header fits its size. */
export interface TokenFile {
  path: string;
  dtype: TokenType;
  /** Ids in it. */
  tokens: number;
  /** Undefined when there is no `.json` beside it. */
  notes: TokenFileNotes | undefined;
}

/** True for names that mean token files rather than text. */
export function isTokenFile(path: string): boolean {
  return path.endsWith('.bin');
}

/**
 * Refuses token files that are not on this machine.
 *
 * @throws KotodamaError `ERR_OPTIONS`
 */
export function refuseUrl(path: string): void {
  if (!isUrl(path) || ![path, publicName(path)].some(isTokenFile)) return;
  throw new KotodamaError('ERR_OPTIONS', `${publicName(path)} cannot be streamed`, {
    expected: 'a file: blocks are read from all over it',
    hint: 'download it first and give the file',
  });
}

/** Whether the content of a file that begins with these bytes is that of a token file. */
export function beginsTokenFile(bytes: Uint8Array): boolean {
  if (bytes.byteLength < 4) return false;
  const magic = new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true);
  return Object.values(TOKEN_TYPES).some((type) => type.magic === magic);
}

/** The smaller type that holds the ids of a vocabulary. */
export function tokenTypeFor(vocabSize: number): TokenType {
  return vocabSize <= UINT16_IDS ? 'uint16' : 'uint32';
}

export function notesPath(path: string): string {
  return `${path}.json`;
}

export function makeNotes(file: Omit<TokenFileNotes, 'format' | 'version'>): TokenFileNotes {
  return { format: NOTES_FORMAT, version: NOTES_VERSION, ...file };
}

/** The notes as JSON, with the documents in one line. */
export function notesText({ documents, ...notes }: TokenFileNotes): string {
  const list = documents === undefined ? '' : `,\n  "documents": ${JSON.stringify(documents)}`;
  return `${JSON.stringify(notes, undefined, 2).slice(0, -2)}${list}\n}\n`;
}

export function encodeHeader(dtype: TokenType, tokens: number): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  const { magic, version } = TOKEN_TYPES[dtype];
  for (const [index, value] of [magic, version, tokens].entries()) header.writeInt32LE(value, index * 4);
  return header;
}

/**
 * Reads the header of a token file and the notes beside it; no ids.
 *
 * @throws KotodamaError `ERR_DATA` when it is no token file, when its size is not what the header says, or when the notes
 *   are about another file; `ERR_IO` when it cannot be read, `ERR_OPTIONS` for a URL.
 */
export async function inspectTokenFile(path: string): Promise<TokenFile> {
  refuseUrl(path);
  let handle: FileHandle;
  try {
    handle = await open(path);
  } catch (cause) {
    throw ioError(cause, `The token file ${path} cannot be opened`);
  }
  try {
    const found = await handle.stat();
    if (!found.isFile()) throw damaged(path, 'a file', found.isDirectory() ? 'a directory' : 'a pipe or device');
    const { dtype, tokens } = await readHeader(handle, path, found.size);
    return { path, dtype, tokens, notes: await readNotes(path, dtype, tokens) };
  } catch (cause) {
    throw ioError(cause, `The token file ${path} cannot be read`);
  } finally {
    await handle.close();
  }
}

async function readHeader(
  handle: FileHandle,
  path: string,
  size: number,
): Promise<{ dtype: TokenType; tokens: number }> {
  const { buffer, bytesRead } = await handle.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0);
  if (bytesRead < HEADER_BYTES) throw damaged(path, `a header of ${HEADER_BYTES} bytes`, `${size} bytes`);
  const [magic, version, tokens] = [0, 4, 8].map((offset) => buffer.readInt32LE(offset)) as [number, number, number];
  const dtypes = Object.keys(TOKEN_TYPES) as TokenType[];
  const dtype = dtypes.find((name) => TOKEN_TYPES[name].magic === magic && TOKEN_TYPES[name].version === version);
  if (dtype === undefined) {
    const known = dtypes.map((name) => `${TOKEN_TYPES[name].magic}, version ${TOKEN_TYPES[name].version} (${name})`);
    throw damaged(path, `a header of ${known.join(' or ')}`, `${magic}, version ${version}`, BARE_HINT);
  }
  if (tokens < 0) throw damaged(path, 'a count of tokens', String(tokens));
  const expected = HEADER_BYTES + tokens * TOKEN_TYPES[dtype].bytes;
  if (size !== expected)
    throw damaged(path, `${expected} bytes for the ${tokens} tokens of its header`, `${size} bytes`);
  return { dtype, tokens };
}

async function readNotes(path: string, dtype: TokenType, tokens: number): Promise<TokenFileNotes | undefined> {
  const file = notesPath(path);
  const found = await stat(file).catch(() => undefined);
  if (found === undefined) return undefined;
  if (found.size > MOST_NOTES_BYTES) throw damaged(file, `at most ${MOST_NOTES_BYTES} bytes`, `${found.size}`);
  const notes = (await readJsonFile(file, 'ERR_DATA')) as Partial<TokenFileNotes> | null;
  const check = (name: string, expected: string, value: unknown, holds: boolean) => {
    if (!holds) throw damaged(file, `${expected} as '${name}'`, describe(value));
  };
  check('format', `'${NOTES_FORMAT}'`, notes?.format, notes?.format === NOTES_FORMAT);
  check('version', `${NOTES_VERSION}`, notes?.version, notes?.version === NOTES_VERSION);
  check('dtype', `'${dtype}', the type of ${path},`, notes?.dtype, notes?.dtype === dtype);
  check('tokens', `${tokens}, the count of ${path},`, notes?.tokens, notes?.tokens === tokens);
  const { fingerprint, vocabSize } = notes?.tokenizer ?? {};
  check('tokenizer.fingerprint', 'a string', fingerprint, typeof fingerprint === 'string');
  check('tokenizer.vocabSize', 'a count', vocabSize, Number.isSafeInteger(vocabSize) && Number(vocabSize) > 0);
  const { documents } = notes as TokenFileNotes;
  check(
    'documents',
    'places in the file, in order,',
    documents,
    documents === undefined || arePlaces(documents, tokens),
  );
  return notes as TokenFileNotes;
}

function arePlaces(places: unknown, tokens: number): boolean {
  if (!Array.isArray(places) || places.length > MOST_DOCUMENTS) return false;
  return places.every((place, index) => {
    return Number.isSafeInteger(place) && place >= (index === 0 ? 0 : places[index - 1]) && place <= tokens;
  });
}

const BARE_HINT =
  "ids without a header, as in nanoGPT's train.bin, need one before them (docs/coming-from.md has the program); other files " +
  'have to be written again with kotodama tokenize';

function damaged(
  path: string,
  expected: string,
  received: string,
  hint = 'write it again with kotodama tokenize',
): KotodamaError {
  return new KotodamaError('ERR_DATA', `${path} cannot be used as a token file`, {
    expected,
    received,
    hint,
  });
}
