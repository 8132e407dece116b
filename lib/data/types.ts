/** One training example: T token ids and the id that follows each of them. */
export interface Block {
  /** (T) */
  inputIds: Int32Array;
  /** (T), already shifted by one; -100 marks positions that carry no loss. */
  labels: Int32Array;
}

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
}
