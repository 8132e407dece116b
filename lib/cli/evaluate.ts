import { createReadStream } from 'node:fs';
import { count } from '../report/format.js';
import { evaluate as measure } from '../train/evaluate.js';
import { OptionReader } from '../validate.js';
import { type Command, EXIT_INTERRUPTED } from './command.js';
import { validLoader } from './data.js';
import { catchInterrupt } from './interrupt.js';
import { type LoadArguments, loadModel } from './load.js';
import { EVALUATE_OPTIONS, flagOf, parseFlags, readOptions, requireFiles, requireOptions } from './options.js';

interface EvaluateArguments extends LoadArguments {
  data: string[];
  blockSize?: number;
  batchSize: number;
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
    try {
      const { batchSize, blockSize = model.config.nPositions } = options;
      const data = { tokenizer, blockSize, batchSize, numWorkers: 1, prefetchFactor: 10 };
      const loader = validLoader(options.data, data);
      const { lossSum, tokens, whole } = await measure(model, loader, { signal: interrupt.signal });
      if (!whole) return EXIT_INTERRUPTED;
      const bytes = await textBytes(options.data);
      const loss = lossSum / tokens;
      const result = { loss, perplexity: Math.exp(loss), bitsPerByte: lossSum / Math.LN2 / bytes, tokens, bytes };
      process.stdout.write(options.json ? `${JSON.stringify(result)}\n` : show(result));
      return 0;
    } finally {
      interrupt[Symbol.dispose]();
      await model.dispose();
    }
  },
};

function show(result: {
  loss: number;
  perplexity: number;
  bitsPerByte: number;
  tokens: number;
  bytes: number;
}): string {
  return [
    `loss          ${result.loss.toFixed(4)} nats per token`,
    `perplexity    ${result.perplexity.toFixed(2)}`,
    `bits per byte ${result.bitsPerByte.toFixed(4)} (comparable between tokenizers)`,
    `measured on   ${count(result.tokens)} tokens, ${count(result.bytes)} bytes of text`,
    '',
  ].join('\n');
}

/** Bytes of the lines, which is what the model reads: their ends (LF or CRLF) are not part of the text. */
async function textBytes(files: readonly string[]): Promise<number> {
  let bytes = 0;
  for (const file of files) {
    let afterReturn = false;
    for await (const chunk of createReadStream(file)) {
      for (const byte of chunk as Buffer) {
        if (byte === 0x0a) bytes -= afterReturn ? 1 : 0;
        else bytes++;
        afterReturn = byte === 0x0d;
      }
    }
  }
  return bytes;
}
