import type { FileHandle } from 'node:fs/promises';
import { checkHolds, ENCODINGS, type StoredType } from './encoding.js';
import { CHUNK_BYTES, elements, malformed, writeFully } from './file-parts.js';

/** A tensor to write: the values are asked for when their turn comes, so that one tensor at a time is in memory. */
export interface TensorSource {
  name: string;
  shape: readonly number[];
  read(): Promise<Float32Array> | Float32Array;
}

/** The weights of a saved model, open for reading. */
export interface OpenWeights {
  /** Every parameter once, under Hugging Face's name and in its layout. */
  tensors: readonly TensorSource[];
  close(): Promise<void>;
}

/**
 * Writes the values of a tensor at a place in a file, some millions at a time.
 *
 * @param path of the file, for errors
 * @returns the position after them
 * @throws KotodamaError `ERR_MODEL_FILE` when there are not as many as the shape says, `ERR_NON_FINITE` when the type
 *   cannot hold one of them
 */
export async function writeTensor(
  path: string,
  file: FileHandle,
  { name, shape, read }: TensorSource,
  type: StoredType,
  position: number,
): Promise<number> {
  const values = await read();
  const count = elements(shape);
  if (values.length !== count) throw malformed(path, `values of '${name}'`, `${count}`, `${values.length}`);
  checkHolds(type, name, values);
  const encoding = ENCODINGS[type];
  const step = CHUNK_BYTES / 4;
  let next = position;
  for (let start = 0; start < count; start += step) {
    next = await writeFully(file, encoding.encode(values.subarray(start, start + step)), next);
  }
  return next;
}

/** Bytes of a tensor when it is stored; its rows have a multiple of the type's block. */
export function storedBytes(shape: readonly number[], type: StoredType): number {
  const { blockSize, blockBytes } = ENCODINGS[type];
  return (elements(shape) / blockSize) * blockBytes;
}

/** A matrix with rows and columns exchanged. */
export function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(values.length);
  // In squares: a whole column at a time would leave the cache behind.
  const square = 32;
  for (let row = 0; row < rows; row += square) {
    const rowEnd = Math.min(rows, row + square);
    for (let column = 0; column < columns; column += square) {
      const columnEnd = Math.min(columns, column + square);
      for (let r = row; r < rowEnd; r++) {
        for (let c = column; c < columnEnd; c++) result[c * rows + r] = values[r * columns + c] as number;
      }
    }
  }
  return result;
}
