import { KotodamaError } from '../errors.js';
import type { NativeDecoder } from '../native.js';
import type { TokenizerModel } from '../tokenizer/types.js';
import { describe, OptionReader } from '../validate.js';
import type { GPT2Config } from './config.js';
import { callNative } from './native-call.js';
import { readSampling, SAMPLING_NAMES, Sampler, type SamplingOptions, type SamplingRules } from './sampler.js';
import { StopFilter, TextStream } from './text-stream.js';
import { checkTokenizerFits } from './tokenizer-fit.js';
import { checkInputIds } from './tokens.js';

/** How ids are generated, as {@link GPT2.generateIds} does. Defaults in brackets; the command line has others. */
export interface GenerateIdsOptions extends SamplingOptions {
  /** Most ids to add [64]. */
  maxNewTokens?: number | undefined;
  /** The id that ends generation and is not yielded; null: none [the model's eosTokenId]. */
  eosTokenId?: number | null | undefined;
  /**
   * On the CPU, for up to 8 texts at once: each token after the prompt is computed with matrices that are rounded to
   * eight bits, with a scale for each output. One text takes half to three fifths of the time of bf16 and about
   * a quarter of that of fp32; more texts gain less. Now and then another token is chosen. The rounded copy is made by each call, which takes
   * as long as about 15 tokens and, until the text ends, one more byte for each weight. The model stays as it is
   * [false].
   */
  int8?: boolean | undefined;
  /** Ends generation with `ERR_ABORTED`. */
  signal?: AbortSignal | undefined;
}

/** How a text is generated, as {@link GPT2.generate} does. */
export interface GenerateOptions extends GenerateIdsOptions {
  /**
   * Required; the one that the model learned with. Only the number of its ids is checked here: the model must have them,
   * but for special ones at the end.
   */
  tokenizer: TokenizerModel;
  /** Strings that end generation and are not yielded [none]. */
  stop?: readonly string[] | undefined;
}

/** How several texts are generated at once, as {@link GPT2.generateSamples} does. */
export interface GenerateSamplesOptions extends GenerateOptions {
  /** How many texts, at most 1024; text i is chosen with the seed `seed + i`. Required. */
  numSamples: number;
}

/** What comes next in one of several texts. */
export interface SamplePiece {
  /** Which text, from 0. */
  sample: number;
  text: string;
}

/** What generation needs of a model. */
export interface Decoding {
  readonly config: Readonly<GPT2Config>;
  /** Of a key-value cache for `batchSize` texts; waits as {@link Decoding.call} does. */
  createDecoder(
    size: { batchSize: number; capacity: number; int8: boolean },
    signal: AbortSignal | undefined,
  ): Promise<NativeDecoder>;
  /** Runs one engine call when its turn comes. @throws KotodamaError `ERR_ABORTED` when `signal` aborts before */
  call<T>(work: () => Promise<T>, signal: AbortSignal | undefined): Promise<T>;
}

/** What JavaScript keeps of a text is not planned as the engine's memory is. */
const MOST_SAMPLES = 1024;

const ID_NAMES = [...SAMPLING_NAMES, 'maxNewTokens', 'eosTokenId', 'int8', 'signal'];
const TEXT_NAMES = [...ID_NAMES, 'tokenizer', 'stop'];

/** See {@link GPT2.generateIds}. */
export async function* generateIds(
  model: Decoding,
  prompt: ArrayLike<number>,
  options: GenerateIdsOptions,
): AsyncGenerator<number, void, undefined> {
  const { config } = model;
  const rules = readRules(new OptionReader(options), ID_NAMES, config);
  const ids = startIds(prompt, config.bosTokenId ?? config.eosTokenId, config);
  for await (const { id } of decode(model, ids, config.vocabSize, rules, drafts(rules, ids, 1))) {
    if (id !== undefined) yield id;
  }
}

/** See {@link GPT2.generate}. */
export async function* generateText(
  model: Decoding,
  prompt: string,
  options: GenerateOptions,
): AsyncGenerator<string, void, undefined> {
  for await (const { text } of generatePieces(model, prompt, new OptionReader(options), TEXT_NAMES)) yield text;
}

/** See {@link GPT2.generateSamples}. */
export async function* generateSamples(
  model: Decoding,
  prompt: string,
  options: GenerateSamplesOptions,
): AsyncGenerator<SamplePiece, void, undefined> {
  const read = new OptionReader(options);
  const numSamples = read.integer('numSamples', { min: 1, max: MOST_SAMPLES });
  const { seed } = read.values;
  if (Number.isSafeInteger(seed) && !Number.isSafeInteger((seed as number) + (numSamples - 1))) {
    // Beyond, sums are rounded: two texts would be the same.
    read.problem('seed', `at most ${Number.MAX_SAFE_INTEGER - (numSamples - 1)} for ${numSamples} texts`, seed);
  }
  yield* generatePieces(model, prompt, read, [...TEXT_NAMES, 'numSamples'], numSamples);
}

async function* generatePieces(
  model: Decoding,
  prompt: string,
  read: OptionReader,
  names: readonly string[],
  numSamples = 1,
): AsyncGenerator<SamplePiece, void, undefined> {
  const { config } = model;
  const { tokenizer, stop = [] } = read.values as unknown as GenerateOptions;
  if (typeof tokenizer?.encode !== 'function') read.problem('tokenizer', 'a tokenizer', tokenizer);
  const isText = (item: unknown) => typeof item === 'string' && item !== '';
  if (!Array.isArray(stop) || !stop.every(isText)) read.problem('stop', 'an array of strings that are not empty', stop);
  if (typeof prompt !== 'string') read.problem('prompt', 'a string', prompt);
  const eos = config.eosTokenId ?? tokenizer?.eosTokenId;
  const rules = readRules(read, names, { ...config, eosTokenId: eos });
  checkTokenizerFits(config, tokenizer);

  const start = config.bosTokenId ?? tokenizer.bosTokenId ?? eos;
  const ids = startIds(tokenizer.encode(prompt), start, config);
  const texts = drafts(rules, ids, numSamples);
  const outputs = texts.map(() => ({ stream: new TextStream(tokenizer, ids), filter: new StopFilter(stop) }));
  // A model may have more ids than its tokenizer, to round up; those have no text.
  const vocabSize = Math.min(config.vocabSize, tokenizer.vocabSize);
  for await (const { index, id } of decode(model, ids, vocabSize, rules, texts)) {
    const { stream, filter } = outputs[index] as (typeof outputs)[number];
    const text = id === undefined ? filter.push(stream.end()) + filter.end() : filter.push(stream.push(id));
    if (text !== '') yield { sample: index, text };
    if (filter.stopped) (texts[index] as Draft).ended = true;
  }
}

interface Rules {
  sampling: SamplingRules;
  maxNewTokens: number;
  eosTokenId: number | null | undefined;
  int8: boolean;
  signal: AbortSignal | undefined;
}

function readRules(read: OptionReader, names: readonly string[], config: Readonly<GPT2Config>): Rules {
  read.onlyKnown(names);
  const sampling = readSampling(read);
  const maxNewTokens = read.integer('maxNewTokens', { min: 0 }, 64);
  const int8 = read.boolean('int8', false);
  const signal = read.signal('signal');
  const ids = { min: 0, max: config.vocabSize - 1 };
  const eosTokenId = read.values.eosTokenId === null ? null : read.integer('eosTokenId', ids, config.eosTokenId);
  read.finish('Text cannot be generated with these options');
  return { sampling, maxNewTokens, eosTokenId, int8, signal };
}

function startIds(prompt: ArrayLike<number>, start: number | undefined, config: Readonly<GPT2Config>): number[] {
  if (typeof prompt?.length !== 'number') {
    throw new KotodamaError('ERR_OPTIONS', 'prompt', { expected: 'an array of ids', received: describe(prompt) });
  }
  const ids = prompt.length === 0 && start !== undefined ? [start] : Array.from(prompt);
  if (ids.length === 0) {
    throw new KotodamaError('ERR_OPTIONS', 'the prompt is empty and the model has no id that begins a text', {
      hint: 'give a prompt',
    });
  }
  // The model sees the end of a long prompt, the repetition penalty all of it.
  checkInputIds([ids], { vocabSize: config.vocabSize, nPositions: Number.POSITIVE_INFINITY });
  return ids;
}

/** A text on its way. */
interface Draft {
  readonly sampler: Sampler;
  /** The ids that the model sees, and those to come. */
  context: number[];
  /** Nobody wants more of it. */
  ended: boolean;
}

function drafts({ sampling }: Rules, prompt: readonly number[], count: number): Draft[] {
  return Array.from({ length: count }, (_, index) => ({
    sampler: new Sampler({ ...sampling, seed: sampling.seed + index }, prompt),
    context: [...prompt],
    ended: false,
  }));
}

/**
 * The loop: look at the contexts, choose, append to the key-value cache. Yields the ids of all texts as they come; no id
 * when a text has come to its end, unless its `ended` was set before.
 */
async function* decode(
  model: Decoding,
  prompt: readonly number[],
  vocabSize: number,
  { maxNewTokens, eosTokenId, int8, signal }: Rules,
  texts: readonly Draft[],
): AsyncGenerator<{ index: number; id: number | undefined }, void, undefined> {
  if (maxNewTokens === 0) return;
  const capacity = Math.min(model.config.nPositions, prompt.length + maxNewTokens - 1);
  for (const text of texts) text.context = text.context.slice(-capacity);
  let news = texts.map(({ context }) => context);
  let held = 0;
  const logits = new Float32Array(texts.length * model.config.vocabSize);
  const decoder = await model.createDecoder({ batchSize: texts.length, capacity, int8 }, signal);
  try {
    for (let count = 1; texts.some(({ ended }) => !ended); count++) {
      const ids = Int32Array.from(news.flat());
      const begins = held === 0;
      await model.call(() => {
        if (begins) decoder.reset();
        return decoder.append(ids, logits);
      }, signal);
      held += ids.length / texts.length;
      for (const [index, text] of texts.entries()) {
        const begin = index * model.config.vocabSize;
        // Texts that have ended go on with any id beside the others: a batch has all its rows.
        const id = text.ended ? 0 : text.sampler.pick(logits.subarray(begin, begin + vocabSize));
        text.context.push(id);
        if (text.ended) continue;
        if (id !== eosTokenId) yield { index, id };
        if (text.ended || (id !== eosTokenId && count < maxNewTokens)) continue;
        text.ended = true;
        yield { index, id: undefined };
      }
      news = texts.map(({ context }) => context.slice(-1));
      if (held < capacity) continue;
      // Positions are absolute, so that what stays must be computed anew; keeping half makes that rare.
      for (const text of texts) text.context = text.context.slice(-Math.max(1, Math.floor(capacity / 2)));
      news = texts.map(({ context }) => context);
      held = 0;
    }
  } finally {
    await callNative(() => decoder.dispose());
  }
}
