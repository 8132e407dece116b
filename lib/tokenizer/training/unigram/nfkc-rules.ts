/** Characters above this have no normal form of their own. */
const LAST = 0x2ffff;

const HANGUL = { first: 0xac00, last: 0xd7a3 };

/** What NMT-NFKC leaves out, beside what becomes a space. */
const REMOVED = [[0x01, 0x08], [0x0b], [0x0e, 0x1f], [0x7f], [0x8f], [0x9f]];

const SPACES = [0x09, 0x0a, 0x0c, 0x0d, 0x1680, 0x200b, 0x200c, 0x200e, 0x200f, 0x2028, 0x2029, 0x2581, 0xfeff, 0xfffd];

/** The wave dash of Japanese, which is used differently from the tilde that NFKC makes of it. */
const FULLWIDTH_TILDE = 0xff5e;

/**
 * SentencePiece's `nmt_nfkc` as rules from texts to texts: Unicode's NFKC, control characters removed, other white space as a
 * space, the full-width tilde kept. A rule applies where its source is the longest one that matches, so sequences which
 * compose to one character (a letter and its accents, kana and a voicing mark, of any width) have rules of their own.
 *
 * Unicode's tables are those of the platform: they differ for the newest characters only.
 */
export function nmtNfkcRules(): Map<string, string> {
  const rules = new Map<string, string>();
  /** Characters by their NFKD. */
  const variants = new Map<string, string[]>();
  const composed: string[] = [];
  for (let codePoint = 1; codePoint <= LAST; codePoint++) {
    if (codePoint >= 0xd800 && codePoint <= 0xdfff) continue;
    const character = String.fromCodePoint(codePoint);
    const normal = character.normalize('NFKC');
    if (normal !== character) rules.set(character, normal);
    if (codePoint >= HANGUL.first && codePoint <= HANGUL.last) continue;
    const parts = character.normalize('NFKD');
    if (parts !== character) add(variants, parts, character);
    if (normal === character && parts !== character) composed.push(character);
  }
  for (const character of composed) addSequences(rules, character, variants);
  addHangul(rules);
  for (const [first, last = first] of REMOVED as [number, number?][]) {
    for (let codePoint = first; codePoint <= last; codePoint++) rules.set(String.fromCodePoint(codePoint), '');
  }
  for (const codePoint of SPACES) rules.set(String.fromCodePoint(codePoint), ' ');
  rules.delete(String.fromCodePoint(FULLWIDTH_TILDE));
  return rules;
}

/** Rules for all sequences of two and more characters whose parts are those of a composed one. */
function addSequences(rules: Map<string, string>, character: string, variants: ReadonlyMap<string, string[]>): void {
  const parts = [...character.normalize('NFKD')];
  const sequencesFrom = (start: number): string[] => {
    if (start === parts.length) return [''];
    const sequences: string[] = [];
    for (let end = start + 1; end <= parts.length; end++) {
      const part = parts.slice(start, end).join('');
      const heads = [...(end === start + 1 ? [part] : []), ...(variants.get(part) ?? [])];
      for (const tail of sequencesFrom(end)) sequences.push(...heads.map((head) => head + tail));
    }
    return sequences;
  };
  for (const sequence of sequencesFrom(0)) {
    // Some parts compose otherwise, or not at all (Unicode's exclusions).
    const isSequence = [...sequence].length > 1 && sequence.normalize('NFKC') === character;
    if (isSequence) rules.set(sequence, character);
  }
}

/** Syllables from their letters: consonant and vowel, and a final consonant if there is one. */
function addHangul(rules: Map<string, string>): void {
  for (let codePoint = HANGUL.first; codePoint <= HANGUL.last; codePoint++) {
    const syllable = String.fromCodePoint(codePoint);
    rules.set(syllable.normalize('NFD'), syllable);
  }
}

function add(lists: Map<string, string[]>, key: string, value: string): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [value]);
  else list.push(value);
}
