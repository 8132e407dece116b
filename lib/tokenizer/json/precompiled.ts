import { Charsmap } from '../sentencepiece/charsmap.js';
import { clustersOf } from './clusters.js';

/** Longest cluster, in bytes, whose rule counts for all of it. */
const SHORT = 5;

/**
 * The rules of a SentencePiece model as Python's tokenizers follow them, which is not SentencePiece's way: text is taken by
 * grapheme clusters. A short one becomes what the first rule makes that matches its beginning; of longer ones, and where none
 * matches, each character becomes what its rule makes.
 *
 * @param base64 the compiled rules; empty: none
 * @throws KotodamaError `ERR_TOKENIZER` when they are damaged
 */
export function precompiled(base64: string): (text: string) => string {
  if (base64 === '') return (text) => text;
  const charsmap = new Charsmap(Buffer.from(base64, 'base64'));
  const ruleFor = (text: string) => {
    const bytes = Buffer.from(text);
    return charsmap.shortestMatch(bytes, 0, bytes.length);
  };
  return (text) => {
    let result = '';
    for (const cluster of clustersOf(text)) {
      const whole = Buffer.byteLength(cluster) <= SHORT ? ruleFor(cluster) : undefined;
      if (whole !== undefined) result += whole;
      else for (const character of cluster) result += ruleFor(character) ?? character;
    }
    return result;
  };
}
