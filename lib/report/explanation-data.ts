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

/** What one head attends to. */
export interface PageHead {
  layer: number;
  head: number;
  /** The lower triangle row by row, 255 for a weight of 1, as base64. */
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
