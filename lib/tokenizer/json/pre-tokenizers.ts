import { asObject, type JsonObject } from '../check-tokenizer-json.js';
import { byteCharacters } from './byte-characters.js';
import { patternOf, textPattern } from './library.js';

/** A part of a text, of which no token reaches into another. */
export interface Piece {
  text: string;
  /** Whether the text begins with it. */
  isFirst: boolean;
}

/** Cuts a piece into smaller ones, none of which is empty. */
export type PreTokenizer = (piece: Piece) => Piece[];

/** What becomes of the text that a pattern finds. */
type Behavior = 'Removed' | 'Isolated' | 'MergedWithPrevious' | 'MergedWithNext' | 'Contiguous';

const BEHAVIORS: readonly unknown[] = ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'];

/** GPT-2's, with what `\s` means in Python's tokenizers. */
const GPT2 =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;
/** `\w+|[^\w\s]+` */
const WORDS =
  /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\p{White_Space}]+/gu;
const WHITE_SPACE = /\p{White_Space}/gu;
const PUNCTUATION = /[\p{P}!-/:-@[-`{-~]/gu;

/** The pre-tokenizers of Python's tokenizers, by their type. */
const KINDS: { readonly [type: string]: (json: JsonObject) => PreTokenizer } = {
  Sequence: ({ pretokenizers }) => {
    if (!Array.isArray(pretokenizers)) throw new Error('a Sequence has no list of pretokenizers');
    return inTurn(pretokenizers.map(preTokenizerOf));
  },
  ByteLevel: ({ add_prefix_space: prefix, use_regex: regex }) => {
    const split = regex === false ? (piece: Piece) => [piece] : cutter(GPT2, 'Isolated');
    return (piece) => {
      const spaced = prefix === true && !piece.text.startsWith(' ') ? { ...piece, text: ` ${piece.text}` } : piece;
      return split(spaced).map(({ text, isFirst }) => ({ text: byteCharacters(text), isFirst }));
    };
  },
  Metaspace: metaspace,
  Split: ({ pattern, behavior, invert }) => cutter(patternOf(pattern), behaviorOf(behavior), invert === true),
  Whitespace: () => cutter(WORDS, 'Removed', true),
  WhitespaceSplit: () => cutter(WHITE_SPACE, 'Removed'),
  Punctuation: ({ behavior = 'Isolated' }) => cutter(PUNCTUATION, behaviorOf(behavior)),
  Digits: ({ individual_digits: single }) => cutter(/\p{N}/gu, single === true ? 'Isolated' : 'Contiguous'),
  BertPreTokenizer: () => inTurn([cutter(WHITE_SPACE, 'Removed'), cutter(PUNCTUATION, 'Isolated')]),
  CharDelimiterSplit: ({ delimiter }) => cutter(patternOf({ String: delimiter }), 'Removed'),
};

/** @throws Error for one of another kind */
export function preTokenizerOf(json: unknown): PreTokenizer {
  if (json === null || json === undefined) return (piece) => [piece];
  const preTokenizer = asObject(json) ?? {};
  const kind = Object.hasOwn(KINDS, String(preTokenizer.type)) ? KINDS[String(preTokenizer.type)] : undefined;
  if (kind === undefined) throw new Error(`unknown pre-tokenizer ${JSON.stringify(preTokenizer.type)}`);
  return kind(preTokenizer);
}

function inTurn(parts: readonly PreTokenizer[]): PreTokenizer {
  return (piece) => parts.reduce((pieces, part) => pieces.flatMap(part), [piece]);
}

function metaspace(json: JsonObject): PreTokenizer {
  const { replacement = '▁', add_prefix_space: prefix } = json;
  const { prepend_scheme: scheme = prefix === false ? 'never' : 'always', split = true } = json;
  if (typeof replacement !== 'string' || replacement === '') throw new Error('the replacement of Metaspace is no text');
  const cut = split === false ? (piece: Piece) => [piece] : cutter(textPattern([replacement]), 'MergedWithNext');
  return ({ text, isFirst }) => {
    const replaced = text.replaceAll(' ', () => replacement);
    const wants = scheme === 'always' || (scheme === 'first' && isFirst);
    return cut({ text: wants && !replaced.startsWith(replacement) ? replacement + replaced : replaced, isFirst });
  };
}

function behaviorOf(value: unknown): Behavior {
  if (BEHAVIORS.includes(value)) return value as Behavior;
  throw new Error(`unknown behavior ${JSON.stringify(value)}`);
}

/** Cuts at what a pattern finds; inverted, at what lies between. */
function cutter(pattern: RegExp, behavior: Behavior, invert = false): PreTokenizer {
  return ({ text, isFirst }) => {
    const ranges = joined(rangesOf(text, pattern, invert), behavior).filter(({ start, end }) => end > start);
    return ranges.map(({ start, end }) => ({ text: text.slice(start, end), isFirst: isFirst && start === 0 }));
  };
}

interface Range {
  start: number;
  end: number;
  isMatch: boolean;
}

/** What a pattern finds, and what lies between. Nothing found between two characters separates them, but not behind a match. */
function rangesOf(text: string, pattern: RegExp, invert: boolean): Range[] {
  const ranges: Range[] = [];
  let from = 0;
  for (const { index: start, 0: found } of text.matchAll(pattern)) {
    const end = start + found.length;
    if (start > from) ranges.push({ start: from, end: start, isMatch: invert });
    if (end > start || start > from || start === 0) ranges.push({ start, end, isMatch: !invert });
    from = end;
  }
  if (from < text.length) ranges.push({ start: from, end: text.length, isMatch: invert });
  return ranges;
}

/** Of several matches side by side one alone is merged: the first with what is before it, or the last with what is behind. */
function joined(ranges: readonly Range[], behavior: Behavior): Range[] {
  if (behavior === 'Isolated') return [...ranges];
  if (behavior === 'Removed') return ranges.filter(({ isMatch }) => !isMatch);
  const result: Range[] = [];
  for (const [index, range] of ranges.entries()) {
    const before = ranges[index - 1];
    const isJoined =
      before !== undefined &&
      (behavior === 'Contiguous'
        ? before.isMatch === range.isMatch
        : before.isMatch !== range.isMatch && range.isMatch === (behavior === 'MergedWithPrevious'));
    if (isJoined) result.at(-1)!.end = range.end;
    else result.push({ ...range });
  }
  return result;
}
