import { GPT2 } from '../model/gpt2.js';
import { readConfig } from '../model/pretrained.js';
import { Tokenizer } from '../tokenizer/tokenizer.js';
import { showDownloads } from './download.js';

/** What the commands that use a trained model are told about it. */
export interface LoadArguments {
  model: string;
  tokenizer?: string;
  device: string;
  threads?: number;
}

/** Loads a model and its tokenizer. The tokenizer first: a mistake there shows before the weights are read. */
export async function loadModel(options: LoadArguments): Promise<{ model: GPT2; tokenizer: Tokenizer }> {
  const { device, threads } = options;
  const hub = showDownloads();
  await readConfig(options.model, hub);
  const tokenizer = await Tokenizer.fromPretrained(options.tokenizer ?? options.model, hub);
  const model = await GPT2.fromPretrained(options.model, { device, ...(threads !== undefined && { threads }), ...hub });
  return { model, tokenizer };
}
