/** A token as the page of an explanation takes it. */
export interface PageToken {
  id: number;
  text: string;
  partial: boolean;
  loss: number | null;
  probability: number | null;
  rank: number | null;
  /** Likeliest tokens after it: id, text, probability. */
  next: [id: number, text: string, probability: number][];
}

/**
 * How a page has a weight of 1. It has the square roots of weights: the thousand small ones of a head that looks everywhere
 * are as exact in it as one large.
 */
export const LARGEST_WEIGHT = 2 ** 16 - 1;

/** What one head attends to. */
export interface PageHead {
  layer: number;
  head: number;
  /** The lower triangle row by row, as base64 of little-endian 16-bit numbers; see {@link LARGEST_WEIGHT}. */
  weights: string;
}

/** What the page of an explanation shows. */
export interface ExplanationData {
  /** The model's name. */
  model: string;
  tokens: PageToken[];
  loss: number | null;
  /** ln(vocabulary) */
  guessLoss: number;
  heads: PageHead[];
}
