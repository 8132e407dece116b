import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Json } from '../data/types.js';
import { hinted, KotodamaError } from '../errors.js';
import type { ModelOptions, Precision } from '../model/build.js';
import { checkHeads, type GPT2Config } from '../model/config.js';
import { GPT2 } from '../model/gpt2.js';
import { isFile } from '../model/model-file.js';
import type { OptionTable } from '../option-table.js';
import { rate } from '../report/format.js';
import { Tokenizer } from '../tokenizer/tokenizer.js';
import { holdsTokenizer } from '../tokenizer/tokenizer-files.js';
import { checkpointConfig } from '../train/checkpoint.js';
import type { EndEvent } from '../train/events.js';
import {
  deriveTrainingOptions,
  missingForPatience,
  needsCounting,
  type ReadTrainingOptions,
  type TrainingOptions,
  warmupOf,
} from '../train/options.js';
import { checkHoldsRun, checkReplacesNothing, checkRunFolder, RUN_FILE, readRunFile } from '../train/run-folder.js';
import { needsTotalSteps } from '../train/schedule.js';
import { Trainer } from '../train/trainer.js';
import { OptionReader } from '../validate.js';
import { type Command, EXIT_INTERRUPTED } from './command.js';
import { areTokenFiles, BadRecords, type Reading, refuseReading, trainLoader, validLoader } from './data.js';
import { showDownloads } from './download.js';
import { loadForTuning } from './fine-tune.js';
import { checkSaved } from './load.js';
import { showLoading } from './loading.js';
import {
  flagOf,
  lookAt,
  parseFlags,
  type RawOptions,
  readConfigFile,
  readOptions,
  requireFiles,
  requireOptions,
  requireSaved,
  TRAIN_OPTIONS,
} from './options.js';
import { bestModel, Hook, runTrainer } from './session.js';
import { shellWord } from './shell.js';

/** The options of `kotodama train`, checked. */
interface TrainArguments extends Reading {
  train: string[];
  valid?: string[];
  tokenizer: string;
  /** Where it is loaded from now. */
  tokenizerFrom: string;
  out: string;
  config?: string;
  resume: boolean;
  initFrom?: string;
  nLayer?: number;
  nHead?: number;
  nEmbd?: number;
  blockSize?: number;
  dropout?: number;
  batchSize: number;
  shuffleBuffer: number;
  numWorkers: number;
  prefetchFactor: number;
  precision: Precision;
  stochasticRounding: boolean;
  device: string;
  threads?: number;
  seed: number;
  tensorboard: boolean;
  dashboard?: number;
  dashboardHost: string;
  onEvent?: string;
  json: boolean;
  training: TrainingOptions;
  /** Whether the learning rate is one that nobody chose. */
  lrIsDefault: boolean;
}

export const train: Command = {
  summary: 'trains a model on your text',
  usage: 'train --train FILE... --tokenizer DIR --out DIR [options]',
  options: TRAIN_OPTIONS,
  examples: [
    'kotodama train --train data/train.txt --valid data/valid.txt --tokenizer DIR --out runs/a',
    'kotodama train --resume --out runs/a',
    'kotodama train --train data/train.txt --init-from DIR --out runs/b --lr 5e-5',
  ],
  async run(words) {
    const { out, json, end } = await runTrain(words);
    const unfinished = end.reason === 'aborted' || end.reason === 'maxTime';
    const model = (await bestModel(out, end)) ?? out;
    const next = unfinished
      ? `train --resume --out ${shellWord(out)}`
      : `generate --model ${shellWord(model)} --prompt "..."`;
    if (!json) process.stderr.write(`next: kotodama ${next}\n`);
    return end.reason === 'aborted' ? EXIT_INTERRUPTED : 0;
  },
};

/** Trains as the command line says. */
export async function runTrain(words: readonly string[]): Promise<{ out: string; json: boolean; end: EndEvent }> {
  const options = await readArguments(words);
  // Downloads and a large model take minutes: what is wrong with the folder is told before.
  await checkRunFolder(options.out, options.resume);
  if (options.initFrom !== undefined && !options.resume) checkSaved(options.initFrom);
  const tokenizer = await Tokenizer.fromPretrained(options.tokenizerFrom, showDownloads());
  if (!options.resume) await checkReplacesNothing(options.out, tokenizer);
  const hook = options.onEvent === undefined ? undefined : await Hook.load(options.onEvent);
  const model = await makeModel(options, tokenizer);
  const bad = new BadRecords();
  try {
    if (!options.json && !options.resume && needsCounting(options.training) && !areTokenFiles(options.train)) {
      process.stderr.write('counting the blocks of an epoch first (--max-steps without --epochs does without)\n');
    }
    const end = await runTrainer(await makeTrainer(options, model, tokenizer, bad), options, hook);
    return { out: options.out, json: options.json, end };
  } catch (error) {
    const goesOn = error instanceof KotodamaError && error.hint?.includes('--resume') === true;
    throw goesOn && options.train.includes('-')
      ? hinted(error, 'pipe the same data in again, from its beginning')
      : error;
  } finally {
    // Nobody reads on, and the process would wait for its end.
    if (options.train.includes('-')) process.stdin.destroy();
    bad.end();
    await model.dispose();
  }
}

/** Flags win over the configuration file, and that over what a resumed run was begun with. */
async function readArguments(words: readonly string[]): Promise<TrainArguments> {
  const table: OptionTable = TRAIN_OPTIONS;
  const flags = parseFlags(words, table);
  const file = typeof flags.config === 'string' ? readConfigFile(flags.config, table) : {};
  const given = { ...file, ...flags };
  const before = given.resume === true && typeof given.out === 'string' ? await optionsBefore(given.out) : {};
  forgetUselessPatience(before, given);
  await checkUnchanged(given, before, table);
  const values: RawOptions = { ...lengthLeft(before, given), ...given };
  // A file of llm.c's holds no tokenizer.
  if (typeof values.initFrom === 'string' && !(await isFile(values.initFrom))) values.tokenizer ??= values.initFrom;

  // What nobody knows is named as it stands in the file.
  const fromFile = (name: string) => !Object.hasOwn(table, name) && Object.hasOwn(file, name) && !(name in flags);
  const reader = new OptionReader(values, (name) => (fromFile(name) ? `'${name}' in ${flags.config}` : flagOf(name)));
  const read = readOptions(reader, table, 'train') as unknown as TrainArguments & ReadTrainingOptions;
  read.eos ??= endOfText(read);
  requireOptions(reader, table, ['train', 'tokenizer', 'out']);
  for (const name of ['train', 'valid'] as const) {
    const recorded = given[name] === undefined && before[name] !== undefined;
    requireFiles(reader, name, read[name] ?? [], recorded ? `as recorded in ${join(read.out, RUN_FILE)}` : undefined);
  }
  // A resumed run has copies of both.
  if (given.tokenizer !== undefined) requireSaved(reader, 'tokenizer', 'tokenizer', read.tokenizer);
  if (!read.resume) requireSaved(reader, 'initFrom', 'model', read.initFrom);
  requirePlaces(reader, read);
  // What an older run recorded is no mistake of today.
  refuseReading(reader, given, [...(read.train ?? []), ...(read.valid ?? [])]);
  for (const name of ['nLayer', 'nHead', 'nEmbd'] as const) {
    if (read.initFrom !== undefined && read[name] !== undefined) {
      reader.problem(name, 'nothing, since --init-from decides it', read[name]);
    }
  }
  if (read.initFrom === undefined) checkHeads(reader, read.nHead ?? 12, read.nEmbd ?? 768, flagOf('nEmbd'));
  if (read.stochasticRounding && read.precision === 'fp32') {
    reader.problem('stochasticRounding', 'nothing without --precision bf16', true);
  }
  // In a file of options, which may serve many runs, they wait for the other one.
  if (flags.samplePrompt !== undefined && read.sampleEvery === 0) {
    reader.problem('samplePrompt', 'nothing without --sample-every', flags.samplePrompt);
  }
  if (flags.dashboardHost !== undefined && read.dashboard === undefined) {
    reader.problem('dashboardHost', 'nothing without --dashboard', flags.dashboardHost);
  }
  const training = deriveTrainingOptions(reader, read);
  // The standard input cannot be counted first: its length is taken for a long one.
  if (read.train?.includes('-') && !needsTotalSteps(training.schedule)) {
    training.warmupSteps = warmupOf(training, training.maxSteps ?? null);
  }
  checkStandardInput(reader, read, needsCounting(training));
  reader.finish('The options of kotodama train are not valid');
  const tokenizerFrom = given.tokenizer === undefined ? await tokenizerBefore(read, before) : read.tokenizer;
  return { ...read, training, tokenizerFrom, lrIsDefault: values.lr === undefined };
}

/** Notes a run's folder and a hook that would be found to be none only once everything is loaded. */
function requirePlaces(reader: OptionReader, { out, onEvent = '' }: Partial<TrainArguments>): void {
  const folder = out === undefined || out === '' ? undefined : lookAt(reader, 'out', out);
  if (folder !== undefined && folder !== 'nothing' && !folder.isDirectory()) {
    reader.problems.add('--out', 'a folder, or nothing yet', `${out}, a file`);
  }
  const module = onEvent === '' ? undefined : lookAt(reader, 'onEvent', onEvent);
  if (module === 'nothing') reader.problems.add('--on-event', 'a module that exists', onEvent);
  else if (module?.isDirectory()) reader.problems.add('--on-event', 'a module', `${onEvent}, a folder`);
}

/** The standard input can be read once: for one epoch whose length is not asked for first. */
function checkStandardInput(
  reader: OptionReader,
  { train, valid, maxSteps }: TrainArguments & ReadTrainingOptions,
  counting: boolean,
): void {
  if (valid?.includes('-')) reader.problem('valid', 'files, which can be read for each evaluation', '-');
  if (train?.includes('-') && counting) {
    const instead = maxSteps === undefined ? '--max-steps' : '--schedule constant or inverse-sqrt';
    reader.problem('train', `files, or ${instead} with -`, '-', 'an epoch is counted before the run, by reading it');
  }
}

/**
 * What a run was begun with, from its `run.json`; nothing when it was killed before that was written.
 *
 * @throws KotodamaError `ERR_CHECKPOINT` when there is no run: all that it would have told is then no fault of its own.
 */
async function optionsBefore(out: string): Promise<RawOptions> {
  checkHoldsRun(out);
  const { options } = (await readRunFile(out)) ?? {};
  return typeof options === 'object' && options !== null ? (options as RawOptions) : {};
}

/** Another length takes the place of the one before, in steps or in epochs: the shorter of both would win without a word. */
function lengthLeft(before: RawOptions, given: RawOptions): RawOptions {
  if (given.epochs === undefined && given.maxSteps === undefined) return before;
  const { epochs: _, maxSteps: __, ...rest } = before;
  return rest;
}

/** Older releases began runs with a patience that nothing was measured for: that is no mistake of whoever continues one. */
function forgetUselessPatience(before: RawOptions, given: RawOptions): void {
  const useless = (options: RawOptions) =>
    missingForPatience(options.valid !== undefined, options.evalEvery) !== undefined;
  if (useless(before) && useless({ ...before, ...given })) delete before.patience;
}

/**
 * Where the tokenizer of a run is that was begun with `before`. A folder that is gone, or that only another working directory
 * has, is replaced by the copy that the run keeps; the trainer checks that it is the same tokenizer.
 */
async function tokenizerBefore({ tokenizer, out }: TrainArguments, before: RawOptions): Promise<string> {
  if (before.tokenizer === undefined || existsSync(tokenizer)) return tokenizer;
  return (await holdsTokenizer(out)) ? out : tokenizer;
}

/** @throws KotodamaError `ERR_CHECKPOINT` that lists the options with another value than the run was begun with */
async function checkUnchanged(given: RawOptions, before: RawOptions, table: OptionTable): Promise<void> {
  if (Object.keys(before).length === 0) return;
  const lines: string[] = [];
  for (const [name, value] of Object.entries(given)) {
    if (table[name]?.fixed !== true) continue;
    const begun = before[name] ?? (await valueBefore(name, given.out as string, before, table));
    if (comparable(name, value) === comparable(name, begun)) continue;
    lines.push(`  ${flagOf(name)}: ${show(begun)} in the run, ${show(value)} now`);
  }
  if (lines.length === 0) return;
  throw new KotodamaError('ERR_CHECKPOINT', `The run in ${given.out} was begun differently:\n${lines.join('\n')}`, {
    hint: 'leave these options out to continue it, or begin another run with another --out',
  });
}

/** What an option came to that the run was begun without; undefined where nobody knows. */
async function valueBefore(name: string, out: string, before: RawOptions, table: OptionTable): Promise<unknown> {
  if (name === 'textField') return 'text';
  if (name === 'eos') return endOfText(before);
  if (name !== 'dropout') return table[name]?.default;
  if (before.initFrom === undefined) return 0;
  // The model that it began with had its own.
  const { embdPdrop, attnPdrop, residPdrop } = (await checkpointConfig(out)) ?? {};
  return embdPdrop === attnPdrop && attnPdrop === residPdrop ? embdPdrop : undefined;
}

/** Where texts end that are read without --eos. */
function endOfText({ promptField }: { promptField?: unknown }): 'none' | 'document' {
  return promptField === undefined ? 'none' : 'document';
}

/** One text for values that mean the same: a path may be spelled in several ways. */
function comparable(name: string, value: unknown): string | undefined {
  return JSON.stringify(name === 'initFrom' && typeof value === 'string' ? resolve(value) : value);
}

function show(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value);
}

async function makeModel(options: TrainArguments, tokenizer: Tokenizer): Promise<GPT2> {
  const { initFrom, out, dropout = 0, precision, stochasticRounding, device, threads, seed } = options;
  const engine: ModelOptions = {
    ...{ precision, stochasticRounding, device, seed },
    ...(threads !== undefined && { threads }),
  };
  const before = options.resume ? await checkpointConfig(out) : undefined;
  // It shows what it loads, downloads among it.
  if (initFrom !== undefined && before === undefined) {
    if (options.lrIsDefault) {
      process.stderr.write(
        `--lr ${rate(options.training.lr)}, the default, is for a new model: for fine-tuning take a tenth of the rate ` +
          'that this one was trained with, or less\n',
      );
    }
    return loadForTuning({ ...options, initFrom }, tokenizer, engine);
  }
  using _ = showLoading('making the model');
  // The trainer restores the weights of a resumed run, so only its shape is needed here.
  if (before !== undefined) return await GPT2.create(before, engine);
  const { nLayer = 12, nHead = 12, nEmbd = 768, blockSize: nPositions = 1024 } = options;
  const { vocabSize, bosTokenId, eosTokenId, padTokenId } = tokenizer;
  const dropouts = { embdPdrop: dropout, attnPdrop: dropout, residPdrop: dropout };
  return await GPT2.create(
    { ...{ vocabSize, nPositions, nLayer, nHead, nEmbd, ...dropouts }, bosTokenId, eosTokenId, padTokenId },
    engine,
  );
}

async function makeTrainer(
  options: TrainArguments,
  model: GPT2,
  tokenizer: Tokenizer,
  bad: BadRecords,
): Promise<Trainer> {
  const { train, valid, out, resume, seed, training } = options;
  const blockSize = options.blockSize ?? model.config.nPositions;
  const data = { ...options, tokenizer, blockSize, bad };
  return new Trainer({
    ...training,
    model,
    tokenizer,
    train: await trainLoader(train, data),
    ...(valid !== undefined && { valid: (await validLoader(valid, data)).loader }),
    out,
    resume,
    seed,
    configuration: {
      options: recordOf({ ...options, blockSize }, model.config),
    },
  });
}

/** What belongs to one start, not to the run. */
const OF_ONE_START = [
  ...['training', 'tokenizerFrom', 'lrIsDefault', 'resume', 'config'],
  ...['json', 'dashboard', 'dashboardHost', 'onEvent'],
];

/** The options as a later `--resume` reads them back, with the model's sizes spelled out. */
function recordOf(options: TrainArguments, { nLayer, nHead, nEmbd }: Readonly<GPT2Config>): { [key: string]: Json } {
  const kept = Object.fromEntries(Object.entries(options).filter(([name]) => !OF_ONE_START.includes(name)));
  return JSON.parse(JSON.stringify(options.initFrom === undefined ? { ...kept, nLayer, nHead, nEmbd } : kept));
}
