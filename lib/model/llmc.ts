import { type FileHandle, open } from 'node:fs/promises';
import { KotodamaError } from '../errors.js';
import { ioError, writeAtomically } from '../files.js';
import { checkPath, OptionReader } from '../validate.js';
import { type GPT2Config, parameterCount, parameterShapes, resolveConfig } from './config.js';
import { decode, ENCODINGS, type FloatType } from './encoding.js';
import { elements, malformed, readFully, writeFully } from './file-parts.js';
import { type OpenWeights, type TensorSource, transposed, writeTensor } from './tensor-source.js';

/*
 * llm.c's checkpoints of a model (gpt2_write_to_checkpoint and gpt2_build_from_checkpoint of its train_gpt2.cu): 256
 * little-endian int32, then the parameters without gaps. The header begins with the magic number, the version, n_positions,
 * vocab_size, n_layer, n_head, n_embd and the padded vocabulary Vp; the rest is 0. Version 3 holds float32, version 5
 * bfloat16. The parameters are grouped by kind, and in each group by layer; linear weights are (out, in), as in PyTorch.
 */

export const LLMC_MAGIC = 20240326;

const VERSIONS: Readonly<Record<number, 'f32' | 'bf16'>> = { 3: 'f32', 5: 'bf16' };

const HEADER_BYTES = 4 * 256;

const EMBEDDING = 'transformer.wte.weight';

/** llm.c pads the vocabulary to this, and so do its own writers. */
const PADDING = 128;

/** What llm.c's code has as constants. */
const LAYER_NORM_EPSILON = 1e-5;

/** The per-layer parameters in the order of the file; those that are stored (out, in). */
const LAYER_PARTS: readonly (readonly [name: string, linear: boolean])[] = [
  ['ln_1.weight', false],
  ['ln_1.bias', false],
  ['attn.c_attn.weight', true],
  ['attn.c_attn.bias', false],
  ['attn.c_proj.weight', true],
  ['attn.c_proj.bias', false],
  ['ln_2.weight', false],
  ['ln_2.bias', false],
  ['mlp.c_fc.weight', true],
  ['mlp.c_fc.bias', false],
  ['mlp.c_proj.weight', true],
  ['mlp.c_proj.bias', false],
];

/** A parameter's place in the order of the file. */
interface Part {
  name: string;
  /** As Hugging Face has it. */
  shape: readonly number[];
  /** Whether the file has rows and columns exchanged. */
  linear: boolean;
}

function partsOf(config: GPT2Config): Part[] {
  const shapes = new Map(parameterShapes(config).map(({ name, shape }) => [name, shape]));
  const part = (name: string, linear = false): Part => ({ name, shape: shapes.get(name) as number[], linear });
  const layers = Array.from({ length: config.nLayer }, (_, layer) => layer);
  return [
    part(EMBEDDING),
    part('transformer.wpe.weight'),
    ...LAYER_PARTS.flatMap(([name, linear]) => layers.map((layer) => part(`transformer.h.${layer}.${name}`, linear))),
    part('transformer.ln_f.weight'),
    part('transformer.ln_f.bias'),
  ];
}

/** What a checkpoint's header says. */
interface Checkpoint {
  config: GPT2Config;
  type: FloatType;
  paddedVocab: number;
}

/**
 * The configuration of a model in llm.c's format.
 *
 * @throws KotodamaError `ERR_MODEL_FILE` when the file is none or is damaged, `ERR_IO` when it cannot be read
 */
export async function readLlmcConfig(path: string): Promise<GPT2Config> {
  const file = await openFile(path);
  try {
    return (await readHeader(path, file)).config;
  } catch (cause) {
    throw ioError(cause, `${path} could not be read`);
  } finally {
    await file.close();
  }
}

/**
 * Opens its weights, under Hugging Face's names and in their layout; the numbers are read when they are asked for.
 *
 * @throws as {@link readLlmcConfig}
 */
export async function openLlmcWeights(path: string): Promise<OpenWeights> {
  const file = await openFile(path);
  try {
    const { config, type, paddedVocab } = await readHeader(path, file);
    const { blockBytes } = ENCODINGS[type];
    let end = HEADER_BYTES;
    const tensors = partsOf(config).map(({ name, shape, linear }): TensorSource => {
      const begin = end;
      const count = elements(shape);
      end += blockBytes * (count + (name === EMBEDDING ? (paddedVocab - config.vocabSize) * config.nEmbd : 0));
      const read = async () => {
        const bytes = new Uint8Array(count * blockBytes);
        await readFully(path, file, bytes, begin);
        const values = decode(type, bytes);
        const [inputs = 0, outputs = 0] = shape;
        return linear ? transposed(values, outputs, inputs) : values;
      };
      return { name, shape, read };
    });
    return { tensors, close: () => file.close() };
  } catch (cause) {
    await file.close();
    throw ioError(cause, `${path} could not be read`);
  }
}

async function openFile(path: string): Promise<FileHandle> {
  return open(path, 'r').catch((cause) => {
    throw ioError(cause, `${path} could not be read`);
  });
}

/** Reads the header, and checks it and the size of the file. */
async function readHeader(path: string, file: FileHandle): Promise<Checkpoint> {
  const { size } = await file.stat();
  if (size < HEADER_BYTES) throw malformed(path, 'file size', `at least ${HEADER_BYTES} bytes (the header)`, `${size}`);
  const header = Buffer.alloc(HEADER_BYTES);
  await readFully(path, file, header, 0);
  const at = (index: number) => header.readInt32LE(4 * index);
  if (at(0) !== LLMC_MAGIC) throw malformed(path, 'the first number', `${LLMC_MAGIC}, as llm.c has it`, `${at(0)}`);
  const type = VERSIONS[at(1)];
  if (type === undefined) {
    throw malformed(path, 'the version of the checkpoint', '3 (float32) or 5 (bfloat16)', `${at(1)}`);
  }
  const config = configOf(path, {
    nPositions: at(2),
    vocabSize: at(3),
    nLayer: at(4),
    nHead: at(5),
    nEmbd: at(6),
    layerNormEpsilon: LAYER_NORM_EPSILON,
  });
  const paddedVocab = at(7);
  if (paddedVocab < config.vocabSize) {
    throw malformed(path, 'the padded vocabulary', `at least the vocabulary, ${config.vocabSize}`, `${paddedVocab}`);
  }
  // Beyond 2^53 the product is not exact, but then it is no file's size either.
  const numbers = parameterCount(config) + (paddedVocab - config.vocabSize) * config.nEmbd;
  const expected = HEADER_BYTES + numbers * ENCODINGS[type].blockBytes;
  if (size !== expected) throw malformed(path, 'file size', `${expected} bytes by its header`, `${size}`);
  return { config, type, paddedVocab };
}

function configOf(path: string, numbers: Parameters<typeof resolveConfig>[0]): GPT2Config {
  try {
    return resolveConfig(numbers);
  } catch (cause) {
    if (!(cause instanceof KotodamaError)) throw cause;
    throw new KotodamaError('ERR_MODEL_FILE', `${path}: ${cause.message}`, { cause });
  }
}

export const LLMC_TYPES = ['f32', 'bf16'] as const;

/** How a model is written for llm.c. */
export interface LlmcOptions {
  /** Default `f32`. */
  dtype?: (typeof LLMC_TYPES)[number] | undefined;
}

/**
 * Writes a model in llm.c's format, atomically: version 3 for `f32`, version 5 for `bf16`.
 *
 * @param tensors every parameter under Hugging Face's name
 * @throws KotodamaError `ERR_OPTIONS` when llm.c could not hold the model, `ERR_IO`
 */
export async function writeLlmc(
  path: string,
  config: GPT2Config,
  tensors: readonly TensorSource[],
  options: LlmcOptions = {},
): Promise<void> {
  const read = new OptionReader(options);
  read.onlyKnown(['dtype']);
  const type = read.choice('dtype', LLMC_TYPES, 'f32');
  read.finish('The model cannot be written for llm.c');
  checkPath('the file to write', path);
  checkFits(config);
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const { vocabSize, nEmbd } = config;
  const paddedVocab = Math.ceil(vocabSize / PADDING) * PADDING;
  const header = Buffer.alloc(HEADER_BYTES);
  const version = type === 'f32' ? 3 : 5;
  const numbers = [LLMC_MAGIC, version, config.nPositions, vocabSize, config.nLayer, config.nHead, nEmbd, paddedVocab];
  for (const [index, number] of numbers.entries()) header.writeInt32LE(number, 4 * index);

  await writeAtomically(path, async (file) => {
    let position = await writeFully(file, header, 0);
    for (const { name, shape, linear } of partsOf(config)) {
      const { read } = byName.get(name) as TensorSource;
      const [inputs = 0, outputs = 0] = shape;
      const values = linear ? async () => transposed(await read(), inputs, outputs) : read;
      position = await writeTensor(path, file, { name, shape, read: values }, type, position);
      if (name !== EMBEDDING) continue;
      const padding = new Uint8Array((paddedVocab - vocabSize) * nEmbd * ENCODINGS[type].blockBytes);
      position = await writeFully(file, padding, position);
    }
  });
}

function checkFits({ nInner, nEmbd, layerNormEpsilon }: GPT2Config): void {
  const refuse = (name: string, expected: string, received: number) => {
    throw new KotodamaError('ERR_OPTIONS', `llm.c's format cannot hold this model: ${name}`, {
      expected,
      received: `${received}`,
    });
  };
  if (nInner !== 4 * nEmbd) refuse('nInner', `4 * nEmbd = ${4 * nEmbd}`, nInner);
  if (layerNormEpsilon !== LAYER_NORM_EPSILON) refuse('layerNormEpsilon', `${LAYER_NORM_EPSILON}`, layerNormEpsilon);
}
