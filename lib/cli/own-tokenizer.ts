import { existsSync } from 'node:fs';
import { KotodamaError } from '../errors.js';
import { isFile } from '../model/model-file.js';
import { Tokenizer } from '../tokenizer/tokenizer.js';
import { holdsTokenizer } from '../tokenizer/tokenizer-files.js';
import { firstDifference } from '../tokenizer/vocabulary.js';
import { showDownloads } from './download.js';

/**
 * Compares a tokenizer with the one that a model comes with. It may have more tokens than that, added at the end; another
 * one would give the model ids that mean something else to it. Says whether there was one to compare with.
 *
 * @throws KotodamaError `ERR_TOKENIZER` with the first token that is another one
 */
export async function checkTokenizerOf(model: string, tokenizer: Tokenizer): Promise<boolean> {
  const own = await ownTokenizer(model);
  if (own === undefined) return false;
  if (own.fingerprint === tokenizer.fingerprint) return true;
  const id = firstDifference(own.vocabulary, tokenizer.vocabulary);
  if (id === undefined) return true;
  const [wanted, found] = [own, tokenizer].map(({ vocabulary }) => JSON.stringify(vocabulary.tokens[id]));
  throw new KotodamaError('ERR_TOKENIZER', `The tokenizer is not that of ${model}: token ${id}`, {
    expected: `${wanted}, as the model learned it`,
    received: found ?? 'none',
    hint: "use the model's own tokenizer (leave --tokenizer out), or one that only adds tokens to it",
  });
}

/** The tokenizer that a model comes with, if there is one that can be used. */
async function ownTokenizer(model: string): Promise<Tokenizer | undefined> {
  if (await isFile(model)) return undefined;
  if (existsSync(model) && !(await holdsTokenizer(model))) return undefined;
  return Tokenizer.fromPretrained(model, showDownloads()).catch((error) => {
    // A model of the Hub may come without one, and one that cannot be used is no reason to refuse another.
    if (error instanceof KotodamaError && ['ERR_HUB', 'ERR_TOKENIZER'].includes(error.code)) return undefined;
    throw error;
  });
}
