import { copyOf } from '../json.js';
import type { TokenizerModel } from '../tokenizer/types.js';
import type { OptionReader } from '../validate.js';
import type { Encoder } from './encoder.js';
import { isRestartable } from './state.js';
import type { Block, BlockSource, Json } from './types.js';

/**
 * Which blocks of a pass somebody wants: of each `of` that follow each other, those with an index from `from` to below `to`.
 * Of the rest at the end, which are fewer than `of`, all.
 */
export interface Rows {
  from: number;
  to: number;
  of: number;
}

/** Stands for a block that nobody wants. */
export const UNREAD: Block = { inputIds: new Int32Array(0), labels: new Int32Array(0) };

/** One pass over a source. */
export interface Pass<Blocks = AsyncGenerator<Block, void>> {
  blocks: Blocks;
  /**
   * Where this pass stands, as `restore` takes it, made when it is asked for. Whoever else reads the source meanwhile changes
   * nothing here, which `state()` of the source cannot say.
   */
  snapshot(): () => Json;
  /**
   * Lets go of what the pass waits for, a server or the standard input: `return` of the blocks alone comes only after the
   * block that is being waited for. That one fails then.
   */
  close?: () => void;
}

/** A {@link BlockSource} of this package: its tokenization can be done elsewhere, and its state costs nothing until read. */
export interface EncodedSource extends BlockSource {
  /** What its texts are encoded with; undefined when a source of another kind is underneath. */
  readonly tokenizer: TokenizerModel | undefined;
  /** Begins a pass, encoded by `encoder`. A source that can seek gives {@link UNREAD} instead of blocks outside of `rows`. */
  begin(encoder: Encoder | undefined, rows?: Rows): Pass;
  /** Where the next pass will begin, made when it is asked for. */
  upcoming(): () => Json;
}

function isEncodedSource(source: BlockSource): source is EncodedSource {
  return 'begin' in source && 'upcoming' in source;
}

/** Notes a problem unless `source` gives blocks again and again. */
export function checkSource(reader: OptionReader, source: unknown): void {
  const expected = 'a BlockDataset, a TokenDataset, or what gives blocks as they do';
  if (!isRestartable(source)) reader.problem('dataset', expected, source);
  else if ('batchSize' in source && 'batchesPerEpoch' in source) {
    const hint = 'the order is dataset, shuffle, loader: new DataLoader(new BufferedShuffleDataset(dataset), options)';
    reader.problems.add('dataset', expected, 'a loader, which gives batches', hint);
  }
}

/** The tokenizer under a source, when it can be known. */
export function tokenizerOf(source: BlockSource): TokenizerModel | undefined {
  return isEncodedSource(source) ? source.tokenizer : undefined;
}

/** The fingerprint of the tokenizer that a source's ids are from, when it can be known. */
export function fingerprintOf(source: BlockSource): string | undefined {
  const { fingerprint } = source as { fingerprint?: unknown };
  const known = fingerprint ?? (tokenizerOf(source) as { fingerprint?: unknown } | undefined)?.fingerprint;
  return typeof known === 'string' ? known : undefined;
}

/** Begins a pass over any source. */
export function beginPass(source: BlockSource, encoder: Encoder | undefined, rows?: Rows): Pass<AsyncIterable<Block>> {
  if (isEncodedSource(source)) return source.begin(encoder, rows);
  return { blocks: source, snapshot: () => stateOf(source) };
}

/** Where the next pass over any source will begin, as cheaply as it can be had. */
export function upcomingOf(source: BlockSource): () => Json {
  return isEncodedSource(source) ? source.upcoming() : stateOf(source);
}

/**
 * Checks that a source can go on from `state`. Its next pass begins where it would have; one of another kind, of which nobody
 * can say where that is, begins at `state`.
 *
 * @throws KotodamaError `ERR_CHECKPOINT`
 */
export function checkRestorable(source: BlockSource, state: Json): void {
  const upcoming = isEncodedSource(source) ? source.upcoming()() : undefined;
  source.restore(state);
  if (upcoming !== undefined) source.restore(upcoming);
}

function stateOf(source: BlockSource): () => Json {
  // What a source of another kind hands out may be what it goes on with.
  const state = copyOf(source.state());
  return () => state;
}
