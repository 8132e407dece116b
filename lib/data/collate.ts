import { types } from 'node:util';
import { KotodamaError } from '../errors.js';
import { checkArgument, describe } from '../validate.js';
import type { Batch, Block, TokenTensor } from './types.js';

/**
 * Puts blocks on top of each other: B blocks of T ids become [B, T].
 *
 * @throws KotodamaError `ERR_DATA` when their lengths differ, `ERR_OPTIONS` for what is no array
 */
export function stackBlocks(blocks: readonly Block[]): Batch {
  checkArgument(Array.isArray(blocks), 'the blocks', 'an array of blocks', blocks);
  const length = blocks[0]?.inputIds.length ?? 0;
  for (const { inputIds, labels } of blocks) {
    if (inputIds.length === length && labels.length === length) continue;
    throw new KotodamaError('ERR_DATA', 'The blocks of a batch must have the same length', {
      expected: `${length} ids and ${length} labels, as in the first block`,
      received: `${inputIds.length} ids and ${labels.length} labels`,
    });
  }
  return {
    inputIds: stack(
      blocks.map(({ inputIds }) => inputIds),
      length,
    ),
    labels: stack(
      blocks.map(({ labels }) => labels),
      length,
    ),
  };
}

/**
 * Checks that something has the form of a batch; what its numbers say is for the model to check.
 *
 * @param maker who made it, as a message begins: `collate`
 * @throws KotodamaError `ERR_DATA`
 */
export function checkBatch(value: unknown, maker: string): asserts value is Batch {
  const { inputIds, labels } = (value ?? {}) as Partial<Batch>;
  if (isTensor(inputIds) && isTensor(labels)) return;
  const names = typeof value === 'object' && value !== null ? Object.keys(value).join(', ') : '';
  const hint =
    value instanceof Promise
      ? 'it has to give the batch itself, not a promise of one'
      : 'stackBlocks makes such a batch of blocks';
  throw new KotodamaError('ERR_DATA', `${maker} gave no batch`, {
    expected: '{ inputIds, labels }, each { data: Int32Array, shape: [B, T] }',
    received: value instanceof Promise ? 'a Promise' : describe(value) + (names === '' ? '' : ` with ${names}`),
    hint,
  });
}

function isTensor(value: unknown): value is TokenTensor {
  const { data, shape } = (value ?? {}) as Partial<TokenTensor>;
  return types.isInt32Array(data) && Array.isArray(shape) && shape.length === 2;
}

function stack(rows: readonly Int32Array[], length: number): TokenTensor {
  const shape: [number, number] = [rows.length, length];
  const together = wholeBuffer(rows);
  if (together !== undefined) return { data: together, shape };
  const data = new Int32Array(rows.length * length);
  for (const [index, row] of rows.entries()) data.set(row, index * length);
  return { data, shape };
}

/** The rows as one array if, one after the other, they are all that there is in their memory. */
function wholeBuffer(rows: readonly Int32Array[]): Int32Array | undefined {
  const buffer = rows[0]?.buffer;
  let end = 0;
  for (const row of rows) {
    if (row.buffer !== buffer || row.byteOffset !== end) return undefined;
    end += row.byteLength;
  }
  return buffer !== undefined && buffer.byteLength === end && rows.length > 1 ? new Int32Array(buffer) : undefined;
}
