import { slidingWindows } from '../data/sliding-windows.js';
import { type Batch, IGNORED_LABEL } from '../data/types.js';
import { KotodamaError } from '../errors.js';
import { evaluate as measure } from '../evaluation/evaluate.js';
import { multipleChoice } from '../evaluation/multiple-choice.js';
import { readQuestions } from '../evaluation/questions.js';
import type { GPT2 } from '../model/gpt2.js';
import { count, perplexity as perplexityText } from '../report/format.js';
import { LiveLine } from '../report/live-line.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { OptionReader } from '../validate.js';
import { type Command, EXIT_INTERRUPTED } from './command.js';
import { BadRecords, type Reading, refuseReading, validLoader } from './data.js';
import { catchInterrupt } from './interrupt.js';
import { type LoadArguments, loadModel, requireModel } from './load.js';
import { EVALUATE_OPTIONS, flagOf, parseFlags, readOptions, requireFiles, requireOptions } from './options.js';

interface EvaluateArguments extends LoadArguments, Reading {
  data?: string[];
  multipleChoice?: string;
  blockSize?: number;
  stride?: number;
  batchSize: number;
  limit?: number;
  json: boolean;
}

export const evaluate: Command = {
  summary: 'measures a model: loss, perplexity, bits per byte of a text, or answers to questions',
  usage: 'evaluate --model DIR --data FILE... [options]',
  options: EVALUATE_OPTIONS,
  examples: [
    'kotodama evaluate --model runs/a --data data/test.txt',
    'kotodama evaluate --model runs/a --data data/test.txt --stride 512',
    'kotodama evaluate --model runs/a --multiple-choice hellaswag_val.jsonl --limit 1000',
  ],
  async run(words) {
    const reader = new OptionReader(parseFlags(words, EVALUATE_OPTIONS), flagOf);
    const options = readOptions(reader, EVALUATE_OPTIONS, 'evaluate') as unknown as EvaluateArguments;
    requireOptions(reader, EVALUATE_OPTIONS, ['model']);
    requireModel(reader, options);
    checkSource(reader, options);
    reader.finish('The options of kotodama evaluate are not valid');

    const { model, tokenizer } = await loadModel(options);
    const line = new LiveLine(process.stderr);
    const interrupt = catchInterrupt(() => {
      line.clear();
      process.stderr.write('finishing what is being measured; once more stops at once\n');
    });
    try {
      const result =
        options.multipleChoice === undefined
          ? await measureText(model, tokenizer, options, { line, signal: interrupt.signal })
          : await measureChoices(model, tokenizer, options.multipleChoice, options, interrupt.signal);
      if (result === undefined) return EXIT_INTERRUPTED;
      process.stdout.write(options.json ? `${JSON.stringify(result.values)}\n` : `${result.lines.join('\n')}\n`);
      return 0;
    } finally {
      interrupt[Symbol.dispose]();
      // Nobody reads on, and the process would wait for its end.
      if ([...(options.data ?? []), options.multipleChoice].includes('-')) process.stdin.destroy();
      await model.dispose();
    }
  },
};

function checkSource(reader: OptionReader, { data, multipleChoice }: EvaluateArguments): void {
  if ((data === undefined) === (multipleChoice === undefined)) {
    const found = data === undefined ? 'neither' : 'both';
    reader.problems.add('--data, --multiple-choice', 'one of the two', found);
  }
  requireFiles(reader, 'data', data ?? []);
  refuseReading(reader, reader.values, data ?? []);
  if (reader.has('promptField') && reader.has('stride')) {
    reader.problem(
      'stride',
      'nothing with --prompt-field',
      reader.values.stride,
      'records stay whole, and overlap nothing',
    );
  }
  if (multipleChoice === undefined) return;
  requireFiles(reader, 'multipleChoice', [multipleChoice]);
  for (const name of OF_TEXTS) {
    if (reader.has(name)) reader.problem(name, 'nothing with --multiple-choice', reader.values[name]);
  }
}

/** Options that say how texts are read and cut. */
const OF_TEXTS = [
  'textField',
  'promptField',
  'encoding',
  'keepLinebreaks',
  'eos',
  'skipBad',
  'blockSize',
  'stride',
  'batchSize',
];

/** A measurement for programs and for people; nothing when it was interrupted. */
type Measurement = { values: object; lines: string[] } | undefined;

async function measureText(
  model: GPT2,
  tokenizer: Tokenizer,
  options: EvaluateArguments,
  { line, signal }: { line: LiveLine; signal: AbortSignal },
): Promise<Measurement> {
  const { batchSize, limit } = options;
  const { blockSize, stride } = sizesFor(model, options);
  const bad = new BadRecords();
  const data = { ...options, tokenizer, blockSize, batchSize, bad, numWorkers: 1, prefetchFactor: 10 };
  const { loader, texts } = await validLoader(options.data ?? [], data);
  const batches = stride === undefined ? loader : slidingWindows(loader, { windowSize: blockSize, stride, batchSize });
  // The text says how long it is when all of it was measured; else the tokens do, where they give it back.
  const decoded = (texts === undefined || limit !== undefined) && givesBack(tokenizer);
  const measured = decoded ? new TokenBytes(tokenizer, options.promptField !== undefined) : undefined;
  let done = 0;
  try {
    const onBatch = (batch: Batch) => {
      measured?.add(batch);
      line.working(`evaluating: ${count(++done)} batches`);
    };
    const { loss, lossSum, tokens, whole } = await measure(model, batches, { limit, signal, onBatch });
    if (!whole) return undefined;
    const all = limit === undefined || done < limit;
    const bytes = texts !== undefined && all ? texts.textBytes : (measured?.count ?? null);
    const bitsPerByte = bytes === null || bytes === 0 ? null : lossSum / Math.LN2 / bytes;
    const perplexity = Math.exp(loss);
    return {
      values: { loss, perplexity, bitsPerByte, tokens, bytes },
      lines: [
        `loss          ${loss.toFixed(4)} nats per token`,
        `perplexity    ${perplexityText(loss)}`,
        ...(bitsPerByte === null ? [] : [`bits per byte ${bitsPerByte.toFixed(4)} (comparable between tokenizers)`]),
        bytes === null
          ? `measured on   ${count(tokens)} tokens; their bytes of text are not known: give the text itself, without --limit`
          : `measured on   ${count(tokens)} tokens, ${count(bytes)} bytes of text`,
      ],
    };
  } finally {
    line.clear();
    bad.end();
  }
}

/**
 * An overlapping block needs two ids, one to look at and one to foresee.
 *
 * @throws KotodamaError `ERR_OPTIONS` when a block is longer than the model's context, or a stride than a block
 */
function sizesFor({ config: { nPositions } }: GPT2, options: EvaluateArguments) {
  const reader = new OptionReader(options, flagOf);
  const blockSize = reader.integer('blockSize', { min: reader.has('stride') ? 2 : 1, max: nPositions }, nPositions);
  const stride = reader.integer('stride', { min: 1, ...(blockSize >= 2 && { max: blockSize }) }, undefined);
  reader.finish('The model cannot be measured so');
  return { blockSize, stride };
}

/** What tokenizers may change: spaces, wide and composed letters, what is rare, and where a text begins and ends. */
const CHANGEABLE = '  A  \uff21\u00e9 e\u0301\t\u{10ffff}\u200b\n ';

/** Whether the ids of texts one after the other decode to these texts; SentencePiece's seldom do. */
function givesBack(tokenizer: Tokenizer): boolean {
  try {
    const ids = tokenizer.encode(CHANGEABLE);
    return tokenizer.decode([...ids, ...ids]) === CHANGEABLE.repeat(2);
  } catch (error) {
    if (!(error instanceof KotodamaError)) throw error;
    // A tokenizer without a token for what it does not know.
    return false;
  }
}

/** A character has at most four bytes, so that at most three ids can wait for its end. */
const MOST_OPEN = 3;

/** Bytes of the text that batches in order stand for; special tokens have none. */
class TokenBytes {
  private total = 0;
  /** Ids that are counted, and then those of a character that is not complete yet. The first decide about spaces. */
  private ids: number[] = [];
  private known = 0;
  private empty = true;

  /** @param prompted whether texts begin with prompts, which do not count */
  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly prompted: boolean,
  ) {}

  readonly add = ({ inputIds, labels }: Batch): void => {
    // No label stands for the very first id, though the text holds it.
    if (this.empty && !this.prompted) this.ids.push(...inputIds.data.subarray(0, 1));
    this.empty = false;
    for (const id of labels.data) if (id !== IGNORED_LABEL) this.ids.push(id);
    let end = this.ids.length;
    while (end > this.ids.length - MOST_OPEN && this.decode(0, end).endsWith('\uFFFD')) end--;
    this.total += this.bytes(0, end) - this.known;
    const begin = Math.max(0, end - 1);
    this.known = this.bytes(begin, end);
    this.ids = this.ids.slice(begin);
  };

  /** With the bytes of a character that stays incomplete. */
  get count(): number {
    return this.total + this.bytes(0, this.ids.length) - this.known;
  }

  private bytes(begin: number, end: number): number {
    return Buffer.byteLength(this.decode(begin, end));
  }

  private decode(begin: number, end: number): string {
    return begin >= end ? '' : this.tokenizer.decode(this.ids.slice(begin, end), { skipSpecialTokens: true });
  }
}

async function measureChoices(
  model: GPT2,
  tokenizer: Tokenizer,
  path: string,
  { limit }: EvaluateArguments,
  signal: AbortSignal,
): Promise<Measurement> {
  const { whole, ...values } = await multipleChoice(model, tokenizer, readQuestions(path), { limit, signal });
  if (!whole) return undefined;
  const percent = (share: number) => `${(100 * share).toFixed(2)} %`;
  return {
    values,
    lines: [
      `accuracy            ${percent(values.accuracy)}`,
      `accuracy, by length ${percent(values.accuracyNorm)} (each log-likelihood over the bytes of its choice)`,
      `measured on         ${count(values.questions)} questions`,
    ],
  };
}
