import { open, stat } from 'node:fs/promises';
import { KotodamaError } from '../errors.js';
import { ioError } from '../files.js';
import { LLMC_MAGIC } from '../model/llmc.js';

/** What commands write as one file, by how it begins. */
const KINDS = {
  gguf: { name: 'a GGUF file', begin: Buffer.from('GGUF') },
  'llm.c': { name: "a model of llm.c's", begin: Buffer.from(Int32Array.of(LLMC_MAGIC).buffer) },
  page: { name: 'an HTML page', begin: Buffer.from('<!doctype html>') },
} as const;

/**
 * Checks that nothing but an older file of the same kind is replaced: a slip such as `--out data/train.txt` would cost data
 * that may be nowhere else. An empty file is no loss.
 *
 * @throws KotodamaError `ERR_OPTIONS` when another file is there, `ERR_IO` when it cannot be looked at
 */
export async function checkReplaces(out: string, kind: keyof typeof KINDS): Promise<void> {
  const { name, begin } = KINDS[kind];
  const found = await beginningOf(out, begin.length).catch((cause: NodeJS.ErrnoException) => {
    // A folder that is missing, or a file in its place, is for the writing to complain about.
    if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') return Buffer.alloc(0);
    throw ioError(cause, `${out} cannot be written`);
  });
  // HTML is written in either case.
  const seen = kind === 'page' ? found?.toString('latin1').toLowerCase() : found?.toString('latin1');
  if (found?.length === 0 || seen === begin.toString('latin1')) return;
  throw new KotodamaError('ERR_OPTIONS', `--out ${out} would be replaced`, {
    expected: `a new file, or ${name}`,
    received: found === undefined ? 'a device or a pipe' : 'another kind of file',
    hint: found === undefined ? 'choose another path' : 'choose another path, or remove the file first',
  });
}

/** Nothing for a folder, which the writing complains about; undefined for devices and pipes. */
async function beginningOf(path: string, size: number): Promise<Buffer | undefined> {
  const found = await stat(path);
  if (found.isDirectory()) return Buffer.alloc(0);
  if (!found.isFile()) return undefined;
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size), 0, size, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
