/** Longest part of a text, in UTF-16 units, that the segmenter gets where no cluster is longer. */
const LONGEST = 100;

const SEGMENTER = new Intl.Segmenter('und', { granularity: 'grapheme' });

/**
 * The grapheme clusters of a text, in time in proportion to its length. For each cluster the segmenter itself takes time in
 * proportion to all the text it was given, so it gets short parts. Where a cluster ends depends on nothing before it, and
 * on only one character after it.
 *
 * @param text without half of a surrogate pair
 */
export function* clustersOf(text: string, longest: number = LONGEST): Generator<string, void> {
  let size = longest;
  for (let start = 0; start < text.length; ) {
    const part = text.slice(start, endOfCharacter(text, start + size));
    const isEnd = start + part.length === text.length;
    let end = 0;
    for (const { segment, index } of SEGMENTER.segment(part)) {
      const goesOn = !isEnd && index + segment.length === part.length;
      if (goesOn) break;
      yield segment;
      end = index + segment.length;
      // A part that had to grow for one cluster is too long for those behind it.
      if (size > longest) break;
    }
    size = end === 0 ? 2 * size : longest;
    start += end;
  }
}

function endOfCharacter(text: string, place: number): number {
  return (text.charCodeAt(place) & 0xfc00) === 0xdc00 ? place + 1 : place;
}
