import { OptionReader } from '../validate.js';

/** GPT-2's numbers, complete. Defaults in brackets; those of the sizes are GPT-2 small's. */
export interface GPT2Config {
  /** V, number of token ids. Required. */
  vocabSize: number;
  /** Longest context in tokens [1024]. */
  nPositions: number;
  /** C, width of the residual stream [768]. */
  nEmbd: number;
  /** L, number of blocks [12]. */
  nLayer: number;
  /** H, attention heads per block; must divide nEmbd [12]. */
  nHead: number;
  /** Width of the hidden layer of the MLP [4 * nEmbd]. */
  nInner: number;
  /** Added to the variance in LayerNorm [1e-5]. */
  layerNormEpsilon: number;
  /** Standard deviation of the initial weights [0.02]. */
  initializerRange: number;
  /** Dropout after the embedding [0]. */
  embdPdrop: number;
  /** Dropout of the attention weights [0]. */
  attnPdrop: number;
  /** Dropout of what a block adds to the residual stream [0]. */
  residPdrop: number;
  /** Id that begins a text [none]. */
  bosTokenId?: number | undefined;
  /** Id that ends a text; generation stops at it [none]. */
  eosTokenId?: number | undefined;
  /** Id of padding [none]. */
  padTokenId?: number | undefined;
}

/** What a new model needs: the vocabulary; everything else has a default. */
export type GPT2ConfigInput = Pick<GPT2Config, 'vocabSize'> & {
  [Name in Exclude<keyof GPT2Config, 'vocabSize'>]?: GPT2Config[Name] | undefined;
};

/** Largest number the engine's 32-bit ids and dimensions hold. */
const MAX_DIMENSION = 2 ** 31 - 1;

/** Of nEmbd: the MLP is four times as wide unless someone says otherwise. */
const MAX_WIDTH = Math.floor(MAX_DIMENSION / 4);

/** Deeper than any transformer that was ever trained; keeps a damaged config.json from making millions of tensors. */
const MAX_LAYERS = 4096;

const NAMES = [
  'vocabSize',
  'nPositions',
  'nEmbd',
  'nLayer',
  'nHead',
  'nInner',
  'layerNormEpsilon',
  'initializerRange',
  'embdPdrop',
  'attnPdrop',
  'residPdrop',
  'bosTokenId',
  'eosTokenId',
  'padTokenId',
] as const satisfies readonly (keyof GPT2Config)[];

/**
 * Fills in the defaults and checks everything.
 *
 * @throws KotodamaError `ERR_OPTIONS` that lists every problem.
 */
export function resolveConfig(input: GPT2ConfigInput): GPT2Config {
  const read = new OptionReader(input);
  read.onlyKnown(NAMES);
  const size = { min: 1, max: MAX_DIMENSION };
  const probability = { min: 0, below: 1 };
  const vocabSize = read.integer('vocabSize', size);
  const nEmbd = read.integer('nEmbd', { min: 1, max: MAX_WIDTH }, 768);
  const nHead = read.integer('nHead', size, 12);
  const tokenId = { min: 0, ...(vocabSize >= 1 && { max: vocabSize - 1 }) };
  const config: GPT2Config = {
    vocabSize,
    nPositions: read.integer('nPositions', size, 1024),
    nEmbd,
    nLayer: read.integer('nLayer', { min: 1, max: MAX_LAYERS }, 12),
    nHead,
    nInner: read.integer('nInner', size, 4 * nEmbd),
    layerNormEpsilon: read.number('layerNormEpsilon', { above: 0 }, 1e-5),
    initializerRange: read.number('initializerRange', { min: 0 }, 0.02),
    embdPdrop: read.number('embdPdrop', probability, 0),
    attnPdrop: read.number('attnPdrop', probability, 0),
    residPdrop: read.number('residPdrop', probability, 0),
    bosTokenId: read.integer('bosTokenId', tokenId, undefined),
    eosTokenId: read.integer('eosTokenId', tokenId, undefined),
    padTokenId: read.integer('padTokenId', tokenId, undefined),
  };
  checkHeads(read, nHead, nEmbd);
  read.finish('The model configuration is not valid');
  return config;
}

/** Notes heads that do not divide the width, of which other checks say whether it is one; `width` is its name to the person. */
export function checkHeads(read: OptionReader, nHead: number, nEmbd: number, width = 'nEmbd'): void {
  if (nEmbd % nHead === 0 || !(nEmbd >= 1 && nHead >= 1)) return;
  read.problem('nHead', `a divisor of ${width} (${nEmbd})`, nHead, `try ${nearestDivisor(nEmbd, nHead)}`);
}

function nearestDivisor(number: number, wish: number): number {
  for (let distance = 1; distance < number; distance++) {
    if (wish - distance >= 1 && number % (wish - distance) === 0) return wish - distance;
    if (number % (wish + distance) === 0) return wish + distance;
  }
  return 1;
}

/** Name and shape of every parameter in Hugging Face's order; linear weights are Conv1D: [in, out]. */
export function parameterShapes(config: GPT2Config): { name: string; shape: number[] }[] {
  const { vocabSize, nPositions, nEmbd: C, nInner, nLayer } = config;
  const layer = (index: number) =>
    [
      ['ln_1.weight', [C]],
      ['ln_1.bias', [C]],
      ['attn.c_attn.weight', [C, 3 * C]],
      ['attn.c_attn.bias', [3 * C]],
      ['attn.c_proj.weight', [C, C]],
      ['attn.c_proj.bias', [C]],
      ['ln_2.weight', [C]],
      ['ln_2.bias', [C]],
      ['mlp.c_fc.weight', [C, nInner]],
      ['mlp.c_fc.bias', [nInner]],
      ['mlp.c_proj.weight', [nInner, C]],
      ['mlp.c_proj.bias', [C]],
    ].map(([name, shape]) => ({ name: `transformer.h.${index}.${name}`, shape: shape as number[] }));
  return [
    { name: 'transformer.wte.weight', shape: [vocabSize, C] },
    { name: 'transformer.wpe.weight', shape: [nPositions, C] },
    ...Array.from({ length: nLayer }, (_, index) => layer(index)).flat(),
    { name: 'transformer.ln_f.weight', shape: [C] },
    { name: 'transformer.ln_f.bias', shape: [C] },
  ];
}

/** Number of parameters; the head shares the token embedding's and is not counted again. */
export function parameterCount(config: GPT2Config): number {
  const { vocabSize, nPositions, nEmbd: C, nInner, nLayer } = config;
  const attention = C * 3 * C + 3 * C + C * C + C;
  const mlp = C * nInner + nInner + nInner * C + C;
  const layerNorm = 2 * C;
  return (vocabSize + nPositions) * C + nLayer * (2 * layerNorm + attention + mlp) + layerNorm;
}
