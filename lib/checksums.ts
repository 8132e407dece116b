import { createHash } from 'node:crypto';
import { open, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { KotodamaError } from './errors.js';
import { ioError, writeTextFile } from './files.js';

/** The list of a folder's files with their SHA-256, as `sha256sum -c SHA256SUMS` reads it too. */
export const SUMS_FILE = 'SHA256SUMS';

/** What is hashed at once: some two milliseconds in which the event loop waits. */
const CHUNK_BYTES = 2 ** 20;

/** What a file holds. */
export interface FileSum {
  bytes: number;
  /** Lower-case hexadecimal. */
  sha256: string;
}

/**
 * Reads a file and hashes it.
 *
 * @throws KotodamaError `ERR_IO` when it cannot be read.
 */
export async function sumOfFile(path: string): Promise<FileSum> {
  const hash = createHash('sha256');
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  let bytes = 0;
  try {
    const file = await open(path, 'r');
    try {
      for (;;) {
        const { bytesRead } = await file.read(chunk, 0, chunk.length, bytes);
        if (bytesRead === 0) break;
        hash.update(chunk.subarray(0, bytesRead));
        bytes += bytesRead;
        await nextTurn();
      }
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw ioError(cause, `${path} could not be read`);
  }
  return { bytes, sha256: hash.digest('hex') };
}

/**
 * Writes `SHA256SUMS` over every file in a folder.
 *
 * @returns bytes of those files.
 */
export async function writeChecksums(folder: string): Promise<number> {
  let total = 0;
  let text = '';
  for (const name of await filesIn(folder)) {
    const { bytes, sha256 } = await sumOfFile(join(folder, name));
    total += bytes;
    text += `${sha256}  ${name}\n`;
  }
  await writeTextFile(join(folder, SUMS_FILE), text);
  return total;
}

/**
 * Compares the files of a folder with `SHA256SUMS`. A byte that changed in any of them, or in the list, is noticed; so is a
 * file that is missing. What was put beside them since, an export or a file browser's notes, is nobody's damage.
 *
 * @throws KotodamaError `ERR_CHECKPOINT` that names the file, `ERR_IO` when one cannot be read.
 */
export async function verifyChecksums(folder: string): Promise<void> {
  const sums = await readSums(folder);
  const names = await filesIn(folder).catch((cause) => {
    throw ioError(cause, `${folder} could not be read`);
  });
  for (const name of sums.keys()) if (!names.includes(name)) throw damaged(`${name} is missing`);
  for (const [name, expected] of sums) {
    const { sha256 } = await sumOfFile(join(folder, name));
    if (expected.includes(sha256)) continue;
    throw damaged(`${name} is not what was written`, {
      expected: `SHA-256 ${expected.map((sum) => `${sum.slice(0, 12)}...`).join(' or ')}`,
      received: `${sha256.slice(0, 12)}...`,
    });
  }
}

/**
 * Replaces the text of a file that `SHA256SUMS` lists. The folder is whole at any moment: in between, both texts are listed.
 *
 * @throws KotodamaError `ERR_IO` when the system refuses, `ERR_CHECKPOINT` when the list is damaged.
 */
export async function replaceListed(folder: string, name: string, text: string): Promise<void> {
  const sums = await readSums(folder);
  const sum = createHash('sha256').update(text).digest('hex');
  await writeSums(folder, sums.set(name, [...(sums.get(name) ?? []), sum]));
  await writeTextFile(join(folder, name), text);
  await writeSums(folder, sums.set(name, [sum]));
}

/**
 * Ends a {@link replaceListed} that was cut short: the sum of the text that is not there leaves the list, at which
 * `sha256sum -c` would fail. A file that is neither is left as it is.
 *
 * @throws as {@link replaceListed} does.
 */
export async function settleChecksums(folder: string): Promise<void> {
  const sums = await readSums(folder);
  for (const [name, expected] of sums) {
    if (expected.length === 1) continue;
    const { sha256 } = await sumOfFile(join(folder, name));
    if (expected.includes(sha256)) await writeSums(folder, sums.set(name, [sha256]));
  }
}

/**
 * The files that a folder's `SHA256SUMS` lists.
 *
 * @param elsewhere without those that this folder has copies of already, as they are listed. A hard link is none: what is
 *   written to it is written to the listed file.
 * @throws as {@link verifyChecksums} does.
 */
export async function listedFiles(folder: string, elsewhere?: string): Promise<string[]> {
  const names: string[] = [];
  for (const [name, expected] of await readSums(folder)) {
    if (elsewhere === undefined || !(await hasCopy(join(elsewhere, name), join(folder, name), expected)))
      names.push(name);
  }
  return names;
}

async function hasCopy(path: string, original: string, expected: readonly string[]): Promise<boolean> {
  try {
    const [a, b] = [await stat(path), await stat(original)];
    return (a.ino !== b.ino || a.dev !== b.dev) && expected.includes((await sumOfFile(path)).sha256);
  } catch {
    return false;
  }
}

/**
 * What may be in each file: two texts, where {@link replaceListed} was cut short. Strict: a list with any other byte in it
 * would otherwise be one whose damage nobody sees.
 */
async function readSums(folder: string): Promise<Map<string, string[]>> {
  let text: string;
  try {
    text = await readFile(join(folder, SUMS_FILE), 'utf8');
  } catch (cause) {
    throw ioError(cause, `${SUMS_FILE} could not be read`);
  }
  if (!/^(?:[0-9a-f]{64} {2}[^\n]+\n)+$/.test(text)) throw damaged(`${SUMS_FILE} is not a list of checksums`);
  const sums = new Map<string, string[]>();
  for (const line of text.slice(0, -1).split('\n')) {
    const [sha256, name] = [line.slice(0, 64), line.slice(66)];
    sums.set(name, [...(sums.get(name) ?? []), sha256]);
  }
  return sums;
}

async function writeSums(folder: string, sums: ReadonlyMap<string, readonly string[]>): Promise<void> {
  const lines = [...sums].flatMap(([name, each]) => each.map((sha256) => `${sha256}  ${name}\n`));
  await writeTextFile(join(folder, SUMS_FILE), lines.join(''));
}

/** Names of the files in a folder but the list itself, sorted. */
async function filesIn(folder: string): Promise<string[]> {
  const names = await readdir(folder);
  return names.filter((name) => name !== SUMS_FILE).sort();
}

function damaged(message: string, details: { expected?: string; received?: string } = {}): KotodamaError {
  return new KotodamaError('ERR_CHECKPOINT', message, details);
}
