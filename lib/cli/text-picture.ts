/** Bars for numbers, the longest one `width` characters; a number above 0 has at least one. */
export function bars(values: readonly number[], width: number): string[] {
  const most = Math.max(1, ...values);
  return values.map((value) => '#'.repeat(Math.ceil((value / most) * width)));
}

/** Shades of a grid's cells, from none to the fullest cell's. */
const SHADES = ' .:+#';

/** A frame around a grid of counts, each cell shaded by its share of the fullest one. */
export function shades(grid: readonly (readonly number[])[]): string[] {
  const most = Math.max(1, ...grid.flat());
  const edge = `+${'-'.repeat(grid[0]?.length ?? 0)}+`;
  const rows = grid.map((row) => {
    const cells = row.map((count) => SHADES[Math.ceil((count / most) * (SHADES.length - 1))]);
    return `|${cells.join('')}|`;
  });
  return [edge, ...rows, edge];
}

/**
 * A text that does a terminal no harm and hides nothing: control characters, invisible ones and those that change the
 * direction of writing are spelled out. The joiners of emoji and scripts stay.
 */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu, (character) => {
    if (character === '\u200c' || character === '\u200d') return character;
    const short = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }[character];
    return short ?? `\\u{${(character.codePointAt(0) as number).toString(16)}}`;
  });
}

/** The beginning and the end of a long text. */
export function shorten(text: string, head: number, tail: number): string {
  const characters = Array.from(text);
  if (characters.length <= head + tail) return text;
  return `${characters.slice(0, head).join('')} ... ${characters.slice(-tail).join('')}`;
}
