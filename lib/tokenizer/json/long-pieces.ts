/** Longest piece, in UTF-16 units, that a model gets at once where it can be cut: memory is some hundred bytes for each. */
const LONGEST = 50_000;

/**
 * Cuts long pieces of text where no token can reach across: where the vocabulary has no token in which the two characters
 * stand side by side, and knows one of them, since unknown ones may become one token together.
 */
export class LongPieces {
  private readonly vocabulary: Iterable<string>;
  private known: { single: Set<string>; pairs: Set<string> } | undefined;
  private readonly longest: number;

  constructor(vocabulary: Iterable<string>, longest: number = LONGEST) {
    this.vocabulary = vocabulary;
    this.longest = longest;
  }

  cut(text: string): string[] {
    const parts: string[] = [];
    let start = 0;
    while (text.length - start > this.longest) {
      const end = this.placeIn(text, start);
      parts.push(text.slice(start, end));
      start = end;
    }
    if (start < text.length || parts.length === 0) parts.push(text.slice(start));
    return parts;
  }

  /** The last place to cut that is not too far, or else the first one. */
  private placeIn(text: string, start: number): number {
    const far = start + this.longest;
    for (let place = far; place > start; place--) if (this.isPlace(text, place)) return place;
    for (let place = far + 1; place < text.length; place++) if (this.isPlace(text, place)) return place;
    return text.length;
  }

  private isPlace(text: string, place: number): boolean {
    const isInside = isSurrogate(text, place, 0xdc00) && isSurrogate(text, place - 1, 0xd800);
    if (isInside) return false;
    this.known ??= charactersOf(this.vocabulary);
    const left = isSurrogate(text, place - 1, 0xdc00) ? text.slice(place - 2, place) : text[place - 1]!;
    const right = String.fromCodePoint(text.codePointAt(place)!);
    const { single, pairs } = this.known;
    return !pairs.has(left + right) && (single.has(left) || single.has(right));
  }
}

function isSurrogate(text: string, index: number, kind: number): boolean {
  return (text.charCodeAt(index) & 0xfc00) === kind;
}

function charactersOf(vocabulary: Iterable<string>): { single: Set<string>; pairs: Set<string> } {
  const single = new Set<string>();
  const pairs = new Set<string>();
  for (const token of vocabulary) {
    let before = '';
    const characters = [...token];
    if (characters.length === 1) single.add(token);
    for (const character of characters) {
      if (before !== '') pairs.add(before + character);
      before = character;
    }
  }
  return { single, pairs };
}
