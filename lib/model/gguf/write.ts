import { writeAtomically } from '../../files.js';
import type { StoredType } from '../encoding.js';
import { writeFully } from '../file-parts.js';
import { storedBytes, type TensorSource, writeTensor } from '../tensor-source.js';

/*
 * GGUF, version 3 (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), little-endian: the magic "GGUF", the
 * version, the numbers of tensors and of key-value pairs, the pairs, a description of each tensor, and the tensors' data,
 * each beginning at a multiple of the alignment from where the first one begins.
 */

const VERSION = 3;
const ALIGNMENT = 32;

/** A value of a key, with the type that readers expect. */
export type GgufValue =
  | { type: 'u32' | 'f32'; value: number }
  | { type: 'bool'; value: boolean }
  | { type: 'string'; value: string }
  | { type: 'strings'; value: readonly string[] }
  | { type: 'u8s'; value: Uint8Array }
  | { type: 'i32s'; value: Int32Array }
  | { type: 'f32s'; value: Float32Array };

/** gguf_metadata_value_type */
const VALUE_TYPES = { u8: 0, u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;

/** ggml_type */
const TENSOR_TYPES: Readonly<Record<StoredType, number>> = { f32: 0, f16: 1, q8_0: 8, bf16: 30 };

/** A tensor under its name in GGUF. */
export interface GgufTensor {
  /** Row-major; GGUF itself lists the sizes from the innermost one. */
  source: TensorSource;
  type: StoredType;
}

/** Writes a GGUF file, atomically. */
export async function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: readonly GgufTensor[],
): Promise<void> {
  const header = new Writer();
  header.bytes(Buffer.from('GGUF'));
  header.u32(VERSION);
  header.u64(tensors.length);
  header.u64(metadata.size);
  for (const [key, value] of metadata) {
    header.string(key);
    header.value(value);
  }
  const offsets: number[] = [];
  let offset = 0;
  for (const { source, type } of tensors) {
    header.string(source.name);
    header.u32(source.shape.length);
    for (const size of [...source.shape].reverse()) header.u64(size);
    header.u32(TENSOR_TYPES[type]);
    header.u64(offset);
    offsets.push(offset);
    offset = aligned(offset + storedBytes(source.shape, type));
  }
  const begin = aligned(header.length);
  await writeAtomically(path, async (file) => {
    let position = await writeFully(file, header.take(begin), 0);
    for (const [index, { source, type }] of tensors.entries()) {
      const start = begin + (offsets[index] as number);
      position = await writeFully(file, new Uint8Array(start - position), position);
      position = await writeTensor(path, file, source, type, position);
    }
    // The data of the last tensor is padded too.
    await writeFully(file, new Uint8Array(begin + offset - position), position);
  });
}

function aligned(position: number): number {
  return Math.ceil(position / ALIGNMENT) * ALIGNMENT;
}

/** Puts a header together. */
class Writer {
  length = 0;
  private readonly parts: Uint8Array[] = [];

  bytes(part: Uint8Array): void {
    this.parts.push(part);
    this.length += part.length;
  }

  u32(value: number): void {
    const part = Buffer.alloc(4);
    part.writeUInt32LE(value);
    this.bytes(part);
  }

  u64(value: number): void {
    const part = Buffer.alloc(8);
    part.writeBigUInt64LE(BigInt(value));
    this.bytes(part);
  }

  string(text: string): void {
    const part = Buffer.from(text, 'utf8');
    this.u64(part.length);
    this.bytes(part);
  }

  value({ type, value }: GgufValue): void {
    if (type === 'strings') {
      this.array('string', value.length);
      for (const text of value) this.string(text);
    } else if (type === 'u8s' || type === 'i32s' || type === 'f32s') {
      this.array(type === 'u8s' ? 'u8' : type === 'i32s' ? 'i32' : 'f32', value.length);
      this.bytes(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
    } else {
      this.u32(VALUE_TYPES[type]);
      if (type === 'string') this.string(value);
      else if (type === 'bool') this.bytes(Uint8Array.of(value ? 1 : 0));
      else if (type === 'u32') this.u32(value);
      else this.bytes(new Uint8Array(Float32Array.of(value).buffer));
    }
  }

  /** Everything so far, with zeros up to `length`. */
  take(length: number): Buffer {
    return Buffer.concat(this.parts, length);
  }

  private array(type: keyof typeof VALUE_TYPES, count: number): void {
    this.u32(VALUE_TYPES.array);
    this.u32(VALUE_TYPES[type]);
    this.u64(count);
  }
}
