import { isRestartable } from '../data/state.js';
import { KotodamaError } from '../errors.js';
import type { GPT2 } from '../model/gpt2.js';
import type { OpenTokenizer } from '../tokenizer/types.js';
import { firstDifference } from '../tokenizer/vocabulary.js';
import { isPromise, OptionReader } from '../validate.js';
import { TrainerControl } from './control.js';
import type { TrainEvent } from './events.js';
import { readTrainingOptions, TRAINING_OPTIONS, type TrainingOptions } from './options.js';
import { Run } from './run.js';
import type { TrainerOptions, TrainerRunOptions } from './trainer-options.js';

export type { TrainerOptions, TrainerRunOptions, TrainerTokenizer } from './trainer-options.js';

/** What a run is made of. */
const PARTS = { model: 'a GPT2', tokenizer: 'a Tokenizer', train: 'a DataLoader, or what gives batches as one does' };
/** The methods that each of them must have. */
const METHODS = { model: ['trainStep', 'reserve'], tokenizer: ['encode', 'decode'], train: [] };
const GIVEN = [...Object.keys(PARTS), 'valid', 'out', 'resume', 'seed', 'configuration'];

/** What is easily given to a Trainer. */
const ELSEWHERE = {
  batchSize: 'it belongs to the DataLoader: new DataLoader(dataset, { batchSize })',
  signal: 'it belongs to the run: trainer.run({ signal })',
  control: 'it belongs to the run: trainer.run({ control })',
};

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
   * @throws KotodamaError `ERR_OPTIONS` that lists every problem: unknown names, values out of range or missing, a tokenizer
   *   with more ids than the model.
   */
  constructor(options: TrainerOptions) {
    const reader = new OptionReader(options);
    reader.onlyKnown([...GIVEN, ...Object.keys(TRAINING_OPTIONS)], ELSEWHERE);
    this.options = readTrainingOptions(reader);
    for (const name of ['model', 'tokenizer', 'train'] as const) {
      const value = reader.values[name];
      const methods = (value ?? {}) as { [method: string]: unknown };
      const fits = METHODS[name].every((method) => typeof methods[method] === 'function');
      const isPart = typeof value === 'object' && value !== null && !isPromise(value) && fits;
      if (!isPart) reader.problem(name, PARTS[name], value);
    }
    checkBatches(reader);
    checkTokenizer(reader);
    this.out = reader.string('out');
    reader.boolean('resume', false);
    reader.integer('seed', { min: 0 }, 0);
    const { tokenizer, model } = reader.values as Partial<TrainerOptions>;
    const [ids = 0, most = Number.POSITIVE_INFINITY] = [tokenizer?.vocabSize, model?.config?.vocabSize];
    // Stricter than generation is: any of its ids may occur in a text.
    if (ids > most) reader.problem('tokenizer', `at most ${most} ids, the model's vocabSize`, ids);
    reader.finish('The training options are not valid');
    this.given = options;
  }

  /**
   * Trains until the end, or until `signal` aborts or `control` says stop: then the running step is finished, a checkpoint
   * is saved and the event `end` has the reason `aborted`; a warning may follow it. A signal that ends the data, as one of a
   * DataLoader does, ends the run so too, but for a step whose data is cut short: that is taken back. Leaving the loop early
   * ends the run without saving. What is wrong with the data is thrown once the steps before it are saved.
   *
   * @throws KotodamaError `ERR_OPTIONS` when `how` is not valid, `ERR_BUSY` when the model is in training already,
   *   `ERR_CHECKPOINT` when `out` does not fit, `ERR_NON_FINITE` when the loss or the gradient stops being a number (see
   *   `nonFinite`), `ERR_SPIKE` when too many updates in a row were skipped for being too high, and what data, model and
   *   disk throw.
   */
  async *run(how: TrainerRunOptions = {}): AsyncGenerator<TrainEvent, void, void> {
    checkRunOptions(how);
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
      await run.close().finally(() => inTraining.delete(model));
    }
  }
}

function checkRunOptions(how: TrainerRunOptions): void {
  const reader = new OptionReader(how);
  reader.onlyKnown(['signal', 'control', 'onProgress']);
  if (how instanceof AbortSignal) reader.problems.add('options', 'an object', 'an AbortSignal', 'write { signal }');
  const { signal, control, onProgress } = reader.values as TrainerRunOptions;
  const hint = (signal as object | undefined) instanceof AbortController ? 'give its signal' : undefined;
  if (signal !== undefined && !(signal instanceof AbortSignal))
    reader.problem('signal', 'an AbortSignal', signal, hint);
  if (control !== undefined && !(control instanceof TrainerControl)) {
    reader.problem('control', 'a TrainerControl', control);
  }
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    reader.problem('onProgress', 'a function', onProgress);
  }
  reader.finish('The run cannot be started with these options');
}

/** Another tokenizer's ids would be learned without a word. */
function checkTokenizer(reader: OptionReader): void {
  const { tokenizer, train, valid } = reader.values as Partial<TrainerOptions>;
  const own = tokenizer?.fingerprint;
  for (const [name, loader] of Object.entries({ train, valid })) {
    const found = loader?.tokenizerFingerprint;
    if (typeof own !== 'string' || typeof found !== 'string' || own === found) continue;
    if (hasTokensOf(tokenizer, loader?.tokenizer)) continue;
    const short = (fingerprint: string) => fingerprint.slice(0, 12);
    const hint = 'make its dataset with the tokenizer that the Trainer is given';
    reader.problems.add(name, `ids of the tokenizer ${short(own)}`, `those of ${short(found)}`, hint);
  }
}

/** Whether a tokenizer has all tokens of another under the same ids: it may be the same one in another file. */
function hasTokensOf(tokenizer: object | undefined, other: object | undefined): boolean {
  const [mine, theirs] = [tokenizer, other].map((one) => (one as Partial<OpenTokenizer> | undefined)?.vocabulary);
  return mine !== undefined && theirs !== undefined && firstDifference(theirs, mine) === undefined;
}

/** A dataset, which gives blocks one by one, is easily taken for the loader that makes batches of them. */
function checkBatches(reader: OptionReader): void {
  const { train, valid } = reader.values as Partial<TrainerOptions>;
  const hint = 'wrap a dataset: new DataLoader(dataset, { batchSize })';
  const hasBatches = (value: object) => 'batchSize' in value;
  const isOther = typeof train === 'object' && train !== null && !isPromise(train);
  if (isOther && !(isRestartable(train) && hasBatches(train))) {
    reader.problem('train', PARTS.train, train, hint);
  } else if (isOther && valid === train) {
    // Its state is that of the pass begun last: saved after an evaluation, it would not say where training stands.
    reader.problems.add('valid', 'a loader of its own', 'that of train');
    return;
  }
  if (valid === undefined) return;
  // To measure on, any batches will do.
  const isDataset = isRestartable(valid) && !hasBatches(valid);
  const isIterable =
    typeof valid === 'object' && valid !== null && (Symbol.asyncIterator in valid || Symbol.iterator in valid);
  if (isDataset || !isIterable) {
    reader.problem('valid', 'a DataLoader, or an async iterable of batches', valid, isDataset ? hint : undefined);
  } else if (/Generator\]$/.test(String(Object.prototype.toString.call(valid)))) {
    reader.problems.add('valid', 'batches that can be read for each evaluation', 'a generator, which gives them once');
  }
}
