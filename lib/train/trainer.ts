import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Batch, Json } from '../data/types.js';
import { KotodamaError } from '../errors.js';
import { evaluate } from '../evaluation/evaluate.js';
import { plain } from '../json.js';
import type { GPT2 } from '../model/gpt2.js';
import type { SavedTokenizer } from '../model/save.js';
import { OptionReader } from '../validate.js';
import { packageVersion } from '../version.js';
import { type BatchSource, BatchStream, countBatches } from './batch-stream.js';
import { newestCheckpoint, type SavedCheckpoint, STATE_VERSION, setAside, type TrainerState } from './checkpoint.js';
import { CheckpointSaver, type SaveOutcome } from './checkpoint-saver.js';
import type { ControlCommand, TrainerControl } from './control.js';
import type {
  CheckpointEvent,
  EndEvent,
  EvalEvent,
  GradientHistogram,
  SampleEvent,
  StartEvent,
  TrainEvent,
  TrainerProgress,
  WarningEvent,
} from './events.js';
import { gradientHistograms } from './histogram.js';
import { changes, checkIdentity, identityOf } from './identity.js';
import { readCheckpointTensors } from './model-state.js';
import { type RefusedStep, Stepper, type TakenStep } from './optimizer-step.js';
import { needsCounting, readTrainingOptions, TRAINING_OPTIONS, type TrainingOptions, warmupOf } from './options.js';
import { refusal, spikeText } from './refusal.js';
import { deviceText, runFileOf } from './run-file.js';
import { openRunFolder, readRunFile, writeRunFile } from './run-folder.js';
import { learningRateAt, type Schedule } from './schedule.js';
import { SpikeGuard, type SpikeWindows } from './spike-guard.js';

/** A tokenizer that can be saved and recognised again. */
export type TrainerTokenizer = SavedTokenizer & { readonly fingerprint: string };

/** What a {@link Trainer} needs, and what it may be told. */
export interface TrainerOptions extends Partial<Omit<TrainingOptions, 'maxTime'>> {
  model: GPT2;
  /** Saved with the weights; writes the samples. */
  tokenizer: TrainerTokenizer;
  /** Batches of an epoch, again and again: usually a `DataLoader`. */
  train: BatchSource;
  /** Validation batches, the same ones each time; without them there are no evaluations. */
  valid?: AsyncIterable<Batch> & Pick<BatchSource, 'identity'>;
  /** The run's folder. */
  out: string;
  /** Continue the run that `out` holds. Default false. */
  resume?: boolean;
  /** As in {@link TrainingOptions}, in seconds, or as text with units such as `8h` or `1h30m`. */
  maxTime?: number | string | undefined;
  /** Seeds the samples. Default 0. */
  seed?: number;
  /** Recorded in `run.json` beside the training options: where the data came from, for example. */
  configuration?: { [key: string]: Json };
}

/** How one start of a run is steered and watched. */
export interface TrainerRunOptions {
  /** Ends the run after the running step. */
  signal?: AbortSignal | undefined;
  /** Sends commands to the run. */
  control?: TrainerControl | undefined;
  /** Told how far work beside the steps is. */
  onProgress?: ((progress: TrainerProgress) => void) | undefined;
}

/** Models that are in training: a second trainer would mix its gradients into the first one's. */
const inTraining = new WeakSet<GPT2>();

/**
 * Trains a model. A run is an async iterator of plain-JSON events; the folder `out` holds the newest weights, the
 * checkpoints and `run.json`.
 *
 *     const trainer = new Trainer({ model, tokenizer, train, valid, out: 'runs/a', maxSteps: 1000 });
 *     for await (const event of trainer.run({ signal })) console.log(JSON.stringify(event));
 */
export class Trainer {
  /** Every option, resolved. */
  readonly options: Readonly<TrainingOptions>;
  /** The run's folder. */
  readonly out: string;
  private readonly given: TrainerOptions;

  /**
   * @throws KotodamaError `ERR_OPTIONS` that lists every problem: unknown names, values out of range, a tokenizer with
   *   more ids than the model.
   */
  constructor(options: TrainerOptions) {
    const { model, tokenizer, train, valid, out, resume, seed, configuration, ...training } = options;
    const reader = new OptionReader(training);
    reader.onlyKnown(Object.keys(TRAINING_OPTIONS));
    this.options = readTrainingOptions(reader);
    if (tokenizer.vocabSize > model.config.vocabSize) {
      reader.problem('tokenizer', `at most ${model.config.vocabSize} ids, the model's vocabSize`, tokenizer.vocabSize);
    }
    reader.finish('The training options are not valid');
    this.given = options;
    this.out = out;
  }

  /**
   * Trains until the end, or until `signal` aborts or `control` says stop: then the running step is finished, a checkpoint
   * is saved and the last event has the reason `aborted`. Leaving the loop early ends the run without saving.
   *
   * @throws KotodamaError `ERR_BUSY` when the model is in training already, `ERR_CHECKPOINT` when `out` does not fit,
   *   `ERR_NON_FINITE` when the loss or the gradient stops being a number (see `nonFinite`), `ERR_SPIKE` when too many
   *   updates in a row were skipped for being too high, and what data, model and disk throw.
   */
  async *run(how: TrainerRunOptions = {}): AsyncGenerator<TrainEvent, void, void> {
    const { model } = this.given;
    if (inTraining.has(model)) {
      throw new KotodamaError('ERR_BUSY', 'The model is in training already', {
        hint: 'wait for the other run to end, or train a second model',
      });
    }
    inTraining.add(model);
    const run = new Run(this.given, this.options, how);
    try {
      yield* run.events();
    } finally {
      inTraining.delete(model);
      await run.close();
    }
  }
}

/** One start of a run: the state between its steps. */
class Run {
  private step = 0;
  private tokens = 0;
  private loss: number | null = null;
  private evaluation: { step: number; loss: number } | null = null;
  private batchesPerEpoch: number | null = null;
  /** Path of the newest checkpoint. */
  private checkpoint: string | null = null;
  private savedStep = 0;
  /** The newest step that was saved or is being saved. */
  private savingStep = -1;
  private best: TrainerState['best'] = null;
  private identity: { [key: string]: Json } = {};
  /** What is due at this step and not done yet. */
  private owed = new Set<TrainerState['owed'][number]>();
  /** Updates left out since the last one. */
  private skipped = 0;
  /** Histograms of the last step, when they were due. */
  private gradients: GradientHistogram[] | undefined;
  private paused = false;
  private stopped = false;
  /** Peak learning rate that replaces the option's. */
  private peakLearningRate: number | null = null;
  /** Samples that a person asked for: each has a seed of its own. */
  private asked = 0;
  private schedule: Schedule;
  private guard: SpikeGuard;
  private stepper: Stepper;
  private readonly stream: BatchStream;
  private readonly saver: CheckpointSaver;
  private readonly begun = performance.now();

  constructor(
    private readonly given: TrainerOptions,
    private readonly options: TrainingOptions,
    private readonly how: TrainerRunOptions,
  ) {
    this.stream = new BatchStream(given.train, options.epochs ?? Number.POSITIVE_INFINITY);
    this.saver = new CheckpointSaver({ ...given, keep: options.keep });
    this.schedule = this.makeSchedule(null);
    this.guard = this.makeGuard();
    this.stepper = this.makeStepper();
  }

  async *events(): AsyncGenerator<TrainEvent, void, void> {
    const { options } = this;
    yield* this.start();
    yield* this.settle();
    const lastStep = options.maxSteps ?? Number.POSITIVE_INFINITY;
    while (this.step < lastStep && this.ending === undefined) {
      yield* this.obey();
      if (this.ending !== undefined) break;
      const learningRate = learningRateAt(this.schedule, this.step);
      const start = performance.now();
      const waitedBefore = this.stream.waitedSeconds;
      const result = await this.stepper.take(learningRate, this.measurement());
      if (result === undefined) break;
      if (result.applied) {
        const seconds = secondsSince(start) - result.measureSeconds;
        yield* this.taken(result, { learningRate, seconds, waited: this.stream.waitedSeconds - waitedBefore });
        yield* this.settle();
        const record = options.patience > 0 && this.best?.step === this.step;
        if ((this.due(options.saveEvery) || record) && !this.hurried) await this.save();
      } else {
        yield* this.refuse(result);
      }
      yield* this.ended();
      // Lets signals and timers in even when data and engine always answer at once.
      await nextTurn();
    }
    if (!this.hurried && this.evaluation?.step !== this.step) yield* this.evaluate();
    const early = this.step < lastStep || this.hurried ? this.ending : undefined;
    yield* this.saveLast();
    yield {
      type: 'end',
      step: this.step,
      reason: early ?? 'completed',
      loss: this.loss,
      evalLoss: this.evaluation?.loss ?? null,
      tokens: this.tokens,
      seconds: secondsSince(this.begun),
      checkpoint: this.checkpoint,
      best: this.best === null ? null : { step: this.best.step, loss: this.best.loss },
    };
  }

  /** Ends the data's workers and a save that is under way; leaves no half-accumulated gradient and nothing frozen. */
  async close(): Promise<void> {
    await this.saver.settle();
    await this.stream.close();
    await this.stepper.close();
    if (this.options.freeze !== undefined) this.given.model.freeze([]);
  }

  private get aborted(): boolean {
    return this.stopped || this.how.signal?.aborted === true;
  }

  /** Does what was asked for since the last step; while the run is paused, also what is asked for until it goes on. */
  private async *obey(): AsyncGenerator<TrainEvent, void, void> {
    const { control, signal } = this.how;
    if (control === undefined) return;
    for (;;) {
      for (const command of control.take()) {
        yield { type: 'control', step: this.step, ...command };
        yield* this.carryOut(command);
        if (this.aborted) return;
      }
      if (!this.paused || this.aborted) return;
      // Nothing else will tell of a save that ends meanwhile.
      await this.saver.settle();
      yield* this.ended();
      await control.wait(signal);
    }
  }

  private async *carryOut(command: ControlCommand): AsyncGenerator<TrainEvent, void, void> {
    switch (command.action) {
      case 'pause':
      case 'resume':
        this.paused = command.action === 'pause';
        break;
      case 'stop':
        this.stopped = true;
        break;
      case 'learningRate':
        this.peakLearningRate = command.learningRate;
        this.schedule = this.makeSchedule(this.schedule.totalSteps);
        break;
      case 'save':
        await this.save();
        break;
      case 'evaluate':
        if (this.given.valid === undefined) yield this.warning('ERR_OPTIONS', 'the run has no validation data');
        yield* this.evaluate();
        break;
      case 'sample':
        yield await this.sampleOrWarn(command.prompt);
    }
  }

  /** A prompt that the model cannot go on from is no reason to end the run. */
  private async sampleOrWarn(prompt: string): Promise<SampleEvent | WarningEvent> {
    try {
      return await this.sample(prompt, ++this.asked);
    } catch (error) {
      if (error instanceof KotodamaError) return this.warning(error.code, error.message);
      throw error;
    }
  }

  private progress(phase: TrainerProgress['phase'], done = 0, total: number | null = null): void {
    this.how.onProgress?.({ phase, done, total });
  }

  /** Why no further step is begun, before the last one. */
  private get ending(): EndEvent['reason'] | undefined {
    const { maxTime = Number.POSITIVE_INFINITY, patience } = this.options;
    if (this.aborted) return 'aborted';
    if (secondsSince(this.begun) >= maxTime) return 'maxTime';
    return patience > 0 && this.best !== null && this.best.since >= patience ? 'patience' : undefined;
  }

  /** Whether nothing matters but saving: the rest is done when the run is continued. */
  private get hurried(): boolean {
    return this.ending === 'aborted' || this.ending === 'maxTime';
  }

  private due(every: number): boolean {
    return every > 0 && this.step % every === 0;
  }

  private async *start(): AsyncGenerator<StartEvent | WarningEvent, void, void> {
    const { model, tokenizer, train, out, resume = false } = this.given;
    const warnings: string[] = [];
    if (this.options.freeze !== undefined) model.freeze(this.options.freeze);
    await openRunFolder(out, resume);
    this.identity = await identityOf(model, tokenizer.fingerprint, train, this.options.gradAccum);
    if (resume) warnings.push(...(await this.resume()));

    if (needsCounting(this.options)) this.batchesPerEpoch ??= await this.countBatches();
    const totalSteps = this.totalSteps();
    this.schedule = this.makeSchedule(totalSteps);
    const shape = { batchSize: train.batchSize, blockSize: train.blockSize };
    const memory = model.memoryPlan(shape);
    await model.reserve(shape);
    // From here on the folder holds a run; what can go wrong before has gone wrong by now.
    await this.stream.prepare();

    const start: StartEvent = {
      type: 'start',
      step: this.step,
      time: Date.now() / 1000,
      resumedFrom: this.checkpoint,
      out,
      device: { device: model.device.device, name: model.device.name, detail: model.device.detail },
      precision: model.precision,
      parameters: model.parameterCount,
      batchSize: train.batchSize,
      blockSize: train.blockSize,
      gradAccum: this.options.gradAccum,
      tokensPerStep: train.batchSize * train.blockSize * this.options.gradAccum,
      stepsPerEpoch: this.batchesPerEpoch === null ? null : Math.ceil(this.batchesPerEpoch / this.options.gradAccum),
      totalSteps,
      memory,
      configuration: this.configuration(),
    };
    await this.record(start, resume);
    yield start;
    for (const message of warnings) yield this.warning('ERR_CHECKPOINT', message);
  }

  private countBatches(): Promise<number> {
    return countBatches(this.given.train, this.how.signal, (count) => this.progress('count', count));
  }

  /** Writes `run.json`. */
  private async record({ step, time, resumedFrom }: StartEvent, resume: boolean): Promise<void> {
    const { model, out, valid, seed = 0, configuration = {} } = this.given;
    const parts = {
      model,
      options: this.options,
      seed,
      identity: this.identity,
      configuration,
      step,
      time,
      resumedFrom,
    };
    const before = resume ? await readRunFile(out) : undefined;
    await writeRunFile(out, runFileOf({ ...parts, valid: (await valid?.identity?.()) ?? null }, before));
  }

  private *taken(
    { loss, gradNorm, tokens, spikes, updateSeconds }: TakenStep,
    { learningRate, seconds, waited }: { learningRate: number; seconds: number; waited: number },
  ): Generator<TrainEvent, void, void> {
    this.step++;
    this.tokens += tokens;
    this.loss = loss;
    this.skipped = 0;
    if (this.due(this.options.evalEvery)) this.owed.add('eval');
    if (this.due(this.options.sampleEvery)) this.owed.add('sample');
    yield {
      type: 'step',
      step: this.step,
      loss,
      learningRate,
      gradNorm,
      tokensPerSecond: tokens / seconds,
      tokens: this.tokens,
      epoch: this.stream.last.epoch,
      dataWaitShare: waited / seconds,
      stepSeconds: seconds,
      updateSeconds,
    };
    if (this.gradients !== undefined) yield { type: 'gradients', step: this.step, tensors: this.gradients };
    for (const spike of spikes) yield this.warning('ERR_SPIKE', `Step ${this.step}: ${spikeText(spike)}`);
  }

  /** What the next step measures of its gradients, when that is due. */
  private measurement(): (() => Promise<void>) | undefined {
    const { histogramEvery } = this.options;
    this.gradients = undefined;
    if (histogramEvery === 0 || (this.step + 1) % histogramEvery !== 0) return undefined;
    return async () => {
      this.gradients = await gradientHistograms(this.given.model);
    };
  }

  /** Goes on without the update, or ends the run once the checkpoint that is being written is safe. */
  private async *refuse(refused: RefusedStep): AsyncGenerator<CheckpointEvent | WarningEvent, void, void> {
    const { tokenizer, train } = this.given;
    const { nonFinite, maxSkips } = this.options;
    const step = this.step + 1;
    const context = { step, train, decode: (ids: Int32Array) => tokenizer.decode(ids) };
    this.tokens += refused.tokens;
    this.skipped++;
    const skips = 'sigma' in refused.fault || nonFinite === 'skip';
    if (skips && this.skipped < maxSkips) {
      const { code, message } = await refusal(refused, context, '; the update was skipped');
      yield { ...this.warning(code, message), step };
      return;
    }
    await this.saver.settle();
    yield* this.ended();
    const { checkpoint } = this;
    const kept =
      checkpoint === null ? 'there is no checkpoint yet' : `the last checkpoint, ${checkpoint}, is untouched`;
    throw await refusal(refused, context, skips ? `; ${this.skipped} updates in a row were skipped` : '', {
      hint: `${kept}; try a smaller --lr, more --warmup-steps or --grad-clip 1${skips ? '' : ', or --non-finite skip'}`,
    });
  }

  /** Does what the step still owes, as long as there is time. */
  private async *settle(): AsyncGenerator<EvalEvent | SampleEvent, void, void> {
    if (this.owed.has('eval') && !this.hurried) yield* this.evaluate();
    if (this.owed.has('sample') && !this.hurried) {
      yield await this.sample();
      this.owed.delete('sample');
    }
  }

  private async *evaluate(): AsyncGenerator<EvalEvent, void, void> {
    const { model, valid } = this.given;
    if (valid === undefined) this.owed.delete('eval');
    if (valid === undefined) return;
    const start = performance.now();
    const limit = this.options.evalBatches === 0 ? Number.POSITIVE_INFINITY : this.options.evalBatches;
    const total = Number.isFinite(limit) ? limit : null;
    this.progress('evaluate', 0, total);
    let done = 0;
    const onBatch = () => this.progress('evaluate', ++done, total);
    const { lossSum, tokens, whole } = await evaluate(model, valid, { limit, signal: this.how.signal, onBatch });
    if (!whole) return;
    this.owed.delete('eval');
    const loss = lossSum / tokens;
    this.evaluation = { step: this.step, loss };
    if (this.best === null || loss < this.best.loss) this.best = { step: this.step, loss, since: 0 };
    else this.best = { ...this.best, since: this.best.since + 1 };
    yield { type: 'eval', step: this.step, loss, perplexity: Math.exp(loss), tokens, seconds: secondsSince(start) };
  }

  private async sample(prompt = this.options.samplePrompt ?? '', number = 0): Promise<SampleEvent> {
    const { model, tokenizer, seed = 0 } = this.given;
    const { sampleTokens } = this.options;
    const start = performance.now();
    this.progress('sample');
    let text = '';
    const pieces = model.generate(prompt, {
      tokenizer,
      maxNewTokens: sampleTokens,
      temperature: 0.8,
      topK: 50,
      seed: seed + this.step + number,
    });
    for await (const piece of pieces) text += piece;
    return { type: 'sample', step: this.step, prompt, text, seconds: secondsSince(start) };
  }

  /** Begins to save this step, unless that was done. */
  private async save(): Promise<void> {
    const { model } = this.given;
    if (this.savingStep === this.step) return;
    this.savingStep = this.step;
    this.progress('save');
    await this.saver.save({
      version: STATE_VERSION,
      step: this.step,
      tokens: this.tokens,
      counters: model.counters,
      position: this.stream.position(),
      batchesPerEpoch: this.batchesPerEpoch,
      loss: this.loss,
      evaluation: this.evaluation,
      peakLearningRate: this.peakLearningRate,
      best: this.best,
      owed: [...this.owed],
      skipped: this.skipped,
      spikes: this.guard.windows(),
      options: plain(this.options),
      device: deviceText(model),
      identity: this.identity,
    });
  }

  /** Saves the end of the run, unless that was done, and waits for it. */
  private async *saveLast(): AsyncGenerator<CheckpointEvent | WarningEvent, void, void> {
    await this.saver.settle();
    yield* this.ended();
    if (this.savedStep === this.step) return;
    await this.save();
    await this.saver.settle();
    for (const outcome of this.saver.take()) {
      if ('error' in outcome) throw outcome.error;
      yield* this.saved(outcome);
    }
  }

  /** Tells of the saves that have ended. A disk that is full now may have room again for the next one: the run goes on. */
  private *ended(): Generator<CheckpointEvent | WarningEvent, void, void> {
    for (const outcome of this.saver.take()) {
      // What failed may be tried again.
      if ('error' in outcome && this.savingStep === outcome.step) this.savingStep = this.savedStep;
      if (!('error' in outcome)) yield* this.saved(outcome);
      else if (outcome.error instanceof KotodamaError && outcome.error.code === 'ERR_IO') {
        yield { ...this.warning(outcome.error.code, outcome.error.message), step: outcome.step };
      } else throw outcome.error;
    }
  }

  private *saved(outcome: SaveOutcome & { saved: SavedCheckpoint }): Generator<CheckpointEvent | WarningEvent> {
    const { step, seconds, pausedSeconds, saved } = outcome;
    this.checkpoint = saved.path;
    this.savedStep = step;
    yield { type: 'checkpoint', step, path: saved.path, bytes: saved.bytes, seconds, pausedSeconds };
    for (const { code, message } of saved.problems) yield this.warning(code, message);
  }

  /** Continues from the newest whole checkpoint; gives what the person should know. */
  private async resume(): Promise<string[]> {
    const { out } = this.given;
    const { checkpoint, damaged } = await newestCheckpoint(out);
    const warnings: string[] = [];
    if (checkpoint !== undefined) {
      await this.restore(checkpoint.state, checkpoint.path);
      warnings.push(...changes(checkpoint.state, deviceText(this.given.model), this.options));
    }
    for (const found of damaged) {
      const { path, problem } = found;
      warnings.push(`the checkpoint ${path} is damaged and was passed over, as ${await setAside(found)}: ${problem}`);
    }
    if (checkpoint === undefined) warnings.push(`${out} holds no whole checkpoint: the run begins again at step 0`);
    return warnings;
  }

  private async restore(state: TrainerState, path: string): Promise<void> {
    const { model } = this.given;
    checkIdentity(this.given.out, state.identity, this.identity);
    this.progress('restore');
    await readCheckpointTensors(model, path);
    model.counters = state.counters;
    this.stream.restore(state.position);
    this.step = state.step;
    this.savedStep = state.step;
    this.savingStep = state.step;
    this.tokens = state.tokens;
    this.loss = state.loss;
    this.evaluation = state.evaluation;
    this.best = state.best;
    this.owed = new Set(state.owed);
    this.skipped = state.skipped;
    this.guard = this.makeGuard(state.spikes);
    this.stepper = this.makeStepper();
    this.batchesPerEpoch = state.batchesPerEpoch;
    // Whoever continues with another --lr means that one.
    if (state.options.lr === this.options.lr) this.peakLearningRate = state.peakLearningRate ?? null;
    this.checkpoint = path;
  }

  private configuration(): { [key: string]: Json } {
    const { model, seed = 0, configuration = {} } = this.given;
    return {
      kotodama: packageVersion(),
      node: process.version,
      ...configuration,
      model: plain(model.config),
      training: { ...plain(this.options), seed },
    };
  }

  private makeGuard(windows?: SpikeWindows): SpikeGuard {
    return new SpikeGuard(this.options.spikeSigma, this.options.spikeWindow, windows);
  }

  private makeStepper(): Stepper {
    return new Stepper(this.given.model, this.stream, this.options, this.guard);
  }

  private makeSchedule(totalSteps: number | null): Schedule {
    const { schedule: name, lr, minLr } = this.options;
    const peak = this.peakLearningRate ?? lr;
    return { name, lr: peak, minLr: (minLr * peak) / lr, warmupSteps: warmupOf(this.options, totalSteps), totalSteps };
  }

  private totalSteps(): number | null {
    const { maxSteps, epochs, gradAccum } = this.options;
    const byEpochs =
      epochs === undefined || this.batchesPerEpoch === null
        ? Number.POSITIVE_INFINITY
        : Math.ceil((this.batchesPerEpoch * epochs) / gradAccum);
    const total = Math.min(maxSteps ?? Number.POSITIVE_INFINITY, byEpochs);
    return Number.isFinite(total) ? total : null;
  }

  private warning(code: string, message: string): WarningEvent {
    return { type: 'warning', step: this.step, code, message };
  }
}

function secondsSince(start: number): number {
  return (performance.now() - start) / 1000;
}
