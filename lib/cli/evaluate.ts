import { count } from '../report/format.js';
import { evaluate as measure } from '../train/evaluate.js';
import { OptionReader } from '../validate.js';
import { type Command, EXIT_INTERRUPTED } from './command.js';
import { BadRecords, validLoader } from './data.js';
import { catchInterrupt } from './interrupt.js';
import { type LoadArguments, loadModel } from './load.js';
import { EVALUATE_OPTIONS, flagOf, parseFlags, readOptions, requireFiles, requireOptions } from './options.js';

interface EvaluateArguments extends LoadArguments {
  data: string[];
  blockSize?: number;
  batchSize: number;
  textField?: string;
  eos: 'none' | 'line' | 'document';
  skipBad: boolean;
  json: boolean;
}

export const evaluate: Command = {
  summary: 'measures a model on a text: loss, perplexity, bits per byte',
  usage: 'evaluate --model DIR --data FILE... [options]',
  options: EVALUATE_OPTIONS,
  examples: ['kotodama evaluate --model runs/a --data data/test.txt'],
  async run(words) {
    const reader = new OptionReader(parseFlags(words, EVALUATE_OPTIONS), flagOf);
    const options = readOptions(reader, EVALUATE_OPTIONS) as unknown as EvaluateArguments;
    requireOptions(reader, EVALUATE_OPTIONS, ['model', 'data']);
    requireFiles(reader, 'data', options.data ?? []);
    reader.finish('The options of kotodama evaluate are not valid');

    const { model, tokenizer } = await loadModel(options);
    const interrupt = catchInterrupt(() => {});
    const bad = new BadRecords();
    try {
      const { batchSize, blockSize = model.config.nPositions } = options;
      const data = { ...options, tokenizer, blockSize, batchSize, bad, numWorkers: 1, prefetchFactor: 10 };
      const { loader, texts } = await validLoader(options.data, data);
      const { lossSum, tokens, whole } = await measure(model, loader, { signal: interrupt.signal });
      if (!whole) return EXIT_INTERRUPTED;
      // Token files do not say how long their text was.
      const bytes = texts?.textBytes ?? null;
      const loss = lossSum / tokens;
      const bitsPerByte = bytes === null ? null : lossSum / Math.LN2 / bytes;
      const result = { loss, perplexity: Math.exp(loss), bitsPerByte, tokens, bytes };
      process.stdout.write(options.json ? `${JSON.stringify(result)}\n` : show(result));
      return 0;
    } finally {
      interrupt[Symbol.dispose]();
      bad.end();
      await model.dispose();
    }
  },
};

function show(result: {
  loss: number;
  perplexity: number;
  bitsPerByte: number | null;
  tokens: number;
  bytes: number | null;
}): string {
  const { loss, perplexity, bitsPerByte, tokens, bytes } = result;
  return [
    `loss          ${loss.toFixed(4)} nats per token`,
    `perplexity    ${perplexity.toFixed(2)}`,
    ...(bitsPerByte === null ? [] : [`bits per byte ${bitsPerByte.toFixed(4)} (comparable between tokenizers)`]),
    `measured on   ${count(tokens)} tokens${bytes === null ? '' : `, ${count(bytes)} bytes of text`}`,
    '',
  ].join('\n');
}
