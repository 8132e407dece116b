import type { Batch, Json } from '../data/types.js';
import type { GPT2 } from '../model/gpt2.js';
import type { SavedTokenizer } from '../model/save.js';
import type { BatchSource } from './batch-stream.js';
import type { TrainerControl } from './control.js';
import type { TrainerProgress } from './events.js';
import type { TrainingOptions } from './options.js';

/** A tokenizer that can be saved and recognised again. */
export type TrainerTokenizer = SavedTokenizer & { readonly fingerprint: string };

/** Any of these, each of which may be left out or undefined. */
type Optional<Options> = { [Name in keyof Options]?: Options[Name] | undefined };

/** What a {@link Trainer} needs, and what it may be told. */
export interface TrainerOptions extends Optional<Omit<TrainingOptions, 'maxTime'>> {
  model: GPT2;
  /**
   * Saved with the weights; writes the samples. The one that the data were encoded with, and that the model learned with if
   * it was trained before: of the model only the number of ids is checked here.
   */
  tokenizer: TrainerTokenizer;
  /**
   * Batches of an epoch, again and again: usually a `DataLoader`. Make a new one for each run: one that was read before goes
   * on with its next epoch, in another order.
   */
  train: BatchSource;
  /**
   * Validation batches, the same ones each time, from a loader of their own; without them there are no evaluations. Where
   * they are shuffled and `evalBatches` leaves some out, the run warns.
   */
  valid?:
    | (AsyncIterable<Batch> & Pick<BatchSource, 'batchesPerEpoch' | 'identity' | 'tokenizer' | 'tokenizerFingerprint'>)
    | undefined;
  /** The run's folder. */
  out: string;
  /** Continue the run that `out` holds. Default false. */
  resume?: boolean | undefined;
  /** As in {@link TrainingOptions}, in seconds, or as text with units such as `8h` or `1h30m`. */
  maxTime?: number | string | undefined;
  /** Seeds the samples alone; the model and the shuffling have seeds of their own. Default 0. */
  seed?: number | undefined;
  /**
   * Recorded in `run.json` beside the training options: where the data came from, for example. Events have it too, with URLs
   * without login and query.
   */
  configuration?: { [key: string]: Json } | undefined;
}

/** How one start of a run is steered and watched. */
export interface TrainerRunOptions {
  /**
   * Ends the run after the running step; one whose data takes more than a second, and more than three times the longest wait
   * so far, is taken back.
   */
  signal?: AbortSignal | undefined;
  /** Sends commands to the run. */
  control?: TrainerControl | undefined;
  /** Told how far work beside the steps is. */
  onProgress?: ((progress: TrainerProgress) => void) | undefined;
}
