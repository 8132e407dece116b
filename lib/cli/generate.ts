import type { GPT2 } from '../model/gpt2.js';
import { printable } from '../report/words.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { OptionReader } from '../validate.js';
import { type Command, EXIT_INTERRUPTED } from './command.js';
import { catchInterrupt } from './interrupt.js';
import { type LoadArguments, loadModel, requireModel } from './load.js';
import { flagOf, GENERATE_OPTIONS, parseFlags, readOptions, requireOptions } from './options.js';

interface GenerateArguments extends LoadArguments {
  prompt?: string;
  maxNewTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  stop?: string[];
  seed: number;
  int8: boolean;
  numSamples: number;
  json: boolean;
}

/** Texts that are written together: the memory for them grows with their number, and `int8` is for no more than 8. */
const BATCH = 16;
const INT8_BATCH = 8;

export const generate: Command = {
  summary: 'continues a text with a trained model',
  usage: 'generate --model DIR [--prompt TEXT] [options]',
  options: GENERATE_OPTIONS,
  examples: ['kotodama generate --model runs/a --prompt "Once upon a time" --temperature 0.7 --num-samples 3'],
  async run(words) {
    const { prompt, ...flags } = parseFlags(words, GENERATE_OPTIONS);
    // An empty one is none: the text begins at its beginning.
    const reader = new OptionReader(prompt === '' ? flags : { prompt, ...flags }, flagOf);
    const options = readOptions(reader, GENERATE_OPTIONS, 'generate') as unknown as GenerateArguments;
    requireOptions(reader, GENERATE_OPTIONS, ['model']);
    requireModel(reader, options);
    reader.finish('The options of kotodama generate are not valid');

    const { model, tokenizer } = await loadModel(options);
    const interrupt = catchInterrupt(() => {});
    try {
      const batch = options.int8 ? INT8_BATCH : BATCH;
      for (let first = 0; first < options.numSamples; first += batch) {
        await writeSamples(model, tokenizer, options, first, batch, interrupt.signal);
      }
      return 0;
    } catch (error) {
      if (!interrupt.signal.aborted) throw error;
      return EXIT_INTERRUPTED;
    } finally {
      interrupt[Symbol.dispose]();
      await model.dispose();
    }
  },
};

/** Writes one batch of texts. Before a person the first one appears as it comes, the others after it. */
async function writeSamples(
  model: GPT2,
  tokenizer: Tokenizer,
  options: GenerateArguments,
  first: number,
  batch: number,
  signal: AbortSignal,
): Promise<void> {
  const { prompt = '', maxNewTokens, temperature, topK, topP, minP, repetitionPenalty, stop, int8, json } = options;
  const numSamples = Math.min(batch, options.numSamples - first);
  const texts = Array.from({ length: numSamples }, () => '');
  // A terminal would do what control characters say; a file or another program gets them as they are.
  const write = (text: string) => process.stdout.write(process.stdout.isTTY ? printable(text) : text);
  const begin = (index: number) => {
    if (!json) write(first + index === 0 ? prompt : `\n${'-'.repeat(20)}\n${prompt}`);
  };
  begin(0);
  const pieces = model.generateSamples(prompt, {
    ...{ tokenizer, maxNewTokens, temperature, topK, topP, minP, repetitionPenalty, int8, numSamples, signal },
    ...(stop !== undefined && { stop }),
    seed: options.seed + first,
  });
  try {
    for await (const { sample, text } of pieces) {
      texts[sample] += text;
      if (!json && sample === 0) write(text);
    }
  } catch (error) {
    // What is said of it stands on a line of its own.
    if (!json) process.stdout.write('\n');
    throw error;
  }
  for (const [index, text] of texts.entries()) {
    if (json) process.stdout.write(`${JSON.stringify({ prompt, text, seed: options.seed + first + index })}\n`);
    else if (index === 0) process.stdout.write('\n');
    else {
      begin(index);
      write(`${text}\n`);
    }
  }
}
