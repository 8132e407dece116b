import { existsSync, readdirSync } from 'node:fs';
import { type FileHandle, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { KotodamaError } from '../errors.js';
import { ioError, makeFolder, writeAtomically, writeTextFile } from '../files.js';
import { OptionReader } from '../validate.js';
import { publicName } from './sources/public-name.js';
import {
  encodeHeader,
  HEADER_BYTES,
  isTokenFile,
  MOST_DOCUMENTS,
  MOST_TOKENS,
  makeNotes,
  notesPath,
  notesText,
  type TokenFile,
  type TokenFileNotes,
  type TokenizerMark,
  tokenTypeFor,
} from './token-file.js';
import type { TokenPiece } from './token-piece.js';

/** What a token file is to be. */
export interface TokenFileOptions {
  /** `NAME.bin`; with `shardTokens`, the files are `NAME_000000.bin`, `NAME_000001.bin` and so on. */
  output: string;
  tokenizer: TokenizerMark;
  /** Names of the texts, for the notes; of URLs without login and query, which can hold secrets. */
  sources: readonly string[];
  /** Ids in a file, the last one excepted. Default: one file for all. */
  shardTokens?: number | undefined;
  /** Called now and then with the number of ids written. */
  onProgress?: ((tokens: number) => void) | undefined;
}

/**
 * Writes ids into one or more token files, with notes beside each. The ids come from `BlockDataset.tokens()`, or from
 * elsewhere; the notes tell where documents begin if the pieces do. A file appears under its name when it is whole and
 * synced and has its notes; when something fails, it and the files written before are removed.
 *
 * @throws KotodamaError `ERR_IO` when a file is there already or the system refuses, `ERR_DATA` when there are no ids or
 *   too many for one file, `ERR_TOKENIZER` for an id that is not in the vocabulary, `ERR_OPTIONS`, and what `ids` throws.
 */
export async function writeTokenFiles(
  ids: AsyncIterable<Int32Array | TokenPiece>,
  options: TokenFileOptions,
): Promise<TokenFile[]> {
  checkOptions(ids, options);
  const { output } = options;
  const written: TokenFile[] = [];
  try {
    await makeFolder(dirname(output));
  } catch (cause) {
    throw ioError(cause, `The folder of ${output} cannot be made`);
  }
  checkOutput(output, options.shardTokens !== undefined);
  const pieces = new Pieces(ids);
  try {
    do written.push(await writeFile(pieces, options, written));
    while (await pieces.more());
    return written;
  } catch (error) {
    await Promise.all(written.map(({ path }) => removeFile(path)));
    throw error;
  } finally {
    await pieces.close();
  }
}

/** @throws KotodamaError `ERR_OPTIONS` that lists every problem. */
function checkOptions(ids: AsyncIterable<unknown>, options: TokenFileOptions): void {
  const reader = new OptionReader(options);
  reader.onlyKnown(['output', 'tokenizer', 'sources', 'shardTokens', 'onProgress']);
  reader.string('output');
  reader.integer('shardTokens', { min: 1 }, undefined);
  const { tokenizer, sources, onProgress } = reader.values as Partial<TokenFileOptions>;
  if (typeof tokenizer?.fingerprint !== 'string' || !Number.isSafeInteger(tokenizer.vocabSize)) {
    reader.problem('tokenizer', 'a tokenizer with a fingerprint, e.g. from Tokenizer.fromPretrained', tokenizer);
  }
  if (!Array.isArray(sources) || !sources.every((name) => typeof name === 'string')) {
    reader.problem('sources', 'an array of strings', sources);
  }
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    reader.problem('onProgress', 'a function', onProgress);
  }
  if (typeof ids?.[Symbol.asyncIterator] !== 'function') {
    reader.problem('ids', 'an async iterable of ids, such as dataset.tokens()', ids);
  }
  reader.finish('Token files cannot be written with these options');
}

/**
 * @param sharded whether several files are to be written; then none of any number may be there, which would be taken for one
 *   of them, or stand in the way after hours of work
 * @throws KotodamaError `ERR_OPTIONS` when a name does not end in `.bin`, `ERR_IO` when such a file is there already.
 */
export function checkOutput(output: string, sharded: boolean): void {
  if (!isTokenFile(output)) {
    throw new KotodamaError('ERR_OPTIONS', 'This is no name for a token file', {
      expected: 'a name that ends in .bin',
      received: output,
    });
  }
  const path = sharded ? existingShard(output) : output;
  if (path === undefined || !existsSync(path)) return;
  throw new KotodamaError('ERR_IO', `${path} is there already`, { hint: 'remove it, or choose another name' });
}

/** The first one there, whatever wrote it. */
function existingShard(output: string): string | undefined {
  const folder = dirname(output);
  const name = basename(output, '.bin');
  const isShard = (found: string) => found.startsWith(`${name}_`) && /^_\d{6,}\.bin$/.test(found.slice(name.length));
  try {
    const found = readdirSync(folder).filter(isShard).sort()[0];
    return found === undefined ? undefined : join(folder, found);
  } catch {
    // It is made, or complained about, where the files are written.
    return undefined;
  }
}

function shardPath(output: string, sharded: boolean, index: number): string {
  return sharded ? output.replace(/\.bin$/, `_${String(index).padStart(6, '0')}.bin`) : output;
}

async function writeFile(pieces: Pieces, options: TokenFileOptions, before: readonly TokenFile[]): Promise<TokenFile> {
  const path = shardPath(options.output, options.shardTokens !== undefined, before.length);
  checkOutput(path, false);
  let notes = undefined as TokenFileNotes | undefined;
  try {
    await writeAtomically(path, async (file) => {
      // Notes about an older file of that name would not fit the new one.
      await rm(notesPath(path), { force: true });
      notes = await writeIds(file, pieces, options, before);
      // Before the file has its name, as a file without notes is taken for one of any tokenizer.
      await writeTextFile(notesPath(path), notesText(notes));
    });
  } catch (error) {
    await removeFile(path).catch(() => {});
    // What the ids failed with says nothing about the file.
    throw pieces.failure === undefined ? error : pieces.failure.cause;
  }
  const { dtype, tokens } = notes!;
  return { path, dtype, tokens, notes };
}

/** The notes last, for the same reason. */
async function removeFile(path: string): Promise<void> {
  try {
    await rm(path, { force: true });
  } finally {
    await rm(notesPath(path), { force: true });
  }
}

/** Writes header and ids; gives the notes. */
async function writeIds(
  file: FileHandle,
  pieces: Pieces,
  { tokenizer, sources, shardTokens, onProgress }: TokenFileOptions,
  before: readonly TokenFile[],
): Promise<TokenFileNotes> {
  const dtype = tokenTypeFor(tokenizer.vocabSize);
  const begun = before.reduce((sum, { tokens }) => sum + tokens, 0);
  const limit = Math.min(shardTokens ?? MOST_TOKENS, MOST_TOKENS);
  let tokens = 0;
  const documents: number[] = [];
  const noteDocuments = (end: number) => {
    for (const place of pieces.takeDocuments(end)) {
      // One too many tells that there are too many.
      if (documents.length <= MOST_DOCUMENTS) documents.push(place - begun);
    }
  };
  await writeAll(file, Buffer.alloc(HEADER_BYTES), 0);
  let position = HEADER_BYTES;
  while (tokens < limit && (await pieces.more())) {
    const piece = pieces.take(limit - tokens);
    checkIds(piece, tokenizer.vocabSize);
    const packed = dtype === 'uint16' ? Uint16Array.from(piece) : piece;
    await writeAll(file, new Uint8Array(packed.buffer, packed.byteOffset, packed.byteLength), position);
    position += packed.byteLength;
    tokens += piece.length;
    noteDocuments(begun + tokens);
    onProgress?.(begun + tokens);
  }
  if (tokens === 0) throw new KotodamaError('ERR_DATA', 'The text has no tokens', { hint: 'give more text' });
  if (shardTokens === undefined && (await pieces.more())) throw tooMany();
  // Empty documents at the very end.
  if (!(await pieces.more())) noteDocuments(Number.POSITIVE_INFINITY);
  await writeAll(file, encodeHeader(dtype, tokens), 0);
  const known = pieces.tellDocuments && documents.length <= MOST_DOCUMENTS;
  return makeNotes({
    tokenizer: { fingerprint: tokenizer.fingerprint, vocabSize: tokenizer.vocabSize },
    dtype,
    tokens,
    shard: before.length,
    sources: sources.map(publicName),
    ...(known && { documents }),
  });
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let done = 0;
  while (done < bytes.length) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

function checkIds(ids: Int32Array, vocabSize: number): void {
  const bad = ids.find((id) => id < 0 || id >= vocabSize);
  if (bad === undefined) return;
  throw new KotodamaError('ERR_TOKENIZER', 'The tokenizer gave an id that is not in its vocabulary', {
    expected: `ids from 0 to ${vocabSize - 1}`,
    received: String(bad),
  });
}

function tooMany(): KotodamaError {
  return new KotodamaError('ERR_DATA', 'There are too many tokens for one file', {
    expected: `at most ${MOST_TOKENS}`,
    received: 'more',
    hint: 'write several files with --shard-tokens (API: shardTokens), e.g. of 100000000 tokens',
  });
}

/** Ids in pieces, to be taken in other pieces. */
class Pieces {
  /** Whether the pieces say where documents begin. */
  tellDocuments = false;
  /** What the ids failed with. */
  failure: { cause: unknown } | undefined;
  /** Where documents begin among all ids, of those that were not taken yet. */
  private documents: number[] = [];
  private readonly iterator: AsyncIterator<Int32Array | TokenPiece>;
  private piece: Int32Array = new Int32Array(0);
  /** Ids that came so far. */
  private received = 0;

  constructor(ids: AsyncIterable<Int32Array | TokenPiece>) {
    this.iterator = ids[Symbol.asyncIterator]();
  }

  /** Whether there is anything to take. */
  async more(): Promise<boolean> {
    while (this.piece.length === 0) {
      const next = await this.iterator.next().catch((cause: unknown) => {
        this.failure = { cause };
        throw cause;
      });
      if (next.done === true) return false;
      if (next.value instanceof Int32Array) this.piece = next.value;
      else {
        this.piece = next.value.ids;
        this.tellDocuments = true;
        for (const start of next.value.documents) this.documents.push(this.received + start);
      }
      this.received += this.piece.length;
    }
    return true;
  }

  /** From 1 to `limit` ids, after `more` said yes. */
  take(limit: number): Int32Array {
    const taken = this.piece.subarray(0, limit);
    this.piece = this.piece.subarray(taken.length);
    return taken;
  }

  /** The documents that begin before `end`. */
  takeDocuments(end: number): number[] {
    let count = this.documents.length;
    while (count > 0 && this.documents[count - 1]! >= end) count--;
    return this.documents.splice(0, count);
  }

  async close(): Promise<void> {
    await this.iterator.return?.();
  }
}
