import { OptionReader } from '../validate.js';
import { type Command, EXIT_INTERRUPTED } from './command.js';
import { catchInterrupt } from './interrupt.js';
import { type LoadArguments, loadModel } from './load.js';
import { flagOf, GENERATE_OPTIONS, parseFlags, readOptions, requireOptions } from './options.js';

interface GenerateArguments extends LoadArguments {
  prompt?: string;
  maxNewTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  seed: number;
  numSamples: number;
  json: boolean;
}

export const generate: Command = {
  summary: 'continues a text with a trained model',
  usage: 'generate --model DIR [--prompt TEXT] [options]',
  options: GENERATE_OPTIONS,
  examples: ['kotodama generate --model runs/a --prompt "Once upon a time" --temperature 0.7 --num-samples 3'],
  async run(words) {
    const reader = new OptionReader(parseFlags(words, GENERATE_OPTIONS), flagOf);
    const options = readOptions(reader, GENERATE_OPTIONS) as unknown as GenerateArguments;
    requireOptions(reader, GENERATE_OPTIONS, ['model']);
    reader.finish('The options of kotodama generate are not valid');

    const { prompt = '', maxNewTokens, temperature, topK, topP, seed, numSamples, json } = options;
    const { model, tokenizer } = await loadModel(options);
    const interrupt = catchInterrupt(() => {});
    const { signal } = interrupt;
    try {
      for (let index = 0; index < numSamples; index++) {
        if (!json) process.stdout.write(index === 0 ? prompt : `\n${'-'.repeat(20)}\n${prompt}`);
        const pieces = model.generate(prompt, {
          ...{ tokenizer, maxNewTokens, temperature, topP, signal },
          topK: topK === 0 ? undefined : topK,
          seed: seed + index,
        });
        let text = '';
        for await (const piece of pieces) {
          text += piece;
          if (!json) process.stdout.write(piece);
        }
        process.stdout.write(json ? `${JSON.stringify({ prompt, text, seed: seed + index })}\n` : '\n');
      }
      return 0;
    } catch (error) {
      if (!signal.aborted) throw error;
      process.stdout.write('\n');
      return EXIT_INTERRUPTED;
    } finally {
      interrupt[Symbol.dispose]();
      await model.dispose();
    }
  },
};
