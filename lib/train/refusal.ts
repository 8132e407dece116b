import type { Batch, BlockOrigin } from '../data/types.js';
import { type ErrorDetails, KotodamaError, messageOf } from '../errors.js';
import { alternatives } from '../validate.js';
import type { BatchSource } from './batch-stream.js';
import type { RefusedStep } from './optimizer-step.js';
import type { TrainingOptions } from './options.js';
import type { Spike } from './spike-guard.js';

/** Places that are named one by one. */
const SHOWN = 6;

/** What surrounds a step that was refused. */
export interface RefusalContext {
  /** Of the step, counted from 1. */
  step: number;
  train: BatchSource;
  decode(ids: Int32Array): string;
}

/** `the loss is NaN`, `the gradient norm is 81.20, 9.1 standard deviations above its recent mean 1.310` */
export function faultText(fault: RefusedStep['fault']): string {
  return isSpike(fault) ? spikeText(fault) : `the ${fault.what} is ${fault.value}`;
}

export function spikeText({ what, value, sigma, mean }: Spike): string {
  return `the ${what} is ${digits(value)}, ${sigma.toFixed(1)} standard deviations above its recent mean ${digits(mean)}`;
}

function isSpike(fault: RefusedStep['fault']): fault is Spike {
  return 'sigma' in fault;
}

function digits(value: number): string {
  return value.toPrecision(4);
}

/**
 * Says what is wrong with a step, and which blocks and which lines of which files it is found in.
 *
 * @param consequence what was done about it.
 */
export async function refusal(
  refused: RefusedStep,
  context: RefusalContext,
  consequence: string,
  details: ErrorDetails = {},
): Promise<KotodamaError> {
  const { fault, batches } = refused;
  const none = hasNoLabel(refused);
  const where = `${blocksText(refused)}${await placesText(batches, context.train)}`;
  const start = context.decode(batches[0]?.inputIds.data.slice(0, 32) ?? new Int32Array()).slice(0, 60);
  const message =
    `Step ${context.step}: ${faultText(fault)}${none ? ', since every label is -100,' : ''} in ${where}, ` +
    `which begin with ${JSON.stringify(start)}${consequence}`;
  return new KotodamaError(isSpike(fault) ? 'ERR_SPIKE' : 'ERR_NON_FINITE', message, details);
}

function hasNoLabel({ batches }: RefusedStep): boolean {
  return batches.every(({ labels }) => labels.data.every((label) => label < 0));
}

/** What a person can do about a step that ends the run; flags first, then the API's names. */
export function cure(refused: RefusedStep, { gradClip, nonFinite }: TrainingOptions): string {
  const leave = isSpike(refused.fault) || nonFinite === 'skip' ? [] : [['--non-finite skip', "nonFinite: 'skip'"]];
  if (hasNoLabel(refused)) {
    const [[flag, name] = []] = leave;
    const skip = flag === undefined ? '' : `, or leave such steps out with ${flag} (API: ${name})`;
    return `look at the labels that the data gives (API: collate)${skip}`;
  }
  const clips = gradClip > 0 && gradClip <= 1;
  const ways = [
    ['a smaller --lr', 'lr'],
    ['more --warmup-steps', 'warmupSteps'],
    ...(clips ? [] : [['--grad-clip 1', 'gradClip: 1']]),
    ...leave,
  ];
  return `try ${alternatives(ways.map(([flag = '']) => flag))} (API: ${ways.map(([, name]) => name).join(', ')})`;
}

function blocksText({ before, last }: RefusedStep): string {
  const first = before.epoch === last.epoch ? before.blocks + 1 : 1;
  return `${first < last.blocks ? `blocks ${first} to ${last.blocks}` : `block ${last.blocks}`} of epoch ${last.epoch}`;
}

/** ` (train.txt lines 3 to 5; train.txt line 9)`, or nothing when the source does not know. */
async function placesText(batches: readonly Batch[], train: BatchSource): Promise<string> {
  const origins = batches.flatMap(({ origins }) => origins ?? []).sort(byPlace);
  if (origins.length === 0 || train.locate === undefined) return '';
  const places: string[] = [];
  try {
    // One after the other: lines are counted from the place before.
    for (const origin of origins.slice(0, SHOWN)) places.push(await train.locate(origin));
  } catch (error) {
    return ` (from a place that could not be found: ${messageOf(error)})`;
  }
  const more = origins.length - places.length;
  return ` (${places.join('; ')}${more > 0 ? `; and ${more} more` : ''})`;
}

function byPlace([file, offset]: BlockOrigin, [otherFile, otherOffset]: BlockOrigin): number {
  return file - otherFile || offset - otherOffset;
}
