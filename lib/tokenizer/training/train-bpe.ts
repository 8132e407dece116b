import { BpeLearner } from './bpe-learner.js';
import type { BpeSettings, TrainTokenizerOptions } from './options.js';
import { readTexts } from './read-texts.js';
import { TextCounter } from './text-counter.js';
import { tokenizerConfig, tokenizerJson } from './tokenizer-content.js';
import { TrainedTokenizer } from './trained-tokenizer.js';
import { Turns } from './turns.js';

/** Trains a byte-level BPE tokenizer. */
export async function trainBpe(
  options: TrainTokenizerOptions,
  { vocabSize, specialTokens, minFrequency }: BpeSettings,
): Promise<TrainedTokenizer> {
  const turns = new Turns(options);
  const counter = new TextCounter(specialTokens);
  await readTexts(options, counter, turns);
  const learner = new BpeLearner(counter.words, { vocabSize, specialTokens, minFrequency });
  const progress = () => ({ phase: 'merge', tokens: learner.tokens.length, vocabSize }) as const;
  for (const _ of learner.learn()) await turns.next(progress);
  await turns.next(progress, true);
  const { tokens, merges } = learner;
  const files = {
    'tokenizer_config.json': tokenizerConfig(specialTokens),
    'tokenizer.json': tokenizerJson({ tokens, merges, specialTokens }),
  };
  return new TrainedTokenizer(files, tokens.length);
}
