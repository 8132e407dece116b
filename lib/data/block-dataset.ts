import { KotodamaError } from '../errors.js';
import type { TokenizerModel } from '../tokenizer/types.js';
import { OptionReader } from '../validate.js';
import { Abort } from './abort.js';
import type { EncodedSource, Pass } from './encoded-source.js';
import { type Encoder, InlineEncoder } from './encoder.js';
import { type IdPosition, IdQueue } from './id-queue.js';
import type { OnBadRecord } from './sources/bad-records.js';
import { ENCODINGS, type Encoding } from './sources/encoding.js';
import { FileSource } from './sources/file-source.js';
import { IterableSource, type Texts } from './sources/iterable-source.js';
import type { TextSource } from './sources/text-source.js';
import { badState, readCount, readState } from './state.js';
import type { TokenPiece } from './token-piece.js';
import { type EndOfText, type TokenPart, tokenStream } from './token-stream.js';
import { type Block, type BlockOrigin, IGNORED_LABEL, type Json } from './types.js';
import { MOST_WORKERS, workerPool } from './worker-pool.js';

/** Where a whole pass begins. */
const FIRST_ID: IdPosition = { file: 0, offset: 0, skip: 0 };

/** How texts become blocks. */
export interface BlockDatasetOptions {
  /**
   * Encodes the texts. One from `Tokenizer.fromPretrained`, and a SentencePiece unigram model, can work in a DataLoader's
   * workers; others stay in this thread.
   */
  tokenizer: TokenizerModel;
  /** T, the length of a block. */
  blockSize: number;
  /**
   * Whether ids that fill no whole block at the end are dropped (default) or padded, with labels of -100. With a
   * `promptField` nothing is dropped.
   */
  dropLast?: boolean | undefined;
  /**
   * Where the tokenizer's end-of-text id goes: nowhere (default), after each text, or after each document (default with a
   * `promptField`). A record of JSON lines or Parquet is a document, and so is each text of `fromTexts`; a file of plain
   * lines is one altogether. A line's end is not part of its text, unless a file is read with `keepLinebreaks`: where no id
   * is put, texts are joined with nothing between them.
   */
  eos?: 'none' | 'line' | 'document' | undefined;
  /**
   * Leaves bad records out instead of ending the pass: lines that are not UTF-8 or not JSON, records without text. A
   * function hears of each one; `skipped` counts them. Default false.
   */
  skipBad?: boolean | ((problem: KotodamaError) => void) | undefined;
}

/** How files become blocks. */
export interface FileDatasetOptions extends BlockDatasetOptions {
  /** Field of JSON lines or column of Parquet files that holds the text. Default `text`. */
  textField?: string | undefined;
  /**
   * Field or column that holds a prompt, which comes before the text and is read but not learned: its labels are -100, so
   * that a model learns to answer and not to ask. Records then stay whole: a block holds as many as fit, and is padded. One
   * that is too long for a block is a bad record. Nothing is put between prompt and text, and each is encoded by itself, as
   * `generate` encodes its prompt. Default none.
   */
  promptField?: string | undefined;
  /**
   * What the files are in, but Parquet ones. Default `utf-8`. Of a file in another encoding every pass, and a run that goes
   * on, reads again up to its place.
   */
  encoding?: Encoding | undefined;
  /** Whether a line of plain text keeps its end, as `\n`, so that a model learns to break lines. Default false. */
  keepLinebreaks?: boolean | undefined;
}

const FILE_OPTIONS = ['textField', 'promptField', 'encoding', 'keepLinebreaks'] as const;

/**
 * Cuts text into blocks of T ids. The texts are encoded one by one and their ids joined; block k has the T ids from kT
 * on as inputs and the T ids from kT + 1 on as labels. Each `for await` is a new pass from the beginning. The LF or CRLF
 * that ends a line is not part of its text: without `eos` there is nothing between two texts, and a model learns neither to
 * break a line nor to end a text. With a `promptField` blocks are made otherwise, see there.
 *
 *     const dataset = BlockDataset.fromFile('train.txt', { tokenizer, blockSize: 1024 });
 *     for await (const { inputIds, labels } of dataset) ...
 *
 * A pass fails with `ERR_DATA` when the text is too short for one block, or is not valid in its encoding (the place is named).
 */
export class BlockDataset implements EncodedSource {
  readonly blockSize: number;
  /** Bad records left out since the last pass began. */
  skipped = 0;
  /** Bytes of text, in UTF-8, that the last pass has read so far. */
  textBytes = 0;
  readonly tokenizer: TokenizerModel;
  /** Field of what is read and not learned, if any: then blocks hold whole records. */
  readonly promptField: string | undefined;
  private readonly source: TextSource;
  private readonly dropLast: boolean;
  private readonly encoding: Encoding = 'utf-8';
  private readonly keepLinebreaks: boolean = false;
  private readonly eos: EndOfText;
  private readonly onBad: OnBadRecord;
  /** Where the next pass begins. */
  private start = FIRST_ID;
  /** The pass that was begun last, or the one that will be next. Passes that were left do not write here. */
  private pass: { next: IdPosition } = { next: this.start };

  private constructor(
    options: BlockDatasetOptions,
    open: (onBad: OnBadRecord) => TextSource,
    known: readonly string[] = [],
  ) {
    if (typeof open !== 'function') {
      throw new KotodamaError('ERR_OPTIONS', 'a BlockDataset is not made with new', {
        hint: 'BlockDataset.fromFile(path, options) makes one, and BlockDataset.fromTexts(texts, options)',
      });
    }
    const reader = new OptionReader(options);
    reader.onlyKnown(['tokenizer', 'blockSize', 'dropLast', 'eos', 'skipBad', ...known]);
    const { tokenizer, skipBad = false } = options ?? {};
    if (typeof tokenizer?.encode !== 'function') {
      reader.problem('tokenizer', 'a tokenizer, e.g. from Tokenizer.fromPretrained', tokenizer);
    }
    this.blockSize = reader.integer('blockSize', { min: 1 });
    this.dropLast = reader.boolean('dropLast', true);
    this.promptField = known.includes('promptField') ? reader.string('promptField', undefined) : undefined;
    this.eos = reader.choice('eos', ['none', 'line', 'document'], this.promptField === undefined ? 'none' : 'document');
    if (this.eos !== 'none' && tokenizer?.eosTokenId === undefined) {
      reader.problem('eos', "'none', since the tokenizer has no end-of-text id", this.eos);
    }
    if (typeof skipBad !== 'boolean' && typeof skipBad !== 'function') {
      reader.problem('skipBad', 'true, false or a function', skipBad);
    }
    if (known.includes('textField')) {
      reader.string('textField', undefined);
      this.encoding = reader.choice('encoding', ENCODINGS, 'utf-8');
      this.keepLinebreaks = reader.boolean('keepLinebreaks', false);
      if (this.keepLinebreaks && typeof tokenizer?.encode === 'function' && losesLinebreaks(tokenizer)) {
        const hint = 'train a tokenizer that keeps them: a BPE, or a unigram model with --normalizer identity';
        reader.problem(
          'keepLinebreaks',
          'false, since the tokenizer makes a space or nothing of a line break',
          true,
          hint,
        );
      }
    }
    reader.finish('These options cannot make a BlockDataset');
    this.tokenizer = tokenizer;
    this.onBad =
      skipBad === false
        ? undefined
        : (problem) => {
            this.skipped++;
            if (skipBad !== true) skipBad(problem);
          };
    this.source = open(this.onBad);
  }

  /**
   * The texts of one or more sources, in order, streamed:
   *
   * - `.txt`: each line is a text; so is each line of any file whose name says nothing else
   * - `.jsonl`, `.ndjson`, `.json`: in each line a JSON object with the text in `textField`
   * - `.gz` and `.zst` of these; `.parquet`, with the text in the column `textField`
   * - patterns such as `data/*.txt`, in the order of the sorted paths; http(s) URLs; `-`, the standard input, once
   *
   * A saved state continues in plain files of UTF-8 at its byte and in Parquet at its row group; what is compressed, in
   * another encoding, from a URL or the standard input is read again up to its place.
   *
   * @throws KotodamaError `ERR_IO`, `ERR_DATA` or `ERR_OPTIONS` when a file is missing, not a file, or empty, when a
   *   pattern matches nothing, or when an option is not valid
   */
  static fromFile(path: string | readonly string[], options: FileDatasetOptions): BlockDataset {
    const names = typeof path === 'string' ? [path] : path;
    if (!Array.isArray(names) || names.length === 0 || !names.every((name) => typeof name === 'string')) {
      throw new KotodamaError('ERR_OPTIONS', 'There is no file to read', { expected: 'a path, or a list of paths' });
    }
    const { textField, promptField, encoding, keepLinebreaks } = options ?? {};
    const open = (onBad: OnBadRecord) =>
      new FileSource([...names], { textField, promptField, encoding, keepLinebreaks, onBad });
    return new BlockDataset(options, open, FILE_OPTIONS);
  }

  /**
   * Texts from an iterable or async iterable, or from a function that returns one: a generator or a stream can be read
   * only once (a second pass over it is `ERR_DATA`), a function for every pass.
   *
   * A run is not resumed with an array of other texts. Where a function, a generator or a stream gives them, a resumed run
   * cannot tell whether these are the same texts: give the same ones in the same order.
   */
  static fromTexts(texts: Texts | (() => Texts), options: BlockDatasetOptions): BlockDataset {
    return new BlockDataset(options, (onBad) => new IterableSource(texts, onBad));
  }

  /** A pass from the start, or from where `restore` said. */
  [Symbol.asyncIterator](): AsyncGenerator<Block, void> {
    return this.begin(undefined).blocks;
  }

  /** For the DataLoader; see EncodedSource. @hidden */
  begin(encoder: Encoder | undefined): Pass {
    const start = this.start;
    const pass = { next: start };
    this.start = FIRST_ID;
    this.pass = pass;
    this.skipped = 0;
    this.textBytes = 0;
    const closing = new AbortController();
    const blocks = this.cut(start, pass, encoder ?? new InlineEncoder(this.tokenizer), closing.signal);
    return { blocks, snapshot: () => this.stateAt(pass.next), close: () => closing.abort() };
  }

  /**
   * All ids of a pass, in pieces of some thousand: what `writeTokenFiles` takes. Blocks play no part in it.
   *
   * @param options.numWorkers threads that tokenize, as in DataLoaderOptions. Default 0
   * @param options.signal ends the pass with `ERR_ABORTED`
   * @throws KotodamaError `ERR_OPTIONS` with a `promptField`, since ids alone do not say what is a prompt
   */
  async *tokens(
    options: { numWorkers?: number | undefined; signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<TokenPiece, void> {
    const reader = new OptionReader(options);
    reader.onlyKnown(['numWorkers', 'signal']);
    const numWorkers = reader.integer('numWorkers', MOST_WORKERS, 0);
    const signal = reader.signal('signal');
    if (this.promptField !== undefined) {
      reader.problem('promptField', 'none: ids alone do not say which of them are prompts', this.promptField);
    }
    reader.finish('These options cannot be used to tokenize');
    const pool = workerPool(this.tokenizer, numWorkers);
    const abort = new Abort(signal, () => void pool?.close());
    this.skipped = 0;
    this.textBytes = 0;
    const closing = new AbortController();
    const parts = this.parts(FIRST_ID, pool ?? new InlineEncoder(this.tokenizer), closing.signal);
    let file = -1;
    try {
      for (;;) {
        const { done, value: part } = await abort.orWait(parts.next());
        if (done === true) return;
        yield { ids: part.ids, documents: startsOfDocuments(part, part.file !== file) };
        if (part.lengths.length > 0) file = part.file;
      }
    } finally {
      abort.release();
      closing.abort();
      // Not awaited: a source that waits for something may never return.
      parts.return().catch(() => {});
      await pool?.close();
    }
  }

  state(): Json {
    return this.stateAt(this.pass.next)();
  }

  /** For the DataLoader; see EncodedSource. @hidden */
  upcoming(): () => Json {
    return this.stateAt(this.start);
  }

  async locate(origin: BlockOrigin): Promise<string> {
    return this.source.locate(origin);
  }

  async identity(): Promise<Json> {
    const { blockSize, eos, dropLast, promptField, encoding, keepLinebreaks } = this;
    // Runs of older releases know none of these.
    const rest = {
      ...(promptField !== undefined && { promptField }),
      ...(encoding !== 'utf-8' && { encoding }),
      ...(keepLinebreaks && { keepLinebreaks }),
    };
    return { ...(await this.source.identity()), blockSize, eos, dropLast, ...rest };
  }

  restore(state: Json): void {
    const saved = readState(state, this.source.kind);
    const start = {
      file: readCount(saved, 'file'),
      offset: readCount(saved, 'offset'),
      skip: readCount(saved, 'skip'),
    };
    const here = this.source.mark(start.file);
    if (saved.at !== undefined && saved.at !== here) throw badState(`the place ${saved.at}`, here);
    this.start = start.file + start.offset + start.skip === 0 ? FIRST_ID : start;
    this.pass = { next: this.start };
  }

  private stateAt({ file, offset, skip }: IdPosition): () => Json {
    return () => ({ kind: this.source.kind, at: this.source.mark(file), file, offset, skip });
  }

  /** One pass from `start`; `pass.next` always names the block after the last one yielded. */
  private async *cut(
    start: IdPosition,
    pass: { next: IdPosition },
    encoder: Encoder,
    closed: AbortSignal,
  ): AsyncGenerator<Block, void> {
    let yielded = 0;
    const ids = new IdQueue(start);
    const cutOff = this.promptField === undefined ? () => this.cutIds(ids) : () => this.cutRecords(ids);
    for await (const _ of this.fill(ids, start, encoder, closed)) {
      for (let block = cutOff(); block !== undefined; block = cutOff()) {
        pass.next = ids.position();
        yielded++;
        yield block;
      }
    }
    const rest = ids.length;
    const dropLast = this.dropLast && this.promptField === undefined;
    // A single id has no successor, so nothing could be learned from it.
    if (!dropLast && rest > 1) {
      const block = this.paddedBlock(ids, rest);
      pass.next = ids.position();
      yielded++;
      yield block;
    }
    if (yielded === 0 && start === FIRST_ID) throw tooShort(rest, this.blockSize, dropLast);
    pass.next = FIRST_ID;
  }

  /** Puts the ids of the texts into the queue, a chunk at a time. */
  private async *fill(
    ids: IdQueue,
    start: IdPosition,
    encoder: Encoder,
    closed: AbortSignal,
  ): AsyncGenerator<void, void> {
    let skip = start.skip;
    for await (const part of this.parts(start, encoder, closed)) {
      ids.push(part);
      const first = part.lengths[0];
      if (first !== undefined) {
        if (skip > first) {
          throw badState(`a text with at least ${skip} ids at offset ${start.offset}`, `${first} ids`);
        }
        ids.drop(skip);
        skip = 0;
      }
      yield;
    }
    if (skip > 0) throw badState(`a text with at least ${skip} ids at offset ${start.offset}`, 'the end of the text');
  }

  private async *parts(start: IdPosition, encoder: Encoder, closed: AbortSignal): AsyncGenerator<TokenPart, void> {
    const { tokenizer, eos, onBad } = this;
    const options = { tokenizer, eos, longest: this.blockSize + 1, onBad, closed };
    for await (const part of tokenStream(this.source, start, encoder, options)) {
      this.textBytes += part.textBytes;
      yield part;
    }
  }

  /** The next block, unless there are too few ids. */
  private cutIds(ids: IdQueue): Block | undefined {
    if (ids.length <= this.blockSize) return undefined;
    // One piece of memory for both halves the work of the garbage collector; they do not share any of it.
    const size = this.blockSize;
    const both = new Int32Array(2 * size + 1);
    const first = ids.position();
    ids.peek(both.subarray(0, size + 1));
    ids.drop(size);
    both.copyWithin(size + 1, 1, size + 1);
    return {
      inputIds: both.subarray(0, size),
      labels: both.subarray(size + 1),
      origin: between(first, ids.position()),
    };
  }

  /** A block of the next records, unless another one might fit. */
  private cutRecords(ids: IdQueue): Block | undefined {
    const count = ids.countWhole(this.blockSize + 1);
    return count < ids.length ? this.paddedBlock(ids, count) : undefined;
  }

  /** A block of the next `count` ids, at most T + 1; they are gone afterwards. */
  private paddedBlock(ids: IdQueue, count: number): Block {
    const inputIds = new Int32Array(this.blockSize).fill(this.tokenizer.padTokenId ?? 0);
    const labels = new Int32Array(this.blockSize).fill(IGNORED_LABEL);
    const taken = new Int32Array(count);
    const first = ids.position();
    ids.peek(taken);
    ids.drop(count - 1);
    const origin = between(first, ids.position());
    ids.drop(1);
    for (const [index, id] of taken.entries()) {
      if (index < this.blockSize) inputIds[index] = id < 0 ? ~id : id;
      if (index > 0 && id >= 0) labels[index - 1] = id;
    }
    return { inputIds, labels, origin };
  }
}

/** Whether a text's line breaks do not come through, as with SentencePiece's usual rules. */
function losesLinebreaks(tokenizer: TokenizerModel): boolean {
  const ids = (text: string) => Array.from(tokenizer.encode(text)).join();
  return ids('a\n') === ids('a') || ids('a\nb') === ids('a b');
}

/** The error of a text of `count` tokens that makes no block. */
export function tooShort(count: number, blockSize: number, dropLast: boolean): KotodamaError {
  const needed = dropLast ? blockSize + 1 : 2;
  return new KotodamaError('ERR_DATA', 'The text is too short for one block', {
    expected: `at least ${needed} tokens`,
    received: `${count} ${count === 1 ? 'token' : 'tokens'}`,
    hint: dropLast ? 'give more text or a shorter block (API: or dropLast: false)' : 'give more text',
  });
}

function between(first: IdPosition, last: IdPosition): BlockOrigin {
  return [first.file, first.offset, last.file, last.offset];
}

/** Where documents begin among the ids of a part. */
function startsOfDocuments({ documents, lengths }: TokenPart, firstOfFile: boolean): number[] {
  if (!documents) return firstOfFile && lengths.length > 0 ? [0] : [];
  const starts: number[] = [];
  let start = 0;
  for (const length of lengths) {
    starts.push(start);
    start += length;
  }
  return starts;
}
