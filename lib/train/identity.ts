import type { Json } from '../data/types.js';
import { KotodamaError } from '../errors.js';
import { leaves, plain } from '../json.js';
import type { GPT2 } from '../model/gpt2.js';
import type { BatchSource } from './batch-stream.js';
import type { TrainerState } from './checkpoint.js';
import { Course } from './course.js';
import type { TrainingOptions } from './options.js';

/** What makes a run itself: a resumed one must have the same. */
export async function identityOf(
  model: GPT2,
  tokenizer: string,
  train: BatchSource,
  { gradAccum, freeze }: TrainingOptions,
): Promise<{ [key: string]: Json }> {
  const { batchSize, blockSize } = train;
  const { vocabSize, nPositions, nEmbd, nLayer, nHead, nInner, layerNormEpsilon } = model.config;
  const { embdPdrop, attnPdrop, residPdrop } = model.config;
  const { precision, stochasticRounding, seed } = model;
  const isRandom = stochasticRounding || embdPdrop + attnPdrop + residPdrop > 0;
  return {
    ...{ vocabSize, nPositions, nEmbd, nLayer, nHead, nInner, layerNormEpsilon, embdPdrop, attnPdrop, residPdrop },
    ...{ precision, stochasticRounding, modelSeed: isRandom ? seed : null },
    ...{ batchSize, blockSize, gradAccum, freeze: freeze?.join(' ') || null, tokenizer },
    data: (await train.identity?.()) ?? null,
  };
}

/** @throws KotodamaError `ERR_CHECKPOINT` that lists what differs between the run in `out` and the one at hand. */
export function checkIdentity(out: string, before: { [key: string]: Json }, now: { [key: string]: Json }): void {
  // An older release may have known less.
  const begun: { [key: string]: Json } = { stochasticRounding: false, ...before };
  const known = Object.fromEntries(Object.entries(now).filter(([key]) => key in begun));
  const [old, found] = [leaves(begun), leaves(known)];
  const different = differences(old, found).filter((name) => rootOf(name) in known);
  if (different.length === 0) return;
  const lines = differenceLines(different, old, found);
  throw new KotodamaError('ERR_CHECKPOINT', `The run in ${out} is another one:\n${lines.join('\n')}`, {
    hint: different.includes('modelSeed')
      ? 'make the model with the same seed, GPT2.create(config, { seed }), or choose another folder'
      : 'give the same values as before, or choose another folder',
  });
}

type Leaves = ReturnType<typeof leaves>;

/** Tells of each difference; of a file its name and size, without the sums over all files beside it. */
function differenceLines(different: readonly string[], old: Leaves, found: Leaves): string[] {
  const show = (value: Json | undefined) => (value ?? 'nothing').toString();
  const files = new Set(different.flatMap((name) => /^.*\.files\.\d+(?=\.)/.exec(name) ?? []));
  const sums = [...files].flatMap((file) => {
    const place = file.replace(/files\.\d+$/, '');
    return [`${place}count`, `${place}bytes`, `${place}sha256`];
  });
  const others = different.filter((name) => !sums.includes(name) && !files.has(name.replace(/\.[^.]*$/, '')));
  return [
    ...others.map((name) => `  ${name}: ${show(old.get(name))} in the run, ${show(found.get(name))} now`),
    ...[...files].map((file) => {
      const [before, now] = [old, found].map((one) => fileText(one, file));
      return `  data: ${before} in the run, ${before === now ? 'with another content' : now} now`;
    }),
  ];
}

function fileText(marks: Leaves, file: string): string {
  const [name, bytes] = [marks.get(`${file}.name`), marks.get(`${file}.bytes`)];
  return name === undefined ? 'nothing' : `${name} of ${bytes} bytes`;
}

/** Paths of what is not the same in two descriptions of data, as `leaves` gives them. */
export function differences(before: Leaves, now: Leaves): string[] {
  const names = new Set([...now.keys(), ...before.keys()]);
  return [...names].filter((name) => before.get(name) !== now.get(name) && !isUnmarked(name, before, now));
}

/** Whether one of the two says nothing of which texts there were: older releases never did, and for a function none does. */
function isUnmarked(name: string, before: Leaves, now: Leaves): boolean {
  const source = name.replace(/(count|sha256)$/, 'source');
  return [before, now].every((one) => one.get(source) === 'texts') && before.has(name) !== now.has(name);
}

/** @throws KotodamaError `ERR_OPTIONS` when a run is continued that has more steps or epochs than it may have. */
export function checkLength(out: string, state: TrainerState, options: TrainingOptions): void {
  const { epoch, blocks } = state.position;
  // At the end of an epoch the place is the beginning of the next one.
  const begun = blocks > 0 ? epoch : epoch - 1;
  const { maxSteps = state.step, epochs = begun } = options;
  const refuse = (place: string, option: string, least: number, received: number): never => {
    throw new KotodamaError('ERR_OPTIONS', `The run in ${out} stands ${place}: ${option}`, {
      expected: `at least ${least}`,
      received: `${received}`,
      hint: 'it counts from the beginning of the run, not from where it is continued',
    });
  };
  if (maxSteps < state.step) refuse(`at step ${state.step}`, '--max-steps (API: maxSteps)', state.step, maxSteps);
  if (epochs < begun) refuse(`in epoch ${begun}`, '--epochs (API: epochs)', begun, epochs);
}

/** Options that decide the numbers of a step. A longer run, or one that saves more often, is still the same one. */
const DECIDING = [
  ...(['lr', 'minLr', 'warmupSteps', 'schedule', 'weightDecay', 'beta1', 'beta2', 'eps', 'gradClip'] as const),
  ...(['nonFinite', 'spikes', 'spikeSigma', 'spikeWindow'] as const),
];

/** What a person should know who continues a run in another way than it was begun, `course` being the one that lies ahead. */
export function changes(before: TrainerState, device: string, options: TrainingOptions, course: Course): string[] {
  const now = plain(options);
  const different = DECIDING.filter(
    (name) => JSON.stringify(before.options[name] ?? null) !== JSON.stringify(now[name] ?? null),
  );
  const show = (name: string) => `${name} ${before.options[name] ?? 'unset'} before, ${now[name] ?? 'unset'} now`;
  return [
    ...(different.length === 0 ? [] : [`the run goes on with other options: ${different.map(show).join('; ')}`]),
    ...courseChange(before, course),
    ...(before.device === device
      ? []
      : [`the run was computed by ${before.device}, and now by ${device}: numbers may differ in their last digits`]),
  ];
}

/** Another length moves the learning rate of every schedule that falls towards its end. */
function courseChange(before: TrainerState, course: Course): string[] {
  const { step } = before;
  const old = new Course(before.options as unknown as TrainingOptions);
  old.restore(before);
  const [was, is] = [old.totalSteps, course.totalSteps];
  const [rateBefore, rateNow] = [old, course].map((one) => one.learningRate(step).toExponential(2));
  if (was === is || rateBefore === rateNow || (is !== null && step >= is)) return [];
  const length = (steps: number | null) => (steps === null ? 'of unknown length' : `of ${steps} steps`);
  return [
    `the run is one ${length(is)} now, and was one ${length(was)}: its learning rate goes on with ${rateNow} in place of ` +
      `${rateBefore}`,
  ];
}

function rootOf(name: string): string {
  return name.split('.', 1)[0] as string;
}
