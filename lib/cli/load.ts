import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { KotodamaError } from '../errors.js';
import { GPT2 } from '../model/gpt2.js';
import { isFile } from '../model/model-file.js';
import { checkHoldsModel, readConfig } from '../model/pretrained.js';
import { checkTokenizerFits } from '../model/tokenizer-fit.js';
import { Tokenizer } from '../tokenizer/tokenizer.js';
import { holdsRun } from '../train/run-folder.js';
import type { OptionReader } from '../validate.js';
import { showDownloads } from './download.js';
import { showLoading } from './loading.js';
import { requireSaved } from './options.js';
import { checkTokenizerOf } from './own-tokenizer.js';
import { shellWord } from './shell.js';

/** What the commands that use a trained model are told about it. */
export interface LoadArguments {
  model: string;
  tokenizer?: string;
  device: string;
  threads?: number;
}

/** Notes a model, or a tokenizer named beside it, that cannot be loaded from where it is said to be. */
export function requireModel(reader: OptionReader, { model, tokenizer }: Partial<LoadArguments>): void {
  requireSaved(reader, 'model', 'model', model);
  requireSaved(reader, 'tokenizer', 'tokenizer', tokenizer);
}

/** Loads a model and its tokenizer. The tokenizer first: a mistake there shows before the weights are read. */
export async function loadModel(options: LoadArguments): Promise<{ model: GPT2; tokenizer: Tokenizer }> {
  const { device, threads } = options;
  checkSaved(options.model);
  using loading = showLoading(`loading ${options.model}`);
  const hub = { onProgress: loading.onProgress };
  const config = await readConfig(options.model, hub);
  const tokenizer = await loadTokenizer(options, hub);
  checkTokenizerFits(config, tokenizer);
  const model = await GPT2.fromPretrained(options.model, { device, ...(threads !== undefined && { threads }), ...hub });
  return { model, tokenizer };
}

/**
 * @throws KotodamaError `ERR_CHECKPOINT` for a run that has saved nothing yet, `ERR_MODEL_FILE` for another folder without
 *   a model, before its tokenizer is looked for
 */
export function checkSaved(model: string): void {
  if (existsSync(join(model, 'config.json'))) return;
  if (!holdsRun(model)) {
    if (statSync(model, { throwIfNoEntry: false })?.isDirectory() === true) checkHoldsModel(model);
    return;
  }
  throw new KotodamaError('ERR_CHECKPOINT', `The run in ${model} has no checkpoint yet`, {
    hint: `wait for its first one (--save-every), or continue it: kotodama train --resume --out ${shellWord(model)}`,
  });
}

/**
 * @throws KotodamaError `ERR_OPTIONS` when none is named and the model is a file of llm.c's, which holds none;
 *   `ERR_TOKENIZER` when the model comes with another one than that named
 */
export async function loadTokenizer(
  { model, tokenizer }: Pick<LoadArguments, 'model' | 'tokenizer'>,
  hub = showDownloads(),
): Promise<Tokenizer> {
  if (tokenizer === undefined && (await isFile(model))) {
    throw new KotodamaError('ERR_OPTIONS', `${model} holds no tokenizer`, {
      hint: 'give the one that it was trained with: --tokenizer DIR',
    });
  }
  const loaded = await Tokenizer.fromPretrained(tokenizer ?? model, hub);
  if (tokenizer !== undefined && tokenizer !== model) await checkTokenizerOf(model, loaded);
  return loaded;
}
