import { createHash } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { ioError } from '../files.js';
import type { Json } from './types.js';

/**
 * Bytes of all files together that are read for their marks: about half a second. More are only where there are so many files
 * that two pieces of each are more.
 */
const BUDGET = 256 * 2 ** 20;

/** Bytes of a sample. */
const PIECE = 2 ** 16;

/** Files that a mark lists one by one. */
const MOST_LISTED = 32;

/** What a file holds, as far as it was looked at. */
interface FileMark {
  /** Without folders, which may change. */
  name: string;
  bytes: number;
  /** Of the whole file, as `sha256sum` has it. */
  sha256?: string;
  /** Of pieces of 64 KiB at even distances from the file's beginning to its end. */
  sampledSha256?: string;
}

/**
 * Marks files by their content, so that a run notices when it is continued with other data. Files that are larger than their
 * share of 256 MiB are only sampled. Of more than 2,048 files that share stays at 128 KiB: runs keep these marks, which must
 * not change with a release.
 *
 * @throws KotodamaError `ERR_IO` when one cannot be read.
 */
export async function markFiles(paths: readonly string[]): Promise<{ [key: string]: Json }> {
  const pieces = Math.max(2, Math.floor(BUDGET / PIECE / paths.length));
  const marks: FileMark[] = [];
  for (const path of paths) marks.push(await markFile(path, pieces));
  const hash = createHash('sha256');
  for (const { name, bytes, sha256, sampledSha256 } of marks)
    hash.update(`${sha256 ?? sampledSha256} ${bytes} ${name}\n`);
  return {
    count: marks.length,
    bytes: marks.reduce((sum, { bytes }) => sum + bytes, 0),
    sha256: hash.digest('hex'),
    ...(marks.length <= MOST_LISTED && { files: marks.map((mark) => ({ ...mark })) }),
  };
}

/** @param pieces how many are read at most. */
async function markFile(path: string, pieces: number): Promise<FileMark> {
  try {
    const { size } = await stat(path);
    const whole = size <= pieces * PIECE;
    const count = whole ? Math.ceil(size / PIECE) : pieces;
    const hash = createHash('sha256');
    const piece = Buffer.allocUnsafe(PIECE);
    const file = await open(path, 'r');
    try {
      for (let index = 0; index < count; index++) {
        const position = whole ? index * PIECE : Math.floor((index * (size - PIECE)) / (count - 1));
        const { bytesRead } = await file.read(piece, 0, PIECE, position);
        hash.update(piece.subarray(0, bytesRead));
        if (index % 16 === 15) await nextTurn();
      }
    } finally {
      await file.close();
    }
    const digest = hash.digest('hex');
    return { name: basename(path), bytes: size, ...(whole ? { sha256: digest } : { sampledSha256: digest }) };
  } catch (cause) {
    throw ioError(cause, `${path} could not be read`);
  }
}
