import { KotodamaError } from '../errors.js';
import { alternatives, describe } from '../validate.js';
import { type GPT2Config, resolveConfig } from './config.js';
import type { FloatType } from './encoding.js';

/**
 * Reads Hugging Face's config.json of a GPT-2. Refuses whatever would make the engine compute something else than
 * Transformers does.
 *
 * @param path named in errors.
 * @throws KotodamaError `ERR_MODEL_FILE`
 */
export function configFromHuggingFace(json: unknown, path: string): GPT2Config {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new KotodamaError('ERR_MODEL_FILE', path, { expected: 'a JSON object', received: describe(json) });
  }
  const fields = json as Record<string, unknown>;
  refuseOthers(fields, path);
  const given = (name: string) => fields[ALIASES[name] ?? ''] ?? fields[name] ?? undefined;
  const dropout = (name: string) => given(name) ?? 0.1;
  const input = {
    vocabSize: given('vocab_size') ?? 50257,
    nPositions: given('n_positions') ?? given('n_ctx'),
    nEmbd: given('n_embd'),
    nLayer: given('n_layer'),
    nHead: given('n_head'),
    nInner: given('n_inner'),
    layerNormEpsilon: given('layer_norm_epsilon'),
    initializerRange: given('initializer_range'),
    embdPdrop: dropout('embd_pdrop'),
    attnPdrop: dropout('attn_pdrop'),
    residPdrop: dropout('resid_pdrop'),
    bosTokenId: tokenId(fields, 'bos_token_id', 50256),
    eosTokenId: tokenId(fields, 'eos_token_id', 50256),
    padTokenId: tokenId(fields, 'pad_token_id'),
  };
  try {
    // The types of the values are what resolveConfig checks.
    return resolveConfig(input as GPT2Config);
  } catch (cause) {
    if (!(cause instanceof KotodamaError)) throw cause;
    throw new KotodamaError('ERR_MODEL_FILE', `${path}: ${cause.message}`, { cause });
  }
}

/** Names that Transformers has for the same, in `GPT2Config.attribute_map`; where both are given these count there. */
const ALIASES: Readonly<Record<string, string>> = {
  n_positions: 'max_position_embeddings',
  n_embd: 'hidden_size',
  n_layer: 'num_hidden_layers',
  n_head: 'num_attention_heads',
};

/** Fields with the only values that this engine computes; an absent field has Transformers' default, which is the first. */
const REQUIRED_VALUES: Record<string, unknown[]> = {
  activation_function: ['gelu_new', 'gelu_pytorch_tanh'],
  scale_attn_weights: [true],
  scale_attn_by_inverse_layer_idx: [false],
  tie_word_embeddings: [true],
  add_cross_attention: [false],
};

function refuseOthers(fields: Record<string, unknown>, path: string): void {
  const refuse = (name: string, expected: string, value: unknown, hint: string): never => {
    throw new KotodamaError('ERR_MODEL_FILE', `${path}: ${name}`, { expected, received: describe(value), hint });
  };
  const onlyGpt2 = 'only GPT-2 with its language-model head can be loaded';
  if (fields.model_type !== 'gpt2') refuse('model_type', `'gpt2'`, fields.model_type, onlyGpt2);
  const architectures = fields.architectures ?? ['GPT2LMHeadModel'];
  const known = ['GPT2LMHeadModel', 'GPT2Model'];
  if (!Array.isArray(architectures) || !architectures.some((name) => known.includes(name as string))) {
    const found = Array.isArray(architectures) ? architectures.join(', ') : architectures;
    refuse('architectures', alternatives(known), found, onlyGpt2);
  }
  for (const [name, allowed] of Object.entries(REQUIRED_VALUES)) {
    const value = fields[name] ?? allowed[0];
    if (!allowed.includes(value)) {
      refuse(name, alternatives(allowed.map(describe)), value, 'this variant of GPT-2 would compute different numbers');
    }
  }
  if (fields.quantization_config !== undefined && fields.quantization_config !== null) {
    refuse('quantization_config', 'no quantization', fields.quantization_config, 'use the original weights');
  }
}

/**
 * Transformers takes 50256 for an absent id that begins or ends a text and writes it into the config of every GPT-2 whose author
 * named none, even where the vocabulary is smaller: such an id means none, as null does. Of several end ids the first counts.
 */
function tokenId(fields: Record<string, unknown>, name: string, absent?: number): unknown {
  const value = fields[name] === undefined ? absent : fields[name];
  const id = Array.isArray(value) ? value[0] : value;
  const vocabSize = typeof fields.vocab_size === 'number' ? fields.vocab_size : 50257;
  return id === null || (typeof id === 'number' && (id < 0 || id >= vocabSize)) ? undefined : id;
}

/** What config.json says beside the configuration. */
export interface ConfigNotes {
  /** What the weights are stored as. Default `f32`. */
  dtype?: FloatType | undefined;
  /** Transformers' class for the tokenizer; without one it is GPT-2's. */
  tokenizerClass?: string | undefined;
}

const TORCH_NAMES = { f32: 'float32', f16: 'float16', bf16: 'bfloat16' } as const;

/** Hugging Face's config.json for a model; {@link configFromHuggingFace} reads it back to the same configuration. */
export function configToHuggingFace(
  config: GPT2Config,
  { dtype = 'f32', tokenizerClass }: ConfigNotes = {},
): Record<string, unknown> {
  return {
    architectures: ['GPT2LMHeadModel'],
    model_type: 'gpt2',
    activation_function: 'gelu_new',
    vocab_size: config.vocabSize,
    n_positions: config.nPositions,
    n_ctx: config.nPositions,
    n_embd: config.nEmbd,
    n_layer: config.nLayer,
    n_head: config.nHead,
    n_inner: config.nInner === 4 * config.nEmbd ? null : config.nInner,
    layer_norm_epsilon: config.layerNormEpsilon,
    initializer_range: config.initializerRange,
    embd_pdrop: config.embdPdrop,
    attn_pdrop: config.attnPdrop,
    resid_pdrop: config.residPdrop,
    bos_token_id: config.bosTokenId ?? null,
    eos_token_id: config.eosTokenId ?? null,
    pad_token_id: config.padTokenId ?? null,
    tie_word_embeddings: true,
    ...(tokenizerClass !== undefined && { tokenizer_class: tokenizerClass }),
    torch_dtype: TORCH_NAMES[dtype],
  };
}
