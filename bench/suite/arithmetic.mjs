// @ts-check
// What a model asks of a machine: the two numbers that its limits follow from.

/** @typedef {{ vocabSize: number, nLayer: number, nHead: number, nEmbd: number, nPositions: number }} Shape */

/**
 * FLOPs of one token in training: three products for each matrix, and causal attention counted once.
 *
 * @param {Shape} model @param {number} block
 */
export function flopsOfToken({ vocabSize, nLayer, nEmbd }, block) {
  const matrices = nLayer * 12 * nEmbd ** 2 + vocabSize * nEmbd;
  // Two products forward and four backward, over the (T + 1) / 2 positions that a token sees on average.
  const attention = (nLayer * 6 * 2 * nEmbd * (block + 1)) / 2;
  return 6 * matrices + attention;
}

const BYTES_OF_WEIGHT = { fp32: 4, bf16: 2, int8: 1 };

/** Bytes of weights that one generated token reads. @param {Shape} model @param {keyof BYTES_OF_WEIGHT} weights */
export function bytesOfToken({ vocabSize, nLayer, nEmbd }, weights) {
  return (nLayer * 12 * nEmbd ** 2 + vocabSize * nEmbd) * BYTES_OF_WEIGHT[weights];
}

/** @type {Shape} */
export const GPT2_124M = { vocabSize: 50257, nLayer: 12, nHead: 12, nEmbd: 768, nPositions: 1024 };
/** @type {Shape} */
export const SMALL = { vocabSize: 65, nLayer: 4, nHead: 4, nEmbd: 128, nPositions: 64 };
/** So small that it is all overhead. @type {Shape} */
export const TINY = { vocabSize: 65, nLayer: 1, nHead: 1, nEmbd: 8, nPositions: 8 };
