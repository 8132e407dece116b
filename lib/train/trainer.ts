import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Batch, Json } from '../data/types.js';
import { KotodamaError } from '../errors.js';
import { evaluate } from '../evaluation/evaluate.js';
import type { GPT2 } from '../model/gpt2.js';
import type { SavedTokenizer } from '../model/save.js';
import { OptionReader } from '../validate.js';
import { type BatchSource, BatchStream, countBatches } from './batch-stream.js';
import { newestCheckpoint, type SavedCheckpoint, STATE_VERSION, setAside, type TrainerState } from './checkpoint.js';
import { CheckpointSaver, type SaveOutcome } from './checkpoint-saver.js';
import type { ControlCommand, TrainerControl } from './control.js';
import type {
  CheckpointEvent,
  EvalEvent,
  GradientHistogram,
  SampleEvent,
  StartEvent,
  StepEvent,
  TrainEvent,
  TrainerProgress,
  WarningEvent,
} from './events.js';
import { gradientHistograms } from './histogram.js';
import { checkIdentity, identityOf, plain } from './identity.js';
import { readCheckpointTensors } from './model-state.js';
import { needsCounting, readTrainingOptions, TRAINING_OPTIONS, type TrainingOptions, warmupOf } from './options.js';
import { openRunFolder, writeRunFile } from './run-folder.js';
import { learningRateAt, type Schedule } from './schedule.js';

/** A tokenizer that can be saved and recognised again. */
export type TrainerTokenizer = SavedTokenizer & { readonly fingerprint: string };

/** What a {@link Trainer} needs, and what it may be told. */
export interface TrainerOptions extends Partial<TrainingOptions> {
  model: GPT2;
  /** Saved with the weights; writes the samples. */
  tokenizer: TrainerTokenizer;
  /** Batches of an epoch, again and again: usually a `DataLoader`. */
  train: BatchSource;
  /** Validation batches, the same ones each time; without them there are no evaluations. */
  valid?: AsyncIterable<Batch>;
  /** The run's folder. */
  out: string;
  /** Continue the run that `out` holds. Default false. */
  resume?: boolean;
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
   *   `ERR_NON_FINITE` when the loss or the gradient stops being a number, and what data, model and disk throw.
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

/** A step whose loss or gradient is no number. */
interface Refused {
  type: 'refused';
  what: string;
  value: number;
  batch: Batch | undefined;
  /** The last block before the step. */
  before: { epoch: number; blocks: number };
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
  /** Between the first micro-batch of a step and its update. */
  private midStep = false;
  /** Histograms of the last step, when they were due. */
  private gradients: GradientHistogram[] | undefined;
  private paused = false;
  private stopped = false;
  /** Peak learning rate that replaces the option's. */
  private peakLearningRate: number | null = null;
  /** Samples that a person asked for: each has a seed of its own. */
  private asked = 0;
  private schedule: Schedule;
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
  }

  async *events(): AsyncGenerator<TrainEvent, void, void> {
    const { options } = this;
    yield* this.start();
    const lastStep = options.maxSteps ?? Number.POSITIVE_INFINITY;
    while (this.step < lastStep && !this.aborted) {
      yield* this.obey();
      if (this.aborted) break;
      const event = await this.takeStep();
      if (event === undefined) break;
      if (event.type === 'refused') yield* this.stop(event);
      else yield event;
      if (this.gradients !== undefined) yield { type: 'gradients', step: this.step, tensors: this.gradients };
      const due = (every: number) => every > 0 && this.step % every === 0 && !this.aborted;
      if (due(options.evalEvery)) yield* this.evaluate();
      if (due(options.sampleEvery)) yield await this.sample();
      if (due(options.saveEvery)) await this.save();
      yield* this.ended();
      // Lets signals and timers in even when data and engine always answer at once.
      await nextTurn();
    }
    if (!this.aborted && this.evaluation?.step !== this.step) yield* this.evaluate();
    yield* this.saveLast();
    yield {
      type: 'end',
      step: this.step,
      reason: this.aborted ? 'aborted' : 'completed',
      loss: this.loss,
      evalLoss: this.evaluation?.loss ?? null,
      tokens: this.tokens,
      seconds: secondsSince(this.begun),
      checkpoint: this.checkpoint,
    };
  }

  /** Ends the data's workers and a save that is under way; leaves no half-accumulated gradient and nothing frozen. */
  async close(): Promise<void> {
    await this.saver.settle();
    await this.stream.close();
    if (this.midStep) await this.given.model.zeroGradients();
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

  private async *start(): AsyncGenerator<StartEvent | WarningEvent, void, void> {
    const { model, train, out, resume = false } = this.given;
    const warnings: string[] = [];
    if (this.options.freeze !== undefined) model.freeze(this.options.freeze);
    await openRunFolder(out, resume);
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
    await writeRunFile(out, start.configuration);
    yield start;
    for (const message of warnings) yield this.warning('ERR_CHECKPOINT', message);
  }

  private countBatches(): Promise<number> {
    return countBatches(this.given.train, this.how.signal, (count) => this.progress('count', count));
  }

  /** One optimizer step, or why it was not applied; undefined when the data has ended. */
  private async takeStep(): Promise<StepEvent | Refused | undefined> {
    const { model } = this.given;
    const start = performance.now();
    const waitedBefore = this.stream.waitedSeconds;
    const before = this.stream.last;
    const learningRate = learningRateAt(this.schedule, this.step);
    let lossSum = 0;
    let labels = 0;
    let tokens = 0;
    let micro = 0;
    for (; micro < this.options.gradAccum; micro++) {
      const batch = await this.stream.next();
      if (batch === undefined) break;
      this.midStep = true;
      const result = await model.forwardBackward(batch);
      if (!Number.isFinite(result.lossSum))
        return { type: 'refused', what: 'loss', value: result.lossSum, batch, before };
      lossSum += result.lossSum;
      labels += result.tokens;
      tokens += batch.inputIds.data.length;
    }
    if (micro === 0) return undefined;
    const measuring = performance.now();
    this.gradients = this.histogramsDue() ? await gradientHistograms(model) : undefined;
    const updating = performance.now();
    const { gradNorm, applied } = await model.step({
      learningRate,
      betas: [this.options.beta1, this.options.beta2],
      eps: this.options.eps,
      weightDecay: this.options.weightDecay,
      maxGradNorm: this.options.gradClip,
    });
    if (!applied) return { type: 'refused', what: 'gradient norm', value: gradNorm, batch: undefined, before };
    this.midStep = false;
    this.step++;
    this.tokens += tokens;
    this.loss = lossSum / labels;
    const updateSeconds = secondsSince(updating);
    const stepSeconds = secondsSince(start) - (updating - measuring) / 1000;
    return {
      type: 'step',
      step: this.step,
      loss: this.loss,
      learningRate,
      gradNorm,
      tokensPerSecond: tokens / stepSeconds,
      tokens: this.tokens,
      epoch: this.stream.last.epoch,
      dataWaitShare: (this.stream.waitedSeconds - waitedBefore) / stepSeconds,
      stepSeconds,
      updateSeconds,
    };
  }

  private histogramsDue(): boolean {
    const { histogramEvery } = this.options;
    return histogramEvery > 0 && (this.step + 1) % histogramEvery === 0;
  }

  /** Ends the run, once the checkpoint that is being written is safe. */
  private async *stop(refused: Refused): AsyncGenerator<CheckpointEvent | WarningEvent, never, void> {
    await this.saver.settle();
    yield* this.ended();
    throw this.nonFinite(refused);
  }

  private nonFinite({ what, value, batch, before }: Refused): KotodamaError {
    const { blocks, epoch } = this.stream.last;
    const first = before.epoch === epoch ? before.blocks + 1 : 1;
    const range = first < blocks ? `blocks ${first} to ${blocks}` : `block ${blocks}`;
    const text = batch === undefined ? '' : this.given.tokenizer.decode(batch.inputIds.data.slice(0, 32)).slice(0, 60);
    return new KotodamaError(
      'ERR_NON_FINITE',
      `Step ${this.step + 1}: the ${what} is ${value} in ${range} of epoch ${epoch}` +
        (text === '' ? '' : `, which begin with ${JSON.stringify(text)}`),
      {
        hint: `${this.checkpoint === null ? 'there is no checkpoint yet' : `the last checkpoint, ${this.checkpoint}, is untouched`}; try a smaller --lr, more --warmup-steps or --grad-clip 1`,
      },
    );
  }

  private async *evaluate(): AsyncGenerator<EvalEvent, void, void> {
    const { model, valid } = this.given;
    if (valid === undefined) return;
    const start = performance.now();
    const limit = this.options.evalBatches === 0 ? Number.POSITIVE_INFINITY : this.options.evalBatches;
    const total = Number.isFinite(limit) ? limit : null;
    this.progress('evaluate', 0, total);
    let done = 0;
    const onBatch = () => this.progress('evaluate', ++done, total);
    const { lossSum, tokens, whole } = await evaluate(model, valid, { limit, signal: this.how.signal, onBatch });
    if (!whole) return;
    const loss = lossSum / tokens;
    this.evaluation = { step: this.step, loss };
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

  private async save(): Promise<void> {
    const { model } = this.given;
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
      options: plain(this.options),
      identity: this.identity(),
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
    if (checkpoint !== undefined) await this.restore(checkpoint.state, checkpoint.path);
    const warnings: string[] = [];
    for (const found of damaged) {
      const { path, problem } = found;
      warnings.push(`the checkpoint ${path} is damaged and was passed over, as ${await setAside(found)}: ${problem}`);
    }
    if (checkpoint === undefined) warnings.push(`${out} holds no whole checkpoint: the run begins again at step 0`);
    return warnings;
  }

  private async restore(state: TrainerState, path: string): Promise<void> {
    const { model } = this.given;
    checkIdentity(this.given.out, state.identity, this.identity());
    this.progress('restore');
    await readCheckpointTensors(model, path);
    model.counters = state.counters;
    this.stream.restore(state.position);
    this.step = state.step;
    this.savedStep = state.step;
    this.tokens = state.tokens;
    this.loss = state.loss;
    this.evaluation = state.evaluation;
    this.batchesPerEpoch = state.batchesPerEpoch;
    // Whoever continues with another --lr means that one.
    if (state.options.lr === this.options.lr) this.peakLearningRate = state.peakLearningRate ?? null;
    this.checkpoint = path;
  }

  private identity(): { [key: string]: Json } {
    const { model, tokenizer, train } = this.given;
    return identityOf(model, tokenizer.fingerprint, train, this.options.gradAccum);
  }

  private configuration(): { [key: string]: Json } {
    const { model, seed = 0, configuration = {} } = this.given;
    return {
      ...configuration,
      model: plain(model.config),
      training: { ...plain(this.options), seed },
    };
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
