import { types } from 'node:util';
import type { TokenTensor } from '../data/types.js';
import { KotodamaError } from '../errors.js';
import type { HubOptions } from '../hub/index.js';
import type { NativeModel, TensorKind } from '../native.js';
import { describe, OptionReader } from '../validate.js';
import { type Adaptations, adaptConfig, adaptTensors } from './adapt.js';
import { build, type ModelOptions, type Precision } from './build.js';
import { CallQueue } from './call-queue.js';
import { type GPT2Config, type GPT2ConfigInput, parameterCount, resolveConfig } from './config.js';
import type { DeviceInfo } from './device.js';
import { type Explained, type ExplainOptions, type Explanation, explain } from './explain.js';
import {
  type Decoding,
  type GenerateIdsOptions,
  type GenerateOptions,
  type GenerateSamplesOptions,
  generateIds,
  generateSamples,
  generateText,
  type SamplePiece,
} from './generate.js';
import { type GgufOptions, writeGpt2Gguf } from './gguf/gpt2.js';
import { type LlmcOptions, writeLlmc } from './llmc.js';
import { callNative, callNativeSync } from './native-call.js';
import { modelPath, openWeights, readConfig } from './pretrained.js';
import {
  type BatchShape,
  type FloatTensor,
  type LossResult,
  type MemoryPlan,
  type ModelCounters,
  type OptimizerState,
  type StepResult,
  type TrainStepResult,
  toLoss,
} from './results.js';
import { readSaveOptions, type SaveOptions, writePretrained } from './save.js';
import { readStepOptions, type StepOptions } from './step-options.js';
import { hintFor, tensorsMatching } from './tensor-patterns.js';
import type { TensorSource } from './tensor-source.js';
import { announced, checkBatch, checkInput, type LabelledTokens, readShape, type Tokens } from './tokens.js';

export type * from './results.js';
export type { SaveOptions } from './save.js';

/** How a saved model is loaded. */
export interface PretrainedOptions extends ModelOptions, HubOptions, Adaptations {}

/** What a micro-step may know beforehand. */
export interface ForwardBackwardOptions {
  /**
   * The batch of the next call, where it is known: a GPU receives it while it computes this one. It is checked when its
   * turn comes, and any other may come instead.
   */
  next?: { inputIds: TokenTensor; labels: TokenTensor } | undefined;
}

/**
 * A GPT-2 language model on one device: training, evaluation and generation.
 *
 * Work runs off the event loop, one call at a time. A call that comes before the last one has ended waits for its turn, in
 * the order of the calls: several texts may be generated at once, also beside a Trainer, whose results they leave as they
 * are. Of two calls that change the model (weights, moments, gradients or counters) the second is `ERR_BUSY` until the first
 * has ended: an `await` is missing, or two loops train one model. After `dispose` every call is `ERR_DISPOSED`, those that
 * wait too.
 */
export class GPT2 implements AsyncDisposable {
  /** Name and shape of every parameter: Hugging Face's names, order and layout. */
  readonly tensors: readonly { readonly name: string; readonly shape: readonly number[] }[];
  private readonly queue = new CallQueue();
  /** The engine's counters after the last call that changed them: the engine itself tells them only while it is idle. */
  private counted: ModelCounters;

  private constructor(
    private readonly model: NativeModel,
    /** Sizes and settings, all of them resolved. */
    readonly config: Readonly<GPT2Config>,
    /** Arithmetic of the matrix products. */
    readonly precision: Precision,
    /** How the bf16 copies of the weights are rounded. */
    readonly stochasticRounding: boolean,
    /** Of the initial weights, dropout and stochastic rounding. */
    readonly seed: number,
  ) {
    if (typeof model?.tensors !== 'function') {
      throw new KotodamaError('ERR_OPTIONS', 'a GPT2 is not made with new', {
        hint: 'await GPT2.create(config) makes one, await GPT2.fromPretrained(folder) loads one',
      });
    }
    this.tensors = model.tensors();
    this.counted = model.counters();
  }

  /** Makes a model with new weights: N(0, initializerRange), residual projections divided by sqrt(2 * nLayer). */
  static async create(config: GPT2ConfigInput, options: ModelOptions = {}): Promise<GPT2> {
    return build(resolveConfig(config), options, 'random', (...parts) => new GPT2(...parts));
  }

  /**
   * Loads config.json and model.safetensors (or its parts) from a folder in Hugging Face's layout, or from the Hub by the
   * model's name, `owner/name` or `owner/name@revision`; or a checkpoint of llm.c, a `.bin` file of version 3 or 5. Where
   * config.json names several ids that end a text, `config.eosTokenId` is the first of them.
   *
   * @throws KotodamaError `ERR_MODEL_FILE` when a file is malformed, `ERR_IO` when it cannot be read, `ERR_HUB` when it
   *   cannot be fetched.
   */
  static async fromPretrained(name: string, options: PretrainedOptions = {}): Promise<GPT2> {
    new OptionReader(options).finish('The model cannot be loaded with these options');
    const { revision, token, cacheDir, offline, onProgress, ...rest } = options;
    const { dropout, nPositions, vocabSize, bosTokenId, eosTokenId, padTokenId, ...modelOptions } = rest;
    const path = await modelPath(name, { revision, token, cacheDir, offline, onProgress });
    const saved = await readConfig(path);
    const config = adaptConfig(saved, { dropout, nPositions, vocabSize, bosTokenId, eosTokenId, padTokenId });
    // The files are checked against the configuration before memory is taken for it.
    const { tensors, close } = await openWeights(path, saved);
    try {
      const model = await build(config, modelOptions, 'zeros', (...parts) => new GPT2(...parts));
      try {
        for (const { name, read } of adaptTensors(tensors, config)) await model.writeTensor(name, await read());
        return model;
      } catch (error) {
        await model.dispose();
        throw error;
      }
    } finally {
      await close();
    }
  }

  /** The device that holds the model. */
  get device(): DeviceInfo {
    return this.model.device();
  }

  /** Number of parameters; the tied head counts once. */
  get parameterCount(): number {
    return parameterCount(this.config);
  }

  /**
   * What training on micro-batches of this shape takes, in bytes. Takes nothing.
   *
   * @throws KotodamaError `ERR_BUSY` while a call runs: {@link reserve} waits, and gives the same
   */
  memoryPlan(shape: BatchShape): MemoryPlan {
    this.queue.requireOpen();
    const { batchSize, blockSize } = readShape(shape);
    return callNativeSync(() => this.model.plan(batchSize, blockSize));
  }

  /**
   * FLOP/s that the device does at best in this model's precision. A CPU is measured now, in about a millisecond: what its
   * threads multiply and add in registers together, with the instructions that the products use. Null for a GPU, whose
   * maker publishes it, and for processors that cannot be measured (x64 without AVX2).
   */
  async peakFlops(): Promise<number | null> {
    return (await this.run(() => this.model.peakFlops())) || null;
  }

  /**
   * Takes the memory for micro-batches of this shape now.
   *
   * @returns the plan that was made for it, as {@link memoryPlan} does
   * @throws KotodamaError `ERR_MEMORY` when it does not fit.
   */
  async reserve(shape: BatchShape): Promise<MemoryPlan> {
    const { batchSize, blockSize } = readShape(shape);
    return this.run(async () => {
      const plan = this.model.plan(batchSize, blockSize);
      await this.model.reserve(batchSize, blockSize);
      return plan;
    });
  }

  /** Adds the gradients of one micro-batch to those since the last step. */
  async forwardBackward(batch: LabelledTokens, options: ForwardBackwardOptions = {}): Promise<LossResult> {
    const { ids, labels } = this.ownBatch(batch);
    const work = () => this.model.forwardBackward(ids.data, labels.data, ...ids.shape, ...announced(options?.next));
    return toLoss(await this.change(work));
  }

  /**
   * Updates the weights with the mean gradient over all labels since the last step, and forgets it. A norm that is not
   * finite changes nothing: `applied` is false then.
   */
  async step(options: StepOptions): Promise<StepResult> {
    const nativeOptions = readStepOptions(options);
    return this.change(() => this.model.step(nativeOptions));
  }

  /**
   * {@link forwardBackward} and {@link step} in one call into the engine. Small models notice: each call waits for a thread
   * of the pool, and then for the event loop. Where this loss is not finite, or there is no label since the last step,
   * nothing is updated and the gradients are forgotten: `applied` is false then, `gradNorm` NaN.
   */
  async trainStep(
    batch: LabelledTokens,
    options: StepOptions,
    ahead: ForwardBackwardOptions = {},
  ): Promise<TrainStepResult> {
    const { ids, labels } = this.ownBatch(batch);
    const nativeOptions = readStepOptions(options);
    const { gradNorm, applied, updateSeconds, ...loss } = await this.change(() =>
      this.model.trainStep(ids.data, labels.data, ...ids.shape, nativeOptions, ...announced(ahead?.next)),
    );
    return { ...toLoss(loss), gradNorm, applied, updateSeconds };
  }

  /** The global norm of the mean gradient since the last step, which {@link step} will clip; changes nothing. */
  async gradientNorm(): Promise<number> {
    return this.run(() => this.model.gradientNorm());
  }

  /** Forgets the gradients since the last step. */
  async zeroGradients(): Promise<void> {
    await this.change(() => this.model.zeroGradients());
  }

  /**
   * Leaves tensors as they are from now on: `step` neither updates them nor lets them decay, and their gradients are 0 and
   * count in no norm, as if PyTorch's `requires_grad` were false. What was frozen before and is not named is trained again.
   *
   * @param patterns names of tensors or modules, such as `wte`, `h.0.attn`, `h.[0-3]` or `*.bias`; none: train everything
   * @throws KotodamaError `ERR_OPTIONS` when a pattern matches nothing, or when together they match every tensor; `ERR_BUSY`
   *   while another call changes the model
   * @returns the names of the frozen tensors
   */
  freeze(patterns: readonly string[]): string[] {
    this.queue.requireOpen();
    if (!Array.isArray(patterns) || !patterns.every((pattern) => typeof pattern === 'string')) {
      throw new KotodamaError('ERR_OPTIONS', 'patterns of the tensors to freeze', {
        expected: "an array of strings, such as ['wte', 'h.0']",
        received: describe(patterns),
      });
    }
    const names = tensorsMatching(
      patterns,
      this.tensors.map(({ name }) => name),
    );
    this.queue.soon(() => callNativeSync(() => this.model.freeze(names)));
    return names;
  }

  /** The loss without dropout and without gradients. */
  async evaluate(batch: LabelledTokens): Promise<LossResult> {
    const { ids, labels } = this.ownBatch(batch);
    return toLoss(await this.run(() => this.model.evaluate(ids.data, labels.data, ...ids.shape)));
  }

  /**
   * The logits of every position, (B, T, V), without dropout.
   *
   * @throws KotodamaError `ERR_MEMORY` when they do not fit into the memory
   */
  async forward(input: { inputIds: Tokens }): Promise<{ logits: FloatTensor }> {
    const ids = this.own(checkInput(input, this.config));
    const data = await this.run(() => this.model.forward(ids.data, ...ids.shape));
    return { logits: { data, shape: [...ids.shape, this.config.vocabSize] } };
  }

  /**
   * What each position of a layer attends to, without dropout: the probabilities (B, H, T, T) of key positions (last) for
   * each query position, 0 for keys after the query. Layers count from 0, as in the tensors' names.
   *
   * @throws KotodamaError `ERR_MEMORY` when they do not fit into the memory
   */
  async attention(input: { inputIds: Tokens; layer: number }): Promise<{ probabilities: FloatTensor }> {
    const ids = this.own(checkInput(input, this.config));
    const { nLayer, nHead } = this.config;
    const read = new OptionReader(input);
    // As in a batch, other parts are looked at only where one is missing.
    if (!read.has('layer')) read.onlyKnown(['inputIds', 'layer']);
    const layer = read.integer('layer', { min: 0, max: nLayer - 1 });
    read.finish('The model has no such layer');
    const data = await this.run(() => this.model.attention(ids.data, ...ids.shape, layer));
    const [batchSize, blockSize] = ids.shape;
    return { probabilities: { data, shape: [batchSize, nHead, blockSize, blockSize] } };
  }

  /**
   * The residual stream of every position, without dropout: nLayer + 1 tensors (B, T, C), as `output_hidden_states` of
   * Transformers' GPT2Model. The first is the sum of the embeddings, each one what enters the block of its index, and the
   * last what leaves the final LayerNorm: times the transposed `transformer.wte.weight` it gives the logits. All of them
   * are views of one buffer.
   *
   * @throws KotodamaError `ERR_MEMORY` when they do not fit into the memory
   */
  async hiddenStates(input: { inputIds: Tokens }): Promise<{ hiddenStates: FloatTensor[] }> {
    const ids = this.own(checkInput(input, this.config));
    const data = await this.run(() => this.model.hiddenStates(ids.data, ...ids.shape));
    const size = ids.data.length * this.config.nEmbd;
    const hiddenStates = Array.from({ length: this.config.nLayer + 1 }, (_, layer) => ({
      data: data.subarray(layer * size, (layer + 1) * size),
      shape: [...ids.shape, this.config.nEmbd],
    }));
    return { hiddenStates };
  }

  /** A copy of a parameter. */
  async readTensor(name: string): Promise<Float32Array> {
    return this.read('param', name);
  }

  /** Replaces a parameter's values. */
  async writeTensor(name: string, values: Float32Array): Promise<void> {
    const own = this.ownValues(name, values);
    await this.change(() => this.model.writeTensor('param', name, own));
  }

  /** A parameter's mean gradient over the labels since the last step; zeros of a frozen one. */
  async readGradient(name: string): Promise<Float32Array> {
    return this.read('grad', name);
  }

  /** AdamW's moments of a parameter, for checkpoints: both after the same step. */
  async readOptimizerState(name: string): Promise<OptimizerState> {
    this.shapeOf(name);
    const read = (kind: TensorKind) => callNative(() => this.model.readTensor(kind, name));
    return this.hold(async () => ({ expAvg: await read('exp_avg'), expAvgSq: await read('exp_avg_sq') }));
  }

  /** Replaces AdamW's moments of a parameter, when a checkpoint is read. */
  async writeOptimizerState(name: string, state: OptimizerState): Promise<void> {
    const expAvg = this.ownValues(name, state?.expAvg);
    // It is written after the first one, and so waits in any case.
    const expAvgSq = this.ownValues(name, state?.expAvgSq, true);
    await this.change(async () => {
      await this.model.writeTensor('exp_avg', name, expAvg);
      await this.model.writeTensor('exp_avg_sq', name, expAvgSq);
    });
  }

  /**
   * Steps and micro-steps so far, for checkpoints: bias correction and dropout depend on them. `ERR_BUSY` while a call
   * changes the model.
   */
  get counters(): ModelCounters {
    this.queue.requireOpen();
    this.queue.requireUnchanged();
    return { ...this.counted };
  }

  /** Restores them. */
  set counters(counters: ModelCounters) {
    const restored = readCounters(counters);
    this.queue.soon(() => callNativeSync(() => this.model.setCounters(restored)));
    this.counted = restored;
  }

  /**
   * Writes config.json and model.safetensors, and the tokenizer's files when one is given: a folder that Transformers
   * opens. The folder is made when it is missing. The model is in use until all is written; what goes wrong until then leaves
   * the model that the folder held.
   *
   * @throws KotodamaError `ERR_TOKENIZER` when the tokenizer does not fit the model, `ERR_IO` when the system refuses
   */
  async savePretrained(folder: string, options: SaveOptions = {}): Promise<void> {
    const { tokenizer, ...weights } = readSaveOptions(options);
    await this.hold(() =>
      writePretrained(folder, { config: this.config, weights: this.weights(), tokenizer }, weights),
    );
  }

  /**
   * Writes the model and its tokenizer as one GGUF file for llama.cpp: matrices in `dtype` (default `f16`), the rest in
   * float32.
   *
   * @throws KotodamaError `ERR_TOKENIZER` when llama.cpp has no tokenizer of this kind
   */
  async saveGguf(path: string, options: GgufOptions): Promise<void> {
    await this.hold(() => writeGpt2Gguf(path, this.config, this.weights(), options));
  }

  /** Writes the model as a checkpoint of llm.c: version 3 for `f32` (the default), version 5 for `bf16`. */
  async saveLlmc(path: string, options: LlmcOptions = {}): Promise<void> {
    await this.hold(() => writeLlmc(path, this.config, this.weights(), options));
  }

  /**
   * Continues a text, piece by piece; a piece never ends inside a character.
   *
   * Ends after `maxNewTokens`, at `eosTokenId` (the model's, else the tokenizer's) or at a `stop` string, neither of which
   * is yielded. When the context is full, its older half is forgotten and generation goes on.
   *
   * Between two pieces the model is free for other calls: several texts may come at once, each as it would alone. Where the
   * weights change before the text ends, as beside a Trainer, it goes on with the new ones and with what its ids have left
   * in the key-value cache, which is of the old ones.
   */
  generate(prompt: string, options: GenerateOptions): AsyncGenerator<string, void, undefined> {
    return generateText(this.decoding(), prompt, options);
  }

  /**
   * Continues a text several times over: all of them in one batch, which takes little longer than one does. The pieces of
   * the texts come in turn, each as those of {@link generate}.
   */
  generateSamples(prompt: string, options: GenerateSamplesOptions): AsyncGenerator<SamplePiece, void, undefined> {
    return generateSamples(this.decoding(), prompt, options);
  }

  /** Continues ids, one by one; what {@link generate} is made of. */
  generateIds(prompt: ArrayLike<number>, options: GenerateIdsOptions = {}): AsyncGenerator<number, void, undefined> {
    return generateIds(this.decoding(), prompt, options);
  }

  /** How well the model foresaw each token of a text, what it expects after it, and what its heads attend to. */
  explain(text: string, options: ExplainOptions): Promise<Explanation> {
    const engine: Explained = {
      config: this.config,
      forward: (ids) => callNative(() => this.model.forward(ids.data, ...ids.shape)),
      attention: (ids, layer) => callNative(() => this.model.attention(ids.data, ...ids.shape, layer)),
    };
    return this.hold(() => explain(engine, text, options));
  }

  /** Frees the model's memory, after a running call has ended; those that wait are `ERR_DISPOSED`. May be called again. */
  async dispose(): Promise<void> {
    await this.queue.close(() => callNative(() => this.model.dispose()));
  }

  /** {@link GPT2.dispose}, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  /** The parameters to write, read one by one when their turn comes; the model is held until the last one. */
  private weights(): TensorSource[] {
    const read = (name: string) => callNative(() => this.model.readTensor('param', name));
    return this.tensors.map(({ name, shape }) => ({ name, shape, read: () => read(name) }));
  }

  private decoding(): Decoding {
    return {
      config: this.config,
      createDecoder: ({ batchSize, capacity, int8 }, signal) =>
        this.run(() => this.model.createDecoder(batchSize, capacity, int8), signal),
      call: (work, signal) => this.run(work, signal),
    };
  }

  private async read(kind: TensorKind, name: string): Promise<Float32Array> {
    this.shapeOf(name);
    return this.run(() => this.model.readTensor(kind, name));
  }

  private ownValues(name: string, values: Float32Array, waits = !this.queue.idle): Float32Array {
    const shape = this.shapeOf(name);
    const length = shape.reduce((product, size) => product * size, 1);
    // Not `instanceof`: one of another realm, as of a test runner, is as good.
    if (!types.isFloat32Array(values) || values.length !== length) {
      throw new KotodamaError('ERR_OPTIONS', `values of '${name}'`, {
        expected: `a Float32Array of ${length}, [${shape.join(', ')}]`,
        received: types.isFloat32Array(values) ? `one of ${values.length}` : describe(values),
      });
    }
    return waits ? values.slice() : values;
  }

  private shapeOf(name: string): readonly number[] {
    const tensor = this.tensors.find((candidate) => candidate.name === name);
    if (tensor !== undefined) return tensor.shape;
    const names = this.tensors.map((candidate) => candidate.name);
    // A symbol becomes no text by itself.
    const given = String(name);
    throw new KotodamaError('ERR_OPTIONS', `there is no tensor '${given}'`, { hint: hintFor(given, names) });
  }

  private ownBatch(batch: LabelledTokens): { ids: TokenTensor; labels: TokenTensor } {
    const { ids, labels } = checkBatch(batch, this.config);
    return { ids: this.own(ids), labels: this.own(labels) };
  }

  /** The engine copies what it is called with; for a call that waits, this does. */
  private own({ data, shape }: TokenTensor): TokenTensor {
    return { data: this.queue.idle ? data : data.slice(), shape: [...shape] };
  }

  /** One call into the engine. */
  private run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.queue.run(() => callNative(work), { signal });
  }

  /** One call that changes the model. */
  private change<T>(work: () => Promise<T>): Promise<T> {
    const counting = async () => {
      try {
        return await callNative(work);
      } finally {
        this.counted = this.model.counters();
      }
    };
    return this.queue.run(counting, { changes: true });
  }

  /** Has the engine for as many calls as `work` makes. */
  private hold<T>(work: () => Promise<T>): Promise<T> {
    return this.queue.run(work);
  }
}

function readCounters(counters: ModelCounters): ModelCounters {
  const read = new OptionReader(counters);
  const [step, microStep] = [read.integer('step', { min: 0 }), read.integer('microStep', { min: 0 })];
  read.finish('counters');
  return { step, microStep };
}
