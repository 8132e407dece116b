import { OptionReader } from '../validate.js';
import { type GPT2Config, resolveConfig } from './config.js';
import type { TensorSource } from './tensor-source.js';

/** What a loaded model may have otherwise than it was saved. Each is optional. */
export interface Adaptations {
  /** Replaces all three dropout probabilities [those saved]. */
  dropout?: number | undefined;
  /** Shortens the context: only the first positions are kept [that saved]. */
  nPositions?: number | undefined;
  /**
   * Adds ids, for tokens that the tokenizer was given since: their embeddings begin as the mean of the others, so that the
   * model gives them an average probability (Hewitt 2021, "Initializing New Word Embeddings") [that saved].
   */
  vocabSize?: number | undefined;
  /** Id that begins a text [that saved]. */
  bosTokenId?: number | undefined;
  /** Id that ends a text [that saved]. */
  eosTokenId?: number | undefined;
  /** Id of padding [that saved]. */
  padTokenId?: number | undefined;
}

/** @throws KotodamaError `ERR_OPTIONS` when the context would grow, the vocabulary shrink, or a value cannot be */
export function adaptConfig(saved: GPT2Config, adaptations: Adaptations): GPT2Config {
  const read = new OptionReader(adaptations);
  const { nPositions, vocabSize } = saved;
  const shorter = read.integer('nPositions', { min: 1, max: nPositions }, nPositions);
  const larger = read.integer('vocabSize', { min: vocabSize }, vocabSize);
  read.finish('The saved model cannot be changed so');
  const { dropout, bosTokenId, eosTokenId, padTokenId } = adaptations;
  const config = { ...saved, nPositions: shorter, vocabSize: larger };
  config.bosTokenId = bosTokenId ?? saved.bosTokenId;
  config.eosTokenId = eosTokenId ?? saved.eosTokenId;
  config.padTokenId = padTokenId ?? saved.padTokenId;
  return resolveConfig(
    dropout === undefined ? config : { ...config, embdPdrop: dropout, attnPdrop: dropout, residPdrop: dropout },
  );
}

/** The saved tensors as the adapted model has them. */
export function adaptTensors(tensors: readonly TensorSource[], config: GPT2Config): TensorSource[] {
  const { nPositions, vocabSize, nEmbd } = config;
  return tensors.map(({ name, shape, read }) => {
    if (name === 'transformer.wpe.weight' && shape[0] !== nPositions) {
      return { name, shape: [nPositions, nEmbd], read: async () => (await read()).slice(0, nPositions * nEmbd) };
    }
    if (name === 'transformer.wte.weight' && shape[0] !== vocabSize) {
      return { name, shape: [vocabSize, nEmbd], read: async () => withMeanRows(await read(), vocabSize, nEmbd) };
    }
    return { name, shape, read };
  });
}

/** A matrix with rows added that are the mean of those it has. */
function withMeanRows(values: Float32Array, rows: number, columns: number): Float32Array {
  const mean = new Float64Array(columns);
  for (let index = 0; index < values.length; index++) {
    mean[index % columns] = (mean[index % columns] as number) + (values[index] as number);
  }
  const known = values.length / columns;
  for (let column = 0; column < columns; column++) mean[column] = (mean[column] as number) / known;
  const result = new Float32Array(rows * columns);
  result.set(values);
  for (let row = known; row < rows; row++) result.set(mean, row * columns);
  return result;
}
