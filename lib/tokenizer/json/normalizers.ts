import { asObject, type JsonObject } from '../check-tokenizer-json.js';
import { byteCharacters } from './byte-characters.js';
import { patternOf } from './library.js';
import { precompiled } from './precompiled.js';

/** Changes a text before anything is looked for in it. */
export type Normalizer = (text: string) => string;

/** The normalizers of Python's tokenizers, by their type. */
const KINDS: { readonly [type: string]: (json: JsonObject) => Normalizer } = {
  Sequence: ({ normalizers }) => {
    if (!Array.isArray(normalizers)) throw new Error('a Sequence has no list of normalizers');
    const parts = normalizers.map(normalizerOf);
    return (text) => parts.reduce((result, part) => part(result), text);
  },
  NFC: () => (text) => unicode(text, 'NFC'),
  NFD: () => (text) => unicode(text, 'NFD'),
  NFKC: () => (text) => unicode(text, 'NFKC'),
  NFKD: () => (text) => unicode(text, 'NFKD'),
  Lowercase: () => lowercase,
  StripAccents: () => (text) => text.replace(/\p{M}/gu, ''),
  Strip: ({ strip_left: left, strip_right: right }) => {
    return (text) => {
      const begun = left === true ? text.replace(/^\p{White_Space}+/u, '') : text;
      return right === true ? begun.replace(/(?<!\p{White_Space})\p{White_Space}+$/u, '') : begun;
    };
  },
  Prepend: ({ prepend }) => {
    const prefix = textOf(prepend, 'prepend');
    return (text) => (text === '' ? '' : prefix + text);
  },
  Replace: ({ pattern, content }) => {
    const found = patternOf(pattern);
    const replacement = textOf(content, 'content');
    return (text) => text.replace(found, () => replacement);
  },
  BertNormalizer: bert,
  Precompiled: ({ precompiled_charsmap: charsmap }) => precompiled(textOf(charsmap ?? '', 'precompiled_charsmap')),
  ByteLevel: () => byteCharacters,
  Nmt: () => (text) => text.replace(NMT_REMOVED, '').replace(NMT_SPACES, ' '),
};

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is removed
const NMT_REMOVED = /[\u0001-\u0008\u000b\u000e-\u001f\u007f\u008f\u009f]/g;
const NMT_SPACES = /[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g;

/** @throws Error for one of another kind */
export function normalizerOf(json: unknown): Normalizer {
  if (json === null || json === undefined) return (text) => text;
  const normalizer = asObject(json) ?? {};
  const kind = Object.hasOwn(KINDS, String(normalizer.type)) ? KINDS[String(normalizer.type)] : undefined;
  if (kind === undefined) throw new Error(`unknown normalizer ${JSON.stringify(normalizer.type)}`);
  return kind(normalizer);
}

/**
 * Characters that decompose only since Unicode 12.1, such as the era's name U+32FF: Python's tokenizers, whose tables are older,
 * leave them as they are.
 */
const OLDER_TEXT =
  /[^\u32ff\ua7f1-\ua7f4\uab69\u{105c9}\u{105e4}\u{10781}-\u{107ba}\u{11383}\u{11385}\u{1138e}\u{11391}\u{113c5}-\u{113c8}\u{11938}\u{16121}-\u{16128}\u{16d68}-\u{16d6a}\u{1ccd6}-\u{1ccf9}\u{1e030}-\u{1e06d}\u{1f16c}\u{1fbf0}-\u{1fbf9}]+/gu;

function unicode(text: string, form: 'NFC' | 'NFD' | 'NFKC' | 'NFKD'): string {
  return text.replace(OLDER_TEXT, (part) => part.normalize(form));
}

/** Character by character, as in Python's tokenizers: a sigma at the end of a word is no exception. */
function lowercase(text: string): string {
  return text.replaceAll('Σ', 'σ').toLowerCase();
}

/** What BERT's normalizer removes, and what it takes for an ideograph (as Python's tokenizers have it, gaps included). */
const REMOVED = /(?![\t\n\r])[\0\ufffd\p{Cc}\p{Cf}\p{Co}]/gu;
const IDEOGRAPH =
  /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;

function bert(json: JsonObject): Normalizer {
  const { clean_text: clean, handle_chinese_chars: chinese, lowercase: lower, strip_accents: strip } = json;
  return (text) => {
    let result = text;
    if (clean === true) result = result.replace(REMOVED, '').replace(/\p{White_Space}/gu, ' ');
    if (chinese === true) result = result.replace(IDEOGRAPH, ' $& ');
    if (strip ?? lower) result = unicode(result, 'NFD').replace(/\p{Mn}/gu, '');
    return lower === true ? lowercase(result) : result;
  };
}

function textOf(value: unknown, key: string): string {
  if (typeof value === 'string') return value;
  throw new Error(`the ${key} of a normalizer is no text`);
}
