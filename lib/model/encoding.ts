import { KotodamaError } from '../errors.js';
import { bf16ToFloat32, f16ToFloat32, float32ToBf16, float32ToF16 } from './half.js';

/** How numbers are stored in a file: IEEE 754, the upper half of float32, or ggml's blocks of 8-bit integers. */
export type StoredType = FloatType | 'q8_0';

/** Those that hold each number by itself. */
export type FloatType = (typeof FLOAT_TYPES)[number];

export const FLOAT_TYPES = ['f32', 'f16', 'bf16'] as const;

/** One way of storing. */
export interface Encoding {
  readonly type: StoredType;
  /** Numbers that are stored together; a multiple of this is encoded at a time. */
  readonly blockSize: number;
  /** Bytes that they take. */
  readonly blockBytes: number;
  /** The bytes of some numbers, little-endian as every machine is that Node.js runs this on. */
  encode(values: Float32Array): Uint8Array;
}

/** Numbers in a block of `q8_0`. */
const Q8_BLOCK = 32;

export const ENCODINGS: Readonly<Record<StoredType, Encoding>> = {
  f32: {
    type: 'f32',
    blockSize: 1,
    blockBytes: 4,
    encode: (values) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
  },
  f16: { type: 'f16', blockSize: 1, blockBytes: 2, encode: (values) => narrowed(values, float32ToF16) },
  bf16: { type: 'bf16', blockSize: 1, blockBytes: 2, encode: (values) => narrowed(values, float32ToBf16) },
  q8_0: { type: 'q8_0', blockSize: Q8_BLOCK, blockBytes: 2 + Q8_BLOCK, encode: encodeQ8 },
};

function narrowed(values: Float32Array, narrow: (source: Float32Array, target: Uint16Array) => void): Uint8Array {
  const halves = new Uint16Array(values.length);
  narrow(values, halves);
  return new Uint8Array(halves.buffer);
}

/**
 * ggml's `q8_0`: each 32 numbers are a binary16 scale d = max|x| / 127 and 32 signed bytes round(x / d), ties away from
 * zero, in the arithmetic of its reference implementation (float32), so that the bytes are the same.
 */
function encodeQ8(values: Float32Array): Uint8Array {
  const blocks = values.length / Q8_BLOCK;
  const bytes = new Uint8Array(blocks * (2 + Q8_BLOCK));
  const scales = new Float32Array(blocks);
  const quants = new Int8Array(bytes.buffer);
  for (let block = 0; block < blocks; block++) {
    let largest = 0;
    for (let i = block * Q8_BLOCK; i < (block + 1) * Q8_BLOCK; i++) {
      largest = Math.max(largest, Math.abs(values[i] as number));
    }
    const scale = Math.fround(largest / 127);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    scales[block] = scale;
    const target = block * (2 + Q8_BLOCK) + 2;
    for (let i = 0; i < Q8_BLOCK; i++) {
      const x = Math.fround((values[block * Q8_BLOCK + i] as number) * inverse);
      quants[target + i] = x < 0 ? -Math.round(-x) : Math.round(x);
    }
  }
  const halves = new Uint16Array(blocks);
  float32ToF16(scales, halves);
  const view = new DataView(bytes.buffer);
  for (let block = 0; block < blocks; block++) {
    view.setUint16(block * (2 + Q8_BLOCK), halves[block] as number, true);
  }
  return bytes;
}

/**
 * Refuses numbers that a type cannot hold: those beyond 65504 in f16, and those that are not finite in `q8_0`.
 *
 * @param name the tensor's, for the error
 */
export function checkHolds(type: StoredType, name: string, values: Float32Array): void {
  if (type === 'f32' || type === 'bf16') return;
  // The scale of a block of q8_0 is a binary16 itself.
  const limit = type === 'f16' ? 65520 : 65520 * 127;
  const bad = values.findIndex((value) => !(Math.abs(value) < limit));
  if (bad < 0) return;
  throw new KotodamaError('ERR_NON_FINITE', `tensor '${name}' cannot be stored as ${type}: element ${bad}`, {
    expected: `a number below ${limit} in magnitude`,
    received: `${values[bad]}`,
    hint: 'store it as f32',
  });
}

/** The numbers that some bytes stand for. */
export function decode(type: FloatType, bytes: Uint8Array): Float32Array {
  if (type === 'f32') return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
  const values = new Float32Array(halves.length);
  (type === 'f16' ? f16ToFloat32 : bf16ToFloat32)(halves, values);
  return values;
}
