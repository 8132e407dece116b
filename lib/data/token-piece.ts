/** Ids on their way into a token file. */
export interface TokenPiece {
  ids: Int32Array;
  /** Where documents begin: indices into `ids`, not falling. One that equals their number begins with the next piece. */
  documents: readonly number[];
}
