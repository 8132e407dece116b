import { KotodamaError } from '../errors.js';
import type { SavedCheckpoint, TrainerState } from './checkpoint.js';
import type { CheckpointSaver, SaveOutcome } from './checkpoint-saver.js';
import type { CheckpointEvent, WarningEvent } from './events.js';

/** The checkpoints of one start of a run: which step is safe, and what becomes of those that are being written. */
export class RunCheckpoints {
  /** Path of the newest one. */
  newest: string | null = null;
  private savedStep = 0;
  /** The newest step that was saved or is being saved. */
  private savingStep = -1;

  constructor(private readonly saver: CheckpointSaver) {}

  /** Tells of the checkpoint that the run goes on from. */
  resumed(step: number, path: string): void {
    this.newest = path;
    this.savedStep = step;
    this.savingStep = step;
  }

  /** True when `step` is safe or will be. */
  has(step: number): boolean {
    return this.savingStep === step;
  }

  /** Begins to save; {@link CheckpointSaver.save} says what is waited for. */
  async save(state: TrainerState): Promise<void> {
    this.savingStep = state.step;
    await this.saver.save(state);
  }

  /** Tells of the saves that have ended. A disk that is full now may have room again for the next one: the run goes on. */
  *ended(): Generator<CheckpointEvent | WarningEvent, void, void> {
    for (const outcome of this.saver.take()) {
      // What failed may be tried again.
      if ('error' in outcome && this.savingStep === outcome.step) this.savingStep = this.savedStep;
      if (!('error' in outcome)) yield* this.saved(outcome);
      else if (outcome.error instanceof KotodamaError && outcome.error.code === 'ERR_IO') {
        yield warningOf(outcome.step, outcome.error);
      } else throw outcome.error;
    }
  }

  /** Waits until nothing is being written. */
  async settle(): Promise<void> {
    await this.saver.settle();
  }

  /** What {@link ended} tells once nothing is being written. */
  async *settled(): AsyncGenerator<CheckpointEvent | WarningEvent, void, void> {
    await this.saver.settle();
    yield* this.ended();
  }

  /** Saves the end of the run, unless that was done, and waits for it. */
  async *finish(state: TrainerState): AsyncGenerator<CheckpointEvent | WarningEvent, void, void> {
    yield* this.settled();
    const { step, best } = state;
    if (this.savedStep === step) {
      // It may have been measured, and found to be the best one, after it was saved.
      if (best?.step === step) for (const problem of await this.saver.prune(best)) yield warningOf(step, problem);
      return;
    }
    await this.save(state);
    await this.saver.settle();
    for (const outcome of this.saver.take()) {
      if ('error' in outcome) throw outcome.error;
      yield* this.saved(outcome);
    }
  }

  private *saved(outcome: SaveOutcome & { saved: SavedCheckpoint }): Generator<CheckpointEvent | WarningEvent> {
    const { step, seconds, pausedSeconds, saved } = outcome;
    this.newest = saved.path;
    this.savedStep = step;
    yield { type: 'checkpoint', step, path: saved.path, bytes: saved.bytes, seconds, pausedSeconds };
    for (const problem of saved.problems) yield warningOf(step, problem);
  }
}

function warningOf(step: number, { code, message }: KotodamaError): WarningEvent {
  return { type: 'warning', step, code, message };
}
