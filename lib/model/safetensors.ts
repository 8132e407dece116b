import { type FileHandle, open } from 'node:fs/promises';
import { KotodamaError, messageOf } from '../errors.js';
import { ioError, type WriteFile, writeAtomically } from '../files.js';
import { describe } from '../validate.js';
import { decode, ENCODINGS, type FloatType } from './encoding.js';
import { CHUNK_BYTES, elements, malformed, readFully, refusePointer, writeFully } from './file-parts.js';
import { storedBytes, type TensorSource, writeTensor } from './tensor-source.js';

export type { TensorSource } from './tensor-source.js';

/*
 * The safetensors format (https://github.com/huggingface/safetensors#format): 8 bytes little-endian N, N bytes of JSON
 * header, then the tensors' bytes without gaps. Numbers are little-endian, as is every machine that Node.js runs this on.
 */

/** The types that can be read and written. */
const TYPES: Readonly<Record<string, FloatType>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };

/** Every type of the format, for telling a type that we cannot read from one that does not exist. */
const ALL_TYPES: Record<string, number> = {
  ...{ BOOL: 1, U8: 1, I8: 1, F8_E5M2: 1, F8_E4M3: 1, I16: 2, U16: 2, F16: 2, BF16: 2 },
  ...{ F32: 4, I32: 4, U32: 4, F64: 8, I64: 8, U64: 8 },
};

const FLOAT_HINT =
  'in Python, `GPT2LMHeadModel.from_pretrained(folder).float().save_pretrained(folder)` makes them F32';

/** The limit of the reference implementation; keeps a hostile length from taking all memory. */
const MAX_HEADER_BYTES = 100_000_000;

/** Where a tensor lies in a file. */
export interface TensorEntry {
  readonly name: string;
  /** The format's name of the element type, e.g. `F32`. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Position of the first byte in the file. */
  readonly begin: number;
  /** Position after the last byte in the file. */
  readonly end: number;
}

/** A safetensors file that is open for reading; only the header is in memory. */
export class SafetensorsFile {
  private constructor(
    readonly path: string,
    private readonly file: FileHandle,
    /** By name, in the order of their bytes. */
    readonly tensors: ReadonlyMap<string, TensorEntry>,
    readonly metadata: Readonly<Record<string, string>>,
  ) {}

  /**
   * Opens a file and checks its whole header.
   *
   * @throws KotodamaError `ERR_MODEL_FILE` when the file breaks the format, `ERR_IO` when it cannot be read.
   */
  static async open(path: string): Promise<SafetensorsFile> {
    let file: FileHandle | undefined;
    try {
      file = await open(path, 'r');
      const { tensors, metadata } = await readHeader(path, file);
      return new SafetensorsFile(path, file, tensors, metadata);
    } catch (cause) {
      await file?.close();
      throw ioError(cause, `${path} could not be read`);
    }
  }

  /** The values of one tensor, widened to float32. */
  async read(name: string): Promise<Float32Array> {
    const entry = this.tensors.get(name);
    if (entry === undefined) throw malformed(this.path, `there is no tensor '${name}'`);
    const type = TYPES[entry.dtype];
    if (type === undefined) {
      throw new KotodamaError('ERR_MODEL_FILE', `${this.path}: the type of tensor '${name}'`, {
        expected: Object.keys(TYPES).join(', '),
        received: entry.dtype,
        hint: entry.dtype === 'F64' ? FLOAT_HINT : undefined,
      });
    }
    try {
      return await this.readValues(entry, type);
    } catch (cause) {
      throw ioError(cause, `${this.path} could not be read`);
    }
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  private async readValues({ begin, end }: TensorEntry, type: FloatType): Promise<Float32Array> {
    const itemBytes = ENCODINGS[type].blockBytes;
    const values = new Float32Array((end - begin) / itemBytes);
    if (type === 'f32') {
      await readFully(this.path, this.file, new Uint8Array(values.buffer), begin);
      return values;
    }
    const chunk = new Uint8Array(Math.min(CHUNK_BYTES, end - begin));
    for (let start = begin; start < end; start += chunk.length) {
      const bytes = chunk.subarray(0, Math.min(chunk.length, end - start));
      await readFully(this.path, this.file, bytes, start);
      values.set(decode(type, bytes), (start - begin) / itemBytes);
    }
    return values;
  }
}

/**
 * Writes tensors, one after another and atomically.
 *
 * @param metadata strings to keep in the header; Transformers wants to see `format`.
 * @param type what the numbers are stored as; default float32.
 * @param write when the file gets its name; default at once.
 * @throws KotodamaError `ERR_IO` when the system refuses, `ERR_NON_FINITE` when the type cannot hold a number.
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorSource[],
  metadata: Record<string, string> = { format: 'pt' },
  type: FloatType = 'f32',
  write: WriteFile = writeAtomically,
): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let end = 0;
  for (const { name, shape } of tensors) {
    const begin = end;
    end += storedBytes(shape, type);
    header[name] = { dtype: type.toUpperCase(), shape, data_offsets: [begin, end] };
  }
  const json = Buffer.from(JSON.stringify(header), 'utf8');
  const prefix = Buffer.alloc(8 + Math.ceil(json.length / 8) * 8, ' ');
  prefix.writeBigUInt64LE(BigInt(prefix.length - 8));
  json.copy(prefix, 8);

  await write(path, async (file) => {
    let position = await writeFully(file, prefix, 0);
    for (const tensor of tensors) position = await writeTensor(path, file, tensor, type, position);
  });
}

async function readHeader(path: string, file: FileHandle) {
  const { size } = await file.stat();
  if (size < 8) throw malformed(path, 'file size', 'at least 8 bytes (the length of the header)', `${size}`);
  const prefix = Buffer.alloc(8);
  await readFully(path, file, prefix, 0);
  refusePointer(path, prefix);
  const length = prefix.readBigUInt64LE();
  const limit = Math.min(MAX_HEADER_BYTES, size - 8);
  if (length > BigInt(limit)) {
    throw malformed(path, 'length of the header', `at most ${limit} bytes in a file of ${size}`, `${length}`);
  }
  const text = new Uint8Array(Number(length));
  await readFully(path, file, text, 8);
  return parseHeader(path, text, 8 + text.length, size);
}

function parseHeader(path: string, text: Uint8Array, dataBegin: number, fileEnd: number) {
  const header = parseJson(path, text);
  const metadata: Record<string, string> = {};
  const entries: TensorEntry[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name !== '__metadata__') {
      entries.push(parseEntry(path, name, value, dataBegin, fileEnd));
      continue;
    }
    for (const [key, word] of Object.entries(object(path, `'__metadata__'`, value))) {
      if (typeof word !== 'string') throw malformed(path, `metadata '${key}'`, 'a string', describe(word));
      metadata[key] = word;
    }
  }
  checkCoverage(path, entries, dataBegin, fileEnd);
  return { tensors: new Map(entries.map((entry) => [entry.name, entry])), metadata };
}

/** The bytes after the header must belong to exactly one tensor each. Sorts the entries by position. */
function checkCoverage(path: string, entries: TensorEntry[], dataBegin: number, fileEnd: number): void {
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let position = dataBegin;
  for (const { name, begin, end } of entries) {
    if (begin !== position) {
      const fault = begin < position ? 'overlaps the one before it' : 'leaves a gap before it';
      throw malformed(path, `tensor '${name}' ${fault}`, `offset ${position - dataBegin}`, `${begin - dataBegin}`);
    }
    position = end;
  }
  if (position !== fileEnd) {
    throw malformed(path, 'bytes after the header', `${position - dataBegin}`, `${fileEnd - dataBegin}`);
  }
}

function parseEntry(path: string, name: string, value: unknown, dataBegin: number, fileEnd: number): TensorEntry {
  const { dtype, shape, data_offsets: offsets } = object(path, `tensor '${name}'`, value);
  if (typeof dtype !== 'string' || !Object.hasOwn(ALL_TYPES, dtype)) {
    throw malformed(path, `dtype of tensor '${name}'`, 'a type of the safetensors format', describe(dtype));
  }
  if (!isSizes(shape)) {
    throw malformed(path, `shape of tensor '${name}'`, 'an array of integers of at least 0', describe(shape));
  }
  if (!isSizes(offsets) || offsets.length !== 2) {
    throw malformed(path, `data_offsets of tensor '${name}'`, 'two integers of at least 0', describe(offsets));
  }
  const [begin, end] = offsets as [number, number];
  const dataBytes = fileEnd - dataBegin;
  if (begin > end || end > dataBytes) {
    const limits = `begin <= end <= ${dataBytes} (bytes in the file)`;
    throw malformed(path, `data_offsets of tensor '${name}'`, limits, `${begin} and ${end}`);
  }
  // A product beyond 2^53 is not exact, but then it is not the size of a file either.
  const bytes = elements(shape) * (ALL_TYPES[dtype] as number);
  if (bytes !== end - begin) {
    throw malformed(path, `bytes of tensor '${name}'`, `${bytes} (${dtype} [${shape}])`, `${end - begin}`);
  }
  return { name, dtype, shape, begin: dataBegin + begin, end: dataBegin + end };
}

function parseJson(path: string, text: Uint8Array): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(text));
  } catch (cause) {
    throw malformed(path, 'header', 'JSON in UTF-8', `an error (${messageOf(cause)})`);
  }
  return object(path, 'header', value);
}

function object(path: string, what: string, value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw malformed(path, what, 'a JSON object', describe(value));
  }
  return value as Record<string, unknown>;
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}
