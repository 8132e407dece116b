export {
  type Batch,
  type Block,
  BlockDataset,
  type BlockDatasetOptions,
  type BlockOrigin,
  type BlockSource,
  BufferedShuffleDataset,
  type BufferedShuffleOptions,
  DataLoader,
  type DataLoaderOptions,
  type FileDatasetOptions,
  IGNORED_LABEL,
  type Json,
  type RandomIntegers,
  type SlidingWindowsOptions,
  slidingWindows,
  stackBlocks,
  type Texts,
  TokenDataset,
  type TokenDatasetOptions,
  type TokenFile,
  type TokenFileNotes,
  type TokenFileOptions,
  type TokenizerMark,
  type TokenPiece,
  type TokenTensor,
  type TokenType,
  writeTokenFiles,
} from './data/index.js';
export { type ErrorCode, type ErrorDetails, KotodamaError } from './errors.js';
export {
  type EvaluateOptions,
  type Evaluation,
  evaluate,
  type MultipleChoiceOptions,
  type MultipleChoiceResult,
  multipleChoice,
  type Question,
  readQuestions,
} from './evaluation/index.js';
export type { DownloadProgress, HubOptions } from './hub/index.js';
export type { Adaptations } from './model/adapt.js';
export type { ModelOptions, Precision } from './model/build.js';
export type { GPT2Config, GPT2ConfigInput } from './model/config.js';
export { type DeviceInfo, listDevices } from './model/device.js';
export type { ExplainedToken, ExplainOptions, Explanation, HeadAttention, NextToken } from './model/explain.js';
export type {
  GenerateIdsOptions,
  GenerateOptions,
  GenerateSamplesOptions,
  SamplePiece,
} from './model/generate.js';
export type { GgufOptions, GgufType } from './model/gguf/gpt2.js';
export {
  type BatchShape,
  type ForwardBackwardOptions,
  GPT2,
  type PretrainedOptions,
  type SaveOptions,
} from './model/gpt2.js';
export type { LlmcOptions } from './model/llmc.js';
export type {
  FloatTensor,
  LossResult,
  MemoryPlan,
  ModelCounters,
  OptimizerState,
  StepResult,
  TrainStepResult,
} from './model/results.js';
export type { SamplingOptions } from './model/sampler.js';
export type { SavedTokenizer } from './model/save.js';
export type { StepOptions } from './model/step-options.js';
export type { LabelledTokens, Tokens } from './model/tokens.js';
export type { WeightOptions } from './model/write-weights.js';
export {
  type ExplanationPageOptions,
  explanationPage,
  Progress,
  type ProgressOptions,
  type ProgressStream,
  type RecordOptions,
  readMetrics,
  recorded,
} from './report/index.js';
export {
  addTokens,
  type ByteLevelBpe,
  type JsonObject,
  type OpenTokenizer,
  type SentencePieceMethod,
  Tokenizer,
  type TokenizerModel,
  type TokenizerSource,
  type TokenKind,
  type Vocabulary,
} from './tokenizer/index.js';
export {
  type TokenizerProgress,
  type TrainedTokenizer,
  type TrainTokenizerOptions,
  trainTokenizer,
} from './tokenizer/training/index.js';
export type { BatchSource } from './train/batch-stream.js';
export { type ControlCommand, TrainerControl } from './train/control.js';
export type {
  CheckpointEvent,
  ControlEvent,
  EndEvent,
  EvalEvent,
  GradientHistogram,
  GradientsEvent,
  SampleEvent,
  StartEvent,
  StepEvent,
  TrainEvent,
  TrainerProgress,
  WarningEvent,
} from './train/events.js';
export type { TrainingOptions } from './train/options.js';
export type { ScheduleName } from './train/schedule.js';
export { Trainer, type TrainerOptions, type TrainerRunOptions, type TrainerTokenizer } from './train/trainer.js';
