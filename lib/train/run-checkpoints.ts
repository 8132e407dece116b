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
  /** What its checkpoint says, or will. */
  private savingState = '';
  private warnings: WarningEvent[] = [];

  constructor(private readonly saver: CheckpointSaver) {}

  /** Tells of the checkpoint that the run goes on from. */
  resumed(state: TrainerState, path: string): void {
    this.newest = path;
    this.savedStep = state.step;
    this.savingStep = state.step;
    this.savingState = happened(state);
  }

  /** True when `step` is safe or will be. */
  has(step: number): boolean {
    return this.savingStep === step;
  }

  /**
   * Begins to save; {@link CheckpointSaver.save} says what is waited for. To a step that is safe or will be, only what has
   * happened since is added: an evaluation, what a person has set.
   */
  async save(state: TrainerState): Promise<void> {
    const { step } = state;
    const now = happened(state);
    if (!this.has(step)) {
      this.savingStep = step;
      this.savingState = now;
      await this.saver.save(state);
    } else if (now !== this.savingState) {
      const problems = await this.saver.amend(state);
      this.warnings.push(...problems.map((problem) => warningOf(step, problem)));
      if (problems.length === 0) this.savingState = now;
    }
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
    yield* this.warnings.splice(0);
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

  /** Saves the end of the run, or what of it was not saved yet, and waits for it. */
  async *finish(state: TrainerState): AsyncGenerator<CheckpointEvent | WarningEvent, void, void> {
    yield* this.settled();
    const { step, best } = state;
    if (this.savedStep === step) {
      // Nothing of step 0 is saved unless somebody asks for it.
      if (this.has(step)) await this.save(state);
      yield* this.ended();
      // It may have been measured, and found to be the best one, after it was saved.
      if (best?.step === step) for (const problem of await this.saver.prune(state)) yield warningOf(step, problem);
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

/** What a checkpoint says of the run itself: how it was started this time changes nothing that is there. */
function happened({ options: _, device: __, identity: ___, ...state }: TrainerState): string {
  return JSON.stringify(state);
}

function warningOf(step: number, { code, message }: KotodamaError): WarningEvent {
  return { type: 'warning', step, code, message };
}
