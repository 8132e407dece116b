import type { KotodamaError } from '../errors.js';
import { ioError } from '../files.js';
import type { GPT2 } from '../model/gpt2.js';
import { type SavedTokenizer, writePretrained } from '../model/save.js';
import { amendCheckpoint, prune, type SavedCheckpoint, saveCheckpoint, type TrainerState } from './checkpoint.js';
import { secondsSince } from './clock.js';
import { copyState, liveState, stateBytes, writeMoments } from './model-state.js';

/** The part of the memory that is free now which a copy of the model may take. */
const COPY_SHARE = 0.75;

/** How a save ended. */
export type SaveOutcome = {
  step: number;
  /** From the call until the checkpoint was safe, or failed. */
  seconds: number;
  /** The part of it that the caller waited for. */
  pausedSeconds: number;
} & ({ saved: SavedCheckpoint } | { error: unknown });

/** What a {@link CheckpointSaver} saves, and where to. */
export interface CheckpointSaverOptions {
  model: GPT2;
  tokenizer: SavedTokenizer;
  /** The run's folder. */
  out: string;
  /** Checkpoints that stay. */
  keep: number;
  /** Bytes that the process could still take [`process.availableMemory`]. */
  availableMemory?: () => number;
}

/**
 * Writes checkpoints beside the training, one at a time: a caller waits for the one before and for a copy of weights and
 * moments (12 bytes a parameter, let go as they are written). Where the memory has no room for the copy, the caller waits for
 * the whole save.
 */
export class CheckpointSaver {
  private readonly options: CheckpointSaverOptions;
  private readonly availableMemory: () => number;
  private writing: Promise<void> | undefined;
  private outcomes: SaveOutcome[] = [];

  constructor(options: CheckpointSaverOptions) {
    this.options = options;
    this.availableMemory = options.availableMemory ?? (() => process.availableMemory());
  }

  /**
   * Begins to save the model as it is now; it may change once this has returned. What the system refuses while writing is
   * told by {@link take}.
   */
  async save(state: TrainerState): Promise<void> {
    const { model, tokenizer, out, keep } = this.options;
    const start = performance.now();
    await this.settle();
    const copied = stateBytes(model) <= COPY_SHARE * this.availableMemory();
    const { weights, moments } = copied ? await copyState(model) : liveState(model);
    const { config } = model;
    const write = async (folder: string) => {
      await writePretrained(folder, { config, weights, tokenizer });
      await writeMoments(folder, moments);
    };
    const outcome = { step: state.step, seconds: 0, pausedSeconds: 0 };
    const end = (result: { saved: SavedCheckpoint } | { error: unknown }) => {
      this.writing = undefined;
      outcome.seconds = secondsSince(start);
      this.outcomes.push(Object.assign(outcome, result));
    };
    this.writing = saveCheckpoint(out, state, write, keep).then(
      (saved) => end({ saved }),
      (error) => end({ error }),
    );
    if (!copied) await this.writing;
    outcome.pausedSeconds = secondsSince(start);
  }

  /** Adds what has happened at a step since it was saved. Gives what the system refused. */
  async amend(state: TrainerState): Promise<KotodamaError[]> {
    await this.settle();
    try {
      await amendCheckpoint(this.options.out, state);
      return [];
    } catch (cause) {
      return [ioError(cause, `The checkpoint of step ${state.step} could not be changed`)];
    }
  }

  /** Removes what need not stay, and lets `best` name the best one, outside of a save. Gives what the system refused. */
  async prune(state: TrainerState): Promise<KotodamaError[]> {
    const { out, keep } = this.options;
    try {
      await prune(out, keep, state);
      return [];
    } catch (cause) {
      return [ioError(cause, `Older checkpoints in ${out} could not be removed`)];
    }
  }

  /** Waits until nothing is being written. */
  async settle(): Promise<void> {
    await this.writing;
  }

  /** The saves that have ended since the last call. */
  take(): readonly SaveOutcome[] {
    return this.outcomes.splice(0);
  }
}
