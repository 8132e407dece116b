import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { FileSource } from '../../data/sources/file-source.js';
import { IterableSource } from '../../data/sources/iterable-source.js';
import { contentOf, reportProblems, visitTexts } from '../../data/sources/read-chunk.js';
import { KotodamaError } from '../../errors.js';
import { ioError, makeFolder, writeJsonFile } from '../../files.js';
import type { JsonObject } from '../check-tokenizer-json.js';
import { Tokenizer } from '../tokenizer.js';
import { BpeLearner } from './bpe-learner.js';
import { checkTokenizerOptions, type TokenizerProgress, type TrainTokenizerOptions } from './options.js';
import { TextCounter } from './text-counter.js';
import { tokenizerConfig, tokenizerJson } from './tokenizer-content.js';
import type { WordCounts } from './word-counts.js';

/** Milliseconds of work after which other work of the process gets its turn. */
const TURN = 20;

/** Milliseconds between two calls of `onProgress`. */
const PROGRESS_INTERVAL = 100;

/** A tokenizer fresh from training. */
export class TrainedTokenizer {
  /** Ids in the vocabulary: fewer than were asked for if the text has too few pairs that repeat. */
  readonly vocabSize: number;

  /**
   * @param json content of tokenizer.json
   * @param config content of tokenizer_config.json
   */
  constructor(
    readonly json: JsonObject,
    readonly config: JsonObject,
    size: number,
  ) {
    this.vocabSize = size;
  }

  /** The tokenizer, to use at once. */
  tokenizer(): Tokenizer {
    return Tokenizer.fromJson(this.json, this.config);
  }

  /**
   * Writes tokenizer.json and tokenizer_config.json, which `Tokenizer.fromPretrained` and Hugging Face's libraries load.
   * The folder is made if it is missing; files of these names are replaced.
   *
   * @throws KotodamaError `ERR_IO`
   */
  async save(dir: string): Promise<void> {
    await makeFolder(dir).catch((cause) => {
      throw ioError(cause, `${dir} could not be made`);
    });
    await writeJsonFile(join(dir, 'tokenizer_config.json'), this.config);
    await writeJsonFile(join(dir, 'tokenizer.json'), this.json);
  }
}

/**
 * Trains a byte-level BPE tokenizer, GPT-2's kind, on text:
 *
 *     const trained = await trainTokenizer({ files: 'data/train.txt', vocabSize: 8000 });
 *     await trained.save('tokenizer');
 *
 * The same texts and options give the same tokenizer, in whatever order the texts come. The text is streamed: memory grows
 * with its distinct pre-tokens alone (see WordCounts and BpeLearner). A text without spaces, as in
 * Japanese, is cut at punctuation and digits only, so that most of its pre-tokens are distinct; they are kept whole. The
 * event loop gets its turn about every 20 ms, but for one sort of the distinct pre-tokens.
 *
 * @throws KotodamaError `ERR_OPTIONS`; `ERR_IO` and `ERR_DATA` for texts that cannot be read, are not UTF-8, or hold
 *   nothing; `ERR_MEMORY` for more than 512 MiB of distinct pre-tokens; `ERR_ABORTED`
 */
export async function trainTokenizer(options: TrainTokenizerOptions): Promise<TrainedTokenizer> {
  const { vocabSize, specialTokens, minFrequency } = checkTokenizerOptions(options);
  const turns = new Turns(options);
  const words = await countWords(options, specialTokens, turns);
  const learner = new BpeLearner(words, { vocabSize, specialTokens, minFrequency });
  const progress = () => ({ phase: 'merge', tokens: learner.tokens.length, vocabSize }) as const;
  for (const _ of learner.learn()) await turns.next(progress);
  await turns.next(progress, true);
  const { tokens, merges } = learner;
  const json = tokenizerJson({ tokens, merges, specialTokens });
  return new TrainedTokenizer(json, tokenizerConfig(specialTokens), tokens.length);
}

async function countWords(
  { files = [], texts, textField }: TrainTokenizerOptions,
  specialTokens: readonly string[],
  turns: Turns,
): Promise<WordCounts> {
  const paths = typeof files === 'string' ? [files] : files;
  const source = texts === undefined ? new FileSource(paths, { textField }) : new IterableSource(texts);
  const counter = new TextCounter(specialTokens);
  await turns.next();
  const progress = () => ({ phase: 'count', bytes: counter.bytes, distinctWords: counter.words.size }) as const;
  const chunks = source.read({ file: 0, offset: 0 });
  let waiting = false;
  try {
    for (;;) {
      waiting = true;
      const { done, value } = await turns.wait(chunks.next());
      waiting = false;
      if (done === true) break;
      const read = visitTexts(contentOf(value), counter, false);
      await reportProblems(value, read, undefined);
      await turns.next(progress);
    }
  } finally {
    const closed = chunks.return();
    // A source that still waits for text closes when it comes.
    if (waiting) closed.catch(() => {});
    else await closed;
  }
  await turns.next(progress, true);
  if (counter.words.size === 0) {
    throw new KotodamaError('ERR_DATA', 'A tokenizer cannot be trained without text', {
      expected: 'at least one text that is not empty',
      received: paths.length > 0 ? `only empty texts in ${paths.join(', ')}` : 'none',
    });
  }
  return counter.words;
}

/** Lets other work of the process go on, reports progress and notices an abort, each when it is time for it. */
class Turns {
  private readonly options: TrainTokenizerOptions;
  /** Rejects at an abort. */
  private readonly aborted: Promise<never>;
  private began = performance.now();
  private reported = Number.NEGATIVE_INFINITY;

  constructor(options: TrainTokenizerOptions) {
    this.options = options;
    const { signal } = options;
    this.aborted = new Promise((_, reject) => {
      signal?.addEventListener('abort', () => reject(abortError(signal)), { once: true });
    });
    this.aborted.catch(() => {});
  }

  /** Waits for something, but not beyond an abort. */
  wait<T>(work: Promise<T>): Promise<T> {
    return this.options.signal === undefined ? work : Promise.race([work, this.aborted]);
  }

  /** @param last report in any case */
  async next(progress?: () => TokenizerProgress, last = false): Promise<void> {
    const { signal, onProgress } = this.options;
    const now = performance.now();
    if (progress !== undefined && (last || now - this.reported >= PROGRESS_INTERVAL)) {
      this.reported = now;
      onProgress?.(progress());
    }
    if (now - this.began >= TURN) {
      await setImmediate();
      this.began = performance.now();
    }
    if (signal?.aborted === true) throw abortError(signal);
  }
}

function abortError(signal: AbortSignal): KotodamaError {
  return new KotodamaError('ERR_ABORTED', 'The training of the tokenizer was aborted', { cause: signal.reason });
}
