import { KotodamaError } from '../errors.js';
import type { NativeDecoder } from '../native.js';
import type { TokenizerModel } from '../tokenizer/types.js';
import { OptionReader } from '../validate.js';
import type { GPT2Config } from './config.js';
import { callNative } from './native-call.js';
import { readSampling, SAMPLING_NAMES, Sampler, type SamplingOptions } from './sampler.js';
import { StopFilter, TextStream } from './text-stream.js';
import { checkInputIds } from './tokens.js';

export interface GenerateIdsOptions extends SamplingOptions {
  /** Most ids to add [64]. */
  maxNewTokens?: number;
  /** The id that ends generation and is not yielded; null: none [the model's eosTokenId]. */
  eosTokenId?: number | null | undefined;
  /** Ends generation with `ERR_ABORTED`. */
  signal?: AbortSignal | undefined;
}

export interface GenerateOptions extends GenerateIdsOptions {
  /** Required. */
  tokenizer: TokenizerModel;
  /** Strings that end generation and are not yielded [none]. */
  stop?: readonly string[];
}

/** What generation needs of a model. */
export interface Decoding {
  readonly config: Readonly<GPT2Config>;
  createDecoder(capacity: number): Promise<NativeDecoder>;
  /** Runs one engine call under the model's guards. */
  call<T>(work: () => Promise<T>): Promise<T>;
}

const ID_NAMES = [...SAMPLING_NAMES, 'maxNewTokens', 'eosTokenId', 'signal'];

/** See {@link GPT2.generateIds}. */
export async function* generateIds(
  model: Decoding,
  prompt: ArrayLike<number>,
  options: GenerateIdsOptions,
): AsyncGenerator<number, void, undefined> {
  const { config } = model;
  const rules = readRules(new OptionReader(options), ID_NAMES, config);
  yield* decode(model, startIds(prompt, config.bosTokenId ?? config.eosTokenId, config), config.vocabSize, rules);
}

/** See {@link GPT2.generate}. */
export async function* generateText(
  model: Decoding,
  prompt: string,
  options: GenerateOptions,
): AsyncGenerator<string, void, undefined> {
  const { config } = model;
  const read = new OptionReader(options);
  const tokenizer = options?.tokenizer;
  if (typeof tokenizer?.encode !== 'function') read.problem('tokenizer', 'a tokenizer', tokenizer);
  const stop = options?.stop ?? [];
  const isText = (item: unknown) => typeof item === 'string' && item !== '';
  if (!Array.isArray(stop) || !stop.every(isText)) read.problem('stop', 'an array of strings that are not empty', stop);
  if (typeof prompt !== 'string') read.problem('prompt', 'a string', prompt);
  const eos = config.eosTokenId ?? tokenizer?.eosTokenId;
  const rules = readRules(read, [...ID_NAMES, 'tokenizer', 'stop'], { ...config, eosTokenId: eos });

  const start = config.bosTokenId ?? tokenizer.bosTokenId ?? eos;
  const ids = startIds(tokenizer.encode(prompt), start, config);
  const stream = new TextStream(tokenizer, ids);
  const filter = new StopFilter(stop);
  // A model may have more ids than its tokenizer, to round up; those have no text.
  const vocabSize = Math.min(config.vocabSize, tokenizer.vocabSize);
  for await (const id of decode(model, ids, vocabSize, rules)) {
    const piece = filter.push(stream.push(id));
    if (piece !== '') yield piece;
    if (filter.stopped) return;
  }
  const rest = filter.push(stream.end()) + filter.end();
  if (rest !== '') yield rest;
}

interface Rules {
  sampler: Sampler;
  maxNewTokens: number;
  eosTokenId: number | null | undefined;
  signal: AbortSignal | undefined;
}

function readRules(read: OptionReader, names: readonly string[], config: Readonly<GPT2Config>): Rules {
  read.onlyKnown(names);
  const sampling = readSampling(read);
  const maxNewTokens = read.integer('maxNewTokens', { min: 0 }, 64);
  const { eosTokenId = config.eosTokenId, signal } = read.values as GenerateIdsOptions;
  if (signal !== undefined && !(signal instanceof AbortSignal)) read.problem('signal', 'an AbortSignal', signal);
  read.finish('Text cannot be generated with these options');
  return { sampler: new Sampler(sampling), maxNewTokens, eosTokenId, signal };
}

function startIds(prompt: ArrayLike<number>, start: number | undefined, config: Readonly<GPT2Config>): number[] {
  const ids = prompt.length === 0 && start !== undefined ? [start] : Array.from(prompt);
  if (ids.length === 0) {
    throw new KotodamaError('ERR_OPTIONS', 'the prompt is empty and the model has no id that begins a text', {
      hint: 'give a prompt',
    });
  }
  checkInputIds([ids.slice(-config.nPositions)], config);
  return ids;
}

/** The loop: look at the context, choose, append to the key-value cache. */
async function* decode(
  model: Decoding,
  prompt: readonly number[],
  vocabSize: number,
  { sampler, maxNewTokens, eosTokenId, signal }: Rules,
): AsyncGenerator<number, void, undefined> {
  if (maxNewTokens === 0) return;
  const context = Math.min(model.config.nPositions, prompt.length + maxNewTokens - 1);
  const history = prompt.slice(-context);
  let pending: readonly number[] = history;
  const decoder = await model.createDecoder(context);
  try {
    for (let count = 0; count < maxNewTokens; count++) {
      if (signal?.aborted) throw new KotodamaError('ERR_ABORTED', 'generation was aborted', { cause: signal.reason });
      const ids = Int32Array.from(pending);
      const logits = await model.call(() => decoder.append(ids));
      const id = sampler.pick(logits.subarray(0, vocabSize));
      if (id === eosTokenId) return;
      yield id;
      history.push(id);
      pending = [id];
      if (decoder.length === context) {
        // Positions are absolute, so that what stays must be computed anew; keeping half makes that rare.
        history.splice(0, history.length - Math.max(1, Math.floor(context / 2)));
        pending = history;
        decoder.reset();
      }
    }
  } finally {
    await callNative(() => decoder.dispose());
  }
}
