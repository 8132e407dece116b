import { KotodamaError } from '../errors.js';
import type { ModelOptions } from '../model/build.js';
import type { GPT2Config } from '../model/config.js';
import { GPT2 } from '../model/gpt2.js';
import { readConfig } from '../model/pretrained.js';
import type { Tokenizer } from '../tokenizer/tokenizer.js';
import { showLoading } from './loading.js';
import { checkTokenizerOf } from './own-tokenizer.js';

/** What `kotodama train` is told about the model to begin with. */
interface TuningArguments {
  initFrom: string;
  blockSize?: number;
  dropout?: number;
}

/**
 * Loads the model of `--init-from` for training with a tokenizer: its context shortened to `--block-size`, its embedding
 * grown by the tokens that the tokenizer has beyond the model's own. Tells of both.
 *
 * @throws KotodamaError `ERR_OPTIONS` when the context is too short, `ERR_TOKENIZER` when the tokenizer is another one
 */
export async function loadForTuning(
  { initFrom, blockSize, dropout }: TuningArguments,
  tokenizer: Tokenizer,
  engine: ModelOptions,
): Promise<GPT2> {
  using loading = showLoading(`loading ${initFrom}`);
  const hub = { onProgress: loading.onProgress };
  const { vocabSize, nPositions } = await readConfig(initFrom, hub);
  if (blockSize !== undefined && blockSize > nPositions) {
    throw new KotodamaError('ERR_OPTIONS', '--block-size', {
      expected: `at most ${nPositions}, the context of ${initFrom}`,
      received: `${blockSize}`,
      hint: 'a model cannot read further than it has positions for: use shorter blocks or another model',
    });
  }
  await checkTokenizer(initFrom, vocabSize, tokenizer);
  const { bosTokenId, eosTokenId, padTokenId } = tokenizer;
  const model = await GPT2.fromPretrained(initFrom, {
    ...{ ...engine, ...hub, dropout, nPositions: blockSize, bosTokenId, eosTokenId, padTokenId },
    vocabSize: Math.max(vocabSize, tokenizer.vocabSize),
  });
  loading[Symbol.dispose]();
  tell({ vocabSize, nPositions }, model.config);
  return model;
}

function tell(before: Pick<GPT2Config, 'vocabSize' | 'nPositions'>, now: Readonly<GPT2Config>): void {
  if (now.nPositions < before.nPositions) {
    process.stderr.write(`the context is shortened from ${before.nPositions} to ${now.nPositions} tokens\n`);
  }
  if (now.vocabSize > before.vocabSize) {
    process.stderr.write(`the embedding grows from ${before.vocabSize} to ${now.vocabSize} tokens\n`);
  }
}

/** Another tokenizer would give the model ids that mean something else to it: a night's training for nothing. */
async function checkTokenizer(initFrom: string, vocabSize: number, tokenizer: Tokenizer): Promise<void> {
  if (await checkTokenizerOf(initFrom, tokenizer)) return;
  if (tokenizer.vocabSize <= vocabSize) return;
  throw new KotodamaError('ERR_TOKENIZER', `The tokenizer does not fit ${initFrom}, which has none of its own`, {
    expected: `at most ${vocabSize} ids`,
    received: `${tokenizer.vocabSize}`,
    hint: "if it only adds tokens, put the model's own tokenizer beside the model, so that they can be compared",
  });
}
