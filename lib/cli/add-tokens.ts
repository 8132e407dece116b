import { addTokens } from '../tokenizer/add-tokens.js';
import { OptionReader } from '../validate.js';
import type { Command } from './command.js';
import { showDownloads } from './download.js';
import { ADD_TOKENS_OPTIONS, flagOf, parseFlags, readOptions, requireOptions } from './options.js';

export const addTokensCommand: Command = {
  summary: 'adds special tokens to a tokenizer, for fine-tuning',
  usage: 'add-tokens --tokenizer DIR --tokens TOKEN... --out DIR',
  options: ADD_TOKENS_OPTIONS,
  examples: [
    "kotodama add-tokens --tokenizer openai-community/gpt2 --tokens '<|user|>' '<|bot|>' --out tokenizer",
    'kotodama train --init-from openai-community/gpt2 --tokenizer tokenizer --train chats.txt --out runs/chat',
  ],
  async run(words) {
    const reader = new OptionReader(parseFlags(words, ADD_TOKENS_OPTIONS), flagOf);
    const options = readOptions(reader, ADD_TOKENS_OPTIONS, 'add-tokens') as {
      tokenizer: string;
      tokens: string[];
      out: string;
    };
    requireOptions(reader, ADD_TOKENS_OPTIONS, ['tokenizer', 'tokens', 'out']);
    reader.finish('The options of kotodama add-tokens are not valid');
    const { vocabSize } = await addTokens(options.tokenizer, options.tokens, options.out, showDownloads());
    const first = vocabSize - options.tokens.length;
    const lines = options.tokens.map((token, index) => `${first + index} ${JSON.stringify(token)}`);
    process.stderr.write(`${lines.join('\n')}\nwritten to ${options.out}: ${vocabSize} ids\n`);
    return 0;
  },
};
