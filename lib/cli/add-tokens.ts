import type { OptionTable } from '../option-table.js';
import { addTokens } from '../tokenizer/add-tokens.js';
import { OptionReader } from '../validate.js';
import type { Command } from './command.js';
import { showDownloads } from './download.js';
import { flagOf, parseFlags, readOptions, requireOptions } from './options.js';

/** `kotodama add-tokens` */
const ADD_TOKENS_OPTIONS = {
  tokenizer: {
    kind: 'string',
    placeholder: 'DIR',
    help: 'the tokenizer to begin with: a folder, or a name of the Hub',
  },
  tokens: { kind: 'strings', placeholder: 'TOKEN...', help: "special tokens to add, such as '<|user|>'" },
  out: { kind: 'string', placeholder: 'DIR', help: "the new tokenizer's folder" },
} as const satisfies OptionTable;

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
    const options = readOptions(reader, ADD_TOKENS_OPTIONS) as { tokenizer: string; tokens: string[]; out: string };
    requireOptions(reader, ADD_TOKENS_OPTIONS, ['tokenizer', 'tokens', 'out']);
    reader.finish('The options of kotodama add-tokens are not valid');
    const { vocabSize } = await addTokens(options.tokenizer, options.tokens, options.out, showDownloads());
    const first = vocabSize - options.tokens.length;
    const lines = options.tokens.map((token, index) => `${first + index} ${JSON.stringify(token)}`);
    process.stderr.write(`${lines.join('\n')}\nwritten to ${options.out}: ${vocabSize} ids\n`);
    return 0;
  },
};
