import { KotodamaError } from '../errors.js';
import { describe, OptionReader } from '../validate.js';
import { markFiles } from './content-mark.js';
import { type EncodedSource, type Pass, type Rows, UNREAD } from './encoded-source.js';
import type { Encoder } from './encoder.js';
import { Permutation } from './permutation.js';
import { badState, readCount, readState } from './state.js';
import { inspectTokenFile, type TokenFile, type TokenizerMark } from './token-file.js';
import { TokenFileReader } from './token-file-reader.js';
import { type Block, type BlockOrigin, IGNORED_LABEL, type Json } from './types.js';

/** Ids may be anything that the engine's int32 holds when nobody says how many there are. */
const MOST_IDS = 2 ** 31;

/** Blocks that are read at once, so that the disk has many requests to order; and the ids in them. */
const GROUP_BLOCKS = 64;
const GROUP_IDS = 2 ** 18;

const MOST_BLOCKS = 2 ** 32 - 1;

/** How token files become blocks. */
export interface TokenDatasetOptions {
  /** T, the length of a block. */
  blockSize: number;
  /** Whether the blocks come in random order, another one each epoch (default), or as they are in the files. */
  shuffle?: boolean | undefined;
  /** Of the order, from 0 to 2^53 - 1. Default 0. */
  seed?: number | undefined;
  /** The tokenizer of the model: the files must have been written with it. Its padding fills a padded block. */
  tokenizer?: (TokenizerMark & { readonly padTokenId?: number | undefined }) | undefined;
  /** Whether ids that fill no whole block at the end are dropped (default) or padded, with labels of -100. */
  dropLast?: boolean | undefined;
}

/** A place between two blocks. */
interface Place {
  epoch: number;
  /** Blocks of the epoch that were given out. */
  position: number;
}

/**
 * Blocks from token files, which `kotodama tokenize` writes (see {@link TokenFile} for the format). The files count as one
 * sequence of ids, cut as BlockDataset cuts text: block k has the T ids from kT on as inputs and those from kT + 1 on as
 * labels, wherever one file ends and the next begins. Only what is asked for is read.
 *
 *     const dataset = await TokenDataset.open('data/train.bin', { blockSize: 1024, seed: 1, tokenizer });
 *     const loader = new DataLoader(dataset, { batchSize: 3 });
 *
 * Each pass is one epoch: every block exactly once, shuffled among all of them. The order is computed, not stored, so a
 * saved state is two numbers and continuing costs nothing.
 *
 * A pass fails with `ERR_DATA` at an id that is not in the vocabulary (file and place are named).
 */
export class TokenDataset implements EncodedSource {
  readonly blockSize: number;
  /** There is nothing left to encode. */
  readonly tokenizer = undefined;
  /** Of the tokenizer that the files were written with, where one of them says so. @hidden */
  readonly fingerprint: string | undefined;
  /** Ids in all files. */
  readonly tokens: number;
  /** Blocks of an epoch. */
  readonly blockCount: number;
  private readonly files: readonly TokenFile[];
  private readonly vocabSize: number;
  private readonly padTokenId: number;
  /** Null when the blocks come as they are in the files. */
  private readonly seed: number | null;
  /** Where the next pass begins. */
  private start: Place = { epoch: 0, position: 0 };
  /** Of the pass that was begun last, or of the next one. Passes that were left do not write here. */
  private pass: Place = this.start;

  private constructor(files: readonly TokenFile[], options: TokenDatasetOptions) {
    if (!Array.isArray(files)) {
      throw new KotodamaError('ERR_OPTIONS', 'a TokenDataset is not made with new', {
        hint: 'await TokenDataset.open(path, options) opens one',
      });
    }
    const reader = new OptionReader(options);
    reader.onlyKnown(['blockSize', 'shuffle', 'seed', 'tokenizer', 'dropLast']);
    this.blockSize = reader.integer('blockSize', { min: 1 });
    const shuffle = reader.boolean('shuffle', true);
    const seed = reader.integer('seed', { min: 0 }, 0);
    const dropLast = reader.boolean('dropLast', true);
    const { tokenizer } = options ?? {};
    if (tokenizer !== undefined && typeof tokenizer?.fingerprint !== 'string') {
      reader.problem('tokenizer', 'a tokenizer with a fingerprint, e.g. from Tokenizer.fromPretrained', tokenizer);
    }
    reader.finish('These options cannot make a TokenDataset');
    for (const file of files) checkTokenizer(file, tokenizer);
    this.files = files;
    this.fingerprint = files.find(({ notes }) => notes !== undefined)?.notes?.tokenizer.fingerprint;
    this.seed = shuffle ? seed : null;
    this.padTokenId = tokenizer?.padTokenId ?? 0;
    this.vocabSize =
      tokenizer?.vocabSize ?? Math.min(...files.map(({ notes }) => notes?.tokenizer.vocabSize ?? MOST_IDS));
    this.tokens = files.reduce((sum, file) => sum + file.tokens, 0);
    // The last id of a block is the label of the one before, so a single id more makes no block.
    const blocks = Math.max(0, this.tokens - 1) / this.blockSize;
    this.blockCount = dropLast ? Math.floor(blocks) : Math.ceil(blocks);
    if (this.blockCount === 0) throw this.tooShort(dropLast);
    if (this.blockCount > MOST_BLOCKS) {
      reader.problem('blockSize', `at most ${MOST_BLOCKS} blocks`, this.blockCount, 'choose longer blocks');
      reader.finish('These options cannot make a TokenDataset');
    }
  }

  /**
   * Opens one or more token files. Their headers, sizes and notes are checked; ids are checked as they are read.
   *
   * @throws KotodamaError `ERR_DATA` when a file is damaged or was written with another tokenizer, or when all together are
   *   too short for one block; `ERR_IO` when one cannot be read; `ERR_OPTIONS`
   */
  static async open(path: string | readonly string[], options: TokenDatasetOptions): Promise<TokenDataset> {
    const paths = typeof path === 'string' ? [path] : path;
    if (!Array.isArray(paths) || paths.length === 0 || !paths.every((name) => typeof name === 'string')) {
      throw new KotodamaError('ERR_OPTIONS', 'There is no token file to read', {
        expected: 'a path, or a list of paths',
        received: describe(path),
      });
    }
    const files: TokenFile[] = [];
    for (const name of paths) files.push(await inspectTokenFile(name));
    return new TokenDataset(files, options);
  }

  /** A pass in the order of its epoch, or from where `restore` said. */
  [Symbol.asyncIterator](): AsyncGenerator<Block, void> {
    return this.begin().blocks;
  }

  /** For the DataLoader; see EncodedSource. @hidden */
  begin(_encoder?: Encoder, rows?: Rows): Pass {
    const pass = this.start;
    this.pass = pass;
    this.start = { epoch: pass.epoch + 1, position: 0 };
    return { blocks: this.read(pass, rows), snapshot: () => this.stateAt(pass) };
  }

  state(): Json {
    return this.stateAt(this.pass)();
  }

  /** For the DataLoader; see EncodedSource. @hidden */
  upcoming(): () => Json {
    return this.stateAt(this.start);
  }

  private stateAt({ epoch, position }: Place): () => Json {
    // Blocks and seed change nothing; they show when a state is from other data.
    return () => ({ kind: 'tokens', epoch, position, blocks: this.blockCount, seed: this.seed });
  }

  async locate([, first, , last]: BlockOrigin): Promise<string> {
    const [begin, end] = [this.place(first), this.place(last)];
    if (begin.path === end.path) return `${begin.path} tokens ${begin.token} to ${end.token}`;
    return `${begin.path} token ${begin.token} to ${end.path} token ${end.token}`;
  }

  async identity(): Promise<Json> {
    const { blockSize, blockCount, seed } = this;
    return { source: 'tokens', ...(await markFiles(this.files.map(({ path }) => path))), blockSize, blockCount, seed };
  }

  restore(state: Json): void {
    const saved = readState(state, 'tokens');
    const [epoch, position] = [readCount(saved, 'epoch'), readCount(saved, 'position')];
    const blocks = readCount(saved, 'blocks');
    if (blocks !== this.blockCount) throw badState(`${this.blockCount} blocks`, String(blocks));
    if (saved.seed !== this.seed) throw badState(`a seed of ${this.seed}`, JSON.stringify(saved.seed) ?? 'nothing');
    if (position > blocks) throw badState(`a position of at most ${blocks}`, String(position));
    this.start = { epoch, position };
    this.pass = this.start;
  }

  /** One pass from `pass` on, which always names the block after the last one yielded. */
  private async *read(pass: Place, rows: Rows | undefined): AsyncGenerator<Block, void> {
    const order = this.seed === null ? undefined : new Permutation(this.blockCount, this.seed, pass.epoch);
    const isWanted = wanted(rows, this.blockCount - pass.position);
    // What makes one batch is put into memory of its own, so that stacking it costs nothing.
    const together = rows === undefined ? 1 : rows.to - rows.from;
    const most = Math.min(GROUP_BLOCKS, Math.floor(GROUP_IDS / this.blockSize));
    const groupSize = together * Math.max(1, Math.floor(most / together));
    const scratch = new Int32Array(groupSize * (this.blockSize + 1));
    const start = pass.position;
    const reader = new TokenFileReader(this.files, this.vocabSize);
    try {
      while (pass.position < this.blockCount) {
        const places: (number | undefined)[] = [];
        for (let left = groupSize; left > 0 && pass.position + places.length < this.blockCount; ) {
          const position = pass.position + places.length;
          const chosen = isWanted(position - start);
          places.push(chosen ? (order?.at(position) ?? position) : undefined);
          if (chosen) left--;
        }
        const { blocks, failures } = await this.readBlocks(
          reader,
          places.filter((place) => place !== undefined),
          together,
          scratch,
        );
        let next = 0;
        for (const place of places) {
          const index = next;
          if (place !== undefined) next++;
          if (place !== undefined && failures[index] !== undefined) throw failures[index];
          pass.position++;
          yield place === undefined ? UNREAD : (blocks[index] as Block);
        }
      }
      pass.epoch++;
      pass.position = 0;
    } finally {
      await reader.close();
    }
  }

  /**
   * @param together number of blocks that share their memory
   * @param scratch room for their ids and one more each
   */
  private async readBlocks(
    reader: TokenFileReader,
    indices: readonly number[],
    together: number,
    scratch: Int32Array,
  ): Promise<{ blocks: Block[]; failures: (KotodamaError | undefined)[] }> {
    const T = this.blockSize;
    const length = T + 1;
    const failures = await reader.read(
      indices.map((index) => index * T),
      length,
      scratch,
    );
    const blocks: Block[] = [];
    for (let from = 0; from < indices.length; from += together) {
      const count = Math.min(together, indices.length - from);
      const [inputs, labels] = [new Int32Array(count * T), new Int32Array(count * T)];
      for (let row = 0; row < count; row++) {
        const ids = scratch.subarray((from + row) * length, (from + row + 1) * length);
        const rowOf = (array: Int32Array) => array.subarray(row * T, (row + 1) * T);
        blocks.push(this.blockOf(ids, (indices[from + row] as number) * T, rowOf(inputs), rowOf(labels)));
      }
    }
    return { blocks, failures };
  }

  /**
   * The block of some ids that were read, and the one after it.
   *
   * @param first number of the first id
   */
  private blockOf(ids: Int32Array, first: number, inputIds: Int32Array, labels: Int32Array): Block {
    const T = this.blockSize;
    inputIds.set(ids.subarray(0, T));
    labels.set(ids.subarray(1));
    const count = this.tokens - first;
    if (count <= T) {
      inputIds.fill(this.padTokenId, count);
      labels.fill(IGNORED_LABEL, count - 1);
    }
    // The last id of a block is its last label, where there are so many.
    const last = first + Math.min(T + 1, count) - 1;
    return { inputIds, labels, origin: [0, first, 0, last] };
  }

  /** The file that id number `index` is in, and which of its ids it is. */
  private place(index: number): { path: string; token: number } {
    let token = index;
    for (const { path, tokens } of this.files) {
      if (token < tokens) return { path, token };
      token -= tokens;
    }
    return { path: 'behind the last file', token };
  }

  private tooShort(dropLast: boolean): KotodamaError {
    return new KotodamaError('ERR_DATA', `The token ${this.files.length === 1 ? 'file is' : 'files are'} too short`, {
      expected: `at least ${dropLast ? this.blockSize + 1 : 2} tokens for one block`,
      received: String(this.tokens),
      hint: dropLast ? 'give more text or a shorter block (API: or dropLast: false)' : 'give more text',
    });
  }
}

/** Says of each block of a pass, by its index among the `count` that are left, whether it is wanted. */
function wanted(rows: Rows | undefined, count: number): (index: number) => boolean {
  if (rows === undefined) return () => true;
  const { from, to, of } = rows;
  const whole = count - (count % of);
  return (index) => index >= whole || (index % of >= from && index % of < to);
}

/** Files without notes say nothing about their tokenizer. */
function checkTokenizer({ path, notes }: TokenFile, tokenizer: TokenizerMark | undefined): void {
  if (notes === undefined || tokenizer === undefined || notes.tokenizer.fingerprint === tokenizer.fingerprint) return;
  const name = ({ fingerprint, vocabSize }: TokenizerMark) => `${fingerprint.slice(0, 12)} with ${vocabSize} ids`;
  throw new KotodamaError('ERR_DATA', `${path} was written with another tokenizer`, {
    expected: `tokenizer ${name(tokenizer)}`,
    received: name(notes.tokenizer),
    hint: 'give the tokenizer that the file was written with, or write the file again with kotodama tokenize',
  });
}
