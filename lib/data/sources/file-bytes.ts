import { statSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { KotodamaError, messageOf } from '../../errors.js';

const READ_SIZE = 256 * 1024;

/** The bytes of a file from an offset on. A piece is there until the next one is asked for, which takes its place. */
export async function* readFileBytes(path: string, from: number): AsyncGenerator<Uint8Array, void> {
  let handle: FileHandle;
  try {
    handle = await open(path);
  } catch (cause) {
    throw cannotRead(path, cause);
  }
  const buffer = Buffer.allocUnsafeSlow(READ_SIZE);
  try {
    for (let position = from; ; ) {
      const piece = await readPiece(handle, path, position, buffer);
      if (piece.length === 0) return;
      position += piece.length;
      yield piece;
    }
  } finally {
    await handle.close();
  }
}

async function readPiece(handle: FileHandle, path: string, position: number, buffer: Buffer): Promise<Uint8Array> {
  try {
    const { bytesRead } = await handle.read(buffer, 0, READ_SIZE, position);
    return buffer.subarray(0, bytesRead);
  } catch (cause) {
    throw cannotRead(path, cause);
  }
}

function cannotRead(path: string, cause: unknown): KotodamaError {
  return new KotodamaError('ERR_IO', `${path} cannot be read (${messageOf(cause)})`, { cause });
}

/** @throws KotodamaError `ERR_IO` when there is no such file, `ERR_DATA` when it is empty */
export function checkFile(path: string): void {
  let problem: { code: 'ERR_IO' | 'ERR_DATA'; received: string; cause?: unknown } | undefined;
  try {
    const found = statSync(path);
    if (found.isDirectory()) problem = { code: 'ERR_IO', received: 'a directory' };
    else if (!found.isFile()) problem = { code: 'ERR_IO', received: 'a pipe or device' };
    else if (found.size === 0) problem = { code: 'ERR_DATA', received: 'an empty file' };
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    problem = { code: 'ERR_IO', received: missing ? 'nothing: it does not exist' : messageOf(cause), cause };
  }
  if (problem === undefined) return;
  const { code, received, cause } = problem;
  throw new KotodamaError(code, `The text file ${path} cannot be used`, {
    expected: 'a file with text',
    received,
    cause,
  });
}
