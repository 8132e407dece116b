import { constants } from 'node:buffer';
import { badState } from './state.js';
import type { Block, BlockOrigin, Json } from './types.js';

/**
 * A block as JSON. Its ids are a string, base64 of little-endian int32: usually T + 1 of them, the labels being the inputs
 * moved by one; otherwise the T inputs and then the T labels. A block with an origin is an object of both.
 */
export function packBlock(block: Block): Json {
  const ids = packIds(block);
  return block.origin === undefined ? ids : { ids, origin: [...block.origin] };
}

function packIds({ inputIds, labels }: Block): string {
  const length = inputIds.length;
  const shifted = labels.subarray(0, length - 1).every((label, i) => label === inputIds[i + 1]);
  const numbers = shifted ? [inputIds, labels.subarray(length - 1)] : [inputIds, labels];
  const bytes = Buffer.alloc(numbers.reduce((sum, part) => sum + part.length, 0) * 4);
  let offset = 0;
  for (const part of numbers) for (const value of part) offset = bytes.writeInt32LE(value, offset);
  return bytes.toString('base64');
}

/** Characters that a block takes beside its ids: origin, quotes, and spaces and newlines of indented JSON. */
const BLOCK_FRAME = 300;

/** Characters left for what else a state that is written as one string holds. */
const OTHER_STATE = 2 ** 24;

/**
 * How many blocks, with labels that are the inputs moved by one, a state can hold that becomes one string of JSON: a string
 * has at most some 2^29 characters, which are four for every three bytes of ids.
 */
export function mostPackedBlocks(blockSize: number): number {
  const characters = 4 * Math.ceil((4 * (blockSize + 1)) / 3) + BLOCK_FRAME;
  return Math.floor((constants.MAX_STRING_LENGTH - OTHER_STATE) / characters);
}

/** @throws KotodamaError `ERR_CHECKPOINT` when it is not a block of `blockSize` */
export function unpackBlock(packed: Json, blockSize: number): Block {
  if (typeof packed !== 'object' || packed === null || Array.isArray(packed)) return unpackIds(packed, blockSize);
  const { ids = null, origin } = packed;
  const whole = Array.isArray(origin) && origin.length === 4 && origin.every((number) => Number.isSafeInteger(number));
  if (!whole) throw badState('four numbers as the origin of a block', JSON.stringify(origin) ?? 'nothing');
  return { ...unpackIds(ids, blockSize), origin: origin as unknown as BlockOrigin };
}

function unpackIds(packed: Json, blockSize: number): Block {
  if (typeof packed !== 'string') throw badState('a block as a base64 string', typeof packed);
  const bytes = Buffer.from(packed, 'base64');
  const numbers = Int32Array.from({ length: bytes.length >> 2 }, (_, i) => bytes.readInt32LE(i * 4));
  if (numbers.length !== blockSize + 1 && numbers.length !== 2 * blockSize) {
    throw badState(`blocks of ${blockSize} ids`, `one of ${numbers.length - 1}`);
  }
  // A copy where they overlap: whoever changes the labels of a block must not change its inputs.
  const labels = numbers.length === blockSize + 1 ? numbers.slice(1) : numbers.subarray(blockSize);
  return { inputIds: numbers.subarray(0, blockSize), labels };
}
