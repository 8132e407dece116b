import { readFileSync } from 'node:fs';

/*
 * Readers of model files, written from the descriptions of the formats and from nothing of ours: what we write must be
 * readable to others. They take well-formed files for granted.
 */

/** A tensor as a file has it. */
export interface StoredTensor {
  /** The format's own name of the type. */
  dtype: string;
  /** As the file lists it. */
  shape: number[];
  values: number[];
  /** As stored. */
  bytes: Buffer;
}

/** binary16 by its definition: 1 sign, 5 exponent (bias 15), 10 fraction. */
export function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -14 : sign * (1 + fraction) * 2 ** (exponent - 15);
}

/** bfloat16: the upper half of a float32. */
function brainToNumber(bits: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint16(0, bits);
  return view.getFloat32(0);
}

function numbersOf(dtype: string, bytes: Buffer): number[] {
  const count = (size: number) => Array.from({ length: bytes.length / size }, (_, index) => index);
  if (dtype === 'F32') return count(4).map((index) => bytes.readFloatLE(4 * index));
  if (dtype === 'F16') return count(2).map((index) => halfToNumber(bytes.readUInt16LE(2 * index)));
  if (dtype === 'BF16') return count(2).map((index) => brainToNumber(bytes.readUInt16LE(2 * index)));
  // q8_0: 32 signed bytes after their scale
  return count(34).flatMap((block) => {
    const scale = halfToNumber(bytes.readUInt16LE(34 * block));
    return Array.from({ length: 32 }, (_, index) => scale * bytes.readInt8(34 * block + 2 + index));
  });
}

/** https://github.com/huggingface/safetensors#format */
export function readSafetensors(path: string): { tensors: Map<string, StoredTensor>; metadata: unknown } {
  const file = readFileSync(path);
  const length = Number(file.readBigUInt64LE(0));
  const { __metadata__: metadata, ...entries } = JSON.parse(file.toString('utf8', 8, 8 + length));
  const tensors = new Map<string, StoredTensor>();
  for (const [name, entry] of Object.entries(entries)) {
    const { dtype, shape, data_offsets } = entry as { dtype: string; shape: number[]; data_offsets: number[] };
    const bytes = file.subarray(8 + length + data_offsets[0]!, 8 + length + data_offsets[1]!);
    tensors.set(name, { dtype, shape, values: numbersOf(dtype, bytes), bytes });
  }
  return { tensors, metadata };
}

/** llm.c's model: its header, and the sections in the order of `fill_in_parameter_sizes` of train_gpt2.cu. */
export function readLlmc(path: string): { header: number[]; sections: Map<string, number[]>; rest: number } {
  const file = readFileSync(path);
  const header = Array.from({ length: 256 }, (_, index) => file.readInt32LE(4 * index));
  const [, version, maxT, , L, , C, Vp] = header as [number, number, number, number, number, number, number, number];
  const sizes: [string, number][] = [
    ['wte', Vp * C],
    ['wpe', maxT * C],
    ['ln1w', L * C],
    ['ln1b', L * C],
    ['qkvw', L * 3 * C * C],
    ['qkvb', L * 3 * C],
    ['attprojw', L * C * C],
    ['attprojb', L * C],
    ['ln2w', L * C],
    ['ln2b', L * C],
    ['fcw', L * 4 * C * C],
    ['fcb', L * 4 * C],
    ['fcprojw', L * C * 4 * C],
    ['fcprojb', L * C],
    ['lnfw', C],
    ['lnfb', C],
  ];
  const [dtype, itemBytes] = version === 3 ? ['F32', 4] : ['BF16', 2];
  let position = 1024;
  const sections = new Map<string, number[]>();
  for (const [name, count] of sizes) {
    sections.set(name, numbersOf(dtype as string, file.subarray(position, position + count * (itemBytes as number))));
    position += count * (itemBytes as number);
  }
  return { header, sections, rest: file.length - position };
}

/** https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; shapes are listed from the innermost dimension. */
export function readGguf(path: string): { metadata: Map<string, unknown>; tensors: Map<string, StoredTensor> } {
  const file = readFileSync(path);
  let position = 0;
  const take = (bytes: number) => {
    position += bytes;
    return position - bytes;
  };
  const u32 = () => file.readUInt32LE(take(4));
  const u64 = () => Number(file.readBigUInt64LE(take(8)));
  const text = () => {
    const length = u64();
    return file.toString('utf8', take(length), position);
  };
  const value = (type: number): unknown => {
    if (type === 0) return file.readUInt8(take(1));
    if (type === 4) return u32();
    if (type === 5) return file.readInt32LE(take(4));
    if (type === 6) return file.readFloatLE(take(4));
    if (type === 7) return file.readUInt8(take(1)) === 1;
    if (type === 8) return text();
    if (type !== 9) throw new Error(`a value of type ${type}`);
    const inner = u32();
    return Array.from({ length: u64() }, () => value(inner));
  };
  if (file.toString('latin1', take(4), position) !== 'GGUF' || u32() !== 3) throw new Error('no GGUF of version 3');
  const [tensorCount, valueCount] = [u64(), u64()];
  const metadata = new Map<string, unknown>();
  for (let index = 0; index < valueCount; index++) {
    const key = text();
    metadata.set(key, value(u32()));
  }
  const described = Array.from({ length: tensorCount }, () => {
    const name = text();
    const shape = Array.from({ length: u32() }, u64);
    return { name, shape, type: u32(), offset: u64() };
  });
  const begin = Math.ceil(position / 32) * 32;
  const types: Record<number, [dtype: string, numbers: number, bytes: number]> = {
    0: ['F32', 1, 4],
    1: ['F16', 1, 2],
    8: ['Q8_0', 32, 34],
  };
  const tensors = new Map<string, StoredTensor>();
  for (const { name, shape, type, offset } of described) {
    const [dtype, numbers, itemBytes] = types[type]!;
    if (offset % 32 !== 0) throw new Error(`${name} is not aligned`);
    const length = (shape.reduce((product, size) => product * size, 1) / numbers) * itemBytes;
    const bytes = file.subarray(begin + offset, begin + offset + length);
    if (bytes.length !== length) throw new Error(`${name} goes beyond the file`);
    tensors.set(name, { dtype, shape, values: numbersOf(dtype, bytes), bytes });
  }
  return { metadata, tensors };
}

/** A matrix of `rows` rows with rows and columns exchanged. */
export function transpose(values: readonly number[], rows: number): number[] {
  const columns = values.length / rows;
  return values.map((_, index) => values[(index % rows) * columns + Math.floor(index / rows)]!);
}
