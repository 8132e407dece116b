import type { TokenizerModel } from '../tokenizer/types.js';
import type { Encoder } from './encoder.js';
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

/** A {@link BlockSource} of this package: its tokenization can be done elsewhere, and its state costs nothing until read. */
export interface EncodedSource extends BlockSource {
  /** What its texts are encoded with; undefined when a source of another kind is underneath. */
  readonly tokenizer: TokenizerModel | undefined;
  /** One pass, encoded by `encoder`. A source that can seek gives {@link UNREAD} instead of blocks outside of `rows`. */
  blocks(encoder: Encoder | undefined, rows?: Rows): AsyncGenerator<Block, void>;
  /** What `state()` would give now, made when it is asked for. */
  snapshot(): () => Json;
}

function isEncodedSource(source: BlockSource): source is EncodedSource {
  return 'snapshot' in source && 'blocks' in source;
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

/** One pass over any source. */
export function blocksOf(source: BlockSource, encoder: Encoder | undefined, rows?: Rows): AsyncIterable<Block> {
  return isEncodedSource(source) ? source.blocks(encoder, rows) : source;
}

/** The state of any source, as cheaply as it can be had. */
export function snapshotOf(source: BlockSource): () => Json {
  if (isEncodedSource(source)) return source.snapshot();
  const state = source.state();
  return () => state;
}
