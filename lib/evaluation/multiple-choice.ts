import { IGNORED_LABEL } from '../data/types.js';
import { KotodamaError } from '../errors.js';
import type { GPT2 } from '../model/gpt2.js';
import type { TokenizerModel } from '../tokenizer/types.js';
import { isIterable, OptionReader } from '../validate.js';
import { untilAborted } from '../waiting.js';
import { checkFinite, checkModel, readLimit } from './evaluate.js';
import { checkQuestion, type Question } from './questions.js';

/** How many answers were right. */
export interface MultipleChoiceResult {
  /** Share of questions whose right choice is the likeliest. */
  accuracy: number;
  /** The same with each log-likelihood divided by the bytes of its choice, so that short ones have no advantage. */
  accuracyNorm: number;
  questions: number;
  /** False when `signal` ended it early. */
  whole: boolean;
}

/** How many questions are asked. */
export interface MultipleChoiceOptions {
  /** Questions to read. Default: all of them. */
  limit?: number | undefined;
  /** Ends it after the question at hand, or while it has waited for one for a second. The accuracy of no question is NaN. */
  signal?: AbortSignal | undefined;
}

/** Lengths are rounded up to this, so that a device needs to prepare few different ones. */
const ROUND = 32;

/**
 * Lets a model choose: the answer to a question is the choice that is likeliest after its context. The two accuracies are
 * what the Language Model Evaluation Harness calls `acc` and `acc_norm`, with lengths in bytes of UTF-8 (the harness counts
 * characters) and without its cleaning of the texts.
 *
 * A context that is too long for the model loses its beginning.
 *
 * @throws KotodamaError `ERR_DATA` when there is no question, one with less than two choices or without an answer among
 *   them, a choice that no token tells apart from its context, or one that is longer than the model's; `ERR_NON_FINITE` when
 *   a likelihood is no finite number
 */
export async function multipleChoice(
  model: GPT2,
  tokenizer: TokenizerModel,
  questions: Iterable<Question> | AsyncIterable<Question>,
  options: MultipleChoiceOptions = {},
): Promise<MultipleChoiceResult> {
  const read = new OptionReader(options);
  read.onlyKnown(['limit', 'signal']);
  const limit = readLimit(read) ?? Number.POSITIVE_INFINITY;
  const signal = read.signal('signal');
  checkModel(read, model);
  if (typeof tokenizer?.encode !== 'function') read.problem('tokenizer', 'a tokenizer', tokenizer);
  if (!isIterable(questions)) read.problem('questions', 'an iterable of questions', questions);
  read.finish('The questions cannot be asked so');
  let count = 0;
  let right = 0;
  let rightNorm = 0;
  for await (const question of untilAborted(questions, signal)) {
    checkQuestion(question, `Question ${count + 1}`);
    const likelihoods = await scoreChoices(model, tokenizer, question);
    const norms = likelihoods.map((sum, index) => sum / lengthOf(question.choices[index] as string));
    count++;
    if (largest(likelihoods) === question.answer) right++;
    if (largest(norms) === question.answer) rightNorm++;
    if (signal?.aborted === true || count >= limit) break;
  }
  const whole = signal?.aborted !== true;
  if (count === 0 && whole) throw new KotodamaError('ERR_DATA', 'There is no question', { hint: 'give at least one' });
  return { accuracy: right / count, accuracyNorm: rightNorm / count, questions: count, whole };
}

/** The log-likelihood in nats of each choice after the context: the sum over its tokens. */
export async function scoreChoices(
  model: GPT2,
  tokenizer: TokenizerModel,
  { context, choices }: Pick<Question, 'context' | 'choices'>,
): Promise<number[]> {
  const begin = model.config.bosTokenId ?? tokenizer.bosTokenId ?? model.config.eosTokenId ?? tokenizer.eosTokenId;
  const alone = tokenizer.encode(context);
  const likelihoods: number[] = [];
  for (const choice of choices) {
    // Together, since a token may reach over the seam; what differs from the context alone belongs to the choice.
    const both = tokenizer.encode(context + choice);
    let seam = 0;
    while (seam < alone.length && both[seam] === alone[seam]) seam++;
    if (seam === 0 && begin !== undefined) {
      both.unshift(begin);
      seam = 1;
    }
    if (seam === 0 || seam === both.length) {
      throw new KotodamaError('ERR_DATA', `The choice ${JSON.stringify(choice.slice(0, 40))} cannot be measured`, {
        expected: 'at least one token, after at least one of context',
        hint: 'give a context and choices that are not empty',
      });
    }
    const { nPositions } = model.config;
    if (both.length - seam > nPositions) {
      throw new KotodamaError('ERR_DATA', `The choice ${JSON.stringify(choice.slice(0, 40))} is too long`, {
        expected: `at most ${nPositions} tokens, the model's context`,
        received: `${both.length - seam}`,
        hint: 'give shorter choices, or a model with a longer context',
      });
    }
    likelihoods.push(await logLikelihood(model, both, seam));
  }
  return likelihoods;
}

/** The log-likelihood of the ids from `seam` on, which are no more than nPositions. */
async function logLikelihood(model: GPT2, ids: readonly number[], seam: number): Promise<number> {
  const { nPositions } = model.config;
  const skip = Math.max(0, ids.length - 1 - nPositions);
  const length = Math.min(nPositions, Math.ceil((ids.length - 1 - skip) / ROUND) * ROUND);
  const inputIds = new Int32Array(length);
  const labels = new Int32Array(length).fill(IGNORED_LABEL);
  inputIds.set(ids.slice(skip, -1));
  labels.set(ids.slice(seam), seam - 1 - skip);
  const { lossSum } = await model.evaluate({ inputIds: [inputIds], labels: [labels] });
  checkFinite(lossSum);
  return -lossSum;
}

/** Bytes of a choice, without the space that joins it to the context. */
function lengthOf(choice: string): number {
  return Math.max(1, Buffer.byteLength(choice.trimStart()));
}

/** Index of the first largest. */
function largest(values: readonly number[]): number {
  return values.indexOf(Math.max(...values));
}
