import { LineInput } from '../data/sources/line-input.js';
import { placesOf } from '../data/sources/names.js';
import { contentOf, reportProblems, textsIn } from '../data/sources/read-chunk.js';
import { KotodamaError, messageOf } from '../errors.js';
import { parseJson } from '../json.js';
import { checkPath, describe } from '../validate.js';

/** A question with several answers, one of which is right. */
export interface Question {
  context: string;
  /** At least two; each follows the context as it stands, so one that begins a new word begins with its space. */
  choices: readonly string[];
  /** Which of them is right, from 0. */
  answer: number;
}

/**
 * Reads questions from a file of JSON lines, one a line. Two kinds are known:
 *
 * - HellaSwag's: `{"ctx": "...", "endings": ["...", ...], "label": 2}`; a space goes between `ctx` and an ending, as
 *   everybody has it
 * - `{"context": "...", "choices": ["...", ...], "answer": 2}`, where a choice follows the context as it stands
 *
 * Other fields are passed over, and so are empty lines. The file may be compressed (.gz, .zst).
 *
 * @throws KotodamaError `ERR_DATA` that names the line, `ERR_IO`, `ERR_OPTIONS`
 */
export async function* readQuestions(path: string): AsyncGenerator<Question, void> {
  checkPath('the file of questions', path);
  let line = 0;
  for (const place of placesOf([path], false)) {
    for await (const lines of new LineInput({ ...place, format: 'text' }).read(0)) {
      const chunk = { ...lines, file: 0 };
      const read = textsIn(contentOf(chunk));
      for (const text of read.texts) {
        line++;
        if (text.trim() !== '') yield parseQuestion(text, `${place.name}, line ${line},`);
      }
      await reportProblems(chunk, read, undefined);
    }
  }
}

/** @throws KotodamaError `ERR_DATA` when it is not what {@link Question} says; @param where how the message begins */
export function checkQuestion(question: Question, where: string): void {
  const { context, choices, answer } = question ?? {};
  const fail = (name: string, expected: string, value: unknown): never => {
    throw new KotodamaError('ERR_DATA', `${where}: ${name}`, { expected, received: describe(value) });
  };
  if (typeof context !== 'string') fail('context', 'a string', context);
  if (!isChoices(choices)) fail('choices', CHOICES, choices);
  if (!isAnswer(answer, choices)) fail('answer', answerOf(choices), answer);
}

const CHOICES = 'at least two strings that are not empty';

function isChoices(value: unknown): value is readonly string[] {
  const isText = (choice: unknown) => typeof choice === 'string' && choice !== '';
  return Array.isArray(value) && value.length >= 2 && value.every(isText);
}

function isAnswer(value: unknown, { length }: readonly string[]): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < length;
}

function answerOf({ length }: readonly string[]): string {
  return `the number of the right one, from 0 to ${length - 1}`;
}

function parseQuestion(text: string, where: string): Question {
  const record = parseObject(text, where);
  const hellaSwag = record.endings !== undefined;
  const names = hellaSwag ? HELLASWAG : PLAIN;
  const fail = (name: string, expected: string): never => {
    const received = describe(record[name]);
    throw new KotodamaError('ERR_DATA', `${where} is no question: ${name}`, { expected, received, hint: FORMS });
  };
  const { [names.context]: context, [names.choices]: choices, [names.answer]: label } = record;
  if (typeof context !== 'string') return fail(names.context, 'a string');
  if (!isChoices(choices)) return fail(names.choices, CHOICES);
  // Copies of HellaSwag have its labels as strings.
  const answer = typeof label === 'string' && /^\d+$/.test(label) ? Number(label) : label;
  if (!isAnswer(answer, choices)) return fail(names.answer, answerOf(choices));
  return { context, choices: hellaSwag ? choices.map((ending) => ` ${ending}`) : choices, answer };
}

const HELLASWAG = { context: 'ctx', choices: 'endings', answer: 'label' };
const PLAIN = { context: 'context', choices: 'choices', answer: 'answer' };
const FORMS = `a line is {"context": "...", "choices": ["...", "..."], "answer": 0}, or HellaSwag's ctx, endings and label`;

function parseObject(text: string, where: string): { [name: string]: unknown } {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (cause) {
    throw new KotodamaError('ERR_DATA', `${where} is not JSON (${messageOf(cause)})`, { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as { [name: string]: unknown };
  throw new KotodamaError('ERR_DATA', `${where} is no question`, {
    expected: 'a JSON object',
    received: describe(value),
  });
}
