/** One training example: T token ids and the id that follows each of them. */
export interface Block {
  /** (T) */
  inputIds: Int32Array;
  /** (T), already shifted by one; -100 marks positions that carry no loss. */
  labels: Int32Array;
  /** Where they are from, when the source knows. */
  origin?: BlockOrigin;
}

/**
 * Where the first and the last id of a block are from: the index of a file and an offset in it, each. An offset is the byte
 * where a line begins, the number of a row or a text, or that of a token (counted through all files).
 */
export type BlockOrigin = readonly [file: number, offset: number, lastFile: number, lastOffset: number];

/** Token ids with their shape, row-major. */
export interface TokenTensor {
  /** B * T elements. */
  data: Int32Array;
  /** [B, T] */
  shape: [number, number];
}

/** What one training step reads. */
export interface Batch {
  /** (B, T) */
  inputIds: TokenTensor;
  /** (B, T), already shifted by one; -100 marks positions that carry no loss. */
  labels: TokenTensor;
  /** Of each block, when the source knows. */
  origins?: readonly BlockOrigin[];
}

/** The label that the loss ignores. */
export const IGNORED_LABEL = -100;

/** Anything that survives `structuredClone` and JSON: numbers, strings, arrays, plain objects. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/**
 * A restartable stream of blocks. Each `for await` begins a new pass; `restore` makes the next pass begin where `state`
 * was taken.
 */
export interface BlockSource extends AsyncIterable<Block> {
  /** T, the length of every block. */
  readonly blockSize: number;
  /** Blocks of a whole pass, where that is known without reading. */
  readonly blockCount?: number;
  /** Where the current pass stands, as plain JSON: taken between two blocks, it names the next one. */
  state(): Json;
  /** The next pass continues from `state`. Throws `ERR_CHECKPOINT` when the state belongs to another kind of source. */
  restore(state: Json): void;
  /** Says in words where a block is from, e.g. `train.txt lines 12 to 15`. */
  locate?(origin: BlockOrigin): Promise<string>;
  /** What decides which blocks come and in which order, as plain JSON: the options, and marks of the data. */
  identity?(): Promise<Json>;
}
