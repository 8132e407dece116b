import { setImmediate } from 'node:timers/promises';
import type { TokenTensor } from '../data/types.js';
import { KotodamaError } from '../errors.js';
import type { TokenizerModel } from '../tokenizer/types.js';
import { OptionReader } from '../validate.js';
import type { GPT2Config } from './config.js';
import { kthLargest } from './sampler.js';
import { checkTokenizerFits } from './tokenizer-fit.js';
import { checkInputIds } from './tokens.js';

/** How a text is explained. */
export interface ExplainOptions {
  /**
   * Required; the one that the model learned with. Only the number of its ids is checked here: the model must have them,
   * but for special ones at the end.
   */
  tokenizer: TokenizerModel;
  /** How many of the likeliest next tokens are listed for each position [10]. */
  topK?: number | undefined;
  /** Attention of this layer alone, counted from 0 [all]. */
  layer?: number | undefined;
  /** Attention of this head alone, in each layer, counted from 0 [all]. */
  head?: number | undefined;
}

/** A token that the model thinks may come next. */
export interface NextToken {
  id: number;
  /** The text that it would add; empty where it would only begin a character. */
  text: string;
  /** 0 to 1 */
  probability: number;
}

/** A token of a text, how well the model foresaw it, and what it expects after it. */
export interface ExplainedToken {
  id: number;
  /** The text that it adds; empty where a character is not complete yet. */
  text: string;
  /** Whether it ends inside a character: rare ones take several tokens. */
  partial: boolean;
  /** -ln(probability), in nats; null for the first token, before which there is nothing to judge by. */
  loss: number | null;
  /** What the model gave this token, 0 to 1, or null. */
  probability: number | null;
  /** Its place among all tokens, 1 for the likeliest, or null. */
  rank: number | null;
  /** The likeliest tokens after it, the likeliest first. */
  next: NextToken[];
}

/** What one head attends to. */
export interface HeadAttention {
  /** Counted from 0. */
  layer: number;
  /** Counted from 0. */
  head: number;
  /** The rows of the lower triangle, one after the other: how much position i attends to j is at i (i + 1) / 2 + j. */
  weights: Float32Array;
}

/** What a model makes of a text. */
export interface Explanation {
  /** The text, token by token. */
  tokens: ExplainedToken[];
  /** Mean loss in nats over all tokens but the first; null when there is only one. */
  loss: number | null;
  /** ln(vocabulary): the loss of a model that knows nothing. */
  guessLoss: number;
  /** Layer by layer, head by head. */
  attention: HeadAttention[];
}

/** What an explanation needs of a model. */
export interface Explained {
  readonly config: Readonly<GPT2Config>;
  /** Logits, (T, V) of one text. */
  forward(inputIds: TokenTensor): Promise<Float32Array>;
  /** Probabilities of a layer, (H, T, T) of one text. */
  attention(inputIds: TokenTensor, layer: number): Promise<Float32Array>;
}

/** Attention weights that an explanation may hold: 64 MiB. */
const MOST_WEIGHTS = 2 ** 24;

/** How many ids before a token decide how it is written: SentencePiece leaves out the space before the first. */
const CONTEXT_IDS = 8;

/** See {@link GPT2.explain}. */
export async function explain(model: Explained, text: string, options: ExplainOptions): Promise<Explanation> {
  const { config } = model;
  const { tokenizer, topK, layers, heads } = readExplain(text, options, config);
  checkTokenizerFits(config, tokenizer);
  const ids = tokenizer.encode(text);
  const inputIds = checkText(ids, config);
  checkSize(ids.length, layers.length * heads.length, options);

  const logits = await model.forward(inputIds);
  const tokens: ExplainedToken[] = [];
  let expected: Judgement | undefined;
  for (const [position, id] of ids.entries()) {
    const after = logits.subarray(position * config.vocabSize, (position + 1) * config.vocabSize);
    const sum = logSumExp(after);
    const before = ids.slice(Math.max(0, position - CONTEXT_IDS), position);
    const here = [...before, id].slice(-CONTEXT_IDS);
    const next = likeliest(after, sum, topK).map((candidate) => {
      const known = candidate.id < tokenizer.vocabSize;
      return { ...candidate, text: known ? addedText(tokenizer, here, candidate.id).text : '' };
    });
    tokens.push({ id, ...addedText(tokenizer, before, id), ...(expected ?? UNJUDGED), next });
    const following = ids[position + 1];
    if (following !== undefined) expected = judge(after, sum, following);
    // A large vocabulary takes a millisecond for each position: others get their turn in between.
    await setImmediate();
  }
  const losses = tokens.flatMap(({ loss }) => loss ?? []);
  return {
    tokens,
    loss: losses.length === 0 ? null : losses.reduce((sum, loss) => sum + loss, 0) / losses.length,
    guessLoss: Math.log(config.vocabSize),
    attention: await headsOf(model, inputIds, layers, heads),
  };
}

function readExplain(text: string, options: ExplainOptions, { nLayer, nHead }: Readonly<GPT2Config>) {
  const read = new OptionReader(options);
  read.onlyKnown(['tokenizer', 'topK', 'layer', 'head']);
  const tokenizer = options?.tokenizer;
  if (typeof tokenizer?.encode !== 'function') read.problem('tokenizer', 'a tokenizer', tokenizer);
  if (typeof text !== 'string') read.problem('text', 'a string', text);
  const topK = read.integer('topK', { min: 1 }, 10);
  const choose = (name: 'layer' | 'head', count: number) =>
    read.has(name) ? [read.integer(name, { min: 0, max: count - 1 })] : Array.from({ length: count }, (_, i) => i);
  const layers = choose('layer', nLayer);
  const heads = choose('head', nHead);
  read.finish('The text cannot be explained with these options');
  return { tokenizer, topK, layers, heads };
}

function checkText(ids: readonly number[], config: Readonly<GPT2Config>): TokenTensor {
  if (ids.length < 1 || ids.length > config.nPositions) {
    throw new KotodamaError('ERR_OPTIONS', 'length of the text', {
      expected: `1 to ${config.nPositions} tokens, the model's context`,
      received: `${ids.length}`,
      hint: ids.length === 0 ? 'give some text' : 'give a part of it',
    });
  }
  return checkInputIds([ids], config);
}

function checkSize(length: number, heads: number, { layer }: ExplainOptions): void {
  const weights = (heads * length * (length + 1)) / 2;
  if (weights <= MOST_WEIGHTS) return;
  throw new KotodamaError('ERR_OPTIONS', `the attention of ${heads} heads over ${length} tokens is too much`, {
    expected: `at most ${MOST_WEIGHTS} weights`,
    received: `${weights}`,
    hint: `choose a ${layer === undefined ? 'layer' : 'head'}, or give a shorter text`,
  });
}

type Judgement = Pick<ExplainedToken, 'loss' | 'probability' | 'rank'>;

/** Of the first token, before which there is nothing. */
const UNJUDGED: Judgement = { loss: null, probability: null, rank: null };

/** What the logits before a token say of it; `sum` is their {@link logSumExp}. */
function judge(logits: Float32Array, sum: number, id: number): Judgement {
  const own = logits[id] as number;
  const loss = sum - own;
  const rank = 1 + logits.reduce((count, logit) => count + (logit > own ? 1 : 0), 0);
  return { loss, probability: Math.exp(-loss), rank };
}

/** The ids of the largest logits with their probabilities, the largest first; equal ones by their ids. */
function likeliest(logits: Float32Array, sum: number, count: number): { id: number; probability: number }[] {
  const least = kthLargest(logits, count);
  const found: number[] = [];
  for (let id = 0; id < logits.length; id++) if ((logits[id] as number) >= least) found.push(id);
  return found
    .sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b)
    .slice(0, count)
    .map((id) => ({ id, probability: Math.exp((logits[id] as number) - sum) }));
}

/** The logarithm of what softmax divides by, over the whole vocabulary, in float64. */
function logSumExp(logits: Float32Array): number {
  let largest = -Infinity;
  for (const logit of logits) largest = Math.max(largest, logit);
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - largest);
  if (Number.isFinite(sum)) return largest + Math.log(sum);
  throw new KotodamaError('ERR_NON_FINITE', 'the logits hold NaN or infinite values', {
    hint: 'so do the weights: go back to an earlier checkpoint',
  });
}

/** The text that `id` adds to what the ids right before it say. */
function addedText(
  tokenizer: TokenizerModel,
  before: readonly number[],
  id: number,
): { text: string; partial: boolean } {
  const known = before.length === 0 ? '' : whole(tokenizer.decode(before));
  const all = tokenizer.decode([...before, id]);
  return { text: whole(all).slice(known.length), partial: all.endsWith('\uFFFD') };
}

/** Without the replacement characters at the end: bytes that are no character yet. */
function whole(text: string): string {
  return text.replace(/\uFFFD+$/, '');
}

async function headsOf(
  model: Explained,
  inputIds: TokenTensor,
  layers: readonly number[],
  heads: readonly number[],
): Promise<HeadAttention[]> {
  const all: HeadAttention[] = [];
  for (const layer of layers) {
    const probabilities = await model.attention(inputIds, layer);
    const size = probabilities.length / model.config.nHead;
    for (const head of heads) {
      all.push({ layer, head, weights: lowerTriangle(probabilities.subarray(head * size, (head + 1) * size)) });
    }
  }
  return all;
}

/** @param square (T, T) */
function lowerTriangle(square: Float32Array): Float32Array {
  const length = Math.sqrt(square.length);
  const triangle = new Float32Array((length * (length + 1)) / 2);
  for (let row = 0; row < length; row++) {
    triangle.set(square.subarray(row * length, row * length + row + 1), (row * (row + 1)) / 2);
  }
  return triangle;
}
