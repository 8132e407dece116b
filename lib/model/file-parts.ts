import type { FileHandle } from 'node:fs/promises';
import { KotodamaError } from '../errors.js';

/** Reads and writes of model files move at most this much at once. */
export const CHUNK_BYTES = 16 * 2 ** 20;

/**
 * Fills `target` from a place in a file.
 *
 * @throws KotodamaError `ERR_MODEL_FILE` when the file ends before
 */
export async function readFully(path: string, file: FileHandle, target: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < target.length; ) {
    const length = Math.min(CHUNK_BYTES, target.length - done);
    const { bytesRead } = await file.read(target, done, length, position + done);
    if (bytesRead === 0) throw malformed(path, 'the file ended early (was it changed while being read?)');
    done += bytesRead;
  }
}

/** Writes all of `bytes` to a place in a file. @returns the position after them. */
export async function writeFully(file: FileHandle, bytes: Uint8Array, position: number): Promise<number> {
  for (let done = 0; done < bytes.length; ) {
    const length = Math.min(CHUNK_BYTES, bytes.length - done);
    const { bytesWritten } = await file.write(bytes, done, length, position + done);
    done += bytesWritten;
  }
  return position + bytes.length;
}

/** What is wrong with a model file, as `ERR_MODEL_FILE`. */
export function malformed(path: string, what: string, expected?: string, received?: string): KotodamaError {
  return new KotodamaError('ERR_MODEL_FILE', `${path}: ${what}`, {
    ...(expected !== undefined && { expected }),
    ...(received !== undefined && { received }),
  });
}

/**
 * Refuses the text that git leaves in the place of a large file which was not fetched.
 *
 * @param head the first eight bytes
 */
export function refusePointer(path: string, head: Uint8Array): void {
  if (Buffer.from(head).toString('latin1') !== 'version ') return;
  throw new KotodamaError('ERR_MODEL_FILE', `${path} is a pointer of Git LFS, not the file itself`, {
    hint: 'run `git lfs pull` in its folder',
  });
}

/** Product of a shape's sizes. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}
