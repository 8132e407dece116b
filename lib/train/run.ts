import { setImmediate as nextTurn } from 'node:timers/promises';
import { isBadRecord } from '../data/sources/bad-records.js';
import { publicNames } from '../data/sources/public-name.js';
import type { Json } from '../data/types.js';
import { hinted, KotodamaError } from '../errors.js';
import { ioError } from '../files.js';
import { plain } from '../json.js';
import { packageVersion } from '../version.js';
import { isAbort } from '../waiting.js';
import { BatchStream, countBatches } from './batch-stream.js';
import { allDamaged, newestCheckpoint, publish, STATE_VERSION, setAside, type TrainerState } from './checkpoint.js';
import { CheckpointSaver } from './checkpoint-saver.js';
import { secondsSince } from './clock.js';
import type { ControlCommand } from './control.js';
import { Course } from './course.js';
import { Evaluations } from './evaluations.js';
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
import { changes, checkIdentity, checkLength, identityOf } from './identity.js';
import { forgetTraining, readCheckpointTensors } from './model-state.js';
import { type RefusedStep, Stepper, type TakenStep } from './optimizer-step.js';
import type { TrainingOptions } from './options.js';
import { cure, refusal, spikeText } from './refusal.js';
import { RunCheckpoints } from './run-checkpoints.js';
import { deviceText, runFileOf } from './run-file.js';
import { openRunFolder, readRunFile, writeRunFile } from './run-folder.js';
import { Samples } from './samples.js';
import { SpikeGuard, type SpikeWindows } from './spike-guard.js';
import type { TrainerOptions, TrainerRunOptions } from './trainer-options.js';

/** What reading and measuring data can end with: the model is whole then. */
const OF_DATA = ['ERR_DATA', 'ERR_IO', 'ERR_OPTIONS', 'ERR_HUB', 'ERR_TOKENIZER', 'ERR_MEMORY'];

/** One start of a run: the state between its steps, and all that happens in it, in the order of {@link Run.events}. */
export class Run {
  private step = 0;
  private tokens = 0;
  private loss: number | null = null;
  private identity: { [key: string]: Json } = {};
  /** What is due at this step and not done yet. */
  private owed = new Set<TrainerState['owed'][number]>();
  /** Updates left out since the last one. */
  private skipped = 0;
  /** Histograms of the last step, when they were due. */
  private gradients: GradientHistogram[] | undefined;
  private paused = false;
  private stopped = false;
  private guard: SpikeGuard;
  private stepper: Stepper;
  private readonly course: Course;
  private readonly stream: BatchStream;
  private readonly evaluations: Evaluations;
  private readonly samples: Samples;
  private readonly checkpoints: RunCheckpoints;
  private readonly begun = performance.now();
  private releaseFolder: () => Promise<void> = async () => {};

  constructor(
    private readonly given: TrainerOptions,
    private readonly options: TrainingOptions,
    private readonly how: TrainerRunOptions,
  ) {
    this.course = new Course(options);
    this.stream = new BatchStream(given.train, options.epochs ?? Number.POSITIVE_INFINITY, how.signal);
    this.evaluations = new Evaluations(given.model, given.valid, options.evalBatches);
    this.samples = new Samples(given, options);
    this.checkpoints = new RunCheckpoints(new CheckpointSaver({ ...given, keep: options.keep }));
    this.guard = this.makeGuard();
    this.stepper = this.makeStepper();
  }

  async *events(): AsyncGenerator<TrainEvent, void, void> {
    yield* this.start();
    try {
      yield* this.train();
    } catch (error) {
      yield* this.rescue(error);
    }
    const early = this.step < this.lastStep || this.hurried ? this.ending : undefined;
    if (!this.checkpoints.has(this.step)) this.progress('save');
    yield* this.checkpoints.finish(this.state());
    const { best, evaluation } = this.evaluations.state;
    yield {
      type: 'end',
      step: this.step,
      reason: early ?? 'completed',
      loss: this.loss,
      evalLoss: evaluation?.loss ?? null,
      tokens: this.tokens,
      seconds: secondsSince(this.begun),
      checkpoint: this.checkpoints.newest,
      best: best === null ? null : { step: best.step, loss: best.loss },
    };
  }

  private get lastStep(): number {
    return this.options.maxSteps ?? Number.POSITIVE_INFINITY;
  }

  private async *train(): AsyncGenerator<TrainEvent, void, void> {
    const { options } = this;
    yield* this.settle();
    while (this.step < this.lastStep && this.ending === undefined) {
      yield* this.obey();
      if (this.ending !== undefined) break;
      const learningRate = this.course.learningRate(this.step);
      const start = performance.now();
      const waitedBefore = this.stream.waitedSeconds;
      const result = await this.unlessAborted(this.stepper.take(learningRate, this.measurement()));
      if (result === undefined) break;
      if (result.applied) {
        const seconds = secondsSince(start) - result.measureSeconds;
        yield* this.taken(result, { learningRate, seconds, waited: this.stream.waitedSeconds - waitedBefore });
        yield* this.settle();
        if (this.due(options.saveEvery) && !this.hurried) await this.save();
        await this.saveBest();
      } else {
        yield* this.refuse(result);
      }
      yield* this.checkpoints.ended();
      // Lets signals and timers in even when data and engine always answer at once.
      await nextTurn();
    }
    if (!this.hurried && this.evaluations.last?.step !== this.step) yield* this.evaluate();
  }

  /** Saves what was done before `error`, where that is whole, and throws it. */
  private async *rescue(error: unknown): AsyncGenerator<CheckpointEvent | WarningEvent, never, void> {
    const known = error instanceof KotodamaError;
    // Whoever gives the data may throw anything.
    if (this.step === 0 || (known && !OF_DATA.includes(error.code))) throw error;
    try {
      await this.stepper.undo();
      this.progress('save');
      yield* this.checkpoints.finish(this.state());
    } catch (second) {
      if (second instanceof KotodamaError) yield this.warning(second.code, second.message);
      throw error;
    }
    // Data is known by its content, so that a file that was mended is not the one that the run began with.
    const wayOn = isBadRecord(error as object)
      ? ': --resume --skip-bad (API: resume: true, skipBad: true) goes on without it; with a mended file it is another run'
      : ', and --resume (API: resume: true) goes on from it';
    throw known ? hinted(error, `step ${this.step} is saved${wayOn}`) : error;
  }

  /** What work with data gives; undefined when a signal of the data ends it, which ends the run as its own signal does. */
  private async unlessAborted<T>(work: Promise<T>): Promise<T | undefined> {
    try {
      return await work;
    } catch (error) {
      if (!isAbort(error, this.how.signal)) throw error;
      this.stopped = true;
      await this.stepper.undo();
      return undefined;
    }
  }

  /** Ends the data's workers and a save that is under way; leaves no half-accumulated gradient and nothing frozen. */
  async close(): Promise<void> {
    try {
      await this.checkpoints.settle();
      await this.stream.close();
      await this.stepper.close();
      if (this.options.freeze !== undefined) this.given.model.freeze([]);
    } finally {
      await this.releaseFolder();
    }
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
      if (!this.paused || this.ending !== undefined) return;
      // Nothing else will tell of a save that ends meanwhile.
      yield* this.checkpoints.settled();
      await control.wait(signal, this.secondsLeft);
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
        this.course.peakLearningRate = command.learningRate;
        break;
      case 'save':
        await this.save();
        break;
      case 'evaluate':
        if (this.given.valid === undefined) yield this.warning('ERR_OPTIONS', 'the run has no validation data');
        yield* this.evaluate();
        await this.saveBest();
        break;
      case 'sample':
        yield await this.sample(command.prompt);
    }
  }

  private sample(prompt?: string): Promise<SampleEvent | WarningEvent> {
    this.progress('sample');
    return this.samples.write(this.step, prompt);
  }

  private progress(phase: TrainerProgress['phase'], done = 0, total: number | null = null): void {
    this.how.onProgress?.({ phase, done, total });
  }

  /** Until `maxTime` ends the run. */
  private get secondsLeft(): number {
    return (this.options.maxTime ?? Number.POSITIVE_INFINITY) - secondsSince(this.begun);
  }

  /** Why no further step is begun, before the last one. */
  private get ending(): EndEvent['reason'] | undefined {
    const { patience } = this.options;
    const { best } = this.evaluations;
    if (this.aborted) return 'aborted';
    if (this.secondsLeft <= 0) return 'maxTime';
    return patience > 0 && best !== null && best.since >= patience ? 'patience' : undefined;
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
    this.releaseFolder = await openRunFolder(out, resume, tokenizer);
    // Counting and restoring take minutes: what else can go wrong goes wrong before.
    const shape = { batchSize: train.batchSize, blockSize: train.blockSize };
    const memory = await model.reserve(shape);
    const place = JSON.stringify(train.upcoming?.() ?? train.state());
    const restless = await this.unlessAborted(this.evaluations.prepare(this.how.signal, this.options.evalEvery > 0));
    // Somebody may have left a pass before; and where both loaders rest on one dataset, it went on.
    if (JSON.stringify(train.state()) !== place) train.restore(JSON.parse(place));
    this.identity = await identityOf(model, tokenizer.fingerprint, train, this.options);
    if (resume) warnings.push(...(await this.resume()));
    // Whatever was done with the model before is no part of the first step.
    if (this.checkpoints.newest === null) {
      await forgetTraining(model);
      await this.count();
    } else {
      await model.zeroGradients();
    }
    // From here on the folder holds a run; what can go wrong before has gone wrong by now.
    const isOver = !this.aborted && (await this.unlessAborted(this.stream.prepare())) === false;

    const start: StartEvent = {
      type: 'start',
      step: this.step,
      time: Date.now() / 1000,
      resumedFrom: this.checkpoints.newest,
      out,
      device: { device: model.device.device, name: model.device.name, detail: model.device.detail },
      precision: model.precision,
      peakFlops: await model.peakFlops(),
      parameters: model.parameterCount,
      batchSize: train.batchSize,
      blockSize: train.blockSize,
      gradAccum: this.options.gradAccum,
      tokensPerStep: train.batchSize * train.blockSize * this.options.gradAccum,
      stepsPerEpoch: this.course.stepsPerEpoch,
      totalSteps: this.course.totalSteps,
      memory,
      configuration: this.configuration(),
    };
    await this.record(start, resume);
    yield start;
    for (const message of warnings) yield this.warning('ERR_CHECKPOINT', message);
    const problem = this.course.problem();
    for (const message of [problem, restless]) if (message !== undefined) yield this.warning('ERR_OPTIONS', message);
    if (isOver || this.step >= this.lastStep) yield this.warning('ERR_OPTIONS', overText(this.step, 'maxSteps'));
    else if (this.ending === 'patience') yield this.warning('ERR_OPTIONS', overText(this.step, 'patience'));
  }

  /** Finds how many batches an epoch has, where that costs nothing or the learning rate needs it. Null when the run is aborted. */
  private async count(): Promise<void> {
    const { course, given, how } = this;
    course.batchesPerEpoch = given.train.batchesPerEpoch || course.batchesPerEpoch;
    if (!course.needsCounting) return;
    const onBatch = (count: number) => this.progress('count', count);
    // From so many on it is maxSteps that ends the run.
    const { maxSteps = Number.POSITIVE_INFINITY, epochs = 1, gradAccum } = this.options;
    const enough = Math.ceil((maxSteps * gradAccum) / epochs);
    const counted = await this.unlessAborted(countBatches(given.train, how.signal, onBatch, enough));
    course.batchesPerEpoch = counted ?? null;
  }

  /** Writes `run.json`. */
  private async record({ step, time, resumedFrom }: StartEvent, resume: boolean): Promise<void> {
    const { model, out, seed = 0, configuration = {} } = this.given;
    const parts = {
      model,
      options: this.options,
      seed,
      identity: this.identity,
      valid: this.evaluations.measured?.data ?? null,
      configuration,
      step,
      time,
      resumedFrom,
    };
    const before = resume ? await readRunFile(out) : undefined;
    await writeRunFile(out, runFileOf(parts, before));
  }

  private *taken(
    { loss, gradNorm, tokens, spikes, updateSeconds }: TakenStep,
    { learningRate, seconds, waited }: { learningRate: number; seconds: number; waited: number },
  ): Generator<TrainEvent, void, void> {
    const isFirst = this.tokens === 0;
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
    const problem = isFirst ? this.shortEpoch() : undefined;
    if (problem !== undefined) yield this.warning('ERR_OPTIONS', problem);
  }

  /** What is wrong where the first epoch ended before its first step was full; undefined where it did not. */
  private shortEpoch(): string | undefined {
    const wanted = this.given.train.batchSize * this.options.gradAccum;
    const { epoch, blocks } = this.stream.last;
    const cure = 'choose a smaller batch size, gradAccum or block size (--batch-size, --grad-accum, --block-size)';
    if (epoch > 1)
      return `an epoch has fewer blocks than the ${wanted} of a step, which reads it more than once; ${cure}`;
    if (blocks >= wanted) return undefined;
    return `an epoch has only ${blocks} blocks, fewer than the ${wanted} of a step: each step learns from ${blocks}; ${cure}`;
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
    yield* this.checkpoints.settled();
    const { newest } = this.checkpoints;
    const kept = newest === null ? 'there is no checkpoint yet' : `the last checkpoint, ${newest}, is untouched`;
    throw await refusal(refused, context, skips ? `; ${this.skipped} updates in a row were skipped` : '', {
      hint: `${kept}; ${cure(refused, this.options)}`,
    });
  }

  /** Does what the step still owes, as long as there is time. */
  private async *settle(): AsyncGenerator<EvalEvent | SampleEvent | WarningEvent, void, void> {
    if (this.owed.has('eval') && !this.hurried) yield* this.evaluate();
    if (this.owed.has('sample') && !this.hurried) {
      yield await this.sample();
      this.owed.delete('sample');
    }
  }

  private async *evaluate(): AsyncGenerator<EvalEvent, void, void> {
    const measuring = this.evaluations.measure(this.step, {
      signal: this.how.signal,
      onProgress: (done, total) => this.progress('evaluate', done, total),
    });
    const event = await this.unlessAborted(measuring);
    // What was ended early is done when the run goes on.
    if (event === undefined && this.given.valid !== undefined) return;
    this.owed.delete('eval');
    if (event !== undefined) yield event;
  }

  /** Begins to save this step, or what of it was not saved yet. */
  private async save(): Promise<void> {
    if (!this.checkpoints.has(this.step)) this.progress('save');
    await this.checkpoints.save(this.state());
  }

  /** The weights of the best evaluation are always saved, whatever else is: nobody can have them again later. */
  private async saveBest(): Promise<void> {
    if (this.evaluations.best?.step === this.step && !this.hurried) await this.save();
  }

  /** Everything that is neither a weight nor a moment. */
  private state(): TrainerState {
    const { model } = this.given;
    return {
      version: STATE_VERSION,
      step: this.step,
      tokens: this.tokens,
      counters: model.counters,
      position: this.stream.position(),
      batchesPerEpoch: this.course.batchesPerEpoch,
      loss: this.loss,
      peakLearningRate: this.course.peakLearningRate,
      warmupSteps: this.course.warmupSteps,
      ...this.evaluations.state,
      owed: [...this.owed],
      skipped: this.skipped,
      spikes: this.guard.windows(),
      options: plain(this.options),
      device: deviceText(model),
      identity: this.identity,
    };
  }

  /** Continues from the newest whole checkpoint; gives what the person should know. */
  private async resume(): Promise<string[]> {
    const { out } = this.given;
    const { checkpoint, damaged } = await newestCheckpoint(out);
    if (checkpoint === undefined && damaged.length > 0) throw allDamaged(out, damaged);
    const warnings: string[] = [];
    if (checkpoint !== undefined) {
      await this.restore(checkpoint.state, checkpoint.path);
      warnings.push(...this.evaluations.restore(checkpoint.state, out));
      // The run may have been killed before it could, or the disk was full.
      await publish(checkpoint.path, out, { unlessThere: true }).catch((cause) => {
        warnings.push(ioError(cause, `the weights of ${checkpoint.path} could not be put into ${out}`).message);
      });
      warnings.push(...changes(checkpoint.state, deviceText(this.given.model), this.options, this.course));
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
    checkLength(this.given.out, state, this.options);
    this.progress('restore');
    await readCheckpointTensors(model, path);
    model.counters = state.counters;
    this.course.restore(state);
    // From the beginning of the data, not from the run's place in it.
    await this.count();
    this.stream.restore(state.position);
    this.step = state.step;
    this.tokens = state.tokens;
    this.loss = state.loss;
    this.owed = new Set(state.owed);
    this.skipped = state.skipped;
    this.guard = this.makeGuard(state.spikes);
    this.stepper = this.makeStepper();
    this.checkpoints.resumed(state, path);
  }

  /** For events, which others may see; `run.json` has all of a URL, as a resumed run reads from there. */
  private configuration(): { [key: string]: Json } {
    const { model, seed = 0, configuration = {} } = this.given;
    return {
      kotodama: packageVersion(),
      node: process.version,
      ...publicNames(configuration),
      model: plain(model.config),
      training: { ...plain(this.options), warmupSteps: this.course.warmupSteps, seed },
    };
  }

  private makeGuard(windows?: SpikeWindows): SpikeGuard {
    return new SpikeGuard(this.options.spikeSigma, this.options.spikeWindow, windows);
  }

  private makeStepper(): Stepper {
    return new Stepper(this.given.model, this.stream, this.options, this.guard);
  }

  private warning(code: string, message: string): WarningEvent {
    return { type: 'warning', step: this.step, code, message };
  }
}

/** For whoever continues a run that has no step left to take, and what would give it some. */
function overText(step: number, because: 'maxSteps' | 'patience'): string {
  const cure = {
    maxSteps: '--max-steps or --epochs (API: maxSteps, epochs), counted from its beginning',
    patience: '--patience (API: patience)',
  };
  return `the run had ended at step ${step} already: nothing is trained; a larger ${cure[because]}, goes on`;
}
