import { types } from 'node:util';
import { IGNORED_LABEL, type TokenTensor } from '../data/types.js';
import { KotodamaError } from '../errors.js';
import { describe, nearest, OptionReader } from '../validate.js';
import type { GPT2Config } from './config.js';
import type { BatchShape } from './results.js';

/** Ids and what should follow each of them. */
export interface LabelledTokens {
  /** (B, T) */
  inputIds: Tokens;
  /** (B, T), already shifted by one; -100 marks positions without loss. */
  labels: Tokens;
}

/** Token ids for the model: a tensor as the DataLoader yields it, or rows of equal length. */
export type Tokens = TokenTensor | readonly (readonly number[] | Int32Array)[];

const TOKENS = '{ data: Int32Array, shape: [B, T] } or an array of rows';

/**
 * Checks ids on their way to the engine: shape, block length and range.
 *
 * @throws KotodamaError `ERR_OPTIONS`
 */
export function checkInputIds(tokens: Tokens, config: Pick<GPT2Config, 'vocabSize' | 'nPositions'>): TokenTensor {
  const tensor = toTensor('inputIds', tokens);
  const [, blockSize] = tensor.shape;
  if (blockSize > config.nPositions) {
    throw new KotodamaError('ERR_OPTIONS', 'length of the blocks', {
      expected: `at most ${config.nPositions} (nPositions)`,
      received: `${blockSize}`,
      hint: 'use shorter blocks or a model with a longer context',
    });
  }
  const last = config.vocabSize - 1;
  const bad = tensor.data.findIndex((id) => id < 0 || id > last);
  if (bad >= 0) {
    throw new KotodamaError('ERR_OPTIONS', `inputIds, ${place(tensor, bad)}`, {
      expected: `an id from 0 to ${last}`,
      received: `${tensor.data[bad]}`,
      hint: 'the tokenizer and the model do not belong together',
    });
  }
  return tensor;
}

/** Checks what a call without labels is given, `{ inputIds }`. @throws KotodamaError `ERR_OPTIONS` */
export function checkInput(input: { inputIds: Tokens }, config: GPT2Config): TokenTensor {
  requireParts(input, ['inputIds']);
  return checkInputIds(input.inputIds, config);
}

/** Checks ids and labels. @throws KotodamaError `ERR_OPTIONS` */
export function checkBatch(batch: LabelledTokens, config: GPT2Config): { ids: TokenTensor; labels: TokenTensor } {
  requireParts(batch, ['inputIds', 'labels']);
  const ids = checkInputIds(batch.inputIds, config);
  return { ids, labels: checkLabels(batch.labels, ids, config) };
}

/** Tells what stands in the place of a part that is missing; parts with other names are not ours to judge. */
function requireParts(given: unknown, names: readonly string[]): void {
  const parts = (given ?? {}) as Record<string, unknown>;
  const missing = names.find((name) => parts[name] === undefined);
  if (missing === undefined) return;
  const isOther = typeof given !== 'object' || Array.isArray(given) || Object.keys(parts).length === 0;
  const misnamed = isOther ? undefined : Object.keys(parts).find((key) => nearest(key, names) === missing);
  throw new KotodamaError('ERR_OPTIONS', missing, {
    expected: `${TOKENS}, in { ${names.join(', ')} }`,
    received: isOther ? describe(given) : 'undefined',
    ...(misnamed !== undefined && { hint: `it has ${misnamed}: did you mean ${missing}?` }),
  });
}

/** The same as for ids, for labels, which must have their shape. */
function checkLabels(tokens: Tokens, ids: TokenTensor, config: GPT2Config): TokenTensor {
  const tensor = toTensor('labels', tokens);
  if (tensor.shape[0] !== ids.shape[0] || tensor.shape[1] !== ids.shape[1]) {
    throw new KotodamaError('ERR_OPTIONS', 'shape of labels', {
      expected: `[${ids.shape.join(', ')}] as inputIds`,
      received: `[${tensor.shape.join(', ')}]`,
    });
  }
  const last = config.vocabSize - 1;
  const bad = tensor.data.findIndex((label) => label > last || (label < 0 && label !== IGNORED_LABEL));
  if (bad >= 0) {
    throw new KotodamaError('ERR_OPTIONS', `labels, ${place(tensor, bad)}`, {
      expected: `an id from 0 to ${last}, or ${IGNORED_LABEL} for no loss`,
      received: `${tensor.data[bad]}`,
    });
  }
  return tensor;
}

/** The numbers of a batch that nobody has checked yet; none of one that its own call will refuse. */
export function announced(
  next: { inputIds: TokenTensor; labels: TokenTensor } | undefined,
): [] | [Int32Array, Int32Array] {
  const [ids, labels] = [next?.inputIds?.data, next?.labels?.data];
  const whole = types.isInt32Array(ids) && types.isInt32Array(labels) && ids.length === labels.length;
  return whole ? [ids, labels] : [];
}

/** @throws KotodamaError `ERR_OPTIONS` */
export function readShape(shape: BatchShape): BatchShape {
  const read = new OptionReader(shape);
  const batchSize = read.integer('batchSize', { min: 1 });
  const blockSize = read.integer('blockSize', { min: 1 });
  read.finish('There is no such batch');
  return { batchSize, blockSize };
}

function place({ shape: [, columns] }: TokenTensor, index: number): string {
  return `row ${Math.floor(index / columns)}, column ${index % columns}`;
}

function toTensor(name: string, tokens: Tokens): TokenTensor {
  if (Array.isArray(tokens)) return fromRows(name, tokens);
  const { data, shape } = (tokens ?? {}) as Partial<TokenTensor>;
  // Not `instanceof`: an array of another realm, as of a test runner, is as good.
  if (!types.isInt32Array(data) || !Array.isArray(shape) || shape.length !== 2) {
    throw new KotodamaError('ERR_OPTIONS', name, {
      expected: TOKENS,
      received: describe(tokens),
    });
  }
  if (data.length === 0) {
    throw new KotodamaError('ERR_OPTIONS', name, {
      expected: 'at least one id',
      received: 'an empty array (was its buffer transferred?)',
    });
  }
  const positive = shape.every((size) => Number.isSafeInteger(size) && size >= 1);
  if (!positive || data.length !== shape[0] * shape[1]) {
    throw new KotodamaError('ERR_OPTIONS', `shape of ${name}`, {
      expected: `[B, T], both at least 1, with B * T = ${data.length}, the number of ids`,
      received: `[${shape.join(', ')}]`,
    });
  }
  return { data, shape };
}

function fromRows(name: string, rows: readonly (readonly number[] | Int32Array)[]): TokenTensor {
  const other = rows.findIndex((row) => !Array.isArray(row) && !ArrayBuffer.isView(row));
  if (other >= 0) {
    const isId = typeof rows[other] === 'number';
    throw new KotodamaError('ERR_OPTIONS', name, {
      expected: 'rows of ids',
      received: describe(rows[other]),
      ...(isId && { hint: `one row alone is given as ${name}: [ids]` }),
    });
  }
  const columns = rows[0]?.length ?? 0;
  if (columns === 0) {
    throw new KotodamaError('ERR_OPTIONS', name, { expected: 'at least one id', received: 'none' });
  }
  const data = new Int32Array(rows.length * columns);
  rows.forEach((row, index) => {
    if (row.length !== columns) {
      throw new KotodamaError('ERR_OPTIONS', `${name}, row ${index}`, {
        expected: `${columns} ids as in row 0`,
        received: `${row.length}`,
        hint: 'pad the shorter rows and give them the label -100 there',
      });
    }
    const values = Array.from(row);
    const broken = values.findIndex((id) => !isInt32(id));
    if (broken >= 0) {
      throw new KotodamaError('ERR_OPTIONS', `${name}, row ${index}, column ${broken}`, {
        expected: 'an integer below 2^31',
        received: describe(values[broken]),
      });
    }
    data.set(row, index * columns);
  });
  return { data, shape: [rows.length, columns] };
}

/** An Int32Array would take any other number for one that it is not. */
function isInt32(value: unknown): boolean {
  return typeof value === 'number' && value === (value | 0);
}
