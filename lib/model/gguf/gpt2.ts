import { basename } from 'node:path';
import type { OpenTokenizer } from '../../tokenizer/types.js';
import { checkPath, OptionReader } from '../../validate.js';
import type { GPT2Config } from '../config.js';
import { ENCODINGS, type StoredType } from '../encoding.js';
import { type TensorSource, transposed } from '../tensor-source.js';
import { tokenizerMetadata } from './tokenizer-metadata.js';
import { type GgufTensor, type GgufValue, writeGguf } from './write.js';

/** What a GGUF file's matrices are stored as; vectors and positions are float32 always. */
export type GgufType = 'f32' | 'f16' | 'q8_0';

export const GGUF_TYPES = ['f32', 'f16', 'q8_0'] as const satisfies readonly GgufType[];

/** How a model is written as GGUF. */
export interface GgufOptions {
  /** From `Tokenizer.fromPretrained`, for one. Required. */
  tokenizer: OpenTokenizer;
  /** Default `f16`. */
  dtype?: GgufType | undefined;
}

/** llama_ftype */
const FILE_TYPES: Readonly<Record<GgufType, number>> = { f32: 0, f16: 1, q8_0: 7 };

/** The names of a block's tensors in GGUF, for architecture `gpt2`. */
const LAYER_NAMES: Readonly<Record<string, string>> = {
  ln_1: 'attn_norm',
  'attn.c_attn': 'attn_qkv',
  'attn.c_proj': 'attn_output',
  ln_2: 'ffn_norm',
  'mlp.c_fc': 'ffn_up',
  'mlp.c_proj': 'ffn_down',
};

const NAMES: Readonly<Record<string, string>> = {
  'transformer.wte': 'token_embd',
  'transformer.wpe': 'position_embd',
  'transformer.ln_f': 'output_norm',
};

/**
 * Writes a model and its tokenizer as GGUF for llama.cpp. The head is not written: llama.cpp takes the token embedding for
 * it, as GPT-2 does.
 *
 * @param tensors every parameter under Hugging Face's name
 * @throws KotodamaError `ERR_TOKENIZER` when llama.cpp has no such tokenizer, `ERR_NON_FINITE` when the type cannot hold a
 *   number, `ERR_IO`
 */
export async function writeGpt2Gguf(
  path: string,
  config: Readonly<GPT2Config>,
  tensors: readonly TensorSource[],
  options: GgufOptions,
): Promise<void> {
  const read = new OptionReader(options);
  read.onlyKnown(['tokenizer', 'dtype']);
  const dtype = read.choice('dtype', GGUF_TYPES, 'f16');
  const tokenizer = options?.tokenizer;
  if (tokenizer?.vocabulary === undefined) read.problem('tokenizer', 'one from Tokenizer.fromPretrained', tokenizer);
  read.finish('The model cannot be written as GGUF');
  checkPath('the file to write', path);
  const metadata = new Map<string, GgufValue>([
    ['general.architecture', { type: 'string', value: 'gpt2' }],
    ['general.name', { type: 'string', value: basename(path).replace(/\.gguf$/i, '') }],
    ['general.file_type', { type: 'u32', value: FILE_TYPES[dtype] }],
    ...(dtype === 'q8_0' ? [['general.quantization_version', { type: 'u32', value: 2 }] as const] : []),
    ['gpt2.block_count', { type: 'u32', value: config.nLayer }],
    ['gpt2.context_length', { type: 'u32', value: config.nPositions }],
    ['gpt2.embedding_length', { type: 'u32', value: config.nEmbd }],
    ['gpt2.feed_forward_length', { type: 'u32', value: config.nInner }],
    ['gpt2.attention.head_count', { type: 'u32', value: config.nHead }],
    ['gpt2.attention.layer_norm_epsilon', { type: 'f32', value: config.layerNormEpsilon }],
    ...tokenizerMetadata(tokenizer, config),
  ]);
  await writeGguf(
    path,
    metadata,
    tensors.map((tensor) => ggufTensor(tensor, dtype)),
  );
}

function ggufTensor(tensor: TensorSource, dtype: GgufType): GgufTensor {
  const name = ggufName(tensor.name);
  const { shape, read } = tensor;
  const [rows = 0, columns = 0] = shape;
  if (shape.length === 1 || name === 'position_embd.weight') return { source: { name, shape, read }, type: 'f32' };
  if (name === 'token_embd.weight') return { source: { name, shape, read }, type: typeOf(columns, dtype) };
  // Linear weights are (out, in) there.
  const source = { name, shape: [columns, rows], read: async () => transposed(await read(), rows, columns) };
  return { source, type: typeOf(rows, dtype) };
}

/** Rows that are not made of whole blocks stay in f16. */
function typeOf(rowLength: number, dtype: GgufType): StoredType {
  return rowLength % ENCODINGS[dtype].blockSize === 0 ? dtype : 'f16';
}

/** `transformer.h.3.attn.c_attn.weight` is `blk.3.attn_qkv.weight`. */
function ggufName(name: string): string {
  const end = name.lastIndexOf('.');
  const [module, part] = [name.slice(0, end), name.slice(end)];
  const [, layer, inner] = /^transformer\.h\.(\d+)\.(.*)$/.exec(module) ?? [];
  const found = inner === undefined ? NAMES[module] : LAYER_NAMES[inner];
  return `${layer === undefined ? '' : `blk.${layer}.`}${found as string}${part}`;
}
